"""Makes `forecast/static_pose.json`: the mean hand pose of synthetic episodes in the canonical egocentric frame.

    python -m egohand_ros.training.studies.mean_pose

As the forecaster sees it, the frame is that of the camera 2 s before the moment whose pose is averaged.
"""

import json

import numpy as np

from ...data.synthetic import generate_scene
from ...forecast.naive.static import POSE_FILE
from ...geometry.canonical import canonical_from_camera
from ...geometry.transforms import invert_transform, transform_points

SEEDS, DURATION, RATE, WINDOW = range(2_000_000, 2_000_060), 30.0, 10.0, 20


def mean_pose() -> np.ndarray:
    """Mean keypoints (2, 21, 3) m, sides [left, right]."""
    means = []
    for seed in SEEDS:
        scene = generate_scene(seed, DURATION, RATE)
        T_canonical_world = invert_transform(canonical_from_camera(scene.T_world_camera[:-WINDOW]))
        means.append(transform_points(T_canonical_world[:, None], scene.keypoints[WINDOW:]).mean(axis=0))
    return np.mean(means, axis=0)


def main() -> None:
    """Write the file."""
    about = f"mean of {len(SEEDS)} synthetic episodes of {DURATION:g} s, canonical frame, m, sides [left, right]"
    POSE_FILE.write_text(json.dumps({"about": about, "keypoints": mean_pose().round(4).tolist()}, indent=1) + "\n")
    print(f"{POSE_FILE}: {about}")


if __name__ == "__main__":
    main()
