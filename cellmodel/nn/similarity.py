"""Similarity of cells after each layer of a model: where all become alike, messages have smoothed too far."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_OF_GENES = "genes"  # part of a model whose layers pass messages between genes, not cells


def mean_cosine(z: Float[Tensor, "cell dim"]) -> float:
    """Mean cosine of all pairs of different cells, by the sum of unit rows; NaN for fewer than two cells.

    1 where all cells point in one direction; near 0 for centered features.
    """
    units = F.normalize(z.double(), dim=1)
    total, n_cells = units.sum(dim=0), len(z)
    with_self = float(total @ total) - float(units.square().sum())
    return with_self / (n_cells * (n_cells - 1)) if n_cells > 1 else float("nan")


@contextmanager
def layer_similarities(n_cells: int) -> Iterator[dict[str, float]]:
    """Fill a dictionary with the mean cosine between cells after each layer that passes messages between them.

    The recipe runs inside the block and need not know: layers are those of PyTorch Geometric, named by the model that
    holds them, in the order of the pass; what counts is the last pass over all cells without gradients, which gives the
    embedding. The dictionary is filled when the block ends, and stays empty for recipes without such layers.
    """
    found: dict[str, float] = {}
    last: dict[nn.Module, float] = {}
    called: dict[nn.Module, None] = {}

    def after(module: nn.Module, _: Any, output: Any) -> None:
        called[module] = None
        passes_messages = any(kind.__name__ == "MessagePassing" for kind in type(module).__mro__)
        if torch.is_grad_enabled() or not passes_messages:  # of PyTorch Geometric, which is imported where it is used
            return
        if output.ndim == 2 and len(output) == n_cells:  # noqa: PLR2004 - a matrix
            last[module] = mean_cosine(output)

    handle = nn.modules.module.register_module_forward_hook(after)
    try:
        yield found
    finally:
        handle.remove()
    names = _names(called)
    found |= {names[module]: value for module, value in last.items() if _OF_GENES not in names[module].split(".")}


def _names(called: dict[nn.Module, None]) -> dict[nn.Module, str]:
    """Name of each module in the largest model that holds it."""
    names: dict[nn.Module, str] = {}
    for root in called:
        for name, module in root.named_modules():
            if len(name) >= len(names.get(module, "")):
                names[module] = name
    return names
