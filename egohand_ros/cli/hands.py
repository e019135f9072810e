"""`egohand hands`: the robot hands there are; adding, checking and calibrating them."""

EXAMPLES = """examples:
  egohand hands
  egohand hands --json -
  egohand hands add --urdf my_hand.urdf --name my_hand
  ros2 topic echo --once --field data /robot_description > robot.urdf; egohand hands add --urdf robot.urdf
  egohand hands check my_hand_right
  egohand hands fit-shapes my_hand_right --meshes maker/my_hand.urdf
  egohand hands judge allegro_right --meshes maker/allegro_hand_right.urdf
  egohand hands calibrate open_hand.npz --user alice
"""


def add_parser(subparsers) -> None:
    """Add the command and its own commands."""
    from ._options import add_json
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "hands",
        help="list, add, check and calibrate robot hands",
        description="List the robot hands, or look after them.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    add_json(parser, "write the list")
    parser.set_defaults(run=run)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_add(commands, HelpFormatter)
    check = commands.add_parser(
        "check",
        help="say what is wrong with a hand's config",
        description="Say what is wrong with a hand's config.",
        formatter_class=HelpFormatter,
    )
    check.add_argument("hand", help="robot hand of `egohand hands`, or a config file")
    check.add_argument("--urdf", metavar="FILE", help="use this URDF in place of the config's")
    check.add_argument(
        "--pictures", metavar="FILE", help="draw it following an open hand, a fist and four pinches (.png)"
    )
    check.set_defaults(run=run_check)
    _add_shapes(commands, HelpFormatter)
    calibrate = commands.add_parser(
        "calibrate",
        help="measure an operator's hand",
        formatter_class=HelpFormatter,
        description="Measure an operator's hand from a recording of it held open for a second.",
    )
    calibrate.add_argument("input", help="recording of the open hand: episode .npz, rosbag2 folder, keypoints .pkl")
    calibrate.add_argument("--user", default="default", metavar="NAME", help="whose hand it is")
    calibrate.add_argument("--side", choices=("left", "right"), default="right", help="which hand")
    calibrate.set_defaults(run=run_calibrate)


def _add_add(commands, formatter) -> None:
    add = commands.add_parser(
        "add",
        help="make a config from a URDF",
        formatter_class=formatter,
        description="Find fingers and tips in a URDF's kinematic tree, fit the scale on open and closed poses, write a "
        "config, and draw the hand following an open hand, a fist and four pinches.",
    )
    add.add_argument("--urdf", required=True, metavar="FILE", help="URDF file; - reads it from the standard input")
    add.add_argument("--name", metavar="NAME", help="name of the hand (default: the URDF's)")
    add.add_argument("--root", metavar="LINK", help="palm link, where the hand hangs on an arm and is not found")
    add.add_argument("--side", choices=("left", "right"), help="where the URDF does not tell")
    add.add_argument("--overwrite", action="store_true", help="replace a hand of that name that was added before")
    add.add_argument(
        "--out", metavar="DIR", help="folder for the config and pictures (default: ~/.config/egohand/hands)"
    )
    add.set_defaults(run=run_add)


