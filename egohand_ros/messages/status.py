"""What nodes say of themselves, to plain values: Latency, ForecasterInfo, DiagnosticArray."""

from dataclasses import dataclass

from .basic import Message


@dataclass(frozen=True)
class LatencySample:
    """Where the time of one message went: `stages` maps each to s; the stamp as (sec, nanosec), exactly, and in s."""

    stamp: float
    key: tuple[int, int]
    stages: dict[str, float]
    useful_horizon: float


def parse_latency_msg(message: Message) -> LatencySample:
    """`LatencySample` of a Latency message."""
    stamp = message.header.stamp
    stages = dict(zip(message.stages, map(float, message.durations)))
    return LatencySample(stamp.sec + stamp.nanosec * 1e-9, (stamp.sec, stamp.nanosec), stages, message.useful_horizon)


def parse_forecaster_info_msg(message: Message) -> dict[str, object]:
    """Preset, device, step s, horizon s, window_length, covariance_calibrated, and what it gives, of a ForecasterInfo.

    One of a recording from before forecasters said what they give: [].
    """
    return {
        "preset": message.preset,
        "device": message.device,
        "step": round(float(message.step), 6),
        "horizon": round(float(message.horizon), 6),
        "window_length": int(message.window_length),
        "covariance_calibrated": bool(message.covariance_calibrated),
        "gives": list(getattr(message, "gives", [])),
    }


def parse_diagnostics_msg(message: Message) -> dict[str, dict[str, str]]:
    """Of each status in a DiagnosticArray, by the last part of its name, the values and its `message`."""
    return {
        status.name.rpartition("/")[2]: {value.key: value.value for value in status.values}
        | {"message": status.message}
        for status in message.status
    }


@dataclass(frozen=True)
class NodeState:
    """What a node says of itself: its full name, level (0 ok, 1 warning, 2 error, 3 stale), why, and its values."""

    name: str
    level: int
    message: str
    values: dict[str, str]


def parse_node_states_msg(message: Message) -> list[NodeState]:
    """`NodeState` of each status in a DiagnosticArray."""
    return [
        NodeState(
            status.name,
            status.level[0] if isinstance(status.level, bytes) else int(status.level),
            status.message,
            {value.key: value.value for value in status.values},
        )
        for status in message.status
    ]
