"""What a node's process does before it imports anything large: an executable begins with `begin()`.

Needs nothing that takes time to import.
"""

import ctypes
import os
import signal
import sys

# The process id of who started this process and will not be outlived by it; forecast.launch.py sets it.
FOLLOWED = "EGOHAND_FOLLOWED_PROCESS"
_PR_SET_PDEATHSIG = 1


def begin() -> None:
    """Until the program looks after signals itself, Ctrl-C ends it at once: there is nothing yet to tidy up, and a
    traceback out of an import tells nothing. And if whoever started it is killed, it ends in order.
    """
    followed = os.environ.pop(FOLLOWED, "")
    # A shell goes on with its list of commands unless the code says that it was interrupted; to a launch that is over
    # anyway, any code but 0 is a process that died.
    code = 0 if followed else 128 + signal.SIGINT
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(code))
    if followed.isdecimal():
        follow(int(followed))


def imported() -> None:
    """Everything is imported: Ctrl-C is Python's again."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def follow(parent: int) -> None:
    """SIGTERM to this process when its parent, or the thread that started it, disappears; it may have already.

    Without it a `ros2 launch` that is terminated leaves its nodes behind, and a robot that they command.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
