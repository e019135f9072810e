"""What the shell offers after TAB, through argcomplete. Imported only when a shell asks."""

import argparse

import argcomplete


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that asks, and end; names of hands and forecasters are offered where an option wants one."""
    for action in _actions(parser):
        if action.dest == "hand":
            action.completer = _hands
        elif action.dest in ("forecaster", "preset", "init"):
            action.completer = _forecasters
    argcomplete.autocomplete(parser)


def _actions(parser: argparse.ArgumentParser):
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _actions(child)


def _hands(**_) -> list[str]:
    from ..robot.hands.library import list_hands

    return list_hands()


def _forecasters(prefix: str, **_) -> list[str]:
    """Names for the last of several, with what stands before it."""
    from ..forecast.registry import presets

    before = prefix[: prefix.rfind(",") + 1]
    return [before + name for name in presets()]
