"""Nearest rows by cosine and the likeness of two sets of vectors, in blocks: nothing of (gene, gene) is ever held."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Float32, Int

BLOCK: Final = 1 << 23  # cosines held at once; 32 MiB


def nearest_rows(vectors: Float32[np.ndarray, "gene dim"], *, n_neighbors: int) -> Int[np.ndarray, "gene neighbor"]:
    """Find the rows with the largest cosine to each row, the row itself not counted, in no order.

    Raises ``ValueError`` if there are not more rows than neighbours.
    """
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
    """Mean share of the neighbours of a gene that two encoders have in common, in [0, 1]."""
    n_genes, n_neighbors = first.shape
    both = np.sort(np.hstack([first, second]), axis=1)
    return float((both[:, 1:] == both[:, :-1]).sum() / (n_genes * n_neighbors))


def linear_cka(first: Float32[np.ndarray, "gene dim"], second: Float32[np.ndarray, "gene dim2"]) -> float:
    r"""Linear centred kernel alignment of two sets of vectors of the same genes :cite:`kornblith2019cka` (eq. 3).

    .. math:: \frac{\|Y^\top X\|_F^2}{\|X^\top X\|_F \, \|Y^\top Y\|_F}

    Returns 0 where nothing agrees to 1 where they differ by a rotation and a scale; NaN if all vectors of one are
    equal.
    """
    cross = _cross_products(first, second)
    own = np.linalg.norm(_cross_products(first, first)) * np.linalg.norm(_cross_products(second, second))
    return float(np.linalg.norm(cross) ** 2 / own) if own > 0 else float("nan")


def _cross_products(
    first: Float32[np.ndarray, "gene dim"], second: Float32[np.ndarray, "gene dim2"]
) -> Float32[np.ndarray, "dim dim2"]:
    """Centre the columns and multiply, in double precision."""
    means = first.mean(axis=0, dtype=np.float64), second.mean(axis=0, dtype=np.float64)
    total = np.zeros((first.shape[1], second.shape[1]))
    for block in blocks(len(first), width=max(total.shape)):
        total += (first[block] - means[0]).T @ (second[block] - means[1])
    return total


def blocks(n_rows: int, *, width: int) -> Iterator[slice]:
    """Cut rows into runs of which ``width`` values each can be held at once."""
    step = max(1, BLOCK // max(width, 1))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))
