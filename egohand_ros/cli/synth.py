"""`egohand synth`: synthetic episodes, and a video of what their camera sees."""

from dataclasses import dataclass

EXAMPLES = """examples:
  egohand synth --out out/synth --episodes 20 --duration 60
  egohand synth --out out/synth --episodes 10000 --jobs 0
  egohand synth --out out/synth --episodes 1 --seed 5 --video out/synth/preview.mp4
"""


LONGEST = 86_400.0  # s of an episode; memory ends before


def add_parser(subparsers) -> None:
    """Add the command."""
    from ._options import add_out, add_workers
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "synth",
        help="generate synthetic episodes",
        description="Generate episodes of two hands at a table, seen from the person's head, as .npz files.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    add_out(parser, "FOLDER", "folder for episode_SEED.npz")
    parser.add_argument(
        "--episodes", type=int, default=10, metavar="N", help="how many; their seeds follow one another"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the first")
    parser.add_argument("--duration", type=float, default=30.0, metavar="S", help="length of each in s")
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ", help="frames a second")
    parser.add_argument("--ground-truth", action="store_true", help="exact keypoints instead of a noisy tracker's")
    parser.add_argument("--overwrite", action="store_true", help="replace episodes of that name")
    parser.add_argument("--video", metavar="FILE", help="also write an .mp4 of the first episode")
    add_workers(parser)
    parser.set_defaults(run=run)


def run(args) -> None:
    """Generate, write, and say where."""
    from pathlib import Path

    from ..data.synthetic import generate_scene
    from ..errors import UserError
    from ..outputs import (
        check_data,
        check_page,
        check_writable,
    )
    from ..ownership import is_our_episode
    from ..parallel import run_all
    from ._options import out_of, workers_of
    from ._tables import progress_bar

    numbers_fit = (
        0 < args.duration <= LONGEST and 0 < args.rate <= 1000.0 and args.duration * args.rate >= 1
    )  # false for NaN
    if args.episodes < 1 or args.seed < 0 or not numbers_fit:
        raise UserError(
            f"--episodes needs at least 1, --duration more than 0 and at most {LONGEST:g} s, --rate more than 0 "
            "and at most "
            "1000 Hz, --seed at least 0, and an episode at least one frame"
        )
    folder, workers = Path(out_of(args)), workers_of(args)
    check_writable(folder / "episode.npz", folder)
    for seed in range(args.seed, args.seed + args.episodes):
        check_data(folder / f"episode_{seed:06d}.npz", args.overwrite, ours=is_our_episode)
    if args.video:
        check_page(args.video, "video")
    with progress_bar("generating") as progress:
        works = [
            Work(seed, args.duration, args.rate, args.ground_truth, str(folder), args.overwrite)
            for seed in range(args.seed, args.seed + args.episodes)
        ]
        run_all(generate, works, workers, progress)
    print(f"{folder}: {args.episodes} episodes of {args.duration:g} s at {args.rate:g} Hz")
    if args.video:
        write_video(generate_scene(args.seed, args.duration, args.rate), args.video)
        print(args.video)


@dataclass(frozen=True)
class Work:
    """One episode to be generated, for a process of its own."""

    seed: int
    duration: float
    rate: float
    ground_truth: bool
    folder: str
    overwrite: bool


def generate(work: Work) -> None:
    """Write the episode. What is there already of a process that was killed is the same, and stays."""
    from pathlib import Path

    from ..data.synthetic import generate_scene, observe
    from ..outputs import new_file

    scene = generate_scene(work.seed, work.duration, work.rate)
    episode = scene.episode if work.ground_truth else observe(scene).episode
    with new_file(Path(work.folder) / f"episode_{work.seed:06d}.npz", work.overwrite) as part:
        episode.save(part)


def write_video(scene, path: str) -> None:
    """Render every frame of a scene into an .mp4."""
    import cv2

    from ..data.synthetic.render import SceneRenderer
    from ..errors import UserError
    from ..outputs import replaced_file
    from ._tables import progress_bar

    renderer = SceneRenderer(scene)
    size = (renderer.camera.width, renderer.camera.height)
    with replaced_file(path) as part, progress_bar("rendering") as progress:
        video = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*"mp4v"), scene.rate, size)
        if not video.isOpened():
            raise UserError(f"cannot write video {path}; give a name that ends in .mp4")
        for index in range(len(scene)):
            video.write(cv2.cvtColor(renderer.render(index), cv2.COLOR_RGB2BGR))
            progress(index + 1, len(scene))
        video.release()
        if int(cv2.VideoCapture(str(part)).get(cv2.CAP_PROP_FRAME_COUNT)) != len(
            scene
        ):  # OpenCV is silent on a full disk
            raise UserError(f"cannot write video {path}: not all frames were kept; is the disk full?")
