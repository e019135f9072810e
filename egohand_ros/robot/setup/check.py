"""What is wrong with a hand's config, or likely to be: `egohand hands check`."""

from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ...hand.poses import POSES, hand_pose
from ...hand.skeleton import FINGERS
from ..hands.library import load_hand
from ..hands.model import HandModel
from ..retarget.retargeter import Retargeter
from .anatomy import find_anatomy

_FOLLOWED = 0.035  # m, mean fingertip error of an open hand, per unit of scale, beyond which something is off
_PINCHED = 0.005  # m between the surfaces of thumb and finger
_TILTED = 35.0  # degrees between the config's palm and what the joint ranges say


@dataclass(frozen=True)
class Finding:
    """`level` is "error" (will not work), "warning" (may not be what you want) or "ok"."""

    level: str
    text: str


def check_hand(name_or_path: str, urdf: str | None = None) -> list[Finding]:
    """All findings on a hand; the first error ends the list, because the rest cannot be judged."""
    try:
        hand = load_hand(name_or_path, urdf)
        hand.capsules  # noqa: B018, builds them
    except UserError as error:
        return [Finding("error", str(error))]
    findings = [Finding("ok", f"{hand.n} joints, {len(hand.tips)} fingers, {len(hand.capsules.links)} capsules")]
    for check in (_check_palm, _check_limits, _check_collision, _check_commands, _check_follows, _check_pinches):
        findings += check(hand) or [Finding("ok", str(check.__doc__).rstrip("."))]
    return findings


def _check_palm(hand: HandModel) -> list[Finding]:
    """The palm frame agrees with the way the fingers point and bend."""
    try:
        found = find_anatomy(hand.tree, hand.base, hand.side)
    except UserError as error:
        wrong_side = "is it mirrored?" in str(error)
        return [Finding("error" if wrong_side else "warning", f"the palm frame cannot be judged: {error}")]
    out = []
    for axis, meaning in ((0, "along the fingers"), (2, "out of the back of the hand")):
        angle = np.degrees(
            np.arccos(np.clip(found.rotation[:, axis] @ np.asarray(hand.config.palm_rotation)[:, axis], -1, 1))
        )
        if angle > _TILTED:
            column = np.round(found.rotation[:, axis], 2).tolist()
            out.append(
                Finding("error", f"palm.rotation: column {axis} ({meaning}) is {angle:.0f} degrees off; about {column}")
            )
    return out


def _check_limits(hand: HandModel) -> list[Finding]:
    """Joint ranges, speeds and accelerations are plausible."""
    out = []
    for name, span, v, a in zip(
        hand.joint_names, hand.upper - hand.lower, hand.velocity_limit, hand.acceleration_limit
    ):
        if span < 0.05:
            out.append(Finding("warning", f"joint {name} moves only {span:.3f} rad"))
        if v > 25.0:
            out.append(Finding("warning", f"joint {name} may move {v:.0f} rad/s, more than hands do; set `velocity:`"))
        if v / a > 0.5 or v / a < 0.01:
            out.append(Finding("warning", f"joint {name} takes {v / a:.2f} s to full speed; set `acceleration:`"))
    return out


def _check_collision(hand: HandModel) -> list[Finding]:
    """The rest pose is clear of self-collision and every finger has a body."""
    out = []
    bodies = set(hand.capsules.links)
    if not bodies:
        return [
            Finding("warning", "no collision shapes: its links may run into each other; see `egohand hands fit-shapes`")
        ]
    for finger, links in hand.config.fingers.items():
        if not bodies & {hand.config.points.get(link, (link,))[0] for link in links}:
            out.append(Finding("warning", f"{finger} has no collision shape: give collision.capsules"))
    if len(hand.capsules):
        distance = hand.capsules.distances(hand.kinematics, hand.rest_q)
        for i in np.flatnonzero(distance < hand.capsules.margin):
            a, b = hand.capsules.pair_names(i)
            out.append(
                Finding("error", f"{a} and {b} touch at rest ({1e3 * distance[i]:.1f} mm): change `rest:` or collision")
            )
    return out


