"""What in a place of data is ours, so that `--overwrite` may replace it: whole, and holding no file of anybody else's.

Needs no ROS, no numpy, no torch.
"""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import yaml

# What every recorded session tells of itself, one that failed to start too, whose nodes published nothing of their own.
_TOLD, _SESSION = ("session", "std_msgs/msg/String"), "a session"


def is_our_recording(folder: Path) -> str | None:
    """None for a closed bag that this package wrote, with no parts beside it; else why not."""
    if not (folder / "metadata.yaml").is_file():
        return "is not a recording that was closed"
    described = _bag_information(folder)
    if described is None:
        return "is not a recording: its metadata.yaml is none of a bag"
    files, types = described
    if _SESSION not in types and not any(kind.startswith("egohand_ros/msg/") for kind in types):
        return "is not a recording of egohand's own"
    if not files or any(not (folder / name).is_file() for name in files):
        return "is not a recording that is whole"
    parts = [
        entry.name for entry in entries(folder.parent) if re.fullmatch(re.escape(folder.name) + r"_part\d+", entry.name)
    ]
    return f"has parts beside it ({listed(parts)}); first join them with egohand bag repair {folder}" if parts else None


def files_of_recording(folder: Path) -> set[str]:
    """Names of a bag's own files, as its metadata.yaml lists them."""
    described = _bag_information(folder)
    return {"metadata.yaml", *described[0]} if described else set()


def _bag_information(folder: Path) -> tuple[set[str], set[str]] | None:
    """Files and message types of a bag, `_SESSION` among them where it has one, or None where its metadata.yaml does
    not tell."""
    try:
        described = yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        files = {str(name) for name in described["relative_file_paths"]}
        topics = [topic["topic_metadata"] for topic in described["topics_with_message_count"]]
        types = {str(topic["type"]) for topic in topics}
        types |= {_SESSION for topic in topics if (Path(str(topic["name"])).name, topic["type"]) == _TOLD}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    return {name for name in files if Path(name).name == name}, types


def is_our_arrays(*names: str) -> Callable[[Path], str | None]:
    """A test for an `.npz` with arrays of these names."""

    def check(path: Path) -> str | None:
        if path.is_file():
            try:
                with zipfile.ZipFile(path) as file:
                    if {f"{name}.npy" for name in names} <= set(file.namelist()):
                        return None
            except (OSError, zipfile.BadZipFile):
                pass
        return f"is no .npz with {', '.join(names)}"

    return check


is_our_episode = is_our_arrays("stamp", "keypoints", "valid")


def is_our_data_set(folder: Path) -> str | None:
    """None for a LeRobotDataset of human hands; else why not."""
    try:
        info = (folder / "meta" / "info.json").read_bytes()
    except OSError:
        return "is not a LeRobotDataset"
    return None if b'"human_hands"' in info else "is not a LeRobotDataset of egohand's own"


def files_of_data_set(folder: Path) -> set[str]:
    """Names in a LeRobotDataset's folder that are its own."""
    return {"meta", "data"}


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted; nothing where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
