"""Whether a model is better run in bfloat16 on this machine: told by its hardware, so that every run says the same."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def has_bfloat16(device: "torch.device") -> bool:
    """Whether the hardware has instructions for bfloat16; no if PyTorch does not tell.

    With them an encoder was measured at two to three times the speed of float32 at cosine 0.9999, without them below
    it (``benchmarks/bench_encode.py``).
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    tell = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private, so it may go
    return bool(tell()) if tell else False


def to_bfloat16(model: "torch.nn.Module") -> "torch.nn.Module":
    """Convert the parameters in place and return the model; buffers, such as rotary frequencies, stay precise."""
    import torch

    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    return model
