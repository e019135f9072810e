"""`egohand arms`: the robot arms there are, and adding one."""

EXAMPLES = """examples:
  egohand arms
  egohand arms add --urdf panda.urdf --name panda --flange panda_link8
  egohand handover --arm panda
"""


def add_parser(subparsers) -> None:
    """Add the command and its own."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "arms",
        help="list and add robot arms",
        description="List the robot arms, or add one.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=run)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    add = commands.add_parser(
        "add",
        help="make a config from a URDF",
        formatter_class=HelpFormatter,
        description="Take the chain of joints from the base to the flange out of a URDF, put capsules around its links "
        "(cylinders, boxes and spheres as they are; meshes by a radius), search a ready pose, and write a config.",
    )
    add.add_argument("--urdf", required=True, metavar="FILE", help="URDF file")
    add.add_argument("--name", metavar="NAME", help="name of the arm (default: the URDF's)")
    add.add_argument("--base", metavar="LINK", help="link that stands still (default: the URDF's root)")
    add.add_argument("--flange", metavar="LINK", help="link that a hand is screwed on (default: the last)")
    add.add_argument("--radius", type=float, default=0.06, metavar="M", help="of links whose shape is a mesh")
    add.add_argument("--ready", metavar="RAD[,RAD…]", help="angles at which it waits (default: searched)")
    add.add_argument("--overwrite", action="store_true", help="replace an arm of that name that was added before")
    add.add_argument("--out", metavar="DIR", help="folder for the config (default: ~/.config/egohand/arms)")
    add.set_defaults(run=run_add)


def run(args) -> None:
    """A line an arm."""
    from ..errors import UserError
    from ..robot.arm.config import find_arm, list_arms

    for name in list_arms():
        try:
            print(f"{name:<16} {find_arm(name)[0].description}")
        except UserError as error:
            print(f"{name:<16} not usable: {error}")


def run_add(args) -> None:
    """Propose, check and save."""
    from ..errors import UserError
    from ..outputs import check_data
    from ..robot.setup.add_arm import propose_arm, save_path

    try:
        ready = tuple(float(word) for word in args.ready.split(",")) if args.ready else None
    except ValueError:
        raise UserError(f"--ready {args.ready}: expected angles in rad, with commas between them") from None
    proposal = propose_arm(args.urdf, args.name, args.base, args.flange, args.radius, ready)
    path = save_path(proposal.arm.config.name, args.out)
    for file in (path, path.with_suffix(".urdf")):
        check_data(file, args.overwrite, [args.urdf], _is_our_arm)
    proposal.save(path)
    print(f"config: {path}")
    for note in proposal.notes:
        print(f"assumed: {note}")


def _is_our_arm(path) -> str | None:
    """None for a file of an arm that was added before, else why not."""
    return None if path.is_file() and path.with_suffix(".yaml").is_file() else "is no file of an arm that was added"
