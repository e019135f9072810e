"""A forecaster in a process of its own, in whatever environment it needs (here NumPy): put a network in `forecast`.

    egohand evaluate recording.npz --forecaster "external:python examples/external_forecaster/mine.py,kalman"
    ros2 launch egohand_ros forecast.launch.py "forecaster:=external:python /path/to/mine.py"

Every question is a line of JSON on the standard input, every answer a line on the standard output (docs/systems.md).
"""

import base64
import io
import json
import sys

import numpy as np

SPEC = {"name": "mine", "step": 0.1, "window_length": 5, "horizon_steps": 10, "max_hypotheses": 1}


def forecast(arrays, prompt, hypotheses, seed):
    """Every keypoint goes on as it went, slower and slower. (B, T, 2, 21, 3) m -> (B, K, S, 2, 21, 3) m."""
    seen = arrays["keypoints"]
    speed = np.where(arrays["valid"].all(axis=1)[..., None], seen[:, -1] - seen[:, -2], 0.0)
    ahead = 1.0 - 0.8 ** np.arange(1, SPEC["horizon_steps"] + 1)
    path = seen[:, -1, None] + 4.0 * ahead[:, None, None, None] * speed[:, None]
    return {"keypoints": path[:, None]}


def main():
    for line in sys.stdin:
        question = json.loads(line)
        if question["ask"] == "spec":
            answer = SPEC
        else:
            with np.load(io.BytesIO(base64.b64decode(question["npz"]))) as arrays:
                found = forecast(arrays, question["prompt"], question["hypotheses"], question["seed"])
            file = io.BytesIO()
            np.savez(file, **found)
            answer = {"npz": base64.b64encode(file.getvalue()).decode()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
