"""`SeparateForecaster`: a learned forecaster in a process of its own, for a slow one beside a stream.

In a thread it would share one interpreter with what hands go through: a network of fifty small steps holds that up at
each of them. As a process of low priority it has the processor when nobody else wants it. Windows and forecasts pass
through a pipe.

    python -m egohand_ros.forecast.live.separate FD    the other end of the pipe, a file descriptor
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from ...errors import UserError
from ...stream.window import Window
from ..common.protocol import Forecast, ForecasterSpec
from ..registry import make_forecaster

_NICENESS = 10
_REST = 5.0  # s between the end of a process and the next one


class SeparateForecaster:
    """`make_forecaster(name, **options)` elsewhere, for one caller at a time. A process that ends is a `UserError` in
    one line, and is started again where it is asked again, 5 s later at the soonest."""

    def __init__(self, name: str, options: dict[str, Any]):
        self._made_by = name, options
        self._pipe: Connection | None = None
        self._ended, self._forget, self._close = -float("inf"), False, lambda: None
        self.spec: ForecasterSpec = self._ask(None)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Raises what the forecaster raises, and `UserError` where its process has ended."""
        forget, self._forget = self._forget, False
        return self._ask((window, hypotheses, seed, forget))

    def reset(self) -> None:
        """The stream begins anew, with the next window."""
        self._forget = True

    def close(self) -> None:
        """End the process, whatever it is at."""
        self._close()

    def _ask(self, question: tuple | None) -> Any:
        try:
            if self._pipe is None:
                self._start()
            self._pipe.send_bytes(pickle.dumps(question))
            well, told = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            raise UserError(self._end()) from None
        if not well:
            raise told
        return told

    def _start(self) -> None:
        left = self._ended + _REST - time.monotonic()
        if left > 0.0:
            raise UserError(f"{self._made_by[0]} has ended; its process is started again in {left:.0f} s")
        self._pipe, theirs = Pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for who asks; not a session, which would get an equal share of the processors
        )
        theirs.close()
        self._process = process
        self._close = weakref.finalize(self, _kill, process)
        self._pipe.send_bytes(pickle.dumps(self._made_by))

    def _end(self) -> str:
        """What to say of a process that has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        status = self._process.poll()
        self._close()
        self._pipe, self._ended = None, time.monotonic()
        killed = status is not None and status < 0
        how = f"was ended by {signal.Signals(-status).name}; is there enough memory?" if killed else "has ended"
        return f"the process of {self._made_by[0]} {how}"


def _kill(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def _serve(pipe: Connection) -> None:
    """Answer until nobody asks any more."""
    name, options = pickle.loads(pipe.recv_bytes())
    forecaster = None
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            question = pickle.loads(pipe.recv_bytes())
            try:
                if forecaster is None:
                    forecaster = make_forecaster(name, **options)
                    os.nice(_NICENESS)
                answer = True, forecaster.spec if question is None else _answer(forecaster, *question)
            except Exception as error:
                answer = False, error
            pipe.send_bytes(_packed(answer))


def _answer(forecaster: Any, window: Window, hypotheses: int, seed: int | None, forget: bool) -> Forecast:
    if forget and hasattr(forecaster, "reset"):
        forecaster.reset()
    return forecaster.forecast(window, hypotheses, seed)


def _packed(answer: tuple[bool, Any]) -> bytes:
    with contextlib.suppress(Exception):
        packed = pickle.dumps(answer)
        if not answer[0]:
            pickle.loads(packed)  # an error need not be one that can be made again
        return packed
    return pickle.dumps((False, RuntimeError(f"{type(answer[1]).__name__}: {answer[1]}")))


def _end_with(parent: int) -> None:
    """End when the process that asks has gone, also in the middle of an answer."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def main(arguments: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _serve(Connection(int(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
