"""Locks between processes of this machine: on a destination, a ROS domain, a folder that is being written.

They are the operating system's own (flock), so that they go with the process that held them, however it ended. Every
refusal is a `UserError` of one line. Needs no ROS, no numpy, no torch.
"""

import fcntl
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError


@dataclass(frozen=True)
class _Holder:
    """Who holds a lock."""

    process: str
    command: str

    def __str__(self) -> str:
        return f"process {self.process} ({self.command})" if self.process else "another process"


@contextmanager
def locked(name: str, what: str) -> Iterator[None]:
    """Hold the machine-wide lock `name` of this user; a `UserError` "`what` by process …" where another holds it."""
    path = lock_folder() / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{what} by {_holder(file)}; wait until it ends, or give another one") from None
        with suppress(OSError):  # the words only help; the lock holds on a full disk too
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n{_command()}".encode(errors="replace"), 0)
        yield
    finally:
        os.close(file)


def lock_domain(domain: int) -> AbstractContextManager[None]:
    """The lock of a ROS domain, as a context."""
    return locked(f"ROS domain {domain}", f"ROS domain {domain} is used")


def hold_folder(folder: Path) -> int:
    """Mark a folder as being written by this process, for `is_held`; close what is returned to end that."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with suppress(OSError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return held


def is_held(folder: Path) -> bool:
    """Whether a process that lives writes in the folder (`hold_folder`)."""
    seen = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(seen, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(seen)


def lock_folder() -> Path:
    """Where this user's locks are: the runtime folder, else one of the user's own among the temporary files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    for base in (
        Path(runtime) / "egohand" if runtime else None,
        Path(tempfile.gettempdir()) / f"egohand-{os.getuid()}",
    ):
        if base is None:
            continue
        with suppress(OSError):
            base.mkdir(mode=0o700, exist_ok=True)
            found = base.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and os.access(base, os.W_OK):
                return base
    raise UserError(
        f"cannot make a folder for locks in {tempfile.gettempdir()}; set XDG_RUNTIME_DIR to one that can be written"
    )


def _holder(file: int) -> _Holder:
    process, _, command = os.pread(file, 400, 0).decode(errors="replace").partition("\n")
    return _Holder(process.strip(), " ".join(command.split())[:120] or "egohand")


def _command() -> str:
    return " ".join(["egohand", *sys.argv[1:]])
