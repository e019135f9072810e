"""Which forecasters there are, found out without importing any of them (that takes torch, and seconds)."""

import re
from pathlib import Path

from ..errors import UserError

_REGISTERED = re.compile(r'^@register\(\s*"([^"]+)"', re.MULTILINE)


def shipped_names() -> list[str]:
    """Names that modules below this folder register, in alphabetical order."""
    return sorted(
        name
        for path in Path(__file__).parent.rglob("*.py")
        for name in _REGISTERED.findall(path.read_text(encoding="utf-8"))
    )


def check_forecaster(name: str) -> None:
    """Refuse what `make_forecaster` would not find; only for a name that is none of ours all are imported to be sure."""
    if name in shipped_names() or (name and Path(name).is_dir()):
        return
    from .registry import presets

    known = presets()
    if name not in known:
        raise UserError(f"forecaster {name!r} is unknown; known forecasters: {', '.join(known)}")
