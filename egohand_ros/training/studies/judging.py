"""Claims judged by held-out errors: ratios with their intervals, and what becomes of a claim."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .study import Scores, Study

_DRAWS = 1000

HOLDS, FAILS, OPEN, SAME = "holds", "does not hold", "undecided", "no difference"
EARLY = "trained too little"
_NOTHING = 0.01  # a ratio whose interval is so near to 1 says that the two are the same


@dataclass(frozen=True)
class Claim:
    """That `whole`, a variant and one of its metrics, has less of it than `without`. `published` is the paper's ratio
    of the two, "" where it has none. `bar`: the reference that one of the two has to be better than to be judged: what
    is no better than a guess says nothing of what a part is worth."""

    name: str
    whole: tuple[str, str]
    without: tuple[str, str]
    published: str = ""
    bar: str = ""


def judged(
    study: Study, found: dict[str, list[Scores]], claims: Sequence[Claim], reference: dict[str, float]
) -> dict[str, Any]:
    """What there is to say of scores by variant, one for each seed: means and each seed's own, and every claim with the
    ratio of its two sides and the 95 % interval of that. `reference`: numbers that no network made."""
    rows = {
        name: {
            metric: {"mean": _mean([run[metric] for run in runs]), "seeds": [_mean([run[metric]]) for run in runs]}
            for metric in runs[0]
        }
        for name, runs in found.items()
    }
    return {
        "preset": study.preset,
        "data": study.data,
        "seeds": study.seeds,
        "steps": study.settings().steps,
        "rows": rows,
        "reference": reference,
        "claims": [_judge(claim, found, reference) for claim in claims],
    }


def _judge(claim: Claim, found: dict[str, list[Scores]], reference: dict[str, float]) -> dict[str, Any]:
    sides = [np.array([run[metric] for run in found[name]]) for name, metric in (claim.whole, claim.without)]
    ratio = ratio_with_interval(*sides, np.random.default_rng(0))
    each = [_mean([a]) / _mean([b]) for a, b in zip(*sides, strict=True)]
    early = bool(claim.bar) and min(_mean(list(side)) for side in sides) > reference[claim.bar]
    return asdict(claim) | {"ratio": ratio, "seeds": each, "verdict": EARLY if early else _verdict(*ratio[1:])}


def _verdict(low: float, high: float) -> str:
    if low > 1.0 - _NOTHING and high < 1.0 + _NOTHING:
        return SAME
    return HOLDS if high < 1.0 else FAILS if low > 1.0 else OPEN


def ratio_with_interval(above: np.ndarray, below: np.ndarray, rng: np.random.Generator) -> list[float]:
    """Ratio of the means of two sets of numbers (seeds, scenes), and its 95 % interval by the bootstrap over seeds and
    scenes, which both sets share. Scenes for which a run has no number do not count; NaN where none is left."""
    pairs = np.stack([above, below])
    pairs = pairs[..., np.isfinite(pairs).all((0, 1))]
    if not pairs.shape[-1]:
        return [float("nan")] * 3
    drawn = []
    for _ in range(_DRAWS):
        rows = rng.integers(pairs.shape[1], size=pairs.shape[1])
        scenes = rng.integers(pairs.shape[2], size=pairs.shape[2])
        upper, lower = pairs[:, rows][..., scenes].mean((1, 2))
        drawn.append(upper / max(lower, 1e-9))
    upper, lower = pairs.mean((1, 2))
    return [float(upper / max(lower, 1e-9)), *map(float, np.percentile(drawn, (2.5, 97.5)))]


def interval(values: np.ndarray, to: np.ndarray | None = None) -> list[float]:
    """Mean, or ratio of means, with its 95 % interval by the bootstrap over scenes."""

    def mean(rows: np.ndarray) -> float:
        return float(values[rows].mean() / (1.0 if to is None else to[rows].mean()))

    rng, every = np.random.default_rng(0), np.arange(len(values))
    drawn = [mean(rng.choice(every, len(every))) for _ in range(_DRAWS)]
    return [mean(every), *map(float, np.percentile(drawn, (2.5, 97.5)))]


def _mean(values: Sequence[np.ndarray]) -> float:
    """Of all that is known; NaN where nothing is."""
    known = np.concatenate([np.asarray(v, dtype=float).ravel() for v in values])
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else float("nan")
