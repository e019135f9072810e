"""What the shipped Foxglove layout shows."""

import json
import re
from pathlib import Path

LAYOUT = Path(__file__).resolve().parents[1] / "config" / "foxglove" / "egohand.json"


def topics(layout: dict | None = None) -> set[str]:
    """Full names of every topic that a panel reads."""
    panels = (json.loads(LAYOUT.read_text()) if layout is None else layout)["configById"]
    return {name.partition(".")[0] for name in re.findall(r'"(/[a-z_/]+[^"]*)"', json.dumps(panels))}
