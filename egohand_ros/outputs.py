"""Everything that a command writes goes through here, so that no file that existed before is ever lost or half-written.

How: what is written is made in a hidden folder beside its destination (`.NAME.XXXXXX.partial`, same file system),
brought to disk, and put in place by one rename. Whatever ends a command before that, an error, a full disk, Ctrl-C or a
kill, changes nothing at the destination. The folder of a run that was killed holds no lock any more: the next write to
the same destination removes it.

What may be replaced:

- *Pages*, which are made anew from what is kept elsewhere (reports, metrics, JSON, pictures, videos of a preview): an
  existing regular file of the same kind, told by its first bytes, is replaced. Anything else is refused.
- *Data* (episodes, bags, data sets, joint motions, hand configs): never, unless `--overwrite` is given, and then only
  what we can tell to be ours (`ownership.py`), whole, and holding no file of anybody else's.
- Nothing that the command reads, nor what holds it or lies in it, through links too.

A live recording is written where it shall be, message by message, so that a crash loses half a second. Where it is to
take another one's place it is made in `NAME.recording-XXXXXX/NAME`, in plain sight, and exchanged once it is closed:
after a crash both are there, and nothing removes either but their owner.

Two processes are kept from one destination by a lock (`locks.py`).

Every refusal is a `UserError` of one line. Needs no ROS, no numpy, no torch.
"""

import ctypes
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import UserError
from .locks import locked
from .ownership import entries, files_of_recording

_NO_REPLACE, _EXCHANGE = 1, 2  # flags of renameat2
_AT_FDCWD = -100
_NO_ROOM = ("no space left", "disk is full", "disk quota", "os error 28", "file too large", "os error 27")
_PROBE = b"\0" * 2**16
_LOG_MARK = ".egohand_logs"

# First bytes of pages, after white space: what may be replaced by one of the same kind.
_PAGES: dict[str, Callable[[bytes], bool]] = {
    "JSON": lambda head: head.lstrip()[:1] in (b"{", b"["),
    "HTML": lambda head: head.lstrip().lower().startswith((b"<!doctype html", b"<html")),
    "picture": lambda head: (
        head.startswith((b"\x89PNG", b"%PDF", b"\xff\xd8\xff", b"%!PS", b"RIFF"))
        or head.lstrip().startswith((b"<?xml", b"<svg"))
    ),
    "video": lambda head: head[4:8] == b"ftyp",
    "moving picture": lambda head: head.startswith(b"GIF8"),
    "YAML": lambda head: head.lstrip()[:1] not in (b"{", b"[", b"<", b"\0") and b"\0" not in head and b":" in head,
}

# What the libraries that draw can write.
_SUFFIXES = {"picture": (".png", ".svg", ".pdf", ".jpg"), "video": (".mp4",), "moving picture": (".gif",)}


# ---------------------------------------------------------------------------------------------- checks before the work


def check_page(path: Path | str, kind: str, inputs: Iterable[Path | str] = ()) -> Path:
    """The place of a page, once it is sure that it can be written: `kind` is JSON, HTML, picture, moving picture, video
    or YAML.

    Makes nothing. Raises `UserError` for a folder, a device, a file of another kind, an input, or a place without
    leave.
    """
    target = resolved(path)
    check_not_input(target, inputs, path)
    if target.is_dir():
        raise UserError(f"{path} is a folder; give a file to write")
    if kind in _SUFFIXES and target.suffix.lower() not in _SUFFIXES[kind]:
        raise UserError(f"{path} is no name of a {kind}; expected one that ends in {', '.join(_SUFFIXES[kind])}")
    if os.path.lexists(target):
        if not target.is_file():
            raise UserError(f"{path} is not a regular file, so it is not replaced; give another name")
        with _readable(path), open(target, "rb") as file:
            head = file.read(512)
        if head and not _PAGES[kind](head):
            raise UserError(f"{path} exists and is no {kind}, so it is not replaced; give another name")
    check_writable(target, path)
    return target


def check_data(
    path: Path | str,
    overwrite: bool = False,
    inputs: Iterable[Path | str] = (),
    ours: Callable[[Path], str | None] | None = None,
) -> Path:
    """The place of data, once it is sure that it can be written.

    `ours(path)` says why what is there is not to be replaced, or None; without it nothing is ever replaced. Makes
    nothing.
    """
    target = resolved(path)
    check_not_input(target, inputs, path)
    if os.path.lexists(target):
        if ours is None:
            raise UserError(f"{path} exists already; give another name, or remove it")
        if not overwrite:
            raise UserError(f"{path} exists already; give another name, remove it, or add --overwrite")
        with _readable(path):
            reason = ours(target)
        if reason is not None:
            raise UserError(f"{path} {reason}, so it is not overwritten; give another name")
    check_writable(target, path)
    return target


