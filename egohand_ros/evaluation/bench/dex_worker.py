"""Runs dex-retargeting on a job, for comparison. Uses nothing of this package: it also runs as a script in the Python
of another virtual environment, because dex-retargeting 0.5.0 needs NumPy 2 and this package NumPy 1.26.

    python dex_worker.py JOB.json FRAMES.npy OUT.npz
"""

import json
import sys
import time

import numpy as np


def run(job: dict, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Retarget keypoints (T, 21, 3) m in the robot's base axes, wrist-centred.

    `job`: urdf (path), type, joints, scale, and links and human indices as dex-retargeting wants them; `tolerance`,
    where its search is to end at another absolute change of the objective than it has as shipped.
    Returns q (T, n + 6 where the base is free) unfiltered, filtered (T, n), joints, ms (T,).
    """
    from dex_retargeting.retargeting_config import RetargetingConfig

    kind = job["type"]
    config = {"type": kind, "urdf_path": job["urdf"], "target_joint_names": list(job["joints"]), "low_pass_alpha": 1.0}
    if kind == "vector":
        config |= {"target_origin_link_names": job["origins"], "target_task_link_names": job["tips"]}
        config |= {"target_link_human_indices": np.array(job["human"]), "scaling_factor": job["scale"]}
    elif kind == "position":
        config |= {"target_link_names": job["tips"], "target_link_human_indices": np.array(job["human"])}
        config |= {"add_dummy_free_joint": True}
    else:
        config |= {
            "wrist_link_name": job["origins"][0],
            "finger_tip_link_names": job["tips"],
            "scaling_factor": job["scale"],
        }
    retargeting = RetargetingConfig.from_dict(config).build()
    if job.get("tolerance"):
        retargeting.optimizer.opt.set_ftol_abs(job["tolerance"])
    indices = retargeting.optimizer.target_link_human_indices
    out, elapsed = [], []
    for frame in frames.astype(np.float64):
        start = time.process_time()
        value = frame[indices] if kind == "position" else frame[indices[1]] - frame[indices[0]]
        retargeting.retarget(value)
        elapsed.append(1e3 * (time.process_time() - start))
        out.append(np.array(retargeting.last_qpos, dtype=np.float64))
    names = list(retargeting.optimizer.target_joint_names)
    order = [names.index(name) for name in job["joints"]]
    q = np.array(out)
    base = [i for i in range(len(names)) if i not in order]
    return {"q": q[:, order], "base": q[:, base], "ms": np.array(elapsed)}


def main() -> None:
    job_path, frames_path, out_path = sys.argv[1:]
    with open(job_path) as file:
        job = json.load(file)
    np.savez(out_path, **run(job, np.load(frames_path)))


if __name__ == "__main__":
    main()
