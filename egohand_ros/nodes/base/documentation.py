"""`docs/nodes.md` from the code: what each node says of its topics, and its parameters as it declares them.

python -m egohand_ros.nodes.base.documentation          write it
"""

import argparse
import inspect
from importlib import import_module
from pathlib import Path

from .node import EgoHandNode
from .parameters import BaseParameters, parameter_table

NODES = (
    "hand_tracker",
    "forecaster",
    "retargeter",
    "arm_follower",
    "sim_hand",
    "recorder",
    "player",
    "viewer",
    "foxglove",
    "handover",
    "sim_handover",
)

_HEAD = """# Nodes

Made from the code by `python -m egohand_ros.nodes.base.documentation`; do not edit.

All nodes are lifecycle nodes. Topic names are relative, so a namespace moves the whole graph; each has a
`qos_overrides` parameter. Every node publishes `/diagnostics` once a second: rates, rejected inputs by reason, and
p50/p95/p99 of each stage. Services `~/change_state` and `~/get_state` drive a node whose `autostart` is false.
"""


def nodes_page() -> str:
    """The whole page, Markdown."""
    parts = [_HEAD]
    for name in NODES:
        module = node_module(name)
        table = "\n".join(parameter_table(parameters_of(module)))
        parts.append(f"## {name}\n\n```text\n{inspect.cleandoc(module.__doc__)}\n```\n\n{table}\n")
    return "\n".join(parts)


def node_module(name: str):
    """The module that defines a node: a file of `nodes/`, or `node.py` of a folder there."""
    module = import_module(f"egohand_ros.nodes.{name}")
    return import_module(f"{module.__name__}.node") if hasattr(module, "__path__") else module


def parameters_of(module) -> type[BaseParameters]:
    """The parameter dataclass of the node that a module defines."""
    return next(
        kind.Parameters
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, EgoHandNode) and kind.__module__ == module.__name__
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/nodes.md from the code.")
    parser.add_argument(
        "--output", type=Path, default=Path("docs/nodes.md"), help="file to write (default: %(default)s)"
    )
    output = parser.parse_args().output
    output.write_text(nodes_page())


if __name__ == "__main__":
    main()
