"""What a node knows of its own health: rates, rejections, latency, level; turned into a DiagnosticArray once a
second.
"""

import platform
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

# A rejection is over when none of its kind came for this long; only then is the next one logged again.
EDGE_QUIET = 2.0  # s
# Consecutive bad cycles (overruns, stale inputs) after which the level rises.
WARN_AFTER, ERROR_AFTER = 3, 30
LATENCY_SAMPLES = 600  # of each stage; 10 s at 60 Hz


@dataclass
class _Edge:
    count: int = 0
    last: float = 0.0
    active: bool = False


@dataclass
class _Condition:
    level: bytes = OK
    message: str = ""
    streak: int = 0


@dataclass
class Health:
    """Collects from any thread. `now` is always time.monotonic(), passed in, so that it is testable."""

    hardware_id: str = field(default_factory=platform.node)  # the machine that it runs on
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _counts: Counter = field(default_factory=Counter)
    _reported: Counter = field(default_factory=Counter)
    _reported_at: float = field(default_factory=time.monotonic)
    _edges: dict[tuple[str, str], _Edge] = field(default_factory=dict)
    _latency: dict[str, deque] = field(default_factory=dict)
    _conditions: dict[str, _Condition] = field(default_factory=dict)
    _values: dict[str, str] = field(default_factory=dict)

    def count(self, name: str, number: int = 1) -> None:
        """Count events; reported as a total and as a rate."""
        with self._lock:
            self._counts[name] += number

    def reject(self, source: str, reason: str, now: float) -> bool:
        """Count a rejected input. True when this begins a new run of such rejections: log it then, and only then."""
        with self._lock:
            edge = self._edges.setdefault((source, reason), _Edge())
            edge.count += 1
            edge.last = now
            begins, edge.active = not edge.active, True
            return begins

    def rejected(self, reason: str | None = None) -> int:
        """How many inputs were rejected, in all or for one reason."""
        with self._lock:
            return sum(e.count for (_, r), e in self._edges.items() if reason in (None, r))

    def counted(self, name: str) -> int:
        with self._lock:
            return self._counts[name]

    def latency(self, stages: dict[str, float]) -> None:
        """Add one sample, in s, of every stage."""
        with self._lock:
            for stage, seconds in stages.items():
                self._latency.setdefault(stage, deque(maxlen=LATENCY_SAMPLES)).append(seconds)

    def value(self, key: str, value: object) -> None:
        """Set a key that is shown as it is (device, model id, state)."""
        with self._lock:
            self._values[key] = str(value)

    def condition(self, name: str, bad: bool, message: str = "", level: bytes | None = None) -> bytes:
        """Report one cycle of a condition (overrun, stale). Its level rises with consecutive bad ones; a good one
        clears.

        With `level` given, a bad one has that level at once. Returns the level of the condition.
        """
        with self._lock:
            state = self._conditions.setdefault(name, _Condition())
            state.streak = state.streak + 1 if bad else 0
            state.message = message
            by_streak = ERROR if state.streak >= ERROR_AFTER else WARN if state.streak >= WARN_AFTER else OK
            state.level = OK if not bad else level if level is not None else by_streak
            return state.level

    def ended(self, now: float) -> list[tuple[str, str, int]]:
        """Runs of rejections that are over: (source, reason, total so far). Each is returned once."""
        with self._lock:
            over = []
            for (source, reason), edge in self._edges.items():
                if edge.active and now - edge.last > EDGE_QUIET:
                    edge.active = False
                    over.append((source, reason, edge.count))
            return over

    def percentiles(self) -> dict[str, tuple[float, float, float]]:
        """p50, p95, p99 in s of every stage over the last `LATENCY_SAMPLES` samples."""
        with self._lock:
            samples = {k: np.fromiter(v, float) for k, v in self._latency.items() if v}
        return {k: tuple(float(x) for x in np.percentile(v, (50, 95, 99))) for k, v in samples.items()}

    def array(self, name: str, stamp, now: float) -> DiagnosticArray:
        """The message for `/diagnostics`; `name` is the node's full name, `stamp` a builtin_interfaces/Time."""
        level, message = self._level()
        values = self._key_values(now)
        status = DiagnosticStatus(
            level=level,
            name=name,
            message=message,
            hardware_id=self.hardware_id,
            values=[KeyValue(key=k, value=v) for k, v in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = stamp
        return array

    def _level(self) -> tuple[bytes, str]:
        with self._lock:
            bad = [(c.level, name, c.message) for name, c in self._conditions.items() if c.level != OK]
            active = sorted(f"{source} {reason}" for (source, reason), e in self._edges.items() if e.active)
        texts = [f"{name}: {message}" if message else name for _, name, message in bad]
        if active:
            texts.append("rejecting " + ", ".join(active))
            bad.append((WARN, "", ""))
        return max((b[0] for b in bad), default=OK), "; ".join(texts) or "ok"

    def _key_values(self, now: float) -> dict[str, str]:
        with self._lock:
            values = dict(self._values)
            elapsed = now - self._reported_at
            for name, total in sorted(self._counts.items()):
                values[f"count/{name}"] = str(total)
                if elapsed > 0:
                    values[f"rate/{name} [Hz]"] = f"{(total - self._reported[name]) / elapsed:.1f}"
            for (source, reason), edge in sorted(self._edges.items()):
                values[f"rejected/{source}/{reason}"] = str(edge.count)
            self._reported, self._reported_at = self._counts.copy(), now
        for stage, numbers in self.percentiles().items():
            for percentile, seconds in zip((50, 95, 99), numbers, strict=True):  # a number each, so that they plot
                values[f"latency/{stage} p{percentile} [ms]"] = f"{1e3 * seconds:.2f}"
        return values