def _add_shapes(commands, formatter) -> None:
    meshes = "the maker's URDF of this hand with its meshes, or a folder with NAME.urdf of each ($EGOHAND_OFFICIAL)"
    fit = commands.add_parser(
        "fit-shapes", help="fit a hand's collision capsules to the maker's meshes", formatter_class=formatter,
        description="Move the hand's capsules until they say the same distances between its links as the maker's "
        "collision shapes, where links come near each other, and write them into a config. Then look for poses in "
        "which they still say too much, and keep those links further apart, or where that would open pinches single "
        "capsules of them. Takes two to eight minutes.",
    )  # fmt: skip
    fit.add_argument("hand", help="robot hand of `egohand hands`, or a config file")
    fit.add_argument("--meshes", metavar="PATH", help=meshes)
    fit.add_argument("--capsules", type=int, default=1, metavar="N", help="at least so many a body (default: 1)")
    fit.add_argument(
        "--tip-capsules", type=int, default=4, metavar="N", help="at least so many a fingertip (default: 4)"
    )
    fit.add_argument(
        "--keypoints", metavar="FILE", help="recorded right hand (T, 21, 3), .npy or .pkl, to look at as well"
    )
    fit.add_argument(
        "--inside", type=int, default=0, metavar="N",
        help="then add up to N capsules within the maker's shapes where the others miss them (default: 0)",
    )  # fmt: skip
    fit.add_argument("--keep", action="store_true", help="keep the capsules that the hand has")
    fit.add_argument(
        "--singles",
        action="store_true",
        help="keep these and all distances of links, and only find those of single capsules",
    )
    fit.add_argument("--out", metavar="FILE", help="config to write (default: of that name in ~/.config/egohand/hands)")
    fit.add_argument(
        "--urdf-out", metavar="FILE", help="write the hand's URDF with these shapes, rather than capsules in the config"
    )
    fit.add_argument("--overwrite", action="store_true", help="replace a config of that name")
    fit.set_defaults(run=run_fit_shapes)
    judge = commands.add_parser(
        "judge", help="judge self-collision and pinches by the maker's shapes", formatter_class=formatter,
        description="Follow a demonstration and a recording with every limit on, by each objective, and say how deep "
        "the maker's own collision shapes go into each other, and whether pinches close.",
    )  # fmt: skip
    judge.add_argument("hand", help="robot hands of `egohand hands`: NAME[,NAME]")
    judge.add_argument("--meshes", metavar="PATH", help=meshes)
    judge.add_argument("--objective", default="vector,dexpilot,position", metavar="NAME[,NAME]", help="objectives")
    judge.add_argument("--keypoints", metavar="FILE", help="recorded right hand (T, 21, 3), .npy or .pkl")
    judge.add_argument("--compare", choices=("dex-retargeting",), help="judge this beside ours")
    judge.add_argument("--compare-python", metavar="FILE", help="Python that has it, when this one has not")
    judge.add_argument("--every", type=int, default=1, metavar="N", help="judge every N-th frame (default: 1)")
    judge.add_argument("--json", metavar="FILE", help="write the numbers")
    judge.set_defaults(run=run_judge)


def _official(path: str | None, name: str):
    import os

    from ..errors import UserError
    from ..evaluation.bench.shape_judge import official_urdf

    path = path or os.environ.get("EGOHAND_OFFICIAL")
    if path is None:
        raise UserError(
            f"the maker's shapes of {name!r} are not given: --meshes FILE.urdf, or $EGOHAND_OFFICIAL FOLDER"
        )
    return official_urdf(path, name)


