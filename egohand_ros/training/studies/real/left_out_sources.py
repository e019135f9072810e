"""`adaptive` on sources that its learned expert has not seen: what another training seed changes, and what fine-tuning
on five recordings of the source gains on its others.

    python -m egohand_ros.training.studies.real.left_out_sources motion/* --weight cmu_wrists=0.5 --out out/left

For each source, `egohand-motion` is trained on the others as it is shipped, once a seed; the first is then fine-tuned
on five recordings of the source, evenly spread, and all are judged on the rest, in order. Samples are those of seed 0:
initial weights, batches and dropout are what differs. What has been trained in `--out` is not trained again.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from ....data.episode import Episode
from ....data.load import load_episodes
from ....evaluation.stream import RATE, Source, evaluate_stream
from ....forecast.common.protocol import Forecaster
from ....forecast.motion.forecaster import WEIGHTS
from ....forecast.registry import make_forecaster
from ....outputs import replaced_file
from ...motion_training import BESIDE_RATE, GENERATED, Samples, collect, gather, generated, train_all
from ...motion_tuning import tune

TUNED_ON = 5  # recordings
TUNED = "tuned"
Sets = dict[str, dict[str, Samples]]


def parts_of(episodes: list[Episode], every: int = 1) -> tuple[list[Episode], list[Episode]]:
    """Five recordings, evenly spread, to fine-tune on, and each `every`th of the others to judge by."""
    chosen = {int((i + 0.5) * len(episodes) / TUNED_ON) for i in range(TUNED_ON)}
    return [episodes[i] for i in sorted(chosen)], [e for i, e in enumerate(episodes) if i not in chosen][::every]


def train_without(source: str, sets: Sets, weights: dict[str, float], steps: int, seed: int, folder: Path) -> None:
    """Weights that have not seen a source, unless they are there."""
    if (folder / WEIGHTS).is_file():
        return
    others = {name: kinds for name, kinds in sets.items() if name.removesuffix(" changed") != source}
    arrays = train_all(others, weights, steps, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with replaced_file(folder / WEIGHTS) as part:
        save_file(arrays, part, metadata={"format": "pt"})
    print("trained", folder, flush=True)


def compare(
    source: str, episodes: list[Episode], every: int, folders: dict[str, Path], out: Path, rate: float
) -> tuple[Source, dict]:
    """All on the recordings that nothing was trained on; and what fine-tuning kept."""
    five, others = parts_of(episodes, every)
    tuned = tune(five, next(iter(folders.values())), least=0.0)  # also where it would be refused, to see why
    tuned.save(out / TUNED)
    made: dict[str, Forecaster] = {name: make_forecaster("adaptive", motion=folder) for name, folder in folders.items()}
    made |= {f"{name} alone": make_forecaster("egohand-motion", checkpoint=at) for name, at in folders.items()}
    made |= {TUNED: make_forecaster(out / TUNED)}
    result = evaluate_stream({source: others}, made, rate=rate, regions=False)
    told = {"kept": tuned.kept, "errors_by_share": tuned.errors, "tuned_on_s": sum(e.duration for e in five)}
    told["begins_with"] = {kind: asdict(choice) for kind, choice in tuned.begin.choices.items()}
    return result.sources[source], told


def described(scored: Source, seeds: list[str]) -> dict:
    """Errors in m, and ratios with their 95 % intervals: to the best naive one, of the last seed to the first, of the
    tuned one to the first."""
    first, last = seeds[0], seeds[-1]
    pairs = {
        "tuned over shipped": (TUNED, first),
        "seeds": (last, first),
        "seeds alone": (f"{last} alone", f"{first} alone"),
    }
    return {
        "recordings": scored.recordings,
        "seconds": scored.seconds,
        "error": {name: {c: scored.value(name, c) for c in scored.columns()} for name in scored.sums},
        "to the best naive": {name: {c: scored.ratio(name, c) for c in scored.columns()} for name in (*seeds, TUNED)},
        **{what: {c: scored.ratio(pair[0], c, pair[1]) for c in scored.columns()} for what, pair in pairs.items()},
    }


def main() -> None:
    """Train, fine-tune, judge; print ratios, and write them source by source."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="+", type=Path, help="folders of recordings; each is a source")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and left_out.json")
    parser.add_argument("--seeds", default="0,1", help="of training")
    parser.add_argument("--weight", action="append", default=[], metavar="NAME=SHARE", help="what a source counts")
    parser.add_argument("--every", action="append", default=[], metavar="NAME=N", help="judge each Nth recording")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="leave out no other source")
    parser.add_argument("--generated", type=int, default=80, help="generated episodes of 30 s")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=RATE, help="forecasts a second that are judged, at most")
    parser.add_argument("--train-only", action="store_true", help="judge another time")
    args = parser.parse_args()
    torch.set_num_threads(1)
    weights = {name: float(share) for name, _, share in (text.partition("=") for text in args.weight)}
    every = {name: int(count) for name, _, count in (text.partition("=") for text in args.every)}
    episodes = {path.name: load_episodes(path) for path in args.source}
    left_out = [name for name in episodes if name in args.only or not args.only]
    seeds = [int(seed) for seed in args.seeds.split(",")]
    folders = {name: {f"seed {s}": args.out / name / f"seed{s}" for s in seeds} for name in left_out}
    if not all((at / WEIGHTS).is_file() for by_seed in folders.values() for at in by_seed.values()):
        sets: Sets = {}
        if args.generated:
            sets[GENERATED] = collect(generated(args.generated), BESIDE_RATE, 0)
        for name, recorded in episodes.items():
            sets |= gather(name, recorded, 0)
            print("gathered", name, flush=True)
        for seed in seeds:
            for name in left_out:
                train_without(name, sets, weights, args.steps, seed, folders[name][f"seed {seed}"])
    for name in left_out if not args.train_only else ():
        scored, told = compare(name, episodes[name], every.get(name, 1), folders[name], args.out / name, args.rate)
        found = described(scored, list(folders[name])) | told
        (args.out / name / "left_out.json").write_text(json.dumps(found, indent=1) + "\n")
        for what in ("tuned over shipped", "seeds", "seeds alone"):
            ratios = (
                f"{c} {100 * r - 100:+.1f} ({100 * a - 100:+.0f} to {100 * b - 100:+.0f})"
                for c, (r, a, b) in found[what].items()
            )
            print(name, what, *ratios, "%", flush=True)
        print(name, "kept", found["kept"], "begins with", found["begins_with"], flush=True)


if __name__ == "__main__":
    main()
