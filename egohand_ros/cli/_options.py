"""Options that several commands have, under one name: --out for the result, --json for figures."""

import argparse

from ..errors import UserError
from ..parallel import Workers


def add_out(parser: argparse.ArgumentParser, metavar: str, text: str) -> None:
    """--out, required; it may also be the last argument without a name, as it was once. Read it by `out_of`."""
    parser.add_argument("--out", metavar=metavar, help=text)
    parser.add_argument("output", nargs="?", help=argparse.SUPPRESS)


def out_of(args: argparse.Namespace) -> str:
    """What was given for --out."""
    if args.out and args.output:
        raise UserError(f"--out {args.out} and {args.output}: give one place for the result")
    if not (args.out or args.output):
        raise UserError("--out is missing: where is the result to go?")
    return args.out or args.output


def add_json(parser, text: str, *aliases: str) -> None:
    """--json, with names that it had before; a file, or the standard output for "-"."""
    parser.add_argument(
        "--json", *aliases, dest="json", metavar="FILE", help=f"{text} as JSON; - is the standard output"
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """--jobs and --ray. Read them by `workers_of`."""
    parser.add_argument("--jobs", type=int, metavar="N", help="so many processes; 0: as many as there are cores")
    parser.add_argument(
        "--ray",
        default="",
        metavar="ADDRESS",
        help="the workers of a Ray cluster, which see the same folders; local: one of this machine (extra cluster)",
    )


def workers_of(args: argparse.Namespace) -> Workers:
    """Who does the work: this process alone, unless told otherwise."""
    return Workers((0 if args.ray else 1) if args.jobs is None else args.jobs, args.ray)
