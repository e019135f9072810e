"""`egohand retarget`: a recording of a human hand -> joint positions of a robot hand."""

EXAMPLES = """examples:
  egohand retarget out/bag --hand allegro_right --side right --out q.npz
  egohand retarget recording.pkl --hand inspire_right --objective dexpilot --out q.npz
  egohand retarget episode.npz --hand my_hand.yaml --urdf my_hand.urdf --out q.npz
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "retarget",
        help="joint positions of a robot hand that follows a recording",
        description="Follow one hand of a recording with a robot hand, within its position, velocity and "
        "acceleration limits. "
        "Writes arrays stamp, q, joint_names, solve_ms and solved.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("input", help="rosbag2 folder, episode .npz, Qualisys .tsv, Aria MPS .csv or keypoints .pkl")
    parser.add_argument("--hand", required=True, metavar="NAME", help="robot hand of `egohand hands`, or a config file")
    parser.add_argument(
        "--side", choices=("left", "right"), help="the person's hand to follow (default: the robot hand's side)"
    )
    parser.add_argument(
        "--objective", default="dexpilot", metavar="NAME", help="objective of the hand's config (default: dexpilot)"
    )
    parser.add_argument(
        "--urdf", metavar="FILE", help="use this URDF in place of the config's; same joint and link names"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help=".npz to write")
    parser.add_argument("--overwrite", action="store_true", help="replace joint positions written before")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Retarget; a recording with several episodes gives numbered outputs."""
    from pathlib import Path

    import numpy as np

    from ..data.load import load_episodes
    from ..hand.skeleton import WRIST, side_index
    from ..outputs import check_data, new_file
    from ..ownership import is_our_arrays
    from ..robot.hands.library import load_hand
    from ..robot.retarget.recording import retarget_sequence
    from ._tables import progress_bar

    output = Path(args.out if args.out.endswith(".npz") else f"{args.out}.npz")
    ours = is_our_arrays("q", "joint_names", "solved")
    check_data(output, args.overwrite, [args.input, *([args.urdf] if args.urdf else [])], ours)
    hand = load_hand(args.hand, args.urdf)
    side = args.side or hand.side
    episodes = load_episodes(args.input)
    targets = (
        [output]
        if len(episodes) == 1
        else [output.with_name(f"{output.stem}_{number}{output.suffix}") for number in range(1, len(episodes) + 1)]
    )
    for target in targets:
        check_data(target, args.overwrite, [args.input], ours)
    for episode, target in zip(episodes, targets):
        i = side_index(side)
        with progress_bar(f"retargeting to {hand.name}") as progress:
            motion = retarget_sequence(
                hand,
                episode.stamp,
                episode.keypoints[:, i],
                episode.valid[:, i],
                side,
                args.objective,
                progress,
                episode.wrist_rotation[:, i],
            )
        with new_file(target, args.overwrite) as part:
            motion.save(part)
        p50, p95, p99 = np.percentile(motion.solve_ms[motion.solved], (50, 95, 99))
        held, unseen = int((~motion.solved).sum()), int((~episode.valid[:, i, WRIST]).sum())
        print(
            f"{target}: {len(motion.q)} frames, {held} held (the hand was not seen in {unseen}), "
            f"solve p50 {p50:.2f}  p95 {p95:.2f}  p99 {p99:.2f} ms"
        )
