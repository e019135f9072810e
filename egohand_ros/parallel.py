"""The same work on many recordings: on all cores, or on the machines of a Ray cluster.

A process that is killed (out of memory, a machine that is switched off) loses nothing: what it had not finished is done
again. Results come in the order of what they are of, so that they are the same on any number of processes.
"""

import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pickle import PickleError
from typing import Any, TypeVar, cast

from .errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_ATTEMPTS = 3  # of one item whose process was killed: it may be its own doing


@dataclass(frozen=True)
class Workers:
    """`jobs` processes of this machine (0: as many as it has cores), or those of the Ray cluster at `cluster`: its
    address, or "local" for one that is started here with `jobs` workers."""

    jobs: int = 1
    cluster: str = ""

    def __post_init__(self) -> None:
        if self.jobs < 0:
            raise UserError(f"--jobs {self.jobs}: expected 1 or more, or 0 for all cores")

    @property
    def count(self) -> int:
        """Processes of this machine."""
        return self.jobs or len(os.sched_getaffinity(0))


HERE = Workers()


def run_all(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: Workers = HERE,
    progress: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """`function(item)` of every item, in their order. `progress(done, total)` is called after each.

    Function and items have to be importable and picklable where there is more than one process. The first exception
    ends the work; raises `UserError` where an item has killed its process three times.
    """
    done: dict[int, Result] = {}
    for number, result in _results(function, items, workers):
        done[number] = result
        if progress is not None:
            progress(len(done), len(items))
    return [done[number] for number in range(len(items))]


def _results(
    function: Callable[[Item], Result], items: Sequence[Item], workers: Workers
) -> Iterator[tuple[int, Result]]:
    if workers.cluster:
        yield from _on_cluster(function, items, workers)
    elif workers.count == 1 or len(items) < 2:
        yield from ((number, function(item)) for number, item in enumerate(items))
    else:
        yield from _in_processes(function, items, min(workers.count, len(items)))


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], count: int
) -> Iterator[tuple[int, Result]]:
    """Each process has a pipe of its own: one that is killed takes nothing from the others, as it might with a queue
    that all share."""
    left, attempts = deque(range(len(items))), Counter[int]()
    idle: list[_Process] = []
    busy: dict[Connection, tuple[_Process, int]] = {}
    try:
        while left or busy:
            while left and len(busy) < count:
                process, number = idle.pop() if idle else _Process(function), left.popleft()
                busy[process.pipe] = process, number
                with suppress(BrokenPipeError):  # killed meanwhile, as reading will tell
                    process.pipe.send(items[number])
            for pipe in wait(list(busy)):
                process, number = busy.pop(cast(Connection, pipe))
                try:
                    well, told = process.pipe.recv()
                except (EOFError, ConnectionResetError):
                    process.end()
                    attempts[number] += 1
                    if attempts[number] == _ATTEMPTS:
                        raise UserError(_killed(items[number])) from None
                    left.append(number)
                    continue
                idle.append(process)
                if not well:
                    raise told
                yield number, told
    finally:
        for process in (*idle, *(process for process, _ in busy.values())):
            process.end()


class _Process:
    """A process that does `function` of what is sent, until its pipe is closed."""

    def __init__(self, function: Callable[[Any], Any]):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self._process.start()
        theirs.close()

    def end(self) -> None:
        self.pipe.close()
        self._process.terminate()
        self._process.join()


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            told = True, function(item)
        except Exception as error:
            told = False, error
        try:
            pipe.send(told)
        except (TypeError, AttributeError, PickleError) as error:
            pipe.send((False, RuntimeError(f"{told[1]!r} cannot be sent back: {error}")))


def _killed(item: object) -> str:
    return f"the process that worked on {_shown(item)} was killed {_ATTEMPTS} times; is there enough memory?"


def _on_cluster(
    function: Callable[[Item], Result], items: Sequence[Item], workers: Workers
) -> Iterator[tuple[int, Result]]:
    try:
        import ray
    except ImportError:
        raise UserError(
            "working on a Ray cluster needs ray: pip install 'egohand_ros[cluster]', or leave out --ray"
        ) from None
    address = {} if workers.cluster == "local" else {"address": workers.cluster}
    number_of = {"num_cpus": workers.count} if not address else {}
    try:
        ray.init(**address, **number_of, log_to_driver=False, logging_level="error", include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"no Ray cluster at {workers.cluster!r}: {' '.join(str(error).split())[:120]}") from None
    try:

        @ray.remote(num_cpus=1, max_retries=_ATTEMPTS - 1)
        def remote(item: Item) -> Result:
            return function(item)

        waiting: dict[Any, int] = {remote.remote(item): number for number, item in enumerate(items)}
        while waiting:
            (reference,), _ = ray.wait(list(waiting), num_returns=1)
            number = waiting.pop(reference)
            try:
                yield number, ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(getattr(error, "cause", None), Exception) else error from None
            except ray.exceptions.WorkerCrashedError:
                raise UserError(_killed(items[number])) from None
    finally:
        ray.shutdown()


def _shown(item: object) -> str:
    text = repr(item)
    return text if len(text) <= 80 else f"{text[:77]}..."
