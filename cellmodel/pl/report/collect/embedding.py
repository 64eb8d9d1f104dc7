"""A map of cells: their graph laid out in the plane, with gradients written out, so that no PyTorch is needed."""

from typing import Final

import numpy as np
from jaxtyping import Float, Int

from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellGraph, Embedding
from cellmodel.core.errors import TrainingDiverged
from cellmodel.nn.train import AdamW, TrainConfig, batches

N_NEGATIVES: Final = 10
N_STEPS, BATCH_SIZE, LEARNING_RATE = 500, 16_384, 0.1

Plane = Float[np.ndarray, "axis cell"]
Ends = Int[np.ndarray, " edge"]


def neighbor_embedding(features: Embedding, graph: CellGraph, *, seed: int, n_steps: int = N_STEPS) -> Embedding:
    r"""Lay cells out in the plane by contrastive neighbor embedding :cite:`damrich2023tsne` (InfoNC-t-SNE, eq. 12).

    .. math:: -\log\frac{q_{ij}}{q_{ij} + \sum_k q_{ik}}, \quad q_{ij} = (1 + \lVert y_i - y_j\rVert^2)^{-1}

    for neighbors *i*, *j* and randomly drawn *k*; started from the first two columns of the features, by Adam. Returns
    (cell, 2) float32. Distances between far groups mean nothing.
    """
    start = np.zeros((len(features), 2))
    start[:, : min(2, features.shape[1])] = features[:, :2]
    start = start / max(float(start.std(axis=0).max()), 1e-12)
    edges = graph.tocoo()
    if edges.nnz < 2:  # noqa: PLR2004 - a contrast needs two edges
        return start.astype(np.float32)
    plane = np.ascontiguousarray(start.T, dtype=np.float32)
    optimizer = AdamW({"plane": plane}, LEARNING_RATE)
    config = TrainConfig(n_steps=n_steps, batch_size=BATCH_SIZE)
    for rows, _ in batches(edges.nnz, config, seeding.generator(seed, "layout")):
        optimizer.step({"plane": neighbor_gradient(plane, edges.row[rows], edges.col[rows])})
    if not np.isfinite(plane).all():
        raise TrainingDiverged("the layout of the cells is not finite; check the input for extreme values")
    return np.ascontiguousarray(plane.T)


def neighbor_gradient(plane: Plane, cell: Ends, near: Ends) -> Plane:
    """Gradient of the mean loss of some edges: each is contrasted with the ends of the edges before it in the batch."""
    n_edges = len(cell)
    at_cell, at_near = plane[:, cell], plane[:, near]  # (axis, edge)
    rolled = np.take(at_near, np.arange(-N_NEGATIVES, n_edges), axis=1, mode="wrap")
    ends = np.lib.stride_tricks.sliding_window_view(rolled, n_edges, axis=1)[:, ::-1]  # (axis, 1 + negative, edge)
    offset = ends - at_cell[:, None]
    nearness = 1 / (1 + np.square(offset).sum(axis=0))  # (1 + negative, edge)
    pull = nearness / nearness.sum(axis=0)
    pull[0] -= 1
    pull *= nearness * np.float32(-2 / n_edges)
    offset *= pull
    of_near = offset[:, 0].astype(np.float64)
    for shift in range(1, N_NEGATIVES + 1):
        of_near += np.roll(offset[:, shift], -shift, axis=1)
    of_cell = -offset.sum(axis=1)
    n_cells = plane.shape[1]
    sums = [
        np.bincount(cell, a, n_cells) + np.bincount(near, b, n_cells) for a, b in zip(of_cell, of_near, strict=True)
    ]
    return np.array(sums, dtype=np.float32)