def run_fit_shapes(args) -> None:
    """Fit, then write the config (and the URDF)."""
    import re
    from pathlib import Path

    from ..evaluation.bench.retarget_bench import sequences
    from ..outputs import check_data, replaced_file
    from ..robot.hands.library import config_path, load_hand
    from ..robot.setup.add_hand import save_path
    from ..robot.setup.fit_capsules import fit_hand, kept_hand, with_capsules
    from ..robot.setup.inner_capsules import add_inner_capsules
    from ..robot.setup.meeting_poses import further_apart, with_further
    from ..robot.setup.mesh_body import MeshDistance, load_pieces
    from ..robot.setup.shape_files import collision_block, urdf_with_capsules, with_collision_block
    from ..robot.setup.single_capsules import kept_by_single_capsules
    from ._tables import progress_bar
    from .bench_retarget import read_keypoints

    hand = load_hand(args.hand)
    meshes, source = _official(args.meshes, hand.name), config_path(args.hand)
    out = Path(args.out) if args.out else save_path(hand.name)
    for file in (out, *([Path(args.urdf_out)] if args.urdf_out else [])):
        check_data(file, args.overwrite, [meshes], _is_our_hand)
    recorded = read_keypoints(args.keypoints) if args.keypoints else None
    moves, tell = list(sequences(recorded, hand.side).values()), lambda what: print(what, flush=True)
    if args.keep or args.singles:
        fitted = kept_hand(hand)
    else:
        fitted = fit_hand(hand, meshes, (args.capsules, args.tip_capsules), moves=moves, on_progress=tell)
    found, pieces = fitted.capsules, load_pieces(hand, meshes)
    if args.inside:
        found = add_inner_capsules(fitted.hand, pieces, moves, args.inside, on_progress=tell)
    shaped = with_capsules(hand, found, fitted.extra, fitted.ignore)
    judge, extra = MeshDistance(shaped, pieces), fitted.extra
    if not args.singles:
        with progress_bar("looking for contacts") as progress:
            extra = with_further(extra, further_apart(shaped, judge, on_progress=progress))
    between = kept_by_single_capsules(with_capsules(hand, found, extra, fitted.ignore), judge, moves, on_progress=tell)
    capsules = None if args.urdf_out else dict.fromkeys(hand.shapes, ()) | found
    block = collision_block(capsules, fitted.ignore, extra, f"the shapes of {meshes.name}", between)
    text = with_collision_block(source.read_text(), block)
    urdf = Path(args.urdf_out or hand.urdf_path).resolve()
    text = re.sub(r"^urdf:.*$", f"urdf: {urdf}", text, count=1, flags=re.M)
    if args.urdf_out:
        with replaced_file(urdf) as part:
            part.write_text(urdf_with_capsules(hand.urdf_text, found))
    out.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(out) as part:
        part.write_text(text)
    count, ignored, apart = sum(map(len, found.values())), len(fitted.ignore), len(extra)
    print(
        f"{out}: {count} capsules, {ignored} pairs that touch by design, {apart} of links and {len(between)} of "
        "capsules kept further apart"
    )


def run_judge(args) -> int:
    """Print collisions and pinches; 2 where something is deeper than 1 mm."""
    from ..evaluation.bench.dex_comparison import find_python
    from ..evaluation.bench.shape_judge import as_dict, judge_hand
    from ..robot.hands.library import load_hand
    from ._tables import write_json
    from .bench_retarget import read_keypoints

    recorded = read_keypoints(args.keypoints) if args.keypoints else None
    python = find_python(args.compare_python) if args.compare else None
    everything = ([], [], [])
    for name in args.hand.split(","):
        hand = load_hand(name)
        official, objectives = _official(args.meshes, hand.name), args.objective.split(",")
        found = judge_hand(hand, official, objectives, recorded, python, bool(args.compare), args.every)
        for c in found[0]:
            print(
                f"{c.hand:14} {c.method:16} {c.objective:9} {c.sequence:9} {c.deep:4d} of {c.frames} frames "
                f"deeper than 1 mm, deepest {max(c.deepest_mm, 0.0):.2f} mm"
                f"{f' ({c.where})' if c.deepest_mm > 0 else ''}",
                flush=True,
            )
        for p in found[1]:
            print(
                f"{p.hand:14} {p.method:16} pinch {p.finger:7} gap {p.gap_mm:.2f} mm, closes in {p.closing_ms:.0f} ms"
            )
        for note in found[2]:
            print(note)
        for kept, new in zip(everything, found):
            kept.extend(new)
    if args.json:
        write_json(as_dict(*everything), args.json)
    return 2 if any(c.deep for c in everything[0] if c.method == "egohand") else 0


