"""Pictures of a robot hand beside the human hand that it follows, drawn from its capsules. Needs no display."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...hand.poses import hand_pose
from ...hand.skeleton import BONES, FINGERS
from ..hands.model import HandModel
from ..retarget.retargeter import Retargeter

SHOWN = ("open", "fist", "pinch_index", "pinch_middle", "pinch_ring", "pinch_little")
_COLOURS = {"thumb": "#d1495b", "index": "#edae49", "middle": "#66a182", "ring": "#2e86ab", "little": "#8d6a9f"}
_PALM = "#9aa0a6"
_SETTLE = 25  # frames that each pose is held for


def draw_hand(hand: HandModel, path: str | Path, objective: str | None = None) -> dict[str, np.ndarray]:
    """Draw the hand following an open hand, a fist and four pinches; returns the poses q (n,) by name.

    `objective`: dexpilot where the hand has it, otherwise vector. The file type is that of the path's ending.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    objective = objective or ("dexpilot" if "dexpilot" in hand.config.objectives else "vector")
    names = [pose for pose in SHOWN if not pose.startswith("pinch_") or pose[6:] in hand.tips]
    figure = Figure(figsize=(2.6 * len(names), 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(names), squeeze=False)
    poses = follow_poses(hand, objective, names)
    for column, (pose, q) in enumerate(poses.items()):
        _draw_human(axes[0, column], hand_pose(pose, hand.side))
        _draw_robot(axes[1, column], hand, q)
        axes[0, column].set_title(pose.replace("_", " "), fontsize=10)
    for ax in axes.flat:
        ax.set_aspect("equal")
        ax.axis("off")
    figure.suptitle(f"{hand.name}: {objective}", fontsize=11)
    figure.savefig(path, dpi=110)
    return poses


def follow_poses(hand: HandModel, objective: str, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Where the hand ends after following each named human pose for a while, by name."""
    retargeter, out = Retargeter(hand, objective=objective), {}
    for pose in names:
        for _ in range(_SETTLE):
            result = retargeter.solve(hand_pose(pose, hand.side))
        out[pose] = result.q
    return out


def _view(side: str) -> np.ndarray:
    """Projection (3, 3) of palm-frame points to right, up and depth: the palm from the front and a little of its
    side.
    """
    across = 1.0 if side == "right" else -1.0
    forward = np.array([0.15, 0.5 * across, -0.85])
    forward /= np.linalg.norm(forward)
    up = np.array([1.0, 0.0, 0.0]) - forward[0] * forward
    up /= np.linalg.norm(up)
    return np.stack([np.cross(up, forward), up, forward])


def _draw_human(ax: Any, points: np.ndarray) -> None:
    side = "right" if points[5, 1] > points[17, 1] else "left"
    seen = points @ _view(side).T
    for a, b in BONES:
        finger = FINGERS[(b - 1) // 4]
        ax.plot(*seen[[a, b], :2].T, color=_COLOURS[finger] if a else _PALM, linewidth=4, solid_capstyle="round")
    ax.plot(*seen[[5, 9, 13, 17], :2].T, color=_PALM, linewidth=4)


def _draw_robot(ax: Any, hand: HandModel, q: np.ndarray) -> None:
    """Capsules from back to front, as lines as wide as they are thick."""
    model, k = hand.capsules, hand.kinematics
    colours = _link_colours(hand)
    poses = k.slot_transforms(q)[model.slots]
    ends = np.einsum("cij,cej->cei", poses[:, :3, :3], model.ends) + poses[:, None, :3, 3]
    wrist = k.link_positions(q, [hand.config.palm_link])[0]
    if not len(ends):  # no body: its joints as thin bones
        _draw_bones(ax, hand, q, wrist, colours)
        return
    seen = (ends - wrist) @ np.asarray(hand.config.palm_rotation) @ _view(hand.side).T
    low, high = seen[..., :2].min((0, 1)) - 0.02, seen[..., :2].max((0, 1)) + 0.02
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    box = ax.get_window_extent()
    points_per_metre = 72.0 / ax.figure.dpi * min(box.width / (high - low)[0], box.height / (high - low)[1])
    for i in np.argsort(seen[..., 2].mean(1)):
        width = 2.0 * model.radius[i] * points_per_metre
        for colour, extra in (("white", 1.5), (colours.get(model.links[i], _PALM), 0.0)):
            ax.plot(*seen[i, :, :2].T, color=colour, linewidth=width + extra, solid_capstyle="round")


def _draw_bones(ax: Any, hand: HandModel, q: np.ndarray, wrist: np.ndarray, colours: dict[str, str]) -> None:
    """Lines between the links that each finger's config names, for hands without collision shapes."""
    turn = np.asarray(hand.config.palm_rotation) @ _view(hand.side).T
    for finger, links in hand.config.fingers.items():
        seen = np.r_[[wrist], hand.kinematics.link_positions(q, list(links))] - wrist
        ax.plot(*(seen @ turn)[:, :2].T, color=_COLOURS[finger], linewidth=3, solid_capstyle="round")


def _link_colours(hand: HandModel) -> dict[str, str]:
    """Colour of each link: that of the finger whose chain it is on, where it is on one finger's alone."""
    owners: dict[str, set[str]] = {}
    for finger, tip in hand.tips.items():
        link: str | None = hand.config.points[tip][0] if tip in hand.config.points else tip
        while link is not None:
            owners.setdefault(link, set()).add(finger)
            joint = hand.tree.parent_joint(link)
            link = None if joint is None else joint.parent
    return {link: _COLOURS[next(iter(fingers))] for link, fingers in owners.items() if len(fingers) == 1}
