"""Do images and words harm on real frames? `adaptive` with the grounding of `egohand-goals` beside itself without, on a
recording with pictures, for tasks that name things which are not there.

    egohand track human_hand_video.mp4 --out out/video.npz
    python -m egohand_ros.training.studies.real.real_frames out/video.npz --prompt "pick up the blue box"

Grounding sleeps without camera poses. Where the recording has none, its camera is taken to look ahead and to stay where
it is, so that there is something to judge.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ....data.episode import Episode
from ....data.load import load_episodes
from ....errors import UserError
from ....evaluation.stream import StreamResult, evaluate_stream
from ....forecast.common.protocol import Forecaster
from ....forecast.registry import make_forecaster
from ....geometry.transforms import UPRIGHT_OPTICAL, transform_points
from ....stream.window import Window

WITH, WITHOUT = "adaptive:egohand-goals", "adaptive"
PROMPTS = ("pick up the blue box", "put the red ball to the left of the green cup", "touch the box")


class Watched:
    """A forecaster, and how sure it was of a goal in each window (0 where it looked for none)."""

    def __init__(self, forecaster: Forecaster):
        self._forecaster, self.spec, self.sure = forecaster, forecaster.spec, []
        self.reset = forecaster.reset

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None):
        forecast = self._forecaster.forecast(window, hypotheses, seed)
        told = forecast.goal_probability
        self.sure.append(0.0 if told is None else float(told[0, 0]))
        return forecast


def upright(episode: Episode) -> Episode:
    """The recording in the world of its camera, which looks ahead and does not move; as it is where poses are known."""
    if episode.camera_pose is not None:
        return episode
    return replace(
        episode,
        keypoints=transform_points(UPRIGHT_OPTICAL, episode.keypoints),
        wrist_rotation=UPRIGHT_OPTICAL[:3, :3] @ episode.wrist_rotation,
        camera_pose=np.repeat(UPRIGHT_OPTICAL[None], len(episode), axis=0),
    )


def check(episode: Episode, prompt: str) -> tuple[StreamResult, list[float]]:
    """Both in order, and how sure the grounding was."""
    if episode.images is None:
        raise UserError("the recording has no pictures; `egohand track VIDEO --out FILE.npz` keeps those of a video")
    seeing = Watched(make_forecaster(WITH))
    made = {WITH: seeing, WITHOUT: make_forecaster(WITHOUT)}
    return evaluate_stream({prompt: [replace(upright(episode), task=prompt)]}, made, regions=False), seeing.sure


def main() -> None:
    """Print ratios of errors, with over without."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path, help="with pictures")
    parser.add_argument("--prompt", action="append", default=[], help="repeatable; by default three")
    parser.add_argument("--json", type=Path, help="write the numbers")
    args = parser.parse_args()
    torch.set_num_threads(1)
    (episode, *_), found = load_episodes(args.recording), {}
    for prompt in args.prompt or PROMPTS:
        result, sure = check(episode, prompt)
        source = result.sources[prompt]
        ratios = {column: source.ratio(WITH, column, WITHOUT) for column in source.columns()}
        found[prompt] = {
            "with over without": ratios,
            "goal probability, quartiles": np.quantile(sure, (0.25, 0.5, 0.75)).tolist(),
        }
        shown = (
            f"{c} {100 * r - 100:+.1f} ({100 * a - 100:+.0f} to {100 * b - 100:+.0f})"
            for c, (r, a, b) in ratios.items()
        )
        print(
            f"{prompt!r}:", *shown, "%; sure of a goal", np.round(np.quantile(sure, (0.25, 0.5, 0.75)), 2), flush=True
        )
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
