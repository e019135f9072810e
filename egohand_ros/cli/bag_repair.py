"""`egohand bag repair`: rebuild recordings that were not closed."""

import argparse

EXAMPLE = """example:
  egohand bag repair out/bag
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "repair",
        help="rebuild a recording that a crash left open or that is damaged, and join its parts",
        description="Rebuild a recording whose recorder was killed, of which everything up to the last half second is "
        "kept, or that was cut off or damaged later, of which everything before that is.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", nargs="+", help="rosbag2 folder")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Repair each bag that needs it."""
    from ..data.bags.recording import is_whole, repair_bag

    for bag in args.bag:
        if is_whole(bag):
            print(f"{bag}: nothing to repair")
        else:
            print(f"{bag}: {repair_bag(bag)} messages kept")
