"""What `adaptive` begins with before it has seen a stream, as given or as learned from recordings: what it believes of
its experts, and with which coefficients `person` begins."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ...errors import UserError
from .past import KINDS

FILE = "beliefs.json"
STARTS = "person"  # in it, beside the kinds
HOLD, HALF, MOTION, HALF_MOTION = "persistence", "kalman_half", "motion", "motion_half"
MEAN, PERSON = "mean", "person"
# Belief in these; the rest is shared by the others. A person's own coefficients err most before they are learned, and
# are found fast where they are right.
_GIVEN = {HOLD: 0.65, MOTION: 0.22, MEAN: 0.03, PERSON: 0.01}
# By kind, of every expert that is there always: (S,).
Beliefs = dict[str, dict[str, np.ndarray]]
Starts = dict[str, np.ndarray]  # by kind, of wrist and rotation: coefficients (S, K) of `person`


def given_beliefs(names: tuple[str, ...], others: Iterable[str]) -> np.ndarray:
    """(E,) for an unknown person. What `others` get is taken from all alike, so that nothing changes while they
    sleep."""
    rest = [name for name in names if name not in _GIVEN and name not in others]
    share = (1.0 - sum(_GIVEN.get(name, 0.0) for name in names)) / len(rest)
    belief = np.array([_GIVEN.get(name, share) for name in names])
    return belief / belief.sum()


def learned_beliefs(
    names: tuple[str, ...], others: Iterable[str], learned: dict[str, np.ndarray], steps: int
) -> np.ndarray:
    """(E, S) of one kind for a person of whom there are recordings; `others` keep what they are given."""
    belief = np.repeat(given_beliefs(names, others)[:, None], steps, axis=1)
    own = [place for place, name in enumerate(names) if name not in others]
    if {names[place] for place in own} != set(learned) or any(len(row) != steps for row in learned.values()):
        raise UserError(
            f"beliefs are of {', '.join(learned)} at {len(next(iter(learned.values()), ()))} steps; "
            f"expected {', '.join(names[place] for place in own)} at {steps}: learn them again"
        )
    told = np.stack([learned[names[place]] for place in own])
    belief[own] = belief[own].sum(axis=0) * told / told.sum(axis=0)
    return belief


def checked_start(starts: Mapping[str, np.ndarray], kind: str, shape: tuple[int, int]) -> np.ndarray:
    """The coefficients (S, K) of a kind."""
    if kind in starts and starts[kind].shape == shape:
        return starts[kind]
    found = f"are of shape {starts[kind].shape}" if kind in starts else "are missing"
    raise UserError(f"the coefficients of {PERSON!r} for {kind} {found}, expected {shape}: learn them again")


def write_beliefs(path: Path, beliefs: Beliefs, starts: Starts | None = None) -> None:
    rounded = {kind: {name: row.round(6).tolist() for name, row in rows.items()} for kind, rows in beliefs.items()}
    if starts is not None:
        rounded[STARTS] = {kind: rows.round(6).tolist() for kind, rows in starts.items()}
    path.write_text(json.dumps(rounded, indent=1) + "\n")


def read_beliefs(path: Path) -> tuple[Beliefs, Starts | None]:
    """What `write_beliefs` wrote; no coefficients where it was given none. Raises `UserError` for anything else."""
    try:
        told = json.loads(path.read_text())
        beliefs = {k: {name: np.array(row, dtype=np.float64) for name, row in told[k].items()} for k in KINDS}
        starts = told.get(STARTS)
        if starts is not None:
            starts = {kind: np.array(rows, dtype=np.float64) for kind, rows in starts.items()}
        if all(
            row.ndim == 1 and np.isfinite(row).all() and (row > 0).all() for k in KINDS for row in beliefs[k].values()
        ):
            if starts is None or all(rows.ndim == 2 and np.isfinite(rows).all() for rows in starts.values()):
                return beliefs, starts
            why = f"what {STARTS!r} begins with must be tables of numbers"
        else:
            why = "every belief must be above 0"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = repr(error)
    raise UserError(f"{path} holds no beliefs of adaptive ({why}); learn them again by `egohand train adaptive`")
