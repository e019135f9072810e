"""`LineProcess`: a command that answers lines by lines, and whatever becomes of it."""

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import threading
import time
import weakref
from collections import deque
from typing import IO, Any

from ...errors import UserError

_LONGEST = 2**28  # characters of an answer
_SHOWN = 120


class LineProcess:
    """One line of JSON in, one line of JSON out. It is started by `ask` where it does not run, but not within `rest` s
    of its end. What it says on its standard error is passed on; the last line of it is the reason where it ends.

    Raises `UserError`, in one line, where it cannot be started, ends, is silent, or says what is no JSON object.
    """

    def __init__(self, command: str, rest: float = 5.0):
        self.command, self._rest = command, rest
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise UserError(f"external command {command!r} cannot be split into words: {error}") from None
        if not self._words:
            raise UserError("external: is without a command; expected external:COMMAND, as external:'python mine.py'")
        self._process: subprocess.Popen | None = None
        self._ended = -float("inf")
        self._finalizer = lambda: None
        self._why = ""
        self.starts = 0

    def ask(self, question: dict[str, Any], timeout: float) -> dict[str, Any]:
        """The answer to a question, within `timeout` s."""
        fresh = self._process is None
        if fresh:
            self._start()
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            self._fail(self._last_words())
        return self._answer(timeout)

    @property
    def runs(self) -> bool:
        return self._process is not None

    def close(self) -> None:
        """End it."""
        self._finalizer()
        if self._process is not None:
            self._process, self._ended = None, time.monotonic()

    def _start(self) -> None:
        left = self._rest - (time.monotonic() - self._ended)
        if left > 0:
            raise UserError(f"{self._why}; it is tried again in {left:.0f} s")
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(f"external command {self.command!r} cannot be run: {error.strerror or error}") from None
        self.starts += 1
        self._process, self._lines, self._said = process, queue.SimpleQueue(), deque(maxlen=1)
        self._finalizer = weakref.finalize(self, _end, process)
        threading.Thread(target=_pass_on, args=(process.stderr, self._said), daemon=True).start()
        threading.Thread(target=_read, args=(process.stdout, self._lines), daemon=True).start()

    def _answer(self, timeout: float) -> dict[str, Any]:
        until = time.monotonic() + timeout
        while True:
            try:
                line = self._lines.get(timeout=max(until - time.monotonic(), 0.0))
            except queue.Empty:
                self._fail(f"gave no answer within {timeout:g} s")
            if line is None:
                self._fail(self._last_words())
            try:
                answer = json.loads(line)
            except ValueError:
                answer = None
            if isinstance(answer, dict):
                return answer
            if line.strip().startswith("{") or until - time.monotonic() <= 0:
                self._fail(f"said what is no JSON: {line.strip()[:_SHOWN]!r}")
            # Libraries greet on the standard output; that is no answer, and answers are objects.

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        time.sleep(0.05)  # what it said last is still on its way
        said = f": {self._said[0][:_SHOWN]}" if self._said else ""
        status = self._process.poll()
        return f"ended{'' if status is None else f' with status {status}'}{said}"

    def _fail(self, what: str) -> None:
        self.close()
        self._why = f"external command {self.command!r} {what}"
        raise UserError(self._why)


def _end(process: subprocess.Popen) -> None:
    """With all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(OSError, ValueError):
            pipe.close()


def _read(pipe: IO[str], lines: queue.SimpleQueue) -> None:
    with contextlib.suppress(OSError, ValueError):
        while line := pipe.readline(_LONGEST):
            lines.put(line)
    lines.put(None)


def _pass_on(pipe: IO[str], said: deque) -> None:
    import sys

    with contextlib.suppress(OSError, ValueError):
        for line in pipe:
            if line.strip():
                said.append(line.strip())
            print(line, end="", file=sys.stderr)
