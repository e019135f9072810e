"""Options that several commands have, under one name: --out for the result, --json for figures."""

import argparse

from ..errors import UserError


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