def check_not_input(target: Path, inputs: Iterable[Path | str], shown: Path | str | None = None) -> None:
    """Refuse a destination that is, holds or lies in what is read, through symbolic and hard links too."""
    target = resolved(target)
    for given in inputs:
        if not os.path.lexists(given):
            continue
        source = resolved(given)
        same = source == target or (target.exists() and os.path.samefile(source, target))
        if same or target in source.parents:
            raise UserError(f"{shown or target} is the input {given}, or holds it; give another name")
        if source in target.parents and not _is_plain_folder(source):
            raise UserError(f"{shown or target} lies in the input {given}; give a place outside it")


def check_apart(**outputs: Path | str | None) -> None:
    """Refuse two outputs of one command that are the same, or of which one lies in the other; names are the
    options'.
    """
    places = [(name, path, resolved(path)) for name, path in outputs.items() if path]
    for i, (name, path, place) in enumerate(places):
        for other, _, taken in places[:i]:
            if place == taken or place in taken.parents or taken in place.parents:
                raise UserError(f"--{name} {path} and --{other} are the same place, or one lies in the other; give two")


def check_writable(target: Path, shown: Path | str | None = None) -> None:
    """Whether a file or folder of that name could be made now; tried in the nearest folder that exists, nothing
    stays.
    """
    folder = resolved(target).parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"cannot write {shown or target}: {folder} is a file, not a folder")
    with writing(shown or target), tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(_PROBE)
        probe.flush()


def resolved(path: Path | str) -> Path:
    """The absolute path behind all links, so that a link is followed and never replaced."""
    text = os.fspath(path)
    if not text or "\0" in text:
        raise UserError(f"{text!r} is no name of a file or folder")
    return Path(os.path.realpath(os.path.expanduser(text)))


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turns what the system says about a place that cannot be written, whatever library says it, into one line."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    except Exception as error:
        text = " ".join(str(error).lower().split())
        if any(words in text for words in _NO_ROOM) or _is_full(resolved(path).parent):
            raise UserError(f"cannot write {path}: {os.strerror(errno.ENOSPC)}") from None
        raise


# ---------------------------------------------------------------------------------------------- writing


@contextmanager
def replaced_file(path: Path | str) -> Iterator[Path]:
    """A name to write a file under, which takes the place of `path` when the block ends well, and never else.

    Folders on the way are made. Check the destination first (`check_page`, `check_data`).
    """
    with _made_beside(path) as part:
        yield part
        _sync(part)
        os.replace(part, resolved(path))


@contextmanager
def new_file(path: Path | str, overwrite: bool = False) -> Iterator[Path]:
    """`replaced_file` for data: refuses again at the end what has come into being meanwhile, unless `overwrite`."""
    with _made_beside(path) as part:
        yield part
        _sync(part)
        target = resolved(path)
        if overwrite and target.is_file():
            os.replace(part, target)
        else:
            _put_new(part, target, path)


@contextmanager
def new_folder(path: Path | str, own: Callable[[Path], set[str]] | None = None) -> Iterator[Path]:
    """A name to make a folder under, which becomes `path` when the block ends well.

    With `own` a folder that is there (`check_data` has let it pass) is exchanged for it: of that, what `own` names
    goes, and everything else stays.
    """
    with locked(f"folder {resolved(path)}", f"{path} is being written"), _made_beside(path) as part:
        yield part
        _put_folder(part, resolved(path), own, path)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file whole or not at all."""
    with replaced_file(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def recording_folder(path: Path | str, overwrite: bool = False) -> Iterator[Path]:
    """Where to record live what shall be `path`; nobody else may record to it meanwhile.

    That is `path` itself where nothing is there. What is there with `overwrite` is exchanged when the block ends well;
    until then the new one is in `path.recording-XXXXXX/<name>`, and stays there when the block raises: nothing recorded
    is lost.
    """
    target = resolved(path)
    with locked(f"recording {target}", f"{path} is being recorded"):
        with writing(path):
            target.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(target):
            yield target
            return
        if not overwrite:
            raise UserError(f"{path} exists already; give another folder, remove it, or add --overwrite")
        with writing(path):
            holder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{target.name}.recording-"))
            holder.chmod(0o777 & ~_umask())
        part = holder / target.name
        try:
            yield part
            if part.exists():
                with writing(path):
                    _put_folder(part, target, files_of_recording, path)
        finally:
            with suppress(OSError):
                holder.rmdir()


def log_folder(recording: Path | str) -> Path:
    """The folder `NAME_logs` for the logs of a recording, made; `NAME_logs_2` and so on where it is somebody else's."""
    target, number = resolved(recording), 1
    while True:
        folder = target.with_name(f"{target.name}_logs" + (f"_{number}" if number > 1 else ""))
        with writing(folder):
            if not os.path.lexists(folder):
                folder.mkdir(parents=True)
                (folder / _LOG_MARK).touch()
            if (folder / _LOG_MARK).is_file():
                return folder
        number += 1


