"""Draws the curves of a training run from its log.

python -m egohand_ros.training.curves out/small docs/images/egohand-small-training.png
"""

import argparse
from pathlib import Path

import numpy as np

from .checkpoint import read_log

_SMOOTH = 100  # steps averaged


def plot(log: list[dict[str, float]], path: Path) -> None:
    """Losses by step, and above the validation errors that the run wrote down."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.0, 3.2), constrained_layout=True)
    steps = np.array([line["step"] for line in log])
    for name in ("absolute", "relative", "fingers", "point"):
        if name in log[0]:
            left.plot(*_smooth(steps, np.array([1e3 * line[name] for line in log])), label=name)
    left.set(xlabel="step", ylabel="training loss, mm", ylim=(0, None))
    left.legend(frameon=False)
    for name in ("ADE", "FDE", "MPJPE", "ADE best of 5"):
        points = [(line["step"], 1e3 * line[f"validation {name}"]) for line in log if f"validation {name}" in line]
        if points:
            right.plot(*zip(*points), marker="o", markersize=3, label=name)
    right.set(xlabel="step", ylabel="held-out synthetic, mm", ylim=(0, None))
    right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _smooth(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over _SMOOTH steps at a time."""
    count = max(1, len(values) // _SMOOTH)
    return tuple(np.array([part.mean() for part in np.array_split(array, count)]) for array in (steps, values))


def main() -> None:
    """Read the log and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run's folder, with log.jsonl")
    parser.add_argument("image", type=Path, help="the file to write")
    args = parser.parse_args()
    plot(read_log(args.run), args.image)


if __name__ == "__main__":
    main()
