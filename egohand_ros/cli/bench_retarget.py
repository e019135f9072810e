"""`egohand bench retarget`: speed, accuracy, safety and lag of retargeting, also beside dex-retargeting."""

EXAMPLES = """examples:
  egohand bench retarget
  egohand bench retarget --hand all --json out/retarget.json
  egohand bench retarget --compare dex-retargeting --compare-python .venv-dex/bin/python
"""

# The hands that dex-retargeting has too.
COMMON = ("allegro_right", "leap_right", "shadow_right", "inspire_right", "ability_right", "svh_right")


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "retarget",
        help="speed, accuracy, safety and lag of retargeting",
        description="Retarget recorded and synthetic sequences on one thread and judge the result: time per frame, "
        "objective relative to the optimum, limits broken, self-collisions by MuJoCo, lag.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--hand", default=",".join(COMMON), metavar="NAME[,NAME]", help="hands of `egohand hands`, or all"
    )
    parser.add_argument("--objective", default="vector,dexpilot,position", metavar="NAME[,NAME]", help="objectives")
    parser.add_argument(
        "--keypoints",
        default="../shared/data/hand_keypoints/human_joint_right.pkl",
        metavar="FILE",
        help="recorded right hand, (T, 21, 3) as .npy or .pkl; left out where it is missing",
    )
    parser.add_argument("--compare", choices=("dex-retargeting",), help="run this beside ours")
    parser.add_argument("--compare-python", metavar="FILE", help="Python that has it, when this one has not")
    parser.add_argument(
        "--meshes",
        metavar="FOLDER",
        help="judge collisions by the makers' shapes: a folder with NAME.urdf of each hand",
    )
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="ours and theirs N times, in turns")
    parser.add_argument("--no-optimum", action="store_true", help="search for no optimum: most of the time goes there")
    parser.add_argument("--horizon", action="store_true", help="also time whole horizons, both hands at once")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="where horizons are solved: cpu or cuda")
    parser.add_argument("--json", metavar="FILE", help="write the numbers")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Measure, then print and write."""
    import os

    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

    from ..evaluation.bench.dex_comparison import find_python
    from ..evaluation.bench.retarget_bench import (
        horizon_times,
        run_benchmark,
        sequences,
    )
    from ..robot.hands.library import list_hands, load_hand
    from ._tables import check_json, progress_bar, write_json

    check_json(args.json)
    recorded = read_keypoints(args.keypoints)
    names = list_hands() if args.hand == "all" else args.hand.split(",")
    hands = [load_hand(name) for name in names]
    python = find_python(args.compare_python) if args.compare else None
    with progress_bar("retargeting") as progress:
        result = run_benchmark(
            hands,
            args.objective.split(","),
            recorded,
            bool(args.compare),
            python,
            progress,
            _judges(hands, args.meshes),
            max(args.rounds, 1),
            not args.no_optimum,
        )
    print_results(result)
    content = result.as_dict() | {"machine": _machine()}
    if args.horizon:
        import torch

        torch.set_num_threads(1)
        content["horizon"] = []
        for kind in dict.fromkeys(name.rsplit("_", 1)[0] for name in names):
            pair = [load_hand(f"{kind}_{side}") for side in ("left", "right")]
            paths = {side: next(reversed(sequences(recorded, side).values())) for side in ("left", "right")}
            content["horizon"].append(horizon_times(pair, paths, args.device))
            line = (
                "{hands[0]} + {hands[1]}: 16 x 30 x 2 in {next_median_ms:.1f} ms (p95 {next_p95_ms:.1f}), the "
                "first in {first_median_ms:.1f}"
            )
            print(line.format(**content["horizon"][-1]))
    if args.json:
        write_json(content, args.json)


def _judges(hands, folder):
    """The makers' shapes by hand; None without a folder."""
    if not folder:
        return None
    from ..evaluation.bench.shape_judge import official_urdf
    from ..robot.setup.mesh_body import MeshDistance, load_pieces

    return {hand.name: MeshDistance(hand, load_pieces(hand, official_urdf(folder, hand.name))) for hand in hands}


def print_results(result) -> None:
    """One row a measurement; a comparison is followed by its ratio."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    columns = (
        "hand",
        "objective",
        "sequence",
        "method",
        "median ms",
        "p95",
        "p99",
        "gap median",
        "p95",
        "contact",
        "position",
        "velocity",
        "accel.",
        "collisions",
        "lag",
        "loss",
        "unfiltered",
        "command ms, p99",
    )
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < 4 else "right", no_wrap=True)
    ours = {(m.hand, m.objective, m.sequence): m for m in result.measurements if m.method == "egohand"}
    for m in result.measurements:
        own = ours[m.hand, m.objective, m.sequence]
        ratio = f" ({m.median_ms / own.median_ms:.1f}x)" if m is not own else ""
        table.add_row(
            m.hand,
            m.objective,
            m.sequence,
            m.method,
            f"{m.median_ms:.2f}{ratio}",
            f"{m.p95_ms:.2f}",
            f"{m.p99_ms:.2f}",
            f"{100 * m.gap_median:.3f} %",
            f"{100 * m.gap_p95:.2f} %",
            f"{100 * m.constrained:.0f} %",
            str(m.position),
            str(m.velocity),
            str(m.acceleration),
            f"{m.collisions}/{m.frames}",
            str(m.lag),
            f"{1e3 * m.loss:.3f}",
            f"{1e3 * m.loss_unfiltered:.3f}",
            f"{m.command_median_ms:.2f}, {m.command_p99_ms:.2f}",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)
    for note in result.notes:
        console.print(f"not compared: {note}", highlight=False, soft_wrap=True)


def read_keypoints(path: str):
    """The recorded sequence (T, 21, 3), or None where there is none."""
    from pathlib import Path

    import numpy as np

    from ..errors import UserError

    if not Path(path).is_file():
        return None
    keypoints = np.array(list(np.load(path, allow_pickle=True)), dtype=float)
    if keypoints.ndim != 3 or keypoints.shape[1:] != (21, 3):
        raise UserError(f"{path} holds {keypoints.shape}; keypoints (T, 21, 3) are needed")
    return keypoints


def _machine() -> dict:
    import platform

    import numpy as np

    return {"python": platform.python_version(), "numpy": np.__version__, "processor": platform.machine()}