def _check_commands(hand: HandModel) -> list[Finding]:
    """Commands reach the whole range of every joint and come back."""
    if not hand.config.commands:
        return [Finding("error", "no command interface: give `commands:`")]
    out = []
    for name in hand.config.commands:
        mapping = hand.command_mapping(name)
        for q in (hand.lower, hand.upper):
            back = mapping.from_wire(mapping.to_wire(q))
            for joint in np.flatnonzero(np.abs(back - q) > 1e-6):
                out.append(
                    Finding("error", f"commands.{name}: {hand.joint_names[joint]} is clipped at {q[joint]:.3f} rad")
                )
    return out


def _check_follows(hand: HandModel) -> list[Finding]:
    """An open hand is followed as an open hand, and a fist closes."""
    retargeter, out = Retargeter(hand), []
    scale = hand.objective("vector").scale
    tips = list(hand.tips.values())
    reach = {}
    for pose in ("open", "fist"):
        for _ in range(20):
            result = retargeter.solve(hand_pose(pose, hand.side))
        places = hand.kinematics.link_positions(result.q, tips)
        wrist = hand.kinematics.link_positions(result.q, [hand.config.palm_link])[0]
        goal = scale * hand_pose(pose, hand.side)[[4 + 4 * FINGERS.index(f) for f in hand.tips]]
        error = np.linalg.norm(places - wrist - goal @ np.asarray(hand.config.palm_rotation).T, axis=1)
        reach[pose] = np.linalg.norm(places[1:] - wrist, axis=1).mean()
        if pose == "open" and error.mean() > _FOLLOWED * scale:
            out.append(
                Finding(
                    "warning",
                    f"fingertips of an open hand are {1e3 * error.mean():.0f} mm off: check scale and palm.link",
                )
            )
    if reach["fist"] > 0.9 * reach["open"]:
        out.append(Finding("error", "a fist hardly closes the fingers: check palm.rotation and the joint ranges"))
    return out


def _check_pinches(hand: HandModel) -> list[Finding]:
    """Every pinch closes."""
    if "dexpilot" not in hand.config.objectives or not len(hand.capsules):
        return []
    retargeter, out = Retargeter(hand, objective="dexpilot"), []
    for pose in (p for p in POSES if p.startswith("pinch_") and p[6:] in hand.tips):
        for _ in range(40):
            result = retargeter.solve(hand_pose(pose, hand.side))
        gap = pinch_gap(hand, result.q, pose[6:])
        if gap > _PINCHED:
            out.append(Finding("warning", f"thumb and {pose[6:]} stay {1e3 * gap:.0f} mm apart in a pinch"))
    return out


def pinch_gap(hand: HandModel, q: np.ndarray, finger: str) -> float:
    """Distance [m] between the surfaces of the thumb's and a finger's outermost bodies at q (n,)."""
    ends = []
    model, k = hand.capsules, hand.kinematics
    poses = k.slot_transforms(q)[model.slots]
    places = np.einsum("cij,cej->cei", poses[:, :3, :3], model.ends) + poses[:, None, :3, 3]
    for name in ("thumb", finger):
        ends.append([i for i, link in enumerate(model.links) if link in _outer_links(hand, name)])
    from ..hands.capsules import segment_distance

    a, b = np.array([(i, j) for i in ends[0] for j in ends[1]]).T
    gap, _, _ = segment_distance(places[a, 0], places[a, 1], places[b, 0], places[b, 1])
    return float((gap - model.radius[a] - model.radius[b]).min())


def _outer_links(hand: HandModel, finger: str) -> set[str]:
    """The outermost link of a finger that has a body, and what is fixed to it."""
    tip = hand.tips[finger]
    link = hand.config.points[tip][0] if tip in hand.config.points else tip
    bodies, out = set(hand.capsules.links), {link}
    joint = hand.tree.parent_joint(link)
    while joint is not None and (not joint.movable or not out & bodies):
        out.add(joint.parent)
        joint = hand.tree.parent_joint(joint.parent)
    return out & bodies
