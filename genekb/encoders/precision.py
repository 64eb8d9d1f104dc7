"""Decide by measurement whether a model is better run in bfloat16 on this machine."""

import copy
import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

MIN_SPEEDUP = 1.3  # far from both what hardware without bfloat16 shows (< 1) and what hardware with it shows (> 2)
_REPEATS = 3


def bfloat16_pays(model: "torch.nn.Module", *, ids: list[list[int]]) -> bool:
    """Whether bfloat16 is at least `MIN_SPEEDUP` times as fast as float32 on one batch.

    Hardware without bfloat16 instructions is not measured: there the answer is no.

    Parameters
    ----------
    model
        In float32, on its device; it is left as it is.
    ids
        Token numbers of the batch, all texts equally long.
    """
    import torch

    device = next(model.parameters()).device
    if not _has_bfloat16(device):
        return False
    twin = to_bfloat16(copy.deepcopy(model))
    batch = torch.tensor(ids, device=device)  # (text, token)
    seconds: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(1 + _REPEATS):  # alternating, so that a busy moment hits both; the first round warms up
        seconds["float32"].append(_seconds(model, batch=batch))
        seconds["bfloat16"].append(_seconds(twin, batch=batch))
    speedup = min(seconds["float32"][1:]) / min(seconds["bfloat16"][1:])
    logger.info("bfloat16 is %.1f times as fast as float32, %.1f are needed", speedup, MIN_SPEEDUP)
    return speedup >= MIN_SPEEDUP


def to_bfloat16(model: "torch.nn.Module") -> "torch.nn.Module":
    """Convert the parameters in place and return the model; buffers, such as rotary frequencies, stay precise."""
    import torch

    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    return model


def _has_bfloat16(device: "torch.device") -> bool:
    """Whether the hardware computes in bfloat16; no if PyTorch does not tell."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    tell = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private, so it may go
    return bool(tell()) if tell else False


def _seconds(model: "torch.nn.Module", *, batch: "torch.Tensor") -> float:
    """Time of one forward pass."""
    import torch

    start = time.perf_counter()
    with torch.inference_mode():
        model(input_ids=batch, attention_mask=torch.ones_like(batch))
    if batch.device.type == "cuda":
        torch.cuda.synchronize(batch.device)
    return time.perf_counter() - start
