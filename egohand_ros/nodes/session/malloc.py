"""Memory of processes that hold large buffers for a moment, again and again, for hours."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGE = 64 * 1024  # bytes
_KEPT_AT_TOP = 128 * 1024


def give_back_large_blocks() -> bool:
    """Have the C library give large blocks back to the system as soon as they are free; False where it cannot.

    Left alone, glibc takes the size of the largest block that was ever freed for one that is better kept, and then cuts
    blocks of all sizes from one heap. Between those that stay, holes are left that nothing fits into: a recorder that
    needs 1 MB for a moment, twice a second, grows by some MB an hour without leaking any.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is None:
        return False
    return bool(change(_M_MMAP_THRESHOLD, _LARGE)) and bool(change(_M_TRIM_THRESHOLD, _KEPT_AT_TOP))
