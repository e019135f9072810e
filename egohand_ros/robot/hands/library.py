"""Finding robot hands: by the name of a shipped config or by the path of one's own."""

from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path

from ...errors import UserError
from .catalog import config_path, hand_files, list_hands, user_folder
from .config import HandConfig, load_config
from .model import HandModel, build_model
from .urdf import load_urdf, parse_urdf

__all__ = ["config_path", "find_config", "hand_files", "list_hands", "load_hand", "user_folder"]


def find_config(name_or_path: str | Path) -> HandConfig:
    """The config of a known hand or of a .yaml file; `UserError` lists the known hands."""
    return load_config(config_path(name_or_path))


def load_hand(name_or_path: str | Path, urdf: str | Path | None = None) -> HandModel:
    """A hand by name or config file; `urdf` is another URDF file, or URDF text (as robot_description holds).

    Raises `UserError` in one line for unknown names, unreadable files, and configs that do not fit their URDF.
    """
    urdf = None if urdf is None else str(urdf)
    return _load(str(name_or_path), urdf, _stamp(name_or_path, urdf))


@lru_cache(maxsize=64)
def _load(name_or_path: str, urdf: str | None, stamp: Hashable) -> HandModel:
    config = find_config(name_or_path)
    # The shipped shapes are capsules; another URDF of the same hand usually has meshes, which cannot be read here.
    body = load_urdf(config.urdf) if urdf is not None and config.urdf is not None and config.urdf.is_file() else None
    if urdf is not None and urdf.lstrip().startswith("<"):
        return build_model(config, parse_urdf(urdf, "robot_description"), urdf, body=body)
    path = Path(urdf).expanduser() if urdf is not None else config.urdf
    if path is None:
        raise UserError(f"hand {config.name!r} has no `urdf:` in its config; give one with --urdf")
    tree = load_urdf(path)
    return build_model(config, tree, path.read_text(), str(path), body)


def _stamp(name_or_path: str | Path, urdf: str | None) -> tuple[tuple[str, int], ...]:
    """Changes when a file on which the cached model rests changes."""
    files = [Path(str(name_or_path)), hand_files().get(str(name_or_path))]
    if urdf is not None and not urdf.lstrip().startswith("<"):
        files.append(Path(urdf).expanduser())
    return tuple((str(f), f.stat().st_mtime_ns) for f in files if f is not None and f.is_file())
