"""The training loop: an objective, a sampler and a config in, averaged weights out."""

import copy
import hashlib
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import to_mapping
from ..data.windows import Cut
from ..errors import UserError
from ..outputs import writing
from .buffer import RowBuffer
from .checkpoint import StepLog, load_state, save_state
from .config import TrainingConfig
from .objectives.objective import Batch, Objective
from .runtime import make_runtime
from .windows.batches import WindowSampler

# The normalisation is fitted to so many windows, of the first groups of batches beyond those that are trained on.
_FIT_WINDOWS, _FIT_BATCHES = 3200, 2**31


class Trainer:
    """Trains `objective.network` in place.

    `validate()` gives numbers for the log; it is called with the averaged weights in place. `report(step, numbers)` is
    called after every step. What is in `folder` of a run with the same settings is gone on from.
    """

    def __init__(
        self,
        objective: Objective,
        sampler: WindowSampler,
        config: TrainingConfig,
        folder: Path,
        device: str = "auto",
        data_fingerprint: str = "",
        fit: bool = True,
        validate: Callable[[], dict[str, float]] | None = None,
        report: Callable[[int, dict[str, float]], None] | None = None,
        restart: bool = False,
    ):
        self.config, self.folder, self.validate, self.report = config, folder, validate, report
        self.sampler = replace(sampler, batch=config.batch, group=config.group, seed=config.seed)
        self.runtime = make_runtime(device, config.precision)
        if config.shards % self.runtime.world:
            raise UserError(
                f"shards is {config.shards} and there are {self.runtime.world} processes; expected a multiple of them "
                f"(--set shards={self.runtime.world}): the parts of a batch that are the same however many share them"
            )
        self.shards = range(self.runtime.rank, config.shards, self.runtime.world)  # of this process
        self.fingerprint = fingerprint(to_mapping(config), data_fingerprint)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        state = None if restart else load_state(folder, self.fingerprint)
        torch.manual_seed(config.seed)
        if fit and state is None:
            objective.fit(self._cuts_to_fit())
        self.bare = objective
        self.network: nn.Module = objective.network
        self.average = copy.deepcopy(self.network).eval()
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            _decay_groups(self.network, config.weight_decay), lr=config.learning_rate, betas=config.betas
        )
        rows = config.batch // config.shards
        self.buffers = {
            shard: RowBuffer(
                partial(self._prepare, shard), rows, config.buffer, config.reuse, hash_seed(config.seed, shard)
            )
            for shard in self.shards
        }
        self.step = 0
        if state is not None:
            self._restore(state)
        self.objective, self.optimizer = self.runtime.prepare(objective, self.optimizer)
        self.average.to(self.runtime.device)

    def _cuts_to_fit(self) -> list[Cut]:
        """Without images, at which no normalisation looks."""
        sampler = self.sampler
        if isinstance(sampler, WindowSampler):
            told = tuple(name for name in sampler.spec.modalities if name != "images")
            sampler = replace(sampler, spec=replace(sampler.spec, modalities=told))
        batches = range(_FIT_BATCHES, _FIT_BATCHES + math.ceil(_FIT_WINDOWS / sampler.group))
        return [cut for i in batches for cut in sampler.cuts(i, world=2**31)]

    def run(self) -> None:
        """Train up to the configured number of steps, then leave the averaged weights in the network."""
        log = StepLog(self.folder, self.step) if self.runtime.rank == 0 else None
        writer = _tensorboard(self.folder) if self.runtime.rank == 0 else None
        with ThreadPoolExecutor(1) as ahead:
            prepared = ahead.submit(self._parts, self.step)
            while self.step < self.config.steps:
                parts, index = prepared.result(), self.step
                prepared = ahead.submit(self._parts, index + 1)
                numbers = self.runtime.average(self._train(index, parts))
                if not math.isfinite(numbers["loss"]):
                    raise UserError(
                        f"training became non-finite at step {index + 1} (loss {numbers['loss']}); the state of "
                        "the last save is kept: "
                        "give a lower learning_rate (--set learning_rate=...), or look for wrong numbers in the data"
                    )
                self.step = index + 1
                numbers |= self._validate()
                if self.runtime.rank == 0:
                    self._record(numbers, log, writer)
        self._swap()
        if log is not None:
            log.close()

    def _record(self, numbers: dict[str, float], log: StepLog, writer) -> None:
        with writing(self.folder):
            log.add(self.step, numbers)
        for name, value in numbers.items() if writer is not None else ():
            writer.add_scalar(name, value, self.step)
        if self.step % self.config.save_every == 0 or self.step == self.config.steps:
            save_state(self.folder, self._state())
        if self.report is not None:
            self.report(self.step, numbers)

    def _prepare(self, shard: int, index: int) -> Batch:
        return self.bare.prepare(self.sampler.cuts(index, shard, self.config.shards))

    def _parts(self, index: int) -> list[tuple[int, Batch]]:
        """This process's rows of step `index`, by shard, one part of it for each accumulation."""
        parts = []
        for shard, buffer in self.buffers.items():
            chunks = {key: value.chunk(self.config.accumulate) for key, value in buffer.batch(index).items()}
            parts += [(shard, {key: c[i] for key, c in chunks.items()}) for i in range(self.config.accumulate)]
        return parts

    def _train(self, index: int, batches: list[tuple[int, Batch]]) -> dict[str, float]:
        self.objective.train()
        rate = learning_rate(index, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sums: dict[str, float] = {}
        generator, drawn_for = torch.Generator(self.runtime.device), -1
        for i, (shard, batch) in enumerate(batches):
            if shard != drawn_for:
                drawn_for, seed = shard, hash_seed(self.config.seed, index, shard)
                torch.manual_seed(seed)  # of dropout
                generator.manual_seed(seed)
            batch = {key: value.to(self.runtime.device, non_blocking=True) for key, value in batch.items()}
            with self.runtime.autocast():
                loss, parts = self.objective(batch, generator)
            self.runtime.backward(self.objective, loss / len(batches), last=i + 1 == len(batches))
            for name, value in {"loss": loss, **parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(batches)
        norm = self.runtime.step(self.optimizer, self.parameters, self.config.clip)
        self.optimizer.zero_grad(set_to_none=True)
        self._average_weights(index)
        return {**sums, "gradient": norm, "rate": rate}

    @torch.no_grad()
    def _average_weights(self, index: int) -> None:
        # Early on the average follows fast, or it would remember the initial weights for thousands of steps.
        decay = min(self.config.ema, (1 + index) / (10 + index))
        for kept, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
            kept.lerp_(new, 1.0 - decay)

    def _validate(self) -> dict[str, float]:
        due = self.step % self.config.validate_every == 0 or self.step == self.config.steps
        if self.validate is None or not due:
            return {}
        self._swap()
        self.network.eval()
        numbers = self.validate() if self.runtime.rank == 0 else {}
        self._swap()
        self.runtime.wait()
        return numbers

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange the network's weights and their average."""
        for kept, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
            held = kept.clone()
            kept.copy_(new)
            new.copy_(held)

    def _state(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "runtime": self.runtime.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.runtime.load_state_dict(state["runtime"])


def learning_rate(index: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine down to `final_rate` of the peak."""
    warmup = max(1, round(config.warmup * config.steps))
    if index < warmup:
        return config.learning_rate * (index + 1) / warmup
    progress = (index - warmup) / max(1, config.steps - warmup)
    low = config.final_rate
    return config.learning_rate * (low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * progress)))


def hash_seed(*parts: int) -> int:
    """A seed that tells every combination of numbers apart."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little") >> 1


def fingerprint(*parts: Any) -> str:
    """Tells runs of different settings or data apart."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _decay_groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices alone: not on biases, norms and positions."""
    shown = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in shown if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in shown if p.dim() <= 1], "weight_decay": 0.0},
    ]


def _tensorboard(folder: Path):
    """A TensorBoard writer where tensorboard is installed; log.jsonl is written in any case."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
