"""Do 90 % regions hold 90 % once the node has adapted them? Feeds recordings to a forecaster frame by frame, as the
node does.

python -m egohand_ros.evaluation.online_coverage recording.tsv --forecaster egohand-small,kalman
python -m egohand_ros.evaluation.online_coverage --synthetic 4
"""

import argparse
from collections.abc import Sequence

import numpy as np

from ..data.episode import Episode
from ..data.load import load_labelled
from ..data.synthetic import generate_scene, observe
from ..data.windows import cut_windows, window_ends
from ..forecast.common.calibration import score
from ..forecast.common.protocol import Forecaster
from ..forecast.live.assessment import OnlineAssessment
from ..forecast.registry import make_forecaster

_ADAPTED_FOR = 30.0  # s before anything counts
_RATE = 30.0  # Hz, at most, of observations
# Generated recordings begin at this seed: nothing is trained or calibrated on them.
_SEED, _DURATION = 900, 90.0
KINDS = ("position", "rotation", "keypoint")


def coverage(forecaster: Forecaster, episode: Episode, adapt: bool = True) -> dict[str, tuple[int, int]]:
    """(inside, counted) of wrist positions, rotations and keypoints, of all forecasts made `_ADAPTED_FOR` s after the
    first.
    """
    spec, assessment = forecaster.spec, OnlineAssessment()
    sizes = (spec.step, spec.window_length, spec.horizon_steps)
    ends = set(window_ends(episode.stamp, *sizes).tolist())
    first, counts = min(ends), {kind: [0, 0] for kind in KINDS}
    last = -np.inf
    for frame in range(first, len(episode)):
        if episode.stamp[frame] - last < 0.99 / _RATE:
            continue
        last = episode.stamp[frame]
        cut = cut_windows(episode, np.array([frame]), *sizes)
        forecast = assessment.publish(forecaster.forecast(cut.window), adapt)
        rotation = np.where(cut.window.rotation_valid[0, -1, :, None, None], cut.window.wrist_rotation[0, -1], np.nan)
        assessment.observe(float(last), cut.window.keypoints[0, -1].numpy(), cut.window.valid[0, -1].numpy(), rotation)
        if last - episode.stamp[first] < _ADAPTED_FOR or frame > max(ends):
            continue
        truth = (cut.future, cut.future_valid, cut.future_rotation, cut.future_rotation_valid)
        for kind, values in vars(score(forecast, *truth)).items():
            known = np.isfinite(values)
            counts[kind][0] += int((values[known] <= 1.0).sum())
            counts[kind][1] += int(known.sum())
    return {kind: tuple(count) for kind, count in counts.items()}


def compare(names: Sequence[str], episodes: Sequence[Episode]) -> dict[str, dict[str, float]]:
    """Share inside, by forecaster and kind."""
    shares = {}
    for name in names:
        sums = np.sum([list(coverage(make_forecaster(name), episode).values()) for episode in episodes], axis=0)
        shares[name] = {kind: inside / max(counted, 1) for kind, (inside, counted) in zip(KINDS, sums, strict=True)}
    return shares


def main() -> None:
    """Print the shares, %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", nargs="*", help="as of egohand evaluate; longer than half a minute")
    parser.add_argument(
        "--synthetic", type=int, default=0, metavar="N", help="also N generated ones, seen by a noisy tracker"
    )
    parser.add_argument("--forecaster", default="egohand-small,kalman,persistence", help="names, separated by commas")
    args = parser.parse_args()
    sets = {label: [episode] for label, episode in load_labelled(args.recordings).items()} if args.recordings else {}
    if args.synthetic:
        sets["synthetic"] = [observe(generate_scene(_SEED + i, _DURATION)).episode for i in range(args.synthetic)]
    for label, episodes in sets.items():
        print(f"{label}: wrist position, wrist rotation, keypoints, %")
        for name, shares in compare(args.forecaster.split(","), episodes).items():
            print(f"  {name:14}", "  ".join(f"{100 * share:5.1f}" for share in shares.values()))


if __name__ == "__main__":
    main()
