"""`load_episodes`: any recording that we can read, told apart by what is in it, not by its name."""

from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from .aria_mps import RESULTS, is_aria_results, load_aria_mps
from .bag import episodes_from_bag
from .episode import Episode
from .keypoints_pickle import load_keypoints_pickle
from .mocap import is_qualisys_tsv, load_qualisys
from .recording import SUFFIXES

KNOWN = "a rosbag2 folder, an episode .npz, a Qualisys .tsv, an Aria MPS .csv or a keypoints .pkl"
_MAGIC = {
    b"PK\x03\x04": lambda path: [Episode.load(path)],
    b"\x89MCAP": episodes_from_bag,
    b"SQLite": episodes_from_bag,
    b"\x80": lambda path: [load_keypoints_pickle(path)],
}


def load_episodes(path: Path | str) -> list[Episode]:
    """The episodes of a file or folder. A folder is a bag, Aria MPS output, or holds episodes as `.npz`.

    Raises `UserError` that says what was found and what can be read.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist; expected {KNOWN}")
    if path.is_dir():
        return _load_folder(path)
    with open(path, "rb") as file:
        head = file.read(16)
    if not head:
        raise UserError(f"{path} is empty; expected {KNOWN}")
    for magic, load in _MAGIC.items():
        if head.startswith(magic):
            return load(path)
    if is_qualisys_tsv(path):
        return [load_qualisys(path)]
    if is_aria_results(path):
        return [load_aria_mps(path)]
    raise UserError(f"{path} is no recording that can be read; expected {KNOWN}")


def load_labelled(paths: Iterable[Path | str]) -> dict[str, Episode]:
    """Episodes of several inputs, each under its path; `path#2` and so on where a path has more than one or comes twice."""
    labelled: dict[str, Episode] = {}
    for path in paths:
        for episode in load_episodes(path):
            label, number = str(path), 1
            while label in labelled:
                number += 1
                label = f"{path}#{number}"
            labelled[label] = episode
    return labelled


def _load_folder(path: Path) -> list[Episode]:
    names = [entry.name for entry in sorted(path.iterdir())]
    if "metadata.yaml" in names or any(name.endswith(SUFFIXES) for name in names):
        return episodes_from_bag(path)
    if RESULTS in names:
        return [load_aria_mps(path / RESULTS)]
    episodes = [Episode.load(path / name) for name in names if name.endswith(".npz")]
    if not episodes:
        raise UserError(f"folder {path} holds no recording that can be read; expected {KNOWN}")
    return episodes
