"""Fits the prior of `adaptive`: how real hands go on, by context (forecast/adaptive/prior.py).

    python -m egohand_ros.training.studies.fit_adaptive motion/* --out prior.safetensors --leave-one-out folder
    python -m egohand_ros.training.studies.fit_adaptive motion/{vr_controllers,leapjs,cmu_wrists:3,thai_leap:8}    # the
        shipped one

Each folder is a source; FOLDER:N takes every Nth of its recordings. Sources weigh alike, whatever their length, and so
does every step: errors are those relative to the source's best naive forecaster. Contexts are blurred and scaled at
random, so that the network learns what holds for any pace. With `--leave-one-out` it is fitted as often as there are
sources, each time without one: that is how it is to be judged.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from ...data.episode import Episode
from ...data.load import load_episodes
from ...data.windows import cut_windows
from ...evaluation.stream import single, stream_frames
from ...forecast.adaptive.forecaster import BASIS, Now, voices
from ...forecast.adaptive.memory import Memory, Moment
from ...forecast.adaptive.past import CONTEXT, FLOORS, KINDS, SIZES, context, pasts, vectors
from ...forecast.adaptive.prior import GAIN, INPUTS, START, STEP, STEPS, WEIGHTS
from ...forecast.common.observed import Observed
from ...forecast.common.protocol import Forecast
from ...forecast.registry import make_forecaster
from ...hand.skeleton import WRIST

_NAIVE = (*BASIS, "persistence")
_WINDOW = 20
_HIDDEN, _NETWORKS = 24, 2
_ROUNDS, _BATCH, _LEAST, _RATE, _DECAY = 350, 256, 96, 6e-3, 0.3  # points of a batch, but at least that many hands
_NOISE, _SCALE = 0.3, 0.7  # deviations of a context's numbers, and logarithm of the size of a motion
_MOST = 12000  # hands of a source
Rows = dict[str, torch.Tensor]


def rows_of(episodes: list[Episode]) -> list[Rows]:
    """Of each kind, all hands at all frames: contexts (N, 2, CONTEXT) and vectors (N, 2, V, J, 3) in a stream and of
    the window alone, what the basis says (N, 2, S, J, 3), what came (N, S, J, 3) and where that is known (N, S, J)."""
    forecasters = {name: make_forecaster(name) for name in BASIS}
    parts: list[list[dict[str, np.ndarray]]] = [[] for _ in KINDS]
    for episode in episodes:
        for kind, rows in enumerate(_rows_of_recording(episode, forecasters)):
            parts[kind].append(rows)
    joined = [{name: np.concatenate([part[name] for part in kind]) for name in kind[0]} for kind in parts]
    return [{name: torch.from_numpy(_thin(array)) for name, array in kind.items()} for kind in joined]


def _thin(array: np.ndarray) -> np.ndarray:
    if len(array) <= _MOST:
        return array
    return array[np.linspace(0, len(array) - 1, _MOST).astype(int)]


def _rows_of_recording(episode: Episode, forecasters: dict) -> list[dict[str, np.ndarray]]:
    frames = stream_frames(episode.stamp)
    cut = cut_windows(episode, frames, STEP, _WINDOW, STEPS)
    observed, times = Observed.from_window(cut.window), STEP * np.arange(1, STEPS + 1)
    now = Now.of(observed)
    basis = [voices(forecasters[name].forecast(cut.window), now, times) for name in BASIS]
    alone, stream = pasts(observed), _in_stream(cut.window)
    hand = (observed.wrist_valid[:, -1] & (observed.wrist_valid.sum(axis=1) >= 2)).reshape(-1)
    found = []
    for kind, (truth, known) in enumerate(_truth(cut, observed, now)):
        keep = hand & known.any(axis=(1, 2))
        inputs = [p[kind] for p in (stream, alone)]
        found.append(
            {
                "context": np.stack([context(past, FLOORS[kind])[keep] for past in inputs], axis=1).astype(np.float32),
                "vectors": np.stack([vectors(past)[keep] for past in inputs], axis=1).astype(np.float32),
                "basis": np.stack([voice.kinds[kind][keep] for voice in basis], axis=1).astype(np.float32),
                "truth": truth[keep].astype(np.float32),
                "known": known[keep],
            }
        )
    return found


def _in_stream(window) -> list:
    """The pasts of a recording's windows with what the stream adds."""
    memory, found = Memory(_WINDOW * STEP), []
    for one in single(window):
        observed = Observed.from_window(one)
        memory.add(Moment(float(one.stamp[0]), observed))
        found.append(memory.enrich(pasts(observed)))
    names = tuple(vars(found[0][0]))
    kinds = range(len(KINDS))
    return [type(found[0][k])(**{n: np.concatenate([getattr(f[k], n) for f in found]) for n in names}) for k in kinds]


