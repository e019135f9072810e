"""Tables, progress bars and JSON, the same in every command. Progress goes to the standard error."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ..json_text import json_text
from ..outputs import check_page, write_text
from ._heartbeat import HEARTBEAT

WIDE = 160  # of what is no terminal


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[..., None]]:
    """A bar that is moved by calling it with what is done and the total; a line now and then where no terminal is."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task, line = progress.add_task(text, total=None), text

        def report(done: int, total: int, description: str = text) -> None:
            nonlocal line
            line = f"{description}: {done} of {total}"
            progress.update(task, completed=done, total=total, description=description)

        with HEARTBEAT.doing(lambda: line, live=console.is_terminal):
            yield report


def print_table(title: str, columns: list[str], rows: dict[str, list[float]]) -> None:
    """Numbers by row name, one decimal; the least of each column is bold and NaN is a dash."""
    console = Console()
    if not console.is_terminal:  # a file has no width that anything would have to be cut to
        console = Console(width=WIDE)
    # A title of rich's own table is broken to the width of the table.
    console.print(title, style="italic", soft_wrap=True, highlight=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=True, justify="right" if i else "left")
    best = [min((v for v in column if math.isfinite(v)), default=math.nan) for column in zip(*rows.values())]
    for name, values in rows.items():
        cells = ["-" if not math.isfinite(v) else f"{v:.1f}" for v in values]
        table.add_row(name, *(f"[bold]{cell}[/]" if v == b else cell for cell, v, b in zip(cells, values, best)))
    console.print(table)


def check_json(path: str | None, inputs: Iterable[Path | str] = ()) -> None:
    """Refuse a place for JSON that cannot be written, before the work; "-" and none are fine."""
    if path and path != "-":
        check_page(path, "JSON", inputs)


def print_text_table(title: str, columns: list[str], rows: dict[str, list[str]]) -> None:
    """Words by row name."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(title, style="italic", soft_wrap=True, highlight=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=True, justify="right" if i else "left")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)


def write_json(content: dict, path: str) -> None:
    """Write to a file, whose folder is made, or to the standard output for "-"."""
    text = json_text(content)
    if path == "-":
        sys.stdout.write(text + "\n")
    else:
        write_text(path, text + "\n")
