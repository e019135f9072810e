"""Which forecaster errs least on my recordings? One protocol, the naive ones beside.

python examples/02_compare_forecasters.py recordings/     # without: two generated persons
"""

import sys

from egohand_ros.api import evaluate, list_forecasters, load_episodes

# "persistence" repeats the last observation. What does not beat it is not worth its processor time.
COMPARED = ("persistence", "damped", "kalman", "egohand-small")


def main(recordings: str | None = None) -> None:
    if recordings is None:
        from egohand_ros.data.synthetic import generate_scene

        episodes = [generate_scene(seed, 8.0).episode for seed in (1, 2)]
    else:
        episodes = load_episodes(recordings)
    for name, spec in list_forecasters().items():
        print(f"{name:15} {spec.horizon_steps} x {spec.step:.3g} s from {', '.join(spec.modalities)}")
    result = evaluate(episodes, COMPARED, protocol="egoexo4d")
    print(f"{result.windows} windows, errors in mm")
    for name in COMPARED:
        print(f"{name:15}", "  ".join(f"{key} {1e3 * value:6.1f}" for key, value in result.metrics(name).items()))


if __name__ == "__main__":
    main(*sys.argv[1:])
