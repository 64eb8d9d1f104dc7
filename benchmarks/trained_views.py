"""Two ideas of the literature as representations of cells, small: no recipes, as neither added to the clusters.

``masked``: half of a cell's values are hidden, and restored; with neighbours, the input is a random mixture of the cell
with one of its nearest cells, and that cell is restored. ``split``: the counts of a cell are split in two halves at
random (binomial thinning), which are independent given the cell's expression; the halves of a cell are nearer to each
other than to those of other cells. Both read 1,000 highly variable genes, in 600 steps of 256 cells.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from cellmodel.core import random as seeding
from cellmodel.core.arrays import Embedding
from cellmodel.nn.losses import info_nce
from cellmodel.nn.modules import dense_layers
from cellmodel.nn.train import Batch, TrainConfig, fit
from cellmodel.pp.normalize import highly_variable
from cellmodel.recipes.base import CellViews
from cellmodel.recipes.rivals.genes import ScaledGenes

N_GENES, DIMS = 1_000, (128, 32)
HIDDEN, HIDDEN_WEIGHT = 0.5, 0.75  # share of the values; weight of their errors, the rest that of the others
TEMPERATURE = 0.1
TRAINING: Final = TrainConfig(n_steps=600, batch_size=256)
make_encoder = partial(dense_layers, activation=nn.GELU, norm=nn.LayerNorm)


def masked(views: CellViews, seed: int, *, neighbours: bool) -> Embedding:
    """Restore hidden values, of a neighbour of the cell where neighbours are used."""
    genes = ScaledGenes.of(views.expression, n_top=N_GENES)
    values = torch.from_numpy(genes[np.arange(len(genes))].astype(np.float32))
    nearest = torch.from_numpy(views.knn.indices.reshape(len(values), -1).astype(np.int64))

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        target, share = batch["genes"], torch.zeros(())
        if neighbours:
            drawn = torch.randint(nearest.shape[1], (len(target),))
            target, share = values[nearest[batch["cell"], drawn]], torch.rand(len(target), 1)
        mixed = share * batch["genes"] + (1 - share) * target
        is_hidden = torch.rand(mixed.shape) < HIDDEN
        error = (model(mixed.masked_fill(is_hidden, 0.0)) - target).square()
        return {"masked": (error * torch.where(is_hidden, HIDDEN_WEIGHT, 1 - HIDDEN_WEIGHT)).mean()}

    def make() -> nn.Sequential:
        return nn.Sequential(make_encoder((values.shape[1], *DIMS)), nn.Linear(DIMS[-1], values.shape[1]))

    return _trained(make, loss, {"genes": values, "cell": torch.arange(len(values))}, values, seed)


def split(views: CellViews, seed: int) -> Embedding:
    """Contrast the halves of each cell's counts; all of them are embedded. Needs counts."""
    if views.counts is None:
        raise ValueError("there are no counts to split")
    kept = highly_variable(views.expression, n_top=N_GENES)
    counts = torch.from_numpy(views.counts[:, kept].toarray().astype(np.float32))
    depth = torch.from_numpy(np.asarray(views.depth, dtype=np.float32))[:, None]
    logs = torch.log1p(counts / depth * 1e4)
    mean, scale = logs.mean(dim=0), logs.std(dim=0, unbiased=False).clamp(min=1e-6)

    def scaled(some: Tensor, of: Tensor) -> Tensor:
        return ((torch.log1p(some / of * 1e4) - mean) / scale).clamp(max=10.0)

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        half, of = torch.binomial(batch["counts"], torch.full_like(batch["counts"], 0.5)), batch["depth"] / 2
        one, other = model(scaled(half, of)), model(scaled(batch["counts"] - half, of))
        return {"contrast": info_nce(one, other, temperature=TEMPERATURE)}

    def make() -> nn.Sequential:
        return nn.Sequential(make_encoder((counts.shape[1], *DIMS)), nn.Sequential(nn.GELU(), nn.Linear(DIMS[-1], 32)))

    return _trained(make, loss, {"counts": counts, "depth": depth}, scaled(counts, depth), seed)


def _trained(
    make: Callable[[], nn.Sequential],
    loss: Callable[[nn.Module, Batch], dict[str, Tensor]],
    cells: dict[str, Tensor],
    values: Tensor,
    seed: int,
) -> Embedding:
    """Train a model whose first part is the encoder, and embed values by it."""
    with seeding.scope(seed):
        model = make()
        fit(model, loss, views=cells, config=TRAINING, rng=seeding.generator(seed, "batches"))
    with torch.no_grad():
        return np.asarray(model[0](values).numpy())


SPACES: Mapping[str, Callable[[CellViews, int], Embedding]] = {
    "masked": partial(masked, neighbours=False),
    "masked, neighbours": partial(masked, neighbours=True),
    "count splitting": split,
}
