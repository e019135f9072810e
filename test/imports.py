"""What a file imports, read from its source: nothing is run. A text is parsed once, however often it is asked about."""

import ast
import functools
from typing import NamedTuple


class Import(NamedTuple):
    """`import module` has no names; `from module import names` has them, and a level of leading dots."""

    module: str
    names: tuple[str, ...] = ()
    level: int = 0


@functools.cache
def imports_of(source: str) -> tuple[Import, ...]:
    """Every import of a file's text, those inside functions too."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(Import(node.module or "", tuple(alias.name for alias in node.names), node.level))
    return tuple(found)
