"""Weights of cells under which crowded and thin regions of expression count alike, whatever they hold."""

from typing import Final

import numpy as np
from jaxtyping import Float

from cellmodel.types import Embedding

BANDWIDTH: Final = 0.5  # in units of the median distance between cells
MAX_LANDMARKS: Final = 2000  # cells that the density is measured from: bounds time and memory
_BLOCK: Final = 4096


def even_weights(features: Embedding) -> Float[np.ndarray, " cell"]:
    r"""Weigh each cell by one over the density of cells around it.

    .. math:: w_i \propto 1 / \sum_j \exp(-\|x_i - x_j\|^2 / 2h^2)

    with *h* half the median distance. A mean under these weights does not move with the shares of the cell types, so
    that two data sets in which a type is common and rare can be centred alike without knowing the types.

    Parameters
    ----------
    features
        (cell, dim), Euclidean.

    Returns
    -------
    Weights that sum to 1, in the order of the cells; all equal where all cells are.
    """
    points = features.astype(np.float64)
    order = np.lexsort(points.T[::-1])  # by content, so that the order of the cells does not matter
    n_landmarks = min(MAX_LANDMARKS, len(points))
    landmarks = points[order[np.linspace(0, len(points) - 1, n_landmarks).round().astype(np.int64)]]
    width = BANDWIDTH**2 * float(np.median(squared_distances(landmarks, landmarks)))
    if width == 0:
        return np.full(len(points), 1.0 / len(points))
    blocks = (points[start : start + _BLOCK] for start in range(0, len(points), _BLOCK))
    density = np.concatenate(
        [np.exp(-squared_distances(block, landmarks) / (2 * width)).sum(axis=1) for block in blocks]
    )
    weights = 1.0 / np.maximum(density, np.exp(-0.5))  # a cell far from every landmark counts like one at a bandwidth
    return np.asarray(weights / weights.sum())


def squared_distances(
    cells: Float[np.ndarray, "cell dim"], points: Float[np.ndarray, "point dim"]
) -> Float[np.ndarray, "cell point"]:
    """Squared Euclidean distances between two sets of rows, never negative."""
    squared = (cells**2).sum(axis=1)[:, None] + (points**2).sum(axis=1)[None, :] - 2 * cells @ points.T
    return np.asarray(np.maximum(squared, 0.0), dtype=np.float64)
