"""Trains `egohand-motion` on recordings of real hands mixed with generated ones, and judges it by what it was not
trained on.

    python -m egohand_ros.training.studies.real.real_motion motion/* --out out/motion
    python -m egohand_ros.training.studies.real.real_motion motion/* --leave-out A --judge motion/A --out out/without_A

Each input is a source, and counts as much as any other but for `--weight`. Every source is also there played slower and
faster and as noisier trackers see it, which keeps the physics of a hand; generated motion is one more source. What a
forecast misses counts by how much the better of persistence and `kalman` misses of its source at that step: what is
trained is the ratio that is judged. Weights that are in `--out` are not trained again.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from ....data.episode import Episode
from ....data.load import load_episodes
from ....evaluation.stream import StreamResult, evaluate_stream
from ....forecast.motion.forecaster import WEIGHTS
from ....forecast.registry import make_forecaster
from ...motion_training import BESIDE_RATE, GENERATED, collect, gather, generated, train_all


def judge(sources: dict[str, list[Episode]], folder: Path) -> StreamResult:
    """The networks alone and in `adaptive`, in order as the node forecasts; prints ratios to the best naive one."""
    made = {"adaptive": {"motion": folder}, "egohand-motion": {"checkpoint": folder}}
    result = evaluate_stream(sources, {name: make_forecaster(name, **given) for name, given in made.items()})
    for label, source in result.sources.items():
        for name in made:
            ratios = (f"{column} {100 * source.ratio(name, column)[0] - 100:+.1f} %" for column in source.columns())
            print(label, name, *ratios, flush=True)
    return result


def main() -> None:
    """Train and save, or take what is there; judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="+", type=Path, help="recordings, or folders of them; each is a source")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--leave-out", action="append", default=[], metavar="NAME", help="a source not to train on")
    parser.add_argument("--judge", action="append", default=[], type=Path, help="score these in order by the result")
    parser.add_argument("--weight", action="append", default=[], metavar="NAME=SHARE", help="what a source counts")
    parser.add_argument("--generated", type=int, default=80, help="generated episodes of 30 s")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", action="append", default=[], metavar="NAME=N", help="judge each Nth recording")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if (args.out / WEIGHTS).is_file():
        print(f"{args.out / WEIGHTS} is there, and judged as it is", flush=True)
    else:
        fit(args)
    if args.judge:
        every = {name: int(count) for name, _, count in (text.partition("=") for text in args.every)}
        judged = {path.name: load_episodes(path)[:: every.get(path.name, 1)] for path in args.judge}
        (args.out / "judged.json").write_text(json.dumps(judge(judged, args.out).to_json(), indent=2) + "\n")


def fit(args: argparse.Namespace) -> None:
    """Train, and save with what it was trained on."""
    sets = {GENERATED: collect(generated(args.generated), BESIDE_RATE, args.seed)} if args.generated else {}
    for path in args.source:
        if path.name not in args.leave_out:
            sets |= gather(path.name, load_episodes(path), args.seed)
            print(path.name, {kind: len(samples.known) for kind, samples in sets[path.name].items()}, flush=True)
    weights = {name: float(share) for name, _, share in (text.partition("=") for text in args.weight)}
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(train_all(sets, weights, args.steps, args.seed), args.out / WEIGHTS, metadata={"format": "pt"})
    described = {"sources": [name for name in sets if not name.endswith(" changed")], "weights": weights}
    described |= {"steps": args.steps, "seed": args.seed, "generated": args.generated}
    (args.out / "training.json").write_text(json.dumps(described, indent=2) + "\n")


if __name__ == "__main__":
    main()
