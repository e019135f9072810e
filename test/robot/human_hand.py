"""Human hands made up for tests."""

import numpy as np


def open_hand(side="right", curl=0.0):
    """Keypoints (21, 3) m in the palm frame: fingers along x, each joint curled by `curl` rad towards the palm (-z)."""
    points = np.zeros((21, 3))
    for finger, y in enumerate((0.025, 0.0, -0.02, -0.04)):
        at, angle = np.array([0.09, y, 0.0]), 0.0
        points[5 + 4 * finger] = at
        for joint, length in enumerate((0.04, 0.025, 0.02)):
            angle += curl
            at = at + length * np.array([np.cos(angle), 0.0, -np.sin(angle)])
            points[6 + 4 * finger + joint] = at
    points[1:5] = [[0.02, 0.03, -0.01], [0.05, 0.055, -0.02], [0.075, 0.07, -0.025], [0.095, 0.08, -0.03]]
    if side == "left":
        points[:, 1] *= -1
    return points
