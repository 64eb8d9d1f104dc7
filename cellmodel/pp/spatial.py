"""Coordinates of cells: who lies beside whom, and which genes follow the tissue."""

from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.arrays import CellByGene, CellGraph, Embedding
from cellmodel.pp.neighbors import without_self

_BLOCK: Final = 2_000  # cells whose neighbors are summed at once: bounds memory


def spatial_graph(coordinates: Float[np.ndarray, "cell axis"], *, n_neighbors: int) -> CellGraph:
    """Link every cell with its nearest others by coordinates, and with those that it is nearest to: ones, symmetric."""
    chosen = nearest_by_coordinates(coordinates, n_neighbors=n_neighbors)
    n_cells, width = chosen.shape
    starts = np.arange(0, n_cells * width + 1, width) if width else np.zeros(n_cells + 1, dtype=np.int64)
    links = sp.csr_matrix((np.ones(chosen.size), chosen.ravel(), starts), shape=(n_cells, n_cells))
    return links.maximum(links.T).tocsr()


def nearest_by_coordinates(
    coordinates: Float[np.ndarray, "cell axis"], *, n_neighbors: int
) -> Int[np.ndarray, "cell neighbor"]:
    """Find the nearest other cells by coordinates, nearest first; exact, by a k-d tree.

    Which of equally near ones are found depends on where they lie, not on the order of the cells.
    """
    from scipy.spatial import KDTree

    n_cells = len(coordinates)
    wanted = range(1, min(n_neighbors + 1, n_cells) + 1)
    order = np.lexsort(coordinates.T)
    found = np.empty((n_cells, len(wanted) - 1), dtype=np.int64)
    distances, neighbors = KDTree(coordinates[order]).query(coordinates[order], k=list(wanted))
    found[order] = order[without_self(distances, neighbors.astype(np.int64))[1]]
    return found


def morans_i(expression: CellByGene, graph: CellGraph) -> Float[np.ndarray, " gene"]:
    r"""Moran's I of each gene :cite:`moran1950notes`: how alike a cell and its neighbors are in it.

    .. math:: I_g = \frac{\sum_i (x_{ig} - \bar x_g)(\bar x_{N(i)g} - \bar x_g)}{\sum_i (x_{ig} - \bar x_g)^2}

    ``expression``: (cell, gene) log-normalized; read block by block. ``graph``: neighbors of each cell by coordinates,
    which weigh the same. Returns values of about -1 to 1, near 0 for a gene that does not follow the tissue, and 0 for
    one that does not vary.
    """
    n_cells, n_genes = expression.shape
    weights = sp.csr_matrix(graph.multiply(1 / np.maximum(graph.sum(axis=1), 1)))
    totals = np.zeros((4, n_genes))
    for start in range(0, n_cells, _BLOCK):
        own = sp.csr_matrix(expression[start : start + _BLOCK], dtype=np.float64)
        lag = weights[start : start + _BLOCK] @ expression
        totals += [np.asarray(each.sum(axis=0)).ravel() for each in (own, own.power(2), lag, own.multiply(lag))]
    sums, squares, lags, products = totals
    mean = sums / n_cells
    scatter = squares - n_cells * mean**2
    return np.divide(products - mean * lags, scatter, out=np.zeros(n_genes), where=scatter > 1e-9 * squares)


def likeness(features: Embedding, graph: CellGraph) -> float:
    """How alike cells and their neighbors are in all features: the mean of Moran's I, by variance; 0 where negative.

    With features that are averaged over cells of like expression, which takes the noise out: near 0 where cell types
    are mixed cell by cell, near 1 where they lie in regions.
    """
    variance = features.var(axis=0, dtype=np.float64)
    found = morans_i(sp.csr_matrix(features), graph)
    return max(float(found @ variance / max(variance.sum(), np.finfo(np.float64).tiny)), 0.0)
