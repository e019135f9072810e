"""Large blocks go back to the system, also after a larger one was freed."""

import subprocess
import sys

import pytest

_MEASURE = """
import ctypes, sys
from egohand_ros.nodes.session.malloc import give_back_large_blocks

class Info(ctypes.Structure):
    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(n, ctypes.c_size_t) for n in _names.split()]

library = ctypes.CDLL(None)
if not hasattr(library, "mallinfo2"):
    sys.exit(3)
library.mallinfo2.restype = Info
if sys.argv[1] == "with":
    assert give_back_large_blocks()
large = bytearray(8 << 20)
del large  # from here on glibc would take 8 MB from its heap
before = library.mallinfo2().hblkhd
again = bytearray(1 << 20)
print(library.mallinfo2().hblkhd - before)
"""


@pytest.mark.parametrize(("how", "mapped"), [("with", 1 << 20), ("without", 0)])
def test_blocks_do_not_stay_in_the_heap_after_a_larger_one_was_freed(how, mapped):
    done = subprocess.run([sys.executable, "-c", _MEASURE, how], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("the C library does not tell what it has mapped (glibc 2.33 and later do)")
    assert done.returncode == 0, done.stderr
    assert (int(done.stdout) >= mapped) if mapped else int(done.stdout) == 0
