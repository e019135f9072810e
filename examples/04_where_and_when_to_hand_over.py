"""When will a hand be within reach of a point, where exactly, and how sure is that?

python examples/04_where_and_when_to_hand_over.py
"""

import numpy as np

from egohand_ros.api import load_forecaster
from egohand_ros.data.synthetic import generate_scene

NEAR = 0.10  # m
RADIUS_90 = 2.5003  # of three Gaussian coordinates of unit deviation, this radius holds 90 %


def main() -> None:
    forecaster = load_forecaster("egohand-small")
    episode = generate_scene(seed=5, duration=6.0).episode
    forecast = forecaster.forecast(episode.last_window(forecaster.spec), hypotheses=10)
    for side, name in enumerate(("left", "right")):
        if not forecast.valid[0, side, 0]:
            continue
        wrists = forecast.keypoints[0, :, :, side, 0].numpy()  # (K, S, 3) m
        covariance = forecast.wrist_covariance[0, 0, :, side, :3, :3].numpy()  # (S, 3, 3) m^2
        probability, times = forecast.probability[0].numpy(), forecast.step_times.numpy()
        target = wrists[0, -1]  # here: where the most probable hypothesis ends
        arrives = np.linalg.norm(wrists - target, axis=-1) < NEAR  # (K, S)
        for step, after in enumerate(times):
            chance = probability[arrives[:, step]].sum()
            radius = RADIUS_90 * np.sqrt(np.linalg.eigvalsh(covariance[step])[-1])
            print(f"{name} in {after:.1f} s: {chance:4.0%} within {NEAR} m, 90 % region reaches {1e3 * radius:4.0f} mm")


if __name__ == "__main__":
    main()
