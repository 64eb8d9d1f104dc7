"""Leading singular vectors of a large sparse matrix, by subspace iteration on the side of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Float32

EXTRA: Final = 24  # columns beyond those that are kept, which the iteration needs to settle
ROUNDS: Final = 3
_TINY: Final = 1e-3  # of the largest singular value: a direction below it is rounding


@dataclass(frozen=True, slots=True)
class Product:
    """A product of sparse matrices that is never formed; its rows are texts or words, fewer than its columns."""

    factors: Sequence[sp.csr_matrix]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the product."""
        return self.factors[0].shape[0], self.factors[-1].shape[1]

    def times(self, dense: Float32[np.ndarray, "column n"]) -> Float32[np.ndarray, "row n"]:
        """Multiply from the left."""
        for factor in reversed(self.factors):
            dense = factor @ dense
        return dense

    def transposed_times(self, dense: Float32[np.ndarray, "row n"]) -> Float32[np.ndarray, "column n"]:
        """Multiply the transposed product from the left."""
        for factor in self.factors:
            dense = factor.T @ dense
        return dense


def right_vectors(matrix: Product, dim: int) -> tuple[Float32[np.ndarray, "column kept"], Float[np.ndarray, " kept"]]:
    """Right singular vectors and their values, the largest first; fewer than ``dim`` where the rank is lower.

    Subspace iteration :cite:`halko2011randomized` needs orthogonal columns on the side of the rows alone, which is the
    shorter one. Of a matrix without any value it is one vector of zeros.
    """
    if not all(factor.nnz for factor in matrix.factors):
        return np.zeros((matrix.shape[1], 1), dtype=np.float32), np.ones(1)
    n_kept = max(1, min(dim, *matrix.shape))
    n_used = min(n_kept + EXTRA, *matrix.shape)
    start = np.random.default_rng(0).standard_normal((matrix.shape[0], n_used), dtype=np.float32)
    basis = np.linalg.qr(start)[0]
    for _ in range(ROUNDS):
        basis = np.linalg.qr(matrix.times(matrix.transposed_times(basis)))[0]
    projected = matrix.transposed_times(basis)
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
