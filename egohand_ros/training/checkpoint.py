"""The state of a training run on disk, so that a run killed at any moment goes on as if it had not been.

`state.pt` is replaced whole. Batches and noise are functions of the seed and the step, so no random state has to be
kept. `log.jsonl` has one line a step; lines of steps after the state that is resumed from are cut off and written
again.
"""

import json
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..forecast.common.pretrained import replace_file

STATE, LOG = "state.pt", "log.jsonl"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    replace_file(folder / STATE, lambda path: torch.save(state, path))


def load_state(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state to go on from, or None. `UserError` where it is of a run with other settings."""
    path = folder / STATE
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["fingerprint"] != fingerprint:
        raise UserError(
            f"{folder} holds a run with other settings or data; give another --out, or --restart to begin anew"
        )
    return state


class StepLog:
    """`log.jsonl` of a run: numbers by name, a line a step."""

    def __init__(self, folder: Path, from_step: int):
        self._path = folder / LOG
        kept = [line for line in read_log(folder) if line["step"] <= from_step]
        replace_file(self._path, lambda path: Path(path).write_text("".join(json.dumps(line) + "\n" for line in kept)))
        self._file = open(self._path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115, until close()

    def add(self, step: int, numbers: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")

    def close(self) -> None:
        self._file.close()


def read_log(folder: Path) -> list[dict[str, float]]:
    """All whole lines of a run's log; a killed run may have left half a line."""
    lines = []
    path = Path(folder) / LOG
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
