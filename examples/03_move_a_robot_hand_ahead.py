"""A robot hand is late; command what the human hand will do when the command takes effect.

python examples/03_move_a_robot_hand_ahead.py allegro_right 0.15     # hand (`egohand hands`), its delay in s
"""

import sys

import numpy as np

from egohand_ros.api import JointLimiter, list_hands, load_forecaster, load_hand, load_retargeter
from egohand_ros.data.synthetic import generate_scene

PERIOD = 0.1  # s between commands here; the retargeter node sends 100 a second


def main(name: str = "allegro_right", delay: str = "0.15") -> None:
    print(f"hands: {', '.join(list_hands())}")
    hand, lead = load_hand(name), float(delay)
    forecaster, retargeter, limiter = load_forecaster("egohand-follow"), load_retargeter(name), JointLimiter(hand)
    episode = generate_scene(seed=3, duration=5.0).episode
    for now in np.arange(1.0, 3.0, PERIOD):
        seen = episode.slice(0, int(np.searchsorted(episode.stamp, episode.stamp[0] + now)))
        forecast = forecaster.forecast(seen.last_window(forecaster.spec))
        if not forecast.valid[0, ("left", "right").index(hand.side), 0]:
            q, _ = limiter.step(None, PERIOD, "hold")
        else:
            q, _ = limiter.step(retargeter.at(forecast, lead).q, PERIOD)
        assert (q >= hand.lower).all() and (q <= hand.upper).all()
        print(f"{now:.1f} s", np.array2string(q, precision=2, suppress_small=True, max_line_width=200))


if __name__ == "__main__":
    main(*sys.argv[1:])
