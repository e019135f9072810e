"""What of recordings is not trained on: spread over them, so that it is of the same kinds of motion as the rest.

The end of a recording is of hands that go home; a model that is judged by it alone keeps the wrong things. So whole
recordings are held back where there are five or more, and blocks at changing places of each where there are fewer.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..data.episode import Episode
from ..data.windows import window_ends
from ..forecast.common.protocol import ForecasterSpec

SHARE, MOST = 0.15, 0.4  # held back at least; at most, where fewer would leave too few windows
ENOUGH = 200  # windows, to judge and calibrate on
WHOLE_FROM = 5  # recordings
SPARE = 1.0  # s of a block beyond one window
LEAST_PARTS = 3  # blocks that a recording must have room for, or its end is held back
_TURN = 0.618034  # of a block's place, from one part to the next: never the same twice
_BEFORE = 2  # observations that a clip has to show before what is forecast


@dataclass(frozen=True)
class Parts:
    """`training` and, by name, `held_back`, of `windows` windows."""

    training: list[Episode]
    held_back: dict[str, Episode]
    windows: int

    @property
    def warning(self) -> str | None:
        """What there is to say where little is held back."""
        if self.windows >= ENOUGH:
            return None
        return (
            f"{self.windows} windows are held back, and {ENOUGH} are needed to judge by; its errors say little, "
            "record more"
        )


def seconds(spec: ForecasterSpec) -> float:
    """Of a window and its future."""
    return (spec.window_length + spec.horizon_steps) * spec.step


def hold_back(recordings: dict[str, Episode], spec: ForecasterSpec) -> Parts:
    """Recordings by name in parts to train on and to judge by; never in both. As little is held back as is enough."""
    split = _whole if sum(e.duration > seconds(spec) for e in recordings.values()) >= WHOLE_FROM else _blocks
    for share in np.linspace(SHARE, MOST, 6):
        parts = split(recordings, spec, float(share))
        if parts.windows >= ENOUGH:
            break
    return parts


def _whole(recordings: dict[str, Episode], spec: ForecasterSpec, share: float) -> Parts:
    long = [name for name, episode in recordings.items() if episode.duration > seconds(spec)]
    total = sum(episode.duration for episode in recordings.values())
    count = next(
        n for n in range(1, len(long)) if n == len(long) - 1 or _time(recordings, _spread(long, n)) >= share * total
    )
    chosen = _spread(long, count)
    held = {name: recordings[name] for name in chosen}
    return _parts([episode for name, episode in recordings.items() if name not in chosen], held, spec)


def _spread(names: list[str], count: int) -> list[str]:
    """As many, at even distances."""
    return [names[int((i + 0.5) * len(names) / count)] for i in range(count)]


def _time(recordings: dict[str, Episode], names: list[str]) -> float:
    return sum(recordings[name].duration for name in names)


def _blocks(recordings: dict[str, Episode], spec: ForecasterSpec, share: float) -> Parts:
    training, held = [], {}
    for number, (name, episode) in enumerate(recordings.items()):
        least = seconds(spec) + SPARE
        if episode.duration < LEAST_PARTS * least - 1e-6:
            spans = [(episode.duration * (1.0 - SHARE), np.inf)]
        else:
            count = max(1, int(SHARE * episode.duration / least))
            length, part = max(share * episode.duration / count, least), episode.duration / count
            starts = [part * k + (part - length) * ((number + k + 1) * _TURN % 1.0) for k in range(count)]
            spans = [(start, start + length) for start in starts]
        edges = np.searchsorted(episode.stamp - episode.stamp[0], [0.0, *np.ravel(spans), np.inf])
        cuts = list(pairwise(edges))
        training += [episode.slice(a, b) for a, b in cuts[::2] if b > a]
        blocks = [episode.slice(a, b) for a, b in cuts[1::2] if b > a]
        held |= {name if len(blocks) == 1 else f"{name}, block {k + 1}": piece for k, piece in enumerate(blocks)}
    return _parts(training, held, spec)


def _parts(training: list[Episode], held: dict[str, Episode], spec: ForecasterSpec) -> Parts:
    count = sum(
        len(window_ends(e.stamp, spec.step, spec.window_length, spec.horizon_steps)) for e in held.values() if len(e)
    )
    return Parts(training, held, count)


def with_unseen_before(episode: Episode, spec: ForecasterSpec) -> Episode:
    """A clip that is too short for a window, with frames before it in which nothing is seen, so that it is a hand that
    just came; unchanged where it is long enough, or too short for what is forecast."""
    if episode.duration > seconds(spec) or episode.duration < (spec.horizon_steps + _BEFORE) * spec.step:
        return episode
    if episode.images is not None:  # there is no picture of what was before
        return episode
    gap = float(np.median(np.diff(episode.stamp)))
    count = int(np.ceil(spec.window_length * spec.step / gap))
    before = lambda array: np.concatenate([np.repeat(array[:1], count, axis=0), array])  # noqa: E731
    return replace(
        episode,
        stamp=np.concatenate([episode.stamp[0] - gap * np.arange(count, 0, -1), episode.stamp]),
        keypoints=before(episode.keypoints),
        valid=np.concatenate([np.zeros((count, *episode.valid.shape[1:]), dtype=bool), episode.valid]),
        wrist_rotation=before(episode.wrist_rotation),
        camera_pose=None if episode.camera_pose is None else before(episode.camera_pose),
    )
