"""`egohand convert`: any recordings -> episodes `.npz`, rosbag2 folders or a LeRobotDataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXAMPLES = """examples:
  egohand convert recording.tsv --out episode.npz
  egohand convert out/bag --out out/dataset --to lerobot
  egohand convert out/dataset --out out/episode_bag
  egohand convert out/bag --out out/bag_3d --to foxglove
  egohand convert HOT3D/P0003_c701bd11 --out episode.npz --mano models/mano
  egohand convert EgoDex/part1/*/*.hdf5 --out out/egodex --to npz --jobs 0
"""

FORMATS = {"npz": "npz", "bag": "bag", "foxglove": "foxglove", "lerobot": "v3.0", "lerobot-v2.1": "v2.1"}


def add_parser(subparsers) -> None:
    """Add the command."""
    from ._options import add_workers
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "convert",
        help="turn recordings into episodes .npz, bags or a LeRobotDataset",
        description="Read any recording and write it as an episode, a rosbag2 folder or a LeRobotDataset. Several "
        "recordings go into one folder, by --jobs or --ray on many cores, and what is there already is kept, so that "
        "the same command goes on where it was ended. One that cannot be read, also of those in a folder, does not "
        "stop the others: it is named at the end, and the exit status is 2.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "input", nargs="+", help="recordings: rosbag2, .npz, LeRobotDataset, or a data set listed in docs/data.md"
    )
    parser.add_argument(
        "--out", metavar="PATH", help="file of an episode, or a new folder; of several recordings, the folder for all"
    )
    parser.add_argument(
        "--to",
        choices=tuple(FORMATS),
        help="format of the output; without it, a name that ends in .npz is an episode and any other one a bag; "
        "foxglove: the same bag, with hands, forecasts and frames that Foxglove's and RViz's 3D views show",
    )
    parser.add_argument("--storage", default="mcap", choices=("mcap", "sqlite3"), help="file format of a bag")
    parser.add_argument(
        "--fps", type=int, metavar="HZ", help="frames a second of a LeRobotDataset; by default the recording's"
    )
    parser.add_argument(
        "--mano",
        metavar="FOLDER",
        help="your MANO_LEFT.pkl and MANO_RIGHT.pkl, for data sets that store MANO parameters",
    )
    parser.add_argument(
        "--mano-labels",
        metavar="MODEL",
        help="a trained megohand with MANO's hand: its inverse network finds MANO's parameters of keypoints",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an episode, a bag or a data set of egohand's own"
    )
    add_workers(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Work:
    """One recording to be converted, for a process of its own."""

    source: str
    output: str
    kind: str
    storage: str
    mano: str | None
    overwrite: bool
    keep: bool  # what is there already
    labels: str | None = None  # the model that finds MANO's parameters


def run(args) -> None:
    """Convert; a recording with several episodes gives numbered outputs, but one LeRobotDataset."""
    from pathlib import Path

    from ..errors import UserError
    from ._options import workers_of

    if args.fps is not None and args.fps < 1:
        raise UserError(f"--fps {args.fps}: expected 1 or more")
    inputs, out = list(args.input), args.out
    if out is None and len(inputs) == 2:  # as the result's place was given once
        out = inputs.pop()
    if out is None:
        raise UserError("--out is missing: where is the result to go?")
    output, workers = Path(out), workers_of(args)
    kind = args.to or ("npz" if output.suffix == ".npz" and len(inputs) == 1 else "bag")
    if kind == "npz" and len(inputs) == 1 and output.suffix != ".npz" and not output.is_dir():
        output = output.with_name(f"{output.name}.npz")
    if args.mano_labels and kind != "npz":
        raise UserError(f"--mano-labels are kept by episodes alone; give --to npz, not {kind}")
    if kind.startswith("lerobot"):
        as_data_set(inputs, output, FORMATS[kind], args)
        return
    works = [
        Work(
            source,
            str(target),
            kind,
            args.storage,
            args.mano,
            args.overwrite,
            len(inputs) > 1 and not args.overwrite,
            args.mano_labels,
        )
        for source, target in zip(inputs, [output] if len(inputs) == 1 else places(inputs, output, kind))
    ]
    if len(works) == 1:
        lines, failed = convert(works[0])
        print("\n".join(lines))
        refuse(failed)
    else:
        convert_all(works, workers)


def convert_all(works: list[Work], workers) -> None:
    """Convert each that is not there yet; say which could not be, at the end and as the exit status."""
    from pathlib import Path

    from ..outputs import check_writable
    from ..parallel import run_all
    from ._tables import progress_bar

    folder = Path(works[0].output).parent
    check_writable(folder / "recording", folder)
    left = [work for work in works if not (work.keep and made_before(work))]
    with progress_bar("converting") as progress:
        told = run_all(try_to_convert, left, workers, progress)
    failed = [reason for _, reasons in told for reason in reasons]
    print("\n".join(line for lines, _ in told for line in lines))
    whole = sum(bool(lines) and not reasons for lines, reasons in told)
    there = len(works) - len(left) + told.count(([], []))
    kept = f", {there} were there already (--overwrite replaces them)" if there else ""
    print(f"{folder}: {whole} of {len(works)} recordings converted{kept}")
    refuse(failed)


def refuse(failed: list[str]) -> None:
    """Raises `UserError` where something was not converted, with every reason."""
    from ..errors import UserError

    if failed:
        raise UserError(f"{len(failed)} not converted: {'; '.join(dict.fromkeys(failed))}")


def try_to_convert(work: Work) -> tuple[list[str], list[str]]:
    """`convert`, with all that went wrong in the second list."""
    from ..errors import UserError

    try:
        return convert(work)
    except UserError as error:
        return [], [str(error)]


def made_before(work: Work) -> bool:
    """Whether the result is there, alone or as several episodes, of which the first is made last. It says nothing of a
    folder of several recordings, since one of them may have failed."""
    from pathlib import Path

    from ..data.load import holds_several

    output = Path(work.output)
    return output.exists() or (numbered(output, 1).exists() and not holds_several(work.source))


def numbered(output: Path, number: int) -> Path:
    """The place of one of several episodes of a recording."""
    return output.with_name(f"{output.stem}_{number}{output.suffix}")


def places(inputs: list[str], folder: Path, kind: str) -> list[Path]:
    """Where each of several recordings goes: by its name, with those of as many folders above it as tell it apart."""
    from collections import Counter
    from pathlib import Path

    from ..errors import UserError

    paths = [Path(source).resolve() for source in inputs]
    parts = [(path.with_suffix("") if path.is_file() else path).parts[1:] for path in paths]
    counts = Counter(path[-length:] for path in parts for length in range(1, len(path) + 1))
    twice = [source for source, path in zip(inputs, parts) if counts[path] > 1]
    if twice:
        raise UserError(f"{' and '.join(twice)} would have the same name; convert them one by one")
    suffix = ".npz" if kind == "npz" else ""
    lengths = [next(length for length in range(1, len(path) + 1) if counts[path[-length:]] == 1) for path in parts]
    return [folder / f"{'_'.join(path[-length:])}{suffix}" for path, length in zip(parts, lengths)]


def checked(work: Work) -> Callable[[Path], None]:
    """What says whether a place may be written."""
    from ..outputs import check_data
    from ..ownership import is_our_episode, is_our_recording

    ours = is_our_episode if work.kind == "npz" else is_our_recording
    inputs = [work.source, *([work.mano] if work.mano else [])]
    return lambda target: (check_data(target, work.overwrite, inputs, ours), None)[1]


def convert(work: Work) -> tuple[list[str], list[str]]:
    """Convert one recording, or those of a folder: a line about each thing that was written, and about each recording
    of several that cannot be read. Raises `UserError` where nothing can be."""
    from pathlib import Path

    from ..outputs import new_file, new_folder
    from ..ownership import files_of_recording

    output, check = Path(work.output), checked(work)
    if not work.keep:
        check(output)
    if work.kind == "foxglove":
        return [for_foxglove(work.source, output, work.storage, work.overwrite)], []
    (episodes, numbers, failed), said = read([work.source], work.mano), []
    if work.labels:
        episodes, said = labelled(episodes, work.labels, work.mano)
    alone = len(episodes) == 1 and not failed
    targets = [output] if alone else [numbered(output, number) for number in numbers]
    made = [(episode, target) for episode, target in zip(episodes, targets) if not (work.keep and target.exists())]
    for _, target in made:
        check(target)
    for episode, target in reversed(made):  # the first one last: it tells that all are there
        if work.kind == "npz":
            with new_file(target, work.overwrite) as part:
                episode.save(part)
        else:
            from ..data.bags.bag import episode_to_bag  # slow to import, and only here needed

            with new_folder(target, files_of_recording if work.overwrite else None) as part:
                episode_to_bag(episode, part, work.storage)
    return [*said, *(f"{target}: {len(episode)} frames, {episode.duration:.1f} s" for episode, target in made)], failed


def read(sources: list[str], mano: str | None) -> tuple[list, list[int], list[str]]:
    """Every episode, its number from 1 on, and why which recording of several gave none. Such a one leaves a number
    free, so that the others have theirs still once it was mended. Raises `UserError` where there is no episode."""
    from ..data.load import load_each
    from ..errors import UserError

    episodes, numbers, failed, number = [], [], [], 1
    for part, reason in (told for source in sources for told in load_each(source, mano)):
        episodes += part
        numbers += range(number, number + len(part))
        failed += [reason] if reason else []
        number += len(part) or 1
    if not episodes:
        raise UserError("; ".join(dict.fromkeys(failed)))
    return episodes, numbers, failed


def labelled(episodes: list, model: str, mano: str | None) -> tuple[list, list[str]]:
    """Episodes with MANO's parameters of their keypoints, found by a model's inverse network, and a line about each."""
    from ..errors import UserError
    from ..forecast.registry import make_forecaster, options_of

    forecaster = make_forecaster(model, **({"mano": mano} if mano and "mano" in options_of(model) else {}))
    if getattr(getattr(forecaster, "config", None), "hand", "") != "mano" or not hasattr(forecaster, "label"):
        raise UserError(
            f"--mano-labels {model}: it knows nothing of MANO's hand; give a megohand trained with hand: mano"
        )
    found = [forecaster.label(episode) for episode in episodes]
    said = [f"keypoints of its MANO hands are {1e3 * apart:.1f} mm from those recorded" for _, apart in found]
    return [episode for episode, _ in found], said


def as_data_set(inputs: list[str], output: Path, version: str, args) -> None:
    """All recordings' episodes in one LeRobotDataset, but of those that cannot be read."""
    from ..data.importers.lerobot import save_lerobot
    from ..outputs import check_data, new_folder
    from ..ownership import files_of_data_set, is_our_data_set

    check_data(output, args.overwrite, [*inputs, *([args.mano] if args.mano else [])], is_our_data_set)
    episodes, _, failed = read(inputs, args.mano)
    with new_folder(output, files_of_data_set if args.overwrite else None) as part:
        save_lerobot(episodes, part, version, args.fps)
    print(f"{output}: {len(episodes)} episodes, {sum(episode.duration for episode in episodes):.1f} s")
    refuse(failed)


def for_foxglove(bag: str, output: Path, storage: str, overwrite: bool) -> str:
    """The same bag with what 3D views show beside what was recorded."""
    from ..data.load import is_bag
    from ..errors import UserError
    from ..outputs import new_folder
    from ..ownership import files_of_recording

    if not is_bag(bag):
        raise UserError(f"--to foxglove takes a bag; first: egohand convert {bag} --out {output}_bag")
    try:
        from ..nodes.foxglove.recording import add_what_foxglove_shows
    except ImportError as error:
        raise UserError(f"--to foxglove needs ROS 2's messages ({error.name} is missing): make build") from None
    with new_folder(output, files_of_recording if overwrite else None) as part:
        made = add_what_foxglove_shows(bag, part, storage)
    return f"{output}: {sum(made.values())} messages made for 3D views, on {', '.join(sorted(made)) or 'no topic'}"