def _truth(cut, observed: Observed, now: Now) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each kind the displacement (2 B, S, J, 3) that came, and where it is known (2 B, S, J)."""
    forecast = Forecast(
        cut.window.stamp, torch.arange(1, STEPS + 1) * STEP, torch.from_numpy(cut.future[:, None]),
        torch.from_numpy(cut.future_rotation[:, None]), torch.zeros(len(cut.future), 1, STEPS, 2, 21),
        torch.zeros(len(cut.future), 1, STEPS, 2, 6, 6), torch.ones(len(cut.future), 1), cut.window.valid.any(1),
    )  # fmt: skip
    came = voices(forecast, now, np.arange(STEPS))
    rows = lambda array: np.moveaxis(array, 2, 1).reshape(-1, STEPS, *array.shape[3:])  # noqa: E731
    valid, turned = rows(cut.future_valid), rows(cut.future_rotation_valid)
    seen = observed.valid[:, -1].reshape(-1, 1, observed.valid.shape[-1])
    facing = observed.rotation_valid[:, -1].reshape(-1, 1)
    known = (
        valid[..., WRIST : WRIST + 1],
        (turned & facing)[..., None],
        valid[..., WRIST + 1 :] & valid[..., WRIST : WRIST + 1] & seen[..., WRIST + 1 :],
    )
    return list(zip(came.kinds, known, strict=True))


class _Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        widths = (CONTEXT, _HIDDEN, _HIDDEN, STEPS * INPUTS)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        torch.nn.init.zeros_(self.layers[-1].weight)
        torch.nn.init.zeros_(self.layers[-1].bias)
        start = torch.zeros(INPUTS)
        start[0] = START
        self.register_buffer("start", start)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            numbers = torch.tanh(layer(numbers))
        return self.start + GAIN * last(numbers).reshape(-1, STEPS, INPUTS)


def fit(sources: list[Rows], seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of one kind's prior (`prior.Prior`), from the rows of several sources."""
    torch.manual_seed(seed)
    numbers = [rows["context"][:, 0] for rows in sources]
    mean = torch.stack([part.mean(0) for part in numbers]).mean(0)
    spread = torch.cat([part - mean for part in numbers]).square().mean(0).sqrt() + 1e-3
    floors = [_best_naive(rows) for rows in sources]
    networks = [_fit_network(sources, floors, mean, spread, seed + i) for i in range(_NETWORKS)]
    arrays = {"mean": mean.numpy(), "spread": spread.numpy()}
    for i in range(3):
        arrays[f"weight{i}"] = np.stack([net.layers[i].weight.detach().numpy().T for net in networks])
        arrays[f"bias{i}"] = np.stack([net.layers[i].bias.detach().numpy()[None] for net in networks])
    return arrays


def _fit_network(sources: list[Rows], floors: list[torch.Tensor], mean, spread, seed: int) -> _Network:
    torch.manual_seed(seed)
    network = _Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_ROUNDS)
    sizes, batch = torch.zeros(CONTEXT), max(_BATCH // sources[0]["truth"].shape[2], _LEAST)
    sizes[SIZES] = 1.0
    for _ in range(_ROUNDS):
        loss = torch.zeros(())
        for rows, floor in zip(sources, floors, strict=True):
            pick, view = torch.randint(len(rows["truth"]), (batch,)), torch.randint(2, (batch,))
            told = rows["context"][pick, view] + _SCALE * torch.randn(batch, 1) * sizes
            told = ((told - mean) / spread + _NOISE * torch.randn(batch, CONTEXT)).clamp(-4.0, 4.0)
            away = _displacement(network(told), rows["basis"][pick], rows["vectors"][pick, view]) - rows["truth"][pick]
            error = _distance(away, rows["known"][pick]) / floor
            loss = loss + error[~error.isnan()].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _displacement(coefficients: torch.Tensor, basis: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
    """(N, S, J, 3)"""
    told = torch.einsum("nsk,nksjd->nsjd", coefficients[..., : len(BASIS)], basis)
    return told + torch.einsum("nsk,nkjd->nsjd", coefficients[..., len(BASIS) :], past)


def _distance(away: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean over the known points (N, S); NaN where there is none, which has no gradient."""
    count = known.sum(-1)
    mean = ((away.square().sum(-1) + 1e-10).sqrt() * known).sum(-1) / count.clamp(min=1)
    return mean.masked_fill(count == 0, torch.nan)


def _best_naive(rows: Rows) -> torch.Tensor:
    """(S,) the least mean distance of any naive forecaster."""
    said = [rows["basis"][:, 0], rows["basis"][:, 1], torch.zeros_like(rows["truth"])]
    return torch.stack([_distance(one - rows["truth"], rows["known"]).nanmean(0) for one in said]).min(0).values


def fit_all(sources: dict[str, list[Rows]], path: Path, seed: int = 0) -> None:
    """Fit every kind on all sources that have it, and write the weights, with what they were made of beside them."""
    arrays = {}
    for kind, name in enumerate(KINDS):
        given = [rows[kind] for rows in sources.values() if len(rows[kind]["truth"])]
        if given:
            arrays |= {f"{name}.{key}": np.ascontiguousarray(array) for key, array in fit(given, seed).items()}
    save_file(arrays, path)
    path.with_suffix(".json").write_text(json.dumps({"data": sorted(sources), "seed": seed}, indent=2) + "\n")


def main() -> None:
    """Fit, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", metavar="FOLDER[:N]", help="recordings of one source each, or every Nth")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="file to write (default: the shipped one)")
    parser.add_argument(
        "--leave-one-out", type=Path, metavar="FOLDER", help="also one fit without each source, SOURCE.safetensors"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    sources = {}
    for given in args.sources:
        folder, _, every = given.partition(":")
        sources[Path(folder).name] = rows_of(load_episodes(folder)[:: int(every or 1)])
        print(f"{given}: {len(sources[Path(folder).name][0]['truth'])} hands", flush=True)
    if args.leave_one_out:
        args.leave_one_out.mkdir(parents=True, exist_ok=True)
        for left in sources:
            rest = {name: rows for name, rows in sources.items() if name != left}
            fit_all(rest, args.leave_one_out / f"{left}.safetensors", args.seed)
            print(f"fitted without {left}", flush=True)
    fit_all(sources, args.out, args.seed)


if __name__ == "__main__":
    main()
