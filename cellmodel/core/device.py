"""Where models are trained: the one place in which a device is chosen."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from cellmodel.core.errors import NotAvailable
from genekb.core.messages import check_choice

if TYPE_CHECKING:
    import torch

Engine = Literal["local", "ddp", "ray"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Compute:
    """Where and by how many processes a model is trained; nothing of it changes a result by more than rounding."""

    device: str = "cpu"  # auto (the GPU if there is one), cpu, cuda or cuda:N; only the CPU gives the same bits again
    engine: Engine = "local"  # this process; ddp: several on this machine, ray: several on a Ray cluster
    n_workers: int = 1  # processes that share the batch of each step; 1 with ``local``

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda") and not self.device.removeprefix("cuda:").isdecimal():
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {self.device!r}")
        check_choice("engine", self.engine, get_args(Engine))
        if self.n_workers < 1:
            raise ValueError(f"n_workers must be >= 1, got {self.n_workers}")
        if self.engine == "local" and self.n_workers > 1:
            raise ValueError(f"engine 'local' is one process, {self.n_workers} workers were asked for; use ddp or ray")
        if self.engine != "local" and self.device != "cpu":
            raise ValueError(
                f"engine {self.engine!r} trains on the CPU, device {self.device!r} was asked for; use engine 'local' "
                "for a GPU"
            )


def find_device(name: str) -> "torch.device":
    """Device by name; ``auto`` is the GPU if there is one; ``NotAvailable`` if it is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NotAvailable(f"device {name!r} is not there ({torch.cuda.device_count()} GPUs found); use --device cpu")
    return device


def bfloat16_products(device: "torch.device") -> AbstractContextManager[object]:
    """Take matrix products in bfloat16 inside the block on a GPU that has it; nothing changes on a CPU.

    Only a model's forward pass belongs in here: losses are taken in float32.
    """
    import torch

    if device.type != "cuda" or not torch.cuda.is_bf16_supported():
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def describe(compute: Compute) -> dict[str, str | int]:
    """Say where a run was trained, for its record."""
    device = "cpu" if compute.device == "cpu" else str(find_device(compute.device))  # PyTorch is not loaded to say so
    return {"device": device, "engine": compute.engine, "n_workers": compute.n_workers}
