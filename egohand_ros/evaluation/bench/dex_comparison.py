"""dex-retargeting on our hands: the same URDF, objective, scale and keypoints, in this Python or in another one."""

import importlib.util
import json
import os
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...robot.hands.model import HandModel
from . import dex_worker

VERSION = "0.5.0"
PYTHON_VARIABLE = "EGOHAND_DEX_PYTHON"


def find_python(given: str | None = None) -> str | None:
    """The Python that has dex-retargeting: the given one, $EGOHAND_DEX_PYTHON, or None for this process.

    Raises `UserError` with what to type when there is none.
    """
    python = given or os.environ.get(PYTHON_VARIABLE)
    if python is None and importlib.util.find_spec("dex_retargeting") is not None:
        return None
    if python is not None:
        try:
            check = subprocess.run([python, "-c", "import dex_retargeting.optimizer"], capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"{python} cannot be run: {error.strerror}; expected the path of a Python") from None
        if check.returncode == 0:
            return python
        raise UserError(f"{python} cannot import dex_retargeting: {_reason(check)}")
    raise UserError(
        f"dex-retargeting is not installed; it needs NumPy 2, so give it a place of its own: python3 -m venv .venv-dex "
        f"&& .venv-dex/bin/pip install dex-retargeting=={VERSION} torch six trimesh, then --compare-python "
        ".venv-dex/bin/python"
    )


def run_dex(
    hand: HandModel, objective: str, frames: np.ndarray, python: str | None, tolerance: float | None = None
) -> dict[str, np.ndarray]:
    """q (T, n), base (T, 6 or 0) and ms (T,) of dex-retargeting for keypoints (T, 21, 3) m in the base axes.

    `tolerance`: the absolute change of the objective at which its search ends, by default as it is shipped.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "hand.urdf").write_text(flattened_urdf(hand))
        job = dex_job(hand, objective, str(path / "hand.urdf")) | {"tolerance": tolerance}
        if python is None:
            return dex_worker.run(job, frames)
        (path / "job.json").write_text(json.dumps(job))
        np.save(path / "frames.npy", frames)
        files = [str(path / name) for name in ("job.json", "frames.npy", "out.npz")]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run([python, dex_worker.__file__, *files], capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise UserError(f"dex-retargeting failed on {hand.name}: {_reason(done)}")
        return dict(np.load(files[-1]))


def _reason(process: subprocess.CompletedProcess) -> str:
    """The last line of what a process said about its failure."""
    said = process.stderr.strip().splitlines()
    return said[-1] if said else f"it printed no reason and ended with exit status {process.returncode}"


def dex_job(hand: HandModel, objective: str, urdf: str) -> dict:
    """The hand's objective in dex-retargeting's words; `UserError` where it has no such thing."""
    data = hand.objective(objective)
    if len(data.terms) != 1:
        raise UserError(
            f"objective {objective!r} of {hand.name} has {len(data.terms)} terms; dex-retargeting knows one"
        )
    term = data.terms[0]
    job = {"urdf": urdf, "type": objective, "joints": list(hand.joint_names), "scale": data.scale}
    if term.type == "pinch":
        if term.keypoints:
            raise UserError(f"{hand.name}: dex-retargeting's pinches take thumb, index, middle... in this order")
        return job | {"origins": [term.links[0][0]], "tips": list(term.links[0][1:])}
    if term.type == "position":
        return job | {"tips": [row[0] for row in term.links], "human": [row[0] for row in term.keypoints]}
    origins, tips = zip(*term.links)
    return job | {"origins": list(origins), "tips": list(tips), "human": np.array(term.keypoints).T.tolist()}


def flattened_urdf(hand: HandModel) -> str:
    """The hand's URDF from its root link on, each mimic joint following its motor directly: dex-retargeting knows no
    chains of mimic joints. The motion is the same."""
    robot = ElementTree.fromstring(hand.urdf_text.encode())
    kept = {joint.name for joint in hand.tree.joints}
    for element in list(robot):
        name = element.get("name")
        if (element.tag == "joint" and name not in kept) or (element.tag == "link" and name not in hand.tree.links):
            robot.remove(element)
    k = hand.kinematics
    for joint in robot.findall("joint"):
        mimic = joint.find("mimic")
        if mimic is not None:
            row = k.full_joint_names.index(joint.get("name"))
            leader = int(np.flatnonzero(k.mimic_matrix[row])[0])
            mimic.set("joint", k.joint_names[leader])
            mimic.set("multiplier", repr(float(k.mimic_matrix[row, leader])))
            mimic.set("offset", repr(float(k.mimic_offset[row])))
    return ElementTree.tostring(robot, encoding="unicode")
