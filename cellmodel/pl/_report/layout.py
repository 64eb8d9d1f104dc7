"""A picture of the cells: two coordinates for each, for looking at and for nothing else."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellGraph, Embedding
from cellmodel.nn.train import Batch, TrainConfig, fit

N_NEGATIVES: Final = 10
TRAINING: Final = TrainConfig(n_steps=500, batch_size=16_384, learning_rate=0.1, weight_decay=0.0)


class _Plane(nn.Module):
    """Coordinates as parameters."""

    def __init__(self, start: Embedding) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.from_numpy(start.astype(np.float32)))

    def forward(self, cells: Tensor) -> Tensor:
        return self.position[cells]


def lay_out(features: Embedding, graph: CellGraph, *, seed: int) -> Embedding:
    r"""Lay cells out in the plane by contrastive neighbor embedding :cite:`damrich2023tsne` (InfoNC-t-SNE, eq. 12).

    .. math:: -\log\frac{q_{ij}}{q_{ij} + \sum_k q_{ik}}, \quad q_{ij} = (1 + \lVert y_i - y_j\rVert^2)^{-1}

    for neighbors *i*, *j* and randomly drawn *k*; started from the first two columns of the features. Returns (cell, 2)
    float32. Distances between far groups mean nothing.
    """
    start = np.zeros((len(features), 2))
    start[:, : min(2, features.shape[1])] = features[:, :2]
    start = start / max(float(start.std(axis=0).max()), 1e-12)
    edges = graph.tocoo()
    if edges.nnz < 2:  # noqa: PLR2004 - a contrast needs two edges
        return start.astype(np.float32)
    views = {"cell": torch.from_numpy(edges.row.astype(np.int64)), "near": torch.from_numpy(edges.col.astype(np.int64))}
    with seeding.scope(seed):
        plane = _Plane(start)
        fit(plane, _neighbour_loss, views=views, config=TRAINING, rng=seeding.generator(seed, "layout"))
    return plane.position.detach().numpy().copy()


def _neighbour_loss(plane: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
    """Contrast each edge with the ends of other edges of the batch, which is in random order."""
    cell, near = plane(batch["cell"]), plane(batch["near"])
    others = torch.stack([near.roll(shift, dims=0) for shift in range(1, N_NEGATIVES + 1)], dim=1)
    ends = torch.cat([near.unsqueeze(1), others], dim=1)  # (edge, 1 + negative, 2)
    logits = -torch.log1p((ends - cell.unsqueeze(1)).square().sum(dim=2))
    return {"neighbours": F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))}
