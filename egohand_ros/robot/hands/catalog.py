"""Which robot hands there are: files by name, without a look into them (importing this takes no time)."""

import os
from pathlib import Path

from ...errors import UserError
from ...shipped import config_folder

USER_FOLDER_VARIABLE = "EGOHAND_HANDS"


def user_folder() -> Path:
    """Where `egohand hands add` saves: $EGOHAND_HANDS, otherwise ~/.config/egohand/hands."""
    return Path(os.environ.get(USER_FOLDER_VARIABLE) or Path.home() / ".config" / "egohand" / "hands")


def hand_files() -> dict[str, Path]:
    """Name -> config file of every known hand; the user's own come last and win."""
    files: dict[str, Path] = {}
    for folder in (config_folder() / "hands", user_folder()):
        if folder.is_dir():
            files |= {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return files


def list_hands() -> list[str]:
    """Names of all known hands."""
    return sorted(hand_files())


def config_path(name_or_path: str | Path) -> Path:
    """The file of a known hand, or that file itself; `UserError` lists the known hands."""
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        return Path(text).expanduser()
    files = hand_files()
    if text not in files:
        raise UserError(f"hand {text!r} is unknown; known hands: {', '.join(sorted(files))}, or give a .yaml file")
    return files[text]
