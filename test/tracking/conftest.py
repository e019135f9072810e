"""The real video of a right hand, as RGB frames."""

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def right_hand_video(shared_data) -> list[np.ndarray]:
    """Every 8th of the 621 frames, RGB (720, 1280, 3)."""
    capture = cv2.VideoCapture(str(shared_data / "hand_video" / "human_hand_video.mp4"))
    frames = []
    while capture.grab():
        if len(frames) * 8 <= capture.get(cv2.CAP_PROP_POS_FRAMES) - 1:
            frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    return frames
