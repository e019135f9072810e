"""`egohand lift`: 2D keypoints of a video or recording -> 4D hands, by ForeHand4D's lifter."""

EXAMPLES = """examples:
  egohand lift walk.mp4 --out walk_4d.npz --checkpoint lifter.ckpt --mano ~/mano
  egohand lift out/bag --out bag_4d.npz --checkpoint lifter.ckpt --mano ~/mano --refine 200
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from ._options import add_json
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "lift",
        help="lift the 2D keypoints of a video or bag to 4D hands",
        description="Find the hands in a video (or take those of a bag or an episode), lift their 2D keypoints to MANO "
        "motion by ForeHand4D's lifter, and compare with what the tracker's PnP made of the same keypoints.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("input", help="video of an egocentric camera, rosbag2 folder, or episode .npz with pictures")
    parser.add_argument("--out", required=True, metavar="FILE", help="the episode that is written, a name in .npz")
    parser.add_argument("--checkpoint", default="", metavar="FILE", help="the authors' file of the lifter (.ckpt)")
    parser.add_argument("--mano", default="", metavar="FOLDER", help="your MANO files; otherwise those of EGOHAND_MANO")
    parser.add_argument(
        "--camera-fov", type=float, default=70.0, metavar="DEG", help="field of view of a video, across"
    )
    parser.add_argument("--sampling-steps", type=int, default=50, metavar="N", help="of DDIM; 0: the authors' 1000")
    parser.add_argument(
        "--refine", type=int, default=0, metavar="N", help="steps of the authors' refinement by the pixels (1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise that the motion is made from")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--overwrite", action="store_true", help="replace an episode")
    add_json(parser, "what both are like,")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Track, lift, write, compare."""
    from dataclasses import asdict, replace
    from pathlib import Path

    import numpy as np

    from ..errors import UserError
    from ..evaluation.bench.lifting import judge_hands
    from ..forecast.common.pretrained import choose_device
    from ..forecast.forehand4d.lift import LiftOptions, lift, load_lifter
    from ..hand.mano import mano_folder
    from ..hand.mano_layer import load_mano_layers
    from ..outputs import check_data, new_file
    from ..ownership import is_our_episode
    from ._tables import check_json, print_table, progress_bar, write_json

    if Path(args.out).suffix != ".npz":
        raise UserError(f"--out {args.out}: expected a name that ends in .npz")
    check_data(Path(args.out), args.overwrite, [args.input], is_our_episode)
    check_json(args.json, [args.input])
    if not args.checkpoint:
        raise UserError("ForeHand4D's lifter has no shipped weights: give --checkpoint FILE of its authors (CC-BY-NC)")
    if args.sampling_steps < 0 or args.refine < 0:
        raise UserError("--sampling-steps and --refine are numbers of steps, 0 or more")
    device = str(choose_device(args.device))
    mano = {side: layer.to(device) for side, layer in load_mano_layers(mano_folder(args.mano)).items()}
    network = load_lifter(args.checkpoint, device)
    tracked = _tracked(args)
    options = LiftOptions(args.sampling_steps, args.refine, args.seed)
    with progress_bar("lifting") as progress:
        lifted = lift(
            tracked.pixels, tracked.images.camera, network, mano, tracked.camera_pose, tracked.betas, options, progress
        )
    valid = np.isfinite(tracked.pixels).all(axis=-1)
    made = replace(
        tracked,
        keypoints=lifted.keypoints,
        valid=valid,
        wrist_rotation=None,
        mano_pose=lifted.pose,
        mano_translation=lifted.translation,
    )
    with new_file(Path(args.out), args.overwrite) as part:
        made.save(part)
    judged = {"tracker (PnP)": judge_hands(tracked), "lifted": judge_hands(made)}
    if args.json:
        write_json({name: asdict(found) for name, found in judged.items()}, args.json)
    if args.json != "-":
        columns = ["hands", "reprojection, px", "wrist acceleration, m/s2", "bones vary by, %"]
        rows = {n: [j.reprojection, j.acceleration, j.bone_variation] for n, j in judged.items()}
        print_table(f"{args.input}: medians over {judged['lifted'].frames} frames with a hand", columns, rows)
        print(f"{args.out}: {len(made)} frames, {made.duration:.1f} s")


def _tracked(args):
    """The recording with 2D keypoints at about 30 Hz: those of the detector, or projected."""
    from dataclasses import replace
    from pathlib import Path

    import numpy as np

    from ..data.load import load_episode
    from ..data.tracked_video import track_video
    from ..data.video import Video
    from ..errors import UserError
    from ..forecast.forehand4d.lift import RATE
    from ..geometry.transforms import invert_transform, transform_points
    from ._tables import progress_bar

    if Path(args.input).suffix.lower() in (".mp4", ".avi", ".mkv", ".mov", ".webm"):
        with progress_bar("tracking") as progress:
            episode = track_video(Video.open(args.input), args.camera_fov, progress=progress)
    else:
        episode = load_episode(args.input)
    if episode.images is None or episode.images.camera is None:
        raise UserError(f"{args.input} has no pictures of a known camera (image and camera_info), which 2D needs")
    if episode.pixels is None:
        keypoints = episode.keypoints
        if episode.camera_pose is not None:
            keypoints = transform_points(invert_transform(episode.camera_pose)[:, None], keypoints)
        pixels = episode.images.camera.project(np.nan_to_num(keypoints))
        episode = replace(episode, pixels=np.where(episode.valid[..., None], pixels, np.nan))
    rate = 1.0 / float(np.median(np.diff(episode.stamp))) if len(episode) > 1 else RATE
    every = max(1, round(rate / RATE))
    if abs(rate / every / RATE - 1.0) > 0.2:
        raise UserError(f"{args.input} has {rate:.1f} frames a second; the lifter knows about {RATE:g}, or a multiple")
    return _every(episode, every)


def _every(episode, every: int):
    """Each `every`th frame."""
    from dataclasses import replace

    if every == 1:
        return episode
    arrays = ("stamp", "keypoints", "valid", "wrist_rotation", "camera_pose", "pixels")
    kept = {name: getattr(episode, name) for name in arrays}
    return replace(
        episode,
        **{name: array[::every] for name, array in kept.items() if array is not None},
        mano_pose=None,
        mano_translation=None,
        body=None,
        body_names=(),
    )
