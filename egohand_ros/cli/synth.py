"""`egohand synth`: synthetic episodes, and a video of what their camera sees."""

EXAMPLES = """examples:
  egohand synth out/synth --episodes 20 --duration 60
  egohand synth out/synth --episodes 1 --seed 5 --video out/synth/preview.mp4
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "synth",
        help="generate synthetic episodes",
        description="Generate episodes of two hands at a table, seen from the person's head, as .npz files.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("output", help="folder for episode_SEED.npz")
    parser.add_argument(
        "--episodes", type=int, default=10, metavar="N", help="how many; their seeds follow one another"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the first")
    parser.add_argument("--duration", type=float, default=30.0, metavar="S", help="length of each in s")
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ", help="frames a second")
    parser.add_argument("--ground-truth", action="store_true", help="exact keypoints instead of a noisy tracker's")
    parser.add_argument("--video", metavar="FILE", help="also write an .mp4 of the first episode")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Generate, write, and say where."""
    from pathlib import Path

    from ..data.synthetic import generate_scene, observe
    from ..errors import UserError
    from ._tables import progress_bar, writing

    if args.episodes < 1 or args.duration <= 0 or args.rate <= 0 or args.seed < 0:
        raise UserError("--episodes needs at least 1, --duration and --rate more than 0, --seed at least 0")
    folder = Path(args.output)
    with writing(folder), progress_bar("generating") as progress:
        folder.mkdir(parents=True, exist_ok=True)
        for done, seed in enumerate(range(args.seed, args.seed + args.episodes), 1):
            scene = generate_scene(seed, args.duration, args.rate)
            episode = scene.episode if args.ground_truth else observe(scene).episode
            episode.save(folder / f"episode_{seed:06d}.npz")
            progress(done, args.episodes)
    print(f"{folder}: {args.episodes} episodes of {args.duration:g} s at {args.rate:g} Hz")
    if args.video:
        write_video(generate_scene(args.seed, args.duration, args.rate), args.video)
        print(args.video)


def write_video(scene, path: str) -> None:
    """Render every frame of a scene into an .mp4."""
    from pathlib import Path

    import cv2

    from ..data.synthetic.render import SceneRenderer
    from ..errors import UserError
    from ._tables import progress_bar

    renderer = SceneRenderer(scene)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    size = (renderer.camera.width, renderer.camera.height)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), scene.rate, size)
    if not video.isOpened():
        raise UserError(f"cannot write video {path}; give a name that ends in .mp4 in a folder that can be written")
    with progress_bar("rendering") as progress:
        for index in range(len(scene)):
            video.write(cv2.cvtColor(renderer.render(index), cv2.COLOR_RGB2BGR))
            progress(index + 1, len(scene))
    video.release()
