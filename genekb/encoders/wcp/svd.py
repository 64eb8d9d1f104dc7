"""Leading singular vectors of a large sparse matrix, by subspace iteration on the side of its rows."""

from collections.abc import Sequence
from functools import reduce
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Float32

EXTRA: Final = 24  # columns beyond those that are kept, which the iteration needs to settle
ROUNDS: Final = 3
_TINY: Final = 1e-3  # of the largest singular value: a direction below it is rounding


def right_vectors(
    factors: Sequence[sp.csr_matrix], dim: int
) -> tuple[Float32[np.ndarray, "column kept"], Float[np.ndarray, " kept"]]:
    """Right singular vectors of a product that is never formed, and their values, the largest first.

    There are fewer than ``dim`` where the rank is lower; of a matrix without any value, one vector of zeros. Subspace
    iteration :cite:`halko2011randomized` needs orthogonal columns on the side of the rows alone, the shorter one.
    """
    shape = factors[0].shape[0], factors[-1].shape[1]
    if not all(factor.nnz for factor in factors):
        return np.zeros((shape[1], 1), dtype=np.float32), np.ones(1)
    n_kept = max(1, min(dim, *shape))
    n_used = min(n_kept + EXTRA, *shape)

    def transposed_times(dense: Float32[np.ndarray, "row n"]) -> Float32[np.ndarray, "column n"]:
        return reduce(lambda product, factor: factor.T @ product, factors, dense)

    start = np.random.default_rng(0).standard_normal((shape[0], n_used), dtype=np.float32)
    basis = np.linalg.qr(start)[0]
    for _ in range(ROUNDS):
        product = reduce(lambda product, factor: factor @ product, reversed(factors), transposed_times(basis))
        basis = np.linalg.qr(product)[0]
    projected = transposed_times(basis)
    turn, values = leading_directions(projected, n_kept)
    return projected @ (turn / values).astype(np.float32), values


def leading_directions(
    rows: Float32[np.ndarray, "row dim"], n: int
) -> tuple[Float[np.ndarray, "dim kept"], Float[np.ndarray, " kept"]]:
    """Right singular vectors of a dense matrix with few columns, and their values, the largest first."""
    squares, vectors = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    order = np.argsort(-squares, kind="stable")[:n]
    values = np.sqrt(np.maximum(squares[order], 0))
    kept = order[: max(1, np.count_nonzero(values > _TINY * values[0]))]
    signs = np.where(vectors[np.abs(vectors[:, kept]).argmax(axis=0), kept] < 0, -1, 1)
    return vectors[:, kept] * signs, values[: len(kept)]
