"""How real and generated hands differ: speed, pauses, jerk, and how long from a peak of speed to a pause.

    python -m egohand_ros.training.studies.real.motion_statistics motion/* --plot docs/images/motion-statistics.png

Wrists are resampled to 30 Hz and smoothed over 0.1 s. A pause is 0.1 s or more below 5 cm/s. Jerk is made free of
duration and length, by reaches from pause to pause: the root mean square jerk times duration^3 over length (N. Hogan
and D. Sternad, J. Motor Behavior 41(6), 2009; a whole minimum-jerk reach has 26.8).
"""

import argparse
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ....data.episode import Episode
from ....data.load import load_episodes
from ....data.synthetic import generate_scene
from ....data.synthetic.free_motion import generate_free_motion
from ....hand.skeleton import WRIST
from ....stream.resample import resample
from ...motion_training import GENERATED_SEED

_RATE, _SMOOTH = 30.0, 0.1  # Hz, s
_PAUSE, _LEAST_PAUSE = 0.05, 0.1  # m/s, s
_LEAST_REACH = 0.2  # s
_GAP = 0.15  # s that is interpolated
NAMES = {
    "speed": "speed, m/s",
    "pause": "pause, s",
    "jerk": "jerk of a reach, dimensionless",
    "stop": "from the peak of speed to the pause, s",
}


@dataclass
class Statistics:
    """Of one source: every frame's speed m/s, and of its pauses and reaches what `NAMES` says."""

    speed: list[float] = field(default_factory=list)
    pause: list[float] = field(default_factory=list)
    jerk: list[float] = field(default_factory=list)
    stop: list[float] = field(default_factory=list)

    def add(self, wrist: np.ndarray) -> None:
        """A path (T, 3) m at 30 Hz."""
        smooth = gaussian_filter1d(wrist, _SMOOTH * _RATE / 2.0, axis=0)
        velocity = np.gradient(smooth, 1.0 / _RATE, axis=0)
        speed = np.linalg.norm(velocity, axis=1)
        self.speed += speed.tolist()
        jerk = np.gradient(np.gradient(velocity, 1.0 / _RATE, axis=0), 1.0 / _RATE, axis=0)
        slow = speed < _PAUSE
        edges = np.flatnonzero(np.diff(slow)) + 1
        bounds = [0, *edges, len(slow)]
        for number, (a, b) in enumerate(pairwise(bounds)):
            duration = (b - a) / _RATE
            if 0 < number < len(bounds) - 2:  # whole ones
                if slow[a] and duration >= _LEAST_PAUSE:
                    self.pause.append(duration)
                elif not slow[a] and duration >= _LEAST_REACH:
                    length = speed[a:b].sum() / _RATE
                    square = (jerk[a:b] ** 2).sum(axis=1).mean()
                    self.jerk.append(float(np.sqrt(square) * duration**3 / length))
                    self.stop.append((b - a - int(np.argmax(speed[a:b]))) / _RATE)


def statistics(episodes: list[Episode]) -> Statistics:
    """Of all wrists, wherever they are seen for a second or more."""
    found = Statistics()
    for episode in episodes:
        at = np.arange(episode.stamp[0], episode.stamp[-1], 1.0 / _RATE)
        hands = resample(episode.stamp, episode.keypoints, episode.valid, episode.wrist_rotation, at, _GAP)
        for side in range(2):
            seen = hands.valid[:, side, WRIST]
            edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]])))
            for a, b in zip(edges[::2], edges[1::2], strict=True):
                if b - a > _RATE:
                    found.add(hands.keypoints[a:b, side, WRIST])
    return found


def draw(all_of_them: dict[str, Statistics], path: Path) -> None:
    """Cumulative distributions, one panel each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    for axes, (name, label) in zip(figure.subplots(2, 2).flat, NAMES.items(), strict=True):
        for source, found in all_of_them.items():
            values = np.sort(getattr(found, name))
            if len(values):
                style = "--" if source.startswith("generated") else "-"
                axes.plot(values, np.linspace(0, 1, len(values)), style, label=f"{source} ({len(values)})", lw=1.6)
        axes.set(xlabel=label, ylabel="share at most", xscale="log", ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    FigureCanvasAgg(figure).print_png(path)


def main() -> None:
    """Print medians and quartiles; draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="+", type=Path, help="recordings, or folders of them; each is a source")
    parser.add_argument("--generated", type=int, default=20, help="generated episodes of 30 s of each kind")
    parser.add_argument("--plot", type=Path, help="a .png")
    args = parser.parse_args()
    found = {path.name: statistics(load_episodes(path)) for path in args.source}
    seeds = range(GENERATED_SEED, GENERATED_SEED + args.generated)
    found["generated scenes"] = statistics([generate_scene(seed).episode for seed in seeds])
    found["generated free motion"] = statistics([generate_free_motion(seed) for seed in seeds])
    for name, label in NAMES.items():
        print(label)
        for source, one in found.items():
            values = getattr(one, name)
            shown = " / ".join(f"{q:.3g}" for q in np.quantile(values, (0.25, 0.5, 0.75))) if values else "-"
            print(f"  {source:24} {shown}  ({len(values)})")
    still = {source: np.mean(np.array(one.speed) < _PAUSE) for source, one in found.items()}
    print("share of time below 5 cm/s:", ", ".join(f"{source} {share:.0%}" for source, share in still.items()))
    if args.plot:
        draw(found, args.plot)


if __name__ == "__main__":
    main()
