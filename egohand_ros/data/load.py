"""`load_episodes`: any recording that we can read, told apart by what is in it, not by its name."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import UserError
from .episode import Episode, check_hands
from .importers.arctic import HANDS as ARCTIC_HANDS
from .importers.arctic import load_arctic
from .importers.aria_mps import find_results, is_aria_results, load_aria_mps
from .importers.aria_vrs import MAGIC, load_aria_vrs
from .importers.egodex import load_egodex
from .importers.egoexo4d import is_egoexo4d, load_egoexo4d
from .importers.h2o import is_h2o, load_h2o
from .importers.hot3d import is_hot3d, is_hot3d_clip, load_hot3d, load_hot3d_clip
from .importers.keypoints_pickle import load_keypoints_pickle
from .importers.lerobot import is_lerobot, load_lerobot
from .importers.mocap import is_qualisys_tsv, load_qualisys

KNOWN = (
    "a rosbag2 folder, an episode .npz, a LeRobotDataset, a Qualisys .tsv, an Aria MPS .csv or folder, "
    "an Aria Gen 2 .vrs, a keypoints .pkl, "
    "or files of "
    "Ego-Exo4D, HOT3D, EgoDex, ARCTIC or H2O (docs/data.md)"
)
_log = logging.getLogger(__name__)

_Loader = Callable[[Path, Path | str | None], list[Episode]]


def _is_bag(path: Path) -> bool:
    return _holds(path, "metadata.yaml", ".mcap", ".db3")


def is_bag(path: Path | str) -> bool:
    """Whether a folder or file is a rosbag2, by what is in it. Raises `UserError` for no recording at all."""
    return _found_at(Path(path)) == [(_load_bag, Path(path))]


def _load_bag(path: Path, mano: Path | str | None) -> list[Episode]:
    from .bags.bag import episodes_from_bag  # the readers of bags take half a second, which no other file needs

    return episodes_from_bag(path)


_MAGIC: dict[bytes, _Loader] = {
    b"PK\x03\x04": lambda path, mano: [Episode.load(path)],
    b"\x89MCAP": _load_bag,
    b"SQLite": _load_bag,
    b"\x80": lambda path, mano: [load_keypoints_pickle(path)],
    b"\x89HDF\r\n": lambda path, mano: [load_egodex(path)],
    MAGIC: lambda path, mano: [load_aria_vrs(path)],
    b"\x93NUMPY": lambda path, mano: [load_arctic(path, mano)],
}
# Asked in this order.
_FILES: tuple[tuple[Callable[[Path], bool], _Loader], ...] = (
    (is_qualisys_tsv, lambda path, mano: [load_qualisys(path)]),
    (is_aria_results, lambda path, mano: [load_aria_mps(path)]),
    (is_egoexo4d, lambda path, mano: load_egoexo4d(path)),
    (is_hot3d_clip, lambda path, mano: [load_hot3d_clip(path, mano)]),
)
_FOLDERS: tuple[tuple[Callable[[Path], bool], _Loader], ...] = (
    (_is_bag, _load_bag),
    (is_lerobot, lambda path, mano: load_lerobot(path)),
    (is_hot3d, lambda path, mano: [load_hot3d(path, mano)]),
    (lambda path: find_results(path) is not None, lambda path, mano: [load_aria_mps(find_results(path))]),
    (is_h2o, lambda path, mano: [load_h2o(path)]),
    (is_egoexo4d, lambda path, mano: load_egoexo4d(path)),
)
# A folder of these gives one episode a file.
_MANY: dict[str, _Loader] = {
    ARCTIC_HANDS: lambda path, mano: [load_arctic(path, mano)],
    ".npz": lambda path, mano: [Episode.load(path)],
    ".hdf5": lambda path, mano: [load_egodex(path)],
    ".tar": lambda path, mano: [load_hot3d_clip(path, mano)],
}


def load_episodes(path: Path | str, mano: Path | str | None = None) -> list[Episode]:
    """`read_episodes`, each looked at: a recording without hands, or with hands of no possible size, is refused."""
    episodes = read_episodes(path, mano)
    for episode in episodes:
        check_hands(path, episode)
    return episodes


def read_episodes(path: Path | str, mano: Path | str | None = None) -> list[Episode]:
    """The episodes of a file or folder. A folder of `.npz`, EgoDex or HOT3D-Clips files gives one episode a file, and a
    folder of folders that can be read, such as a subject's or a whole data set's, those of all of them.

    `mano` is the folder of the user's MANO files, for data sets that store MANO parameters. Raises `UserError` that
    says what was found and what can be read.
    """
    return [episode for loader, part in _found_and_told(Path(path)) for episode in loader(part, mano)]


def load_each(path: Path | str, mano: Path | str | None = None) -> list[tuple[list[Episode], str]]:
    """`load_episodes` of each recording that a file or folder holds, in their order: its episodes and "", or [] and why
    it cannot be read. Raises `UserError` where there is no recording at all."""
    told: list[tuple[list[Episode], str]] = []
    for loader, part in _found_and_told(Path(path)):
        try:
            episodes = loader(part, mano)
            for episode in episodes:
                check_hands(part, episode)
            told.append((episodes, ""))
        except UserError as error:
            told.append(([], str(error)))
    return told


def holds_several(path: Path | str) -> bool:
    """Whether a folder holds several recordings. Without reading them."""
    try:
        return len(_found_at(Path(path))) > 1
    except UserError:
        return False


def check_recordings(paths: Iterable[Path | str]) -> None:
    """Refuse what `read_episodes` would not know how to read, without reading it."""
    for path in paths:
        _found_at(Path(path))


def _found_at(path: Path) -> list[tuple[_Loader, Path]]:
    """What reads a path, or each of the files or folders in it."""
    if not path.exists():
        raise UserError(f"{path} does not exist; expected {KNOWN}")
    try:
        return _folders_of(path) if path.is_dir() else [(_loader_of_file(path), path)]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def _found_and_told(path: Path) -> list[tuple[_Loader, Path]]:
    """The same, with a warning of the folders in it that nothing reads."""
    found = _found_at(path)
    read = {part if part.is_dir() else part.parent for _, part in found}
    if path.is_dir() and path not in read:
        left = sorted(folder.name for folder in set(_inner_folders(path)) - read)
        if left:
            _log.warning("%s: left out, since nothing there can be read: %s", path, ", ".join(left))
    return found


def _loader_of_file(path: Path) -> _Loader:
    with open(path, "rb") as file:
        head = file.read(16)
    if not head:
        raise UserError(f"{path} is empty; expected {KNOWN}")
    for magic, load in _MAGIC.items():
        if head.startswith(magic):
            return load
    for fits, load in _FILES:
        if fits(path):
            return load
    if head[4:8] == b"ftyp" or head.startswith((b"RIFF", b"\x1aE\xdf\xa3")):  # MP4 and MOV, AVI, Matroska and WebM
        raise UserError(f"{path} is a video; find the hands in it first: egohand track {path} --out hands.npz")
    raise UserError(f"{path} is no recording that can be read; expected {KNOWN}")


def load_episode(path: Path | str, mano: Path | str | None = None) -> Episode:
    """The only episode of a file or folder; `UserError` where there are several."""
    episodes = load_episodes(path, mano)
    if len(episodes) != 1:
        raise UserError(f"{path} holds {len(episodes)} episodes; load_episodes gives all of them")
    return episodes[0]


def load_labelled(paths: Iterable[Path | str]) -> dict[str, Episode]:
    """Episodes of several inputs, each under its path; `path#2` and so on where a path has more than one or comes
    twice.
    """
    labelled: dict[str, Episode] = {}
    for path in paths:
        for episode in load_episodes(path):
            label, number = str(path), 1
            while label in labelled:
                number += 1
                label = f"{path}#{number}"
            labelled[label] = episode
    return labelled


def _folders_of(path: Path) -> list[tuple[_Loader, Path]]:
    found = _parts_of(path) or [part for folder in _inner_folders(path) for part in _parts_of(folder)]
    if not found:
        single = next((entry for entry in sorted(path.iterdir()) if _is_recording_file(entry)), None)
        instead = f"it holds {single.name}, so give {single}" if single is not None else f"expected {KNOWN}"
        raise UserError(f"folder {path} holds no recording that can be read; {instead}")
    return found


def _inner_folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _is_recording_file(path: Path) -> bool:
    try:
        return path.is_file() and _loader_of_file(path) is not None
    except (UserError, OSError):
        return False


def _parts_of(path: Path) -> list[tuple[_Loader, Path]]:
    """What reads a folder, as a whole or file by file; [] for nothing."""
    for fits, load in _FOLDERS:
        if fits(path):
            return [(load, path)]
    files = ([(load, file) for file in sorted(path.glob(f"*{ending}"))] for ending, load in _MANY.items())
    return next(filter(None, files), [])


def _holds(path: Path, *endings: str) -> bool:
    return any(entry.name.endswith(endings) for entry in path.iterdir())
