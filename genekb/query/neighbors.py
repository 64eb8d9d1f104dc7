"""Nearest rows by cosine and similarity of two sets of vectors, in blocks, never as a whole (gene, gene) matrix."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Float32, Int

BLOCK: Final = 1 << 23  # cosines held at once; 32 MiB


def nearest_rows(vectors: Float32[np.ndarray, "gene dim"], *, n_neighbors: int) -> Int[np.ndarray, "gene neighbor"]:
    """Find the rows with the largest cosine to each row, without the row itself, unordered."""
    n_rows = len(vectors)
    if not 1 <= n_neighbors < n_rows:
        raise ValueError(f"n_neighbors must be >= 1 and < {n_rows}, the number of genes, got {n_neighbors}")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    found = np.empty((n_rows, n_neighbors), dtype=np.int64)
    for block in blocks(n_rows, width=n_rows):
        cosines = unit[block] @ unit.T  # (block, gene)
        rows = np.arange(block.start, block.stop)
        cosines[rows - block.start, rows] = -np.inf
        found[block] = np.argpartition(cosines, -n_neighbors, axis=1)[:, -n_neighbors:]
    return found


def neighbor_overlap(first: Int[np.ndarray, "gene neighbor"], second: Int[np.ndarray, "gene neighbor"]) -> float:
    """Mean fraction of a gene's neighbours that two encoders share, in [0, 1]."""
    n_genes, n_neighbors = first.shape
    both = np.sort(np.hstack([first, second]), axis=1)
    return float((both[:, 1:] == both[:, :-1]).sum() / (n_genes * n_neighbors))


def linear_cka(first: Float32[np.ndarray, "gene dim"], second: Float32[np.ndarray, "gene dim2"]) -> float:
    r"""Linear centred kernel alignment of two sets of vectors of the same genes :cite:`kornblith2019cka` (eq. 3).

    .. math:: \frac{\|Y^\top X\|_F^2}{\|X^\top X\|_F \, \|Y^\top Y\|_F}

    0: nothing agrees; 1: equal but for rotation and scale; NaN if all vectors of one are equal.
    """
    cross = _cross_products(first, second)
    own = np.linalg.norm(_cross_products(first, first)) * np.linalg.norm(_cross_products(second, second))
    return float(np.linalg.norm(cross) ** 2 / own) if own > 0 else float("nan")


def _cross_products(
    first: Float32[np.ndarray, "gene dim"], second: Float32[np.ndarray, "gene dim2"]
) -> Float32[np.ndarray, "dim dim2"]:
    """Product of the centred columns, in double precision."""
    means = first.mean(axis=0, dtype=np.float64), second.mean(axis=0, dtype=np.float64)
    total = np.zeros((first.shape[1], second.shape[1]))
    for block in blocks(len(first), width=max(total.shape)):
        total += (first[block] - means[0]).T @ (second[block] - means[1])
    return total


def blocks(n_rows: int, *, width: int) -> Iterator[slice]:
    """Split rows into blocks of at most :data:`BLOCK` values, ``width`` a row."""
    step = max(1, BLOCK // max(width, 1))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))
