"""Where models are trained: the one place in which a device is chosen."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from cellmodel.core.errors import NotAvailable

if TYPE_CHECKING:
    import torch


def check_device(name: str) -> str:
    """Take the name of a device: auto (the GPU if there is one), cpu, cuda or cuda:N; only a CPU repeats to the bit."""
    if name not in ("auto", "cpu", "cuda") and not name.removeprefix("cuda:").isdecimal():
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    return name


def find_device(name: str) -> "torch.device":
    """Device by name; ``auto`` is the GPU if there is one; ``NotAvailable`` if it is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NotAvailable(f'device {name!r} is not there ({torch.cuda.device_count()} GPUs found); use device="cpu"')
    return device


def bfloat16_products(device: "torch.device") -> AbstractContextManager[object]:
    """Take matrix products in bfloat16 inside the block on a GPU that has it; nothing changes on a CPU.

    Only a model's forward pass belongs in here: losses are taken in float32.
    """
    import torch

    if device.type != "cuda" or not torch.cuda.is_bf16_supported():
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def device_used(name: str) -> str:
    """Device that a name maps to, for the record of a run; PyTorch is not loaded to say that it is the CPU."""
    return "cpu" if name == "cpu" else str(find_device(name))
