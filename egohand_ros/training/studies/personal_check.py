"""Does fine-tuning on three minutes of one person pay? Fine-tunes the shipped weights and scores other recordings.

    python -m egohand_ros.training.studies.personal_check --persons 3
    python -m egohand_ros.training.studies.personal_check --recording recording.tsv --train 45

Generated persons have their own hands, pace and manners; a tracker with default noise sees them. Of a real recording
the beginning is trained on and the rest is scored, with a gap of a window between them.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from ...data.episode import Episode
from ...data.load import load_labelled
from ...data.synthetic import generate_scene, observe
from ...data.synthetic.world import Person
from ...evaluation.protocol import NAIVE, evaluate
from ...forecast.registry import make_forecaster, system_of
from ..session import MODEL, Data, Session, read_settings
from ..session import start as start_from

_PRESET = "egohand-small"
_TRAINED, _SCORED = 6, 4  # recordings of 30 s of a person
_GAP = 3.0  # s
_METRICS = ("ADE", "FDE", "MPJPE", "MPJPE-F")


def recordings_of(person: int) -> tuple[list[Episode], dict[str, Episode]]:
    """Three minutes of a generated person, and two other minutes."""
    who = Person.sample(np.random.default_rng([person, 0x9E50]))
    first = 30_000_000 + 1000 * person
    seen = [observe(generate_scene(first + i, person=who)).episode for i in range(_TRAINED + _SCORED)]
    return seen[:_TRAINED], {f"person {person}, recording {i}": e for i, e in enumerate(seen[_TRAINED:])}


def parts_of(recording: str, seconds: float) -> tuple[list[Episode], dict[str, Episode]]:
    """The first seconds of a recording, and what follows after a gap."""
    (label, episode), *_ = load_labelled([recording]).items()
    elapsed = episode.stamp - episode.stamp[0]
    end, begin = np.searchsorted(elapsed, [seconds, seconds + _GAP])
    return [episode.slice(0, end)], {f"{label}, after {seconds + _GAP:g} s": episode.slice(begin, len(episode))}


def check(training: list[Episode], others: dict[str, Episode], changes: list[str]) -> dict[str, dict[str, float]]:
    """Errors on `others` in m, by forecaster: the naive ones, the "shipped" one and the "tuned" one."""
    stage = system_of(_PRESET).stage()
    forecaster, config = start_from(_PRESET, stage, _PRESET, "cpu"), read_settings(_PRESET, stage, True, changes)
    held_back = [e.slice(int(0.85 * len(e)), len(e)) for e in training]
    trained = [e.slice(0, int(0.85 * len(e))) for e in training]
    data = Data(trained, {str(i): e for i, e in enumerate(held_back)}, {"person": sorted(others)})
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        Session(_PRESET, Path(folder), config, data, forecaster, stage, fine_tune=True, device="cpu").train()
        print(f"fine-tuned in {time.monotonic() - begin:.0f} s")
        tuned = make_forecaster(str(Path(folder) / MODEL))
    learned = {"shipped": make_forecaster(_PRESET), "tuned": tuned}
    result = evaluate(others, {name: make_forecaster(name) for name in NAIVE} | learned)
    return {name: {m: score.metrics[m].value for m in _METRICS} for name, score in result.scores.items()}


def main() -> None:
    """Print errors in mm and what fine-tuning gains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--persons", type=int, default=0, help="generated persons")
    parser.add_argument("--recording", help="a real recording")
    parser.add_argument("--train", type=float, default=45.0, help="s of it that are trained on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of egohand train")
    args = parser.parse_args()
    cases = [recordings_of(i) for i in range(args.persons)]
    cases += [parts_of(args.recording, args.train)] if args.recording else []
    for training, others in cases:
        errors = check(training, others, args.set)
        print(", ".join(others))
        for name, values in errors.items():
            print(f"  {name:12}", "  ".join(f"{m} {1e3 * v:6.1f}" for m, v in values.items()))
        best = {m: min(errors[name][m] for name in NAIVE) for m in _METRICS}
        gains = [f"{m} {errors['tuned'][m] / best[m] - 1:+.1%}" for m in _METRICS]
        print("  tuned against the best naive one:", *gains)


if __name__ == "__main__":
    main()
