"""Other views of the same cells: noise on the features, edges dropped, the graph diffused. Nothing is dense."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from cellmodel.types import CellGraph, Embedding


def feature_noise(features: Embedding, *, deviation: float, rng: np.random.Generator) -> Embedding:
    """Multiply every value by a draw from N(1, deviation²).

    Raises
    ------
    ValueError
        If ``deviation`` is negative.
    """
    if deviation < 0:
        raise ValueError(f"deviation must be >= 0, got {deviation}")
    return (features * (1 + deviation * rng.standard_normal(features.shape))).astype(features.dtype)


def drop_edges(graph: CellGraph, embedding: Embedding, *, share: float) -> CellGraph:
    """Drop a share of the edges that exist, those between the least similar cells first.

    Parameters
    ----------
    graph
        Symmetric weights, zero diagonal.
    embedding
        One row a cell; the cosine of the rows is the similarity. Ties go by the order of the cells.
    share
        0 to below 1, of the undirected edges, rounded down.

    Returns
    -------
    A symmetric graph with the weights of the edges that are left.

    Raises
    ------
    ValueError
        If ``share`` is out of range.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must lie in [0, 1), got {share}")
    upper = sp.triu(graph, k=1, format="coo")
    lengths = np.maximum(np.linalg.norm(embedding, axis=1), np.finfo(np.float64).tiny)
    dots = np.einsum("ij,ij->i", embedding[upper.row].astype(np.float64), embedding[upper.col])
    order = np.argsort(dots / (lengths[upper.row] * lengths[upper.col]), kind="stable")
    kept = np.sort(order[int(share * upper.nnz) :])
    half = sp.csr_matrix((upper.data[kept], (upper.row[kept], upper.col[kept])), shape=graph.shape)
    return (half + half.T).tocsr()


def diffuse(transition: CellGraph, *, restart: float, n_steps: int, n_kept: int) -> CellGraph:
    r"""Personalised PageRank from every cell, truncated :cite:`gasteiger2019diffusion`.

    .. math:: S_{t+1} = (1 - \alpha) S_t T + \alpha I, \quad S_0 = I

    After each step a row keeps its largest values and is scaled to sum to one, so no inverse and no dense matrix is
    ever made; published is the inverse of an n × n matrix.

    Parameters
    ----------
    transition
        T: rows sum to one.
    restart
        :math:`\alpha`, in (0, 1].
    n_steps
        Steps of the iteration; what lies further away is left out.
    n_kept
        Values a row keeps at most; of equal ones the first cells.

    Raises
    ------
    ValueError
        If a setting is out of range.
    """
    if not 0 < restart <= 1 or n_steps < 1 or n_kept < 1:
        raise ValueError(f"restart must lie in (0, 1], steps and values be >= 1; got {restart}, {n_steps}, {n_kept}")
    start = sp.identity(transition.shape[0], format="csr")
    current = start
    for _ in range(n_steps):
        current = _largest_by_row(((1 - restart) * (current @ transition) + restart * start).tocsr(), n_kept=n_kept)
    return current


def _largest_by_row(matrix: CellGraph, *, n_kept: int) -> CellGraph:
    """Keep the largest values of each row and scale them to sum to one."""
    matrix.sort_indices()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))  # rows stay together, the largest value first
    rank = np.arange(matrix.nnz) - matrix.indptr[rows]  # the same rows[order] as rows
    chosen = np.sort(order[rank < n_kept])
    kept_rows, values = rows[chosen], matrix.data[chosen]
    totals: Float[np.ndarray, " cell"] = np.bincount(kept_rows, values, minlength=matrix.shape[0])
    scaled = values / totals[kept_rows]
    return sp.csr_matrix((scaled, (kept_rows, matrix.indices[chosen])), shape=matrix.shape)
