"""Placeholder."""

import sys

from .base.node import EgoHandNode, run_node


class ViewerNode(EgoHandNode):
    pass


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(ViewerNode, args)


if __name__ == "__main__":
    sys.exit(main())
