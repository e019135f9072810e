"""Self-collision and pinches judged by the makers' own shapes: ours, and dex-retargeting beside it."""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...hand.poses import hand_pose, pinching_hand
from ...robot.hands.model import HandModel
from ...robot.retarget.compiled_objective import build_problem
from ...robot.setup.mesh_body import MeshDistance, load_pieces
from .dex_comparison import run_dex
from .retarget_bench import RATE, low_pass, sequences, stream

DEEP = 1e-3  # m, what counts as a collision
_OPEN, _CLOSED = 15, 45  # frames before a fast pinch, and of it


@dataclass(frozen=True)
class SelfCollision:
    """Of T frames of one sequence: how many are deeper than 1 mm, how many penetrate at all, and the deepest [mm]."""

    hand: str
    method: str
    objective: str
    sequence: str
    frames: int
    deep: int
    touching: int
    deepest_mm: float
    where: str


@dataclass(frozen=True)
class Pinch:
    """A pinch that is held: gap between the two tips [mm] (negative: penetration), and how long a fast one takes
    [ms].
    """

    hand: str
    method: str
    finger: str
    gap_mm: float
    closing_ms: float


def official_urdf(folder: str | Path, name: str) -> Path:
    """The URDF of a hand in a folder of the makers' files: NAME.urdf, or the file itself where one is given."""
    path = Path(folder).expanduser()
    path = path / f"{name}.urdf" if path.is_dir() else path
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; put the maker's URDF of {name!r} there (a link will do), its meshes beside it"
        )
    return path


def judge_hand(
    hand: HandModel,
    urdf: Path,
    objectives: list[str],
    recorded: np.ndarray | None,
    python: str | None = None,
    compare: bool = False,
    every: int = 1,
    on_progress: Callable[[str], None] = lambda what: None,
) -> tuple[list[SelfCollision], list[Pinch], list[str]]:
    """Ours with every limit on at 30 Hz, and dex-retargeting where asked for, judged at every `every`-th frame."""
    judge = MeshDistance(hand, load_pieces(hand, urdf))
    notes = [f"{hand.name}: touch by design: {' and '.join(pair)}" for pair in judge.ignored]
    collisions, pinches = [], []
    for name, keypoints in sequences(recorded, hand.side).items():
        for objective in objectives:
            on_progress(f"{hand.name} {objective} {name}")
            human = keypoints @ build_problem(hand, objective).rotation.T
            paths = {"egohand": np.array([r.q for r in stream(hand, objective, human)])}
            if compare:
                try:
                    raw = run_dex(hand, objective, human, python)["q"]
                    paths["dex-retargeting"] = raw if objective == "position" else low_pass(raw)
                except UserError as error:
                    notes.append(f"{hand.name} {objective}: {error}")
            for method, path in paths.items():
                collisions.append(_collisions(hand, judge, method, objective, name, path[::every]))
    if "dexpilot" in objectives:
        pinches = judge_pinches(hand, judge, python, compare)
    return collisions, pinches, notes


def _collisions(hand, judge, method, objective, name, path) -> SelfCollision:
    distances = np.array([judge.distances(q) for q in path])
    least, worst = distances.min(1), np.unravel_index(distances.argmin(), distances.shape)
    where = " and ".join(judge.links[i] for i in judge.pairs[worst[1]])
    deep, touching = int((least < -DEEP).sum()), int((least < 0.0).sum())
    return SelfCollision(
        hand.name, method, objective, name, len(path), deep, touching, float(1e3 * -least.min()), where
    )


def judge_pinches(
    hand: HandModel, judge: MeshDistance, python: str | None = None, compare: bool = False
) -> list[Pinch]:
    """Held pinches of the thumb with each finger, and fast ones, by `dexpilot`."""
    if "thumb" not in hand.tip_bodies:
        return []
    out = []
    rotation = np.asarray(hand.config.palm_rotation).T
    for finger in (f for f in hand.tips if f != "thumb"):
        human = np.array(_pinch(finger, hand.side)) @ rotation
        paths = {"egohand": np.array([r.q for r in stream(hand, "dexpilot", human)])}
        if compare:
            with contextlib.suppress(UserError):
                paths["dex-retargeting"] = low_pass(run_dex(hand, "dexpilot", human, python)["q"])
        pair = tuple(sorted(judge.links.index(hand.tip_bodies[name]) for name in ("thumb", finger)))
        for method, path in paths.items():
            gaps = np.array([judge.distances(q, [pair])[0] for q in path])
            closed = np.flatnonzero(gaps[_OPEN:] < gaps[-1] + 1e-3)
            closing = 1e3 * (closed[0] if len(closed) else len(gaps)) / RATE
            out.append(Pinch(hand.name, method, finger, float(1e3 * gaps[-1]), float(closing)))
    return out


def _pinch(finger: str, side: str) -> list[np.ndarray]:
    """An open hand that pinches within one frame of 30 Hz, and holds."""
    opened = hand_pose("relaxed", side)
    return [opened] * _OPEN + [pinching_hand(finger, 1.0, side)] * _CLOSED


def as_dict(collisions: list[SelfCollision], pinches: list[Pinch], notes: list[str]) -> dict:
    """Plain data for JSON."""
    return {"collisions": [asdict(c) for c in collisions], "pinches": [asdict(p) for p in pinches], "notes": notes}
