"""Where training runs: one device with plain torch, or many through Hugging Face accelerate (an optional extra).

Many: `accelerate launch --multi_gpu -m egohand_ros.cli.main train … --set shards=N`, or torchrun in the same way;
on CPUs torchrun (`accelerate launch --cpu` starts several processes with MPI alone, and one in silence without it).
"""

import atexit
import os
from contextlib import nullcontext

import torch
from torch import nn

from ..errors import UserError
from ..forecast.common.pretrained import choose_device

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_ACCELERATE = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


class SingleDevice:
    """One process on one device."""

    rank, world = 0, 1

    def __init__(self, device: str, precision: str):
        self.device = choose_device(device)
        if precision == "float16" and self.device.type == "cpu":
            raise UserError("precision float16 needs a GPU; use bfloat16 or float32 on a CPU")
        self._dtype = _AUTOCAST.get(precision)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "float16")

    def prepare(
        self, objective: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        return objective.to(self.device), optimizer

    def autocast(self):
        return torch.autocast(self.device.type, self._dtype) if self._dtype else nullcontext()

    def backward(self, objective: nn.Module, loss: torch.Tensor, last: bool) -> None:
        self._scaler.scale(loss).backward()

    def step(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip: float) -> float:
        """Clip and apply the gradient; its norm before clipping."""
        self._scaler.unscale_(optimizer)
        norm = float(nn.utils.clip_grad_norm_(parameters, clip))
        self._scaler.step(optimizer)
        self._scaler.update()
        return norm

    def average(self, numbers: dict[str, float]) -> dict[str, float]:
        return numbers

    def wait(self) -> None:
        """Until all processes are here."""

    def state_dict(self) -> dict:
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self._scaler.load_state_dict(state)


class ManyDevices:
    """One of several processes, each with its own device and its own part of every batch."""

    def __init__(self, device: str, precision: str):
        try:
            from accelerate import Accelerator, DistributedDataParallelKwargs
        except ImportError:
            raise UserError("training in several processes needs accelerate: pip install accelerate") from None
        # What looks at a modality that a batch lacks gets no gradient from it.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        atexit.register(_leave_group)
        self._accelerator = Accelerator(
            mixed_precision=_ACCELERATE[precision], cpu=device == "cpu", kwargs_handlers=[unused]
        )
        self.device, self.rank, self.world = (
            self._accelerator.device,
            self._accelerator.process_index,
            self._accelerator.num_processes,
        )

    def prepare(
        self, objective: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        return self._accelerator.prepare(objective, optimizer)

    def autocast(self):
        return self._accelerator.autocast()

    def backward(self, objective: nn.Module, loss: torch.Tensor, last: bool) -> None:
        with nullcontext() if last else self._accelerator.no_sync(objective):
            self._accelerator.backward(loss)

    def step(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip: float) -> float:
        norm = float(self._accelerator.clip_grad_norm_(parameters, clip))
        optimizer.step()
        return norm

    def average(self, numbers: dict[str, float]) -> dict[str, float]:
        values = torch.tensor(list(numbers.values()), device=self.device)
        return dict(zip(numbers, self._accelerator.reduce(values, "mean").tolist(), strict=True))

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    def state_dict(self) -> dict:
        return self._accelerator.scaler.state_dict() if self._accelerator.scaler else {}

    def load_state_dict(self, state: dict) -> None:
        if self._accelerator.scaler and state:
            self._accelerator.scaler.load_state_dict(state)


def make_runtime(device: str, precision: str) -> SingleDevice | ManyDevices:
    """Many where a launcher started several processes (WORLD_SIZE), otherwise single."""
    return (ManyDevices if int(os.environ.get("WORLD_SIZE", "1")) > 1 else SingleDevice)(device, precision)


def _leave_group() -> None:
    """A process that ends as a member of a group may be aborted by what its threads still wait for of others."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
