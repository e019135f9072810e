"""`egohand`: finds the commands in this folder and runs one.

A module of this folder that has `add_parser(subparsers)` is a command. `bench_<name>.py` becomes `egohand bench
<name>`, `bag_<name>.py` `egohand bag <name>`, and so on for `GROUPS`. The parser it adds names its function by
`set_defaults(run=function)`; the function takes the parsed arguments and returns an exit status or None. Command
modules import anything slow inside that function, so that `--help` is quick.
"""

import argparse
import importlib
import os
import pkgutil
import select
import signal
import sys
from importlib.metadata import PackageNotFoundError, version

from ..errors import UserError
from ._heartbeat import HEARTBEAT

GROUPS = {
    "bench": "measure speed and robustness on this machine",
    "bag": "look after recordings",
    "calibrate": "measure the robot and save what was found",
}

EXAMPLES = """examples:
  egohand run --synthetic --sim --record out/bag --report out/report.html
  egohand run --video walk.mp4 --hand allegro_right --report out/report.html
  egohand evaluate out/bag --forecaster persistence,kalman,egohand-small --protocol egoexo4d
  egohand COMMAND --help
"""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the layout of examples and adds defaults to the help of options."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.default in (None, False, "", argparse.SUPPRESS) or action.default == []:
            return action.help or ""
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Wrong use is one line, as every other mistake; the usage is in the help that it names."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


def package_version() -> str:
    """The installed version, or "unknown" where only the colcon package is installed."""
    try:
        return version("egohand_ros")
    except PackageNotFoundError:
        return "unknown"


def command_modules() -> list[str]:
    """Names of the modules of this folder that are commands, in alphabetical order."""
    package = importlib.import_module(__package__)
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [name for name in names if name != "main" and not name.startswith("_")]


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command, each found by looking into this folder."""
    parser = Parser(
        prog="egohand",
        description="Forecast an egocentric camera wearer's hands and drive a robot hand with the forecast.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"egohand_ros {package_version()}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    groups = {}
    for name in command_modules():
        module = importlib.import_module(f"{__package__}.{name}")
        if not hasattr(module, "add_parser"):
            continue
        group = name.partition("_")[0]
        if group in GROUPS and group != name:
            if group not in groups:
                help_line = GROUPS[group]
                holder = commands.add_parser(group, help=help_line, description=f"{help_line.capitalize()}.")
                groups[group] = holder.add_subparsers(title="commands", dest=group, metavar="COMMAND", required=True)
            module.add_parser(groups[group])
        else:
            module.add_parser(commands)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Exit status 0 done, 1 done but the answer is no, 2 wrong use, 130 interrupted."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # set by the shell that asks for what could come next
        from ._completion import complete

        complete(parser)
    args = parser.parse_args(arguments)
    try:
        with HEARTBEAT.doing(lambda: f"egohand {args.command}: at work"):
            status = int(args.run(args) or 0)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        if not _unread():
            raise
        return 128 + signal.SIGPIPE
    except UserError as error:
        print(f"egohand: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("egohand: interrupted", file=sys.stderr)
        return 130


def _unread() -> bool:
    """Whether nobody reads the standard output any more, as in `egohand hands | head`; then nothing is written there.

    The signal itself stays ignored: it would end the command wherever a process that it speaks to has died.
    """
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    asked = select.poll()
    asked.register(output, select.POLLOUT)
    if not any(events & select.POLLERR for _, events in asked.poll(0)):
        return False
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, output)
    os.close(silent)
    return True


if __name__ == "__main__":
    sys.exit(main())
