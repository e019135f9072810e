"""`egohand hands`: the robot hands there are."""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "hands",
        help="list the robot hands",
        description="List the robot hands that have a config: joints, objectives, and how they are commanded.",
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=run)


def run(args) -> None:
    """Print one row a hand."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from ..errors import UserError
    from ..robot.library import find_config, list_hands

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("name", "joints", "objectives", "commands", "what it is"):
        table.add_column(column, no_wrap=column in ("name", "joints"))
    for name in list_hands():
        try:
            config = find_config(name)
        except UserError as error:
            table.add_row(name, "-", "-", "-", f"not usable: {error}")
            continue
        commands = ", ".join(f"{key} ({interface.type})" for key, interface in config.commands.items())
        table.add_row(name, str(len(config.joints)), ", ".join(config.objectives), commands, config.description)
    Console().print(table)