@contextmanager
def _made_beside(path: Path | str) -> Iterator[Path]:
    target = resolved(path)
    with writing(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        holder, lock = _locked_holder(target)
        try:
            yield holder / target.name
        finally:
            shutil.rmtree(holder, ignore_errors=True)
            os.close(lock)


def _locked_holder(target: Path) -> tuple[Path, int]:
    """A hidden folder beside the destination, and the lock that says that it is in use."""
    while True:
        holder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".partial"))
        lock = os.open(holder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if holder.exists():  # not taken for a stale one before it was locked
            return holder, lock
        os.close(lock)


def _remove_stale(target: Path) -> None:
    """Remove the hidden folders of runs to this destination that were killed."""
    pattern = re.compile(r"\." + re.escape(target.name[:100]) + r"\.[a-z0-9_]{8}\.partial")
    for entry in entries(target.parent):
        if not pattern.fullmatch(entry.name) or entry.is_symlink() or not entry.is_dir():
            continue
        with suppress(OSError):
            lock = os.open(entry, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry, ignore_errors=True)
            finally:
                os.close(lock)


def _put_folder(part: Path, target: Path, own: Callable[[Path], set[str]] | None, shown: Path | str) -> None:
    """Rename to the destination, or exchange with what is there and remove that; what is not its own has been linked
    across.
    """
    if own is None or not os.path.lexists(target):
        _sync(part)
        _put_new(part, target, shown)
        return
    replaced = own(target)
    for entry in entries(target):
        if entry.name in replaced:
            continue
        if os.path.lexists(part / entry.name):
            raise UserError(
                f"{entry} is not of what is overwritten, and in its way; move it, or give another name than {shown}"
            )
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, part / entry.name, symlinks=True, copy_function=_link)
        else:
            _link(entry, part / entry.name)
    _sync(part)
    _rename(part, target, _EXCHANGE)
    _sync_folder(target.parent)
    shutil.rmtree(part)


def _link(source: Path | str, target: Path | str) -> Path | str:
    """The same file under a second name, or a copy where the file system has no such thing."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def _put_new(part: Path, target: Path, shown: Path | str) -> None:
    try:
        _rename(part, target, _NO_REPLACE)
    except FileExistsError:
        raise UserError(f"{shown} has come into being meanwhile, so it is not replaced; give another name") from None
    _sync_folder(target.parent)


def _rename(source: Path, target: Path, how: int) -> None:
    """renameat2, or what comes nearest to it on a file system that does not have it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        if libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), how) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(number, os.strerror(number), str(target))
    if how == _NO_REPLACE:
        if os.path.lexists(target):
            raise FileExistsError(target)
        os.rename(source, target)
        return
    aside = source.with_name(f"{source.name}.old")
    os.rename(target, aside)
    os.rename(source, target)
    os.rename(aside, source)


def _sync(path: Path) -> None:
    """Bring a file, or a folder with all that is in it, to disk."""
    if path.is_dir():
        for folder, _, files in os.walk(path):
            for name in files:
                _sync_file(Path(folder) / name)
            _sync_folder(Path(folder))
    else:
        _sync_file(path)


def _sync_file(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network file systems cannot
            os.fsync(folder)
    finally:
        os.close(folder)


# ---------------------------------------------------------------------------------------------- small things


@contextmanager
def _readable(path: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} exists and cannot be read, so it is not replaced: {error.strerror or error}") from None


def _is_plain_folder(folder: Path) -> bool:
    """A folder that merely holds recordings: what is written there beside them changes none of them."""
    if not folder.is_dir():
        return False
    names = {entry.name for entry in entries(folder)}
    return not (names & {"metadata.yaml", "meta"} or any(name.endswith((".mcap", ".db3")) for name in names))


def _is_full(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(_PROBE)
            probe.flush()
        return False
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
