"""A picture of the cells: two coordinates for each, for looking at and for nothing else."""

from typing import Final

import numpy as np

from cellmodel import seeding
from cellmodel.types import Embedding

MOST_CELLS: Final = 4000  # laid out directly; further cells are placed among their nearest laid-out cells
PERPLEXITY: Final = 30.0
N_NEAREST: Final = 5


def lay_out(features: Embedding, *, seed: int) -> Embedding:
    """Lay cells out in the plane by t-SNE :cite:`vandermaaten2008tsne`, started from principal components.

    Parameters
    ----------
    features
        (cell, dim).

    Returns
    -------
    (cell, 2) float32. Distances between far groups mean nothing.
    """
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    n_cells = len(features)
    if n_cells < 5:  # noqa: PLR2004 - t-SNE needs a few neighbours
        padded = np.zeros((n_cells, 2), dtype=np.float32)
        padded[:, : min(2, features.shape[1])] = features[:, :2]
        return padded
    chosen = np.arange(n_cells)
    if n_cells > MOST_CELLS:
        chosen = np.sort(seeding.generator(seed, "layout").choice(n_cells, MOST_CELLS, replace=False))
    start = features[chosen, :2].astype(np.float64)
    start = start / max(float(start[:, 0].std()), 1e-12) * 1e-4
    if start.shape[1] < 2:  # noqa: PLR2004 - a plane
        start = np.column_stack([start, np.zeros(len(start))])
    model = TSNE(
        init=start.astype(np.float32),
        perplexity=min(PERPLEXITY, (len(chosen) - 1) / 3),
        random_state=seeding.derive(seed, "t-SNE"),
        max_iter=500,
    )
    placed = model.fit_transform(features[chosen]).astype(np.float32)
    if n_cells == len(chosen):
        return placed
    distance, nearest = NearestNeighbors(n_neighbors=N_NEAREST).fit(features[chosen]).kneighbors(features)
    weight = 1.0 / np.maximum(distance, 1e-9)
    weight /= weight.sum(axis=1, keepdims=True)
    return np.asarray((placed[nearest] * weight[:, :, None]).sum(axis=1), dtype=np.float32)