def run(args) -> None:
    """Print one row a hand, or write all of it as JSON."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from ..errors import UserError
    from ..robot.hands.library import find_config, list_hands
    from ._tables import check_json, write_json

    if args.json:
        check_json(args.json)
        return write_json({name: _described(name) for name in list_hands()}, args.json)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("name", "fingers", "motors", "commands", "what it is"):
        table.add_column(
            column, no_wrap=column != "what it is", justify="right" if column in ("fingers", "motors") else "left"
        )
    for name in list_hands():
        try:
            config = find_config(name)
        except UserError as error:
            table.add_row(name, "-", "-", "-", f"not usable: {error}")
            continue
        kinds = ", ".join(dict.fromkeys(command.type for command in config.commands.values()))
        table.add_row(name, str(len(config.fingers)), str(len(config.joints)), kinds, config.description)
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def _described(name: str) -> dict:
    """What the config of a hand says, or why it is not usable."""
    from ..errors import UserError
    from ..robot.hands.library import find_config, hand_files

    try:
        config = find_config(name)
    except UserError as error:
        return {"usable": False, "error": str(error), "config": str(hand_files()[name])}
    return {
        "usable": True,
        "side": config.side,
        "description": config.description,
        "fingers": list(config.fingers),
        "joints": list(config.joints),
        "objectives": list(config.objectives),
        "commands": {key: {"topic": c.topic, "type": c.type, "unit": c.unit} for key, c in config.commands.items()},
        "config": str(hand_files()[name]),
        "urdf": None if config.urdf is None else str(config.urdf),
    }


def run_add(args) -> int:
    """Propose, save, draw and check."""
    import sys

    from ..outputs import check_data, replaced_file
    from ..robot.setup.add_hand import propose, save_path
    from ..robot.setup.pictures import draw_hand

    urdf = sys.stdin.read() if args.urdf == "-" else args.urdf
    proposal = propose(urdf, args.name, args.root, args.side)
    path = save_path(proposal.hand.name, args.out)
    picture, kept = path.with_suffix(".png"), () if proposal.hand.urdf_path else (path.with_suffix(".urdf"),)
    for file in (path, picture, *kept):
        check_data(file, args.overwrite, [] if args.urdf == "-" else [args.urdf], _is_our_hand)
    if kept:
        proposal = _keep_text(proposal, path)
    else:
        proposal.save(path)
    with replaced_file(picture) as part:
        draw_hand(proposal.hand, part)
    print(f"config: {path}\npictures: {picture}")
    for note in proposal.notes:
        print(f"assumed: {note}")
    return _report(str(path), None)


def _keep_text(proposal, path):
    """Save a URDF that came as text beside its config, and name it there."""
    from dataclasses import replace

    from ..outputs import write_text
    from ..robot.setup.add_hand import to_yaml

    urdf = path.with_suffix(".urdf")
    write_text(urdf, proposal.hand.urdf_text)
    config = proposal.config | {"urdf": urdf.name}
    kept = replace(proposal, config=config, text=to_yaml(config, proposal.notes))
    kept.save(path)
    return kept


def _is_our_hand(path) -> str | None:
    """None for a file of a hand that was added before: its config, or what lies beside one; else why not."""
    return None if path.is_file() and path.with_suffix(".yaml").is_file() else "is no file of a hand that was added"


def run_check(args) -> int:
    """Print findings; 2 when there is an error."""
    from ..outputs import check_page, replaced_file

    if args.pictures:
        check_page(args.pictures, "picture", [args.hand, *([args.urdf] if args.urdf else [])])
    status = _report(args.hand, args.urdf)
    if args.pictures and status == 0:
        from ..robot.hands.library import load_hand
        from ..robot.setup.pictures import draw_hand

        with replaced_file(args.pictures) as part:
            draw_hand(load_hand(args.hand, args.urdf), part)
        print(f"pictures: {args.pictures}")
    return status


def _report(name: str, urdf) -> int:
    from ..robot.setup.check import check_hand

    findings = check_hand(name, urdf)
    for finding in findings:
        print(f"{finding.level:7s} {finding.text}")
    return 2 if any(finding.level == "error" for finding in findings) else 0


def run_calibrate(args) -> None:
    """Measure and save."""
    from ..data.load import load_episodes
    from ..hand.skeleton import side_index
    from ..robot.retarget.calibration import calibrate

    episode, side = load_episodes(args.input)[0], side_index(args.side)
    result = calibrate(episode.keypoints[:, side], episode.valid[:, side], args.side, args.user)
    fingers = ", ".join(f"{finger} {scale:.2f}" for finger, scale in result.finger_scale.items())
    print(f"{result.save()}: {result.size:.2f} times the average hand; {fingers}")
