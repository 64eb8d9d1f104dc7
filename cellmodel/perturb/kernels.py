"""Kernels of text vectors, and a regression whose kernel is a product of one of perturbations and one of genes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from cellmodel.core.arrays import unit_rows

Matrix = Float[np.ndarray, "row column"]
_LANDMARKS: Final = 1_000  # genes by which a factor of the kernel of all is made
_RANK: Final = 300
_TOLERANCE: Final = 1e-2  # of the residual norm, at which conjugate gradients stop
_MOST_STEPS: Final = 25


def centered(vectors: Matrix, center: Float[np.ndarray, " dim"]) -> Matrix:
    """Vectors less a common part, scaled to length one; what has no text stays zero."""
    has_text = np.any(vectors != 0, axis=1, keepdims=True)
    return unit_rows(np.where(has_text, vectors - center, 0.0).astype(np.float32))


def nearness(one: Matrix, other: Matrix, *, temperature: float) -> Matrix:
    """``exp((cosine - 1) / temperature)`` of unit rows."""
    return np.exp((one @ other.T - 1.0) / temperature, dtype=np.float32)


def gene_factor(vectors: Matrix, *, temperature: float) -> Matrix:
    """Factor (gene, rank) whose product with itself approximates the kernel of the genes :cite:`williams2001nystrom`.

    The genes of the approximation stand at equal distances in the given order.
    """
    rows = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), _LANDMARKS)).round().astype(np.int64))
    values, axes = np.linalg.eigh(nearness(vectors[rows], vectors[rows], temperature=temperature))
    kept = np.flatnonzero(values > 1e-4 * values[-1])[-_RANK:]
    across = nearness(vectors, vectors[rows], temperature=temperature)
    return np.asarray(across @ (axes[:, kept] / np.sqrt(values[kept])), dtype=np.float32)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fitted:
    """Dual weights (perturbation, gene) of a joint regression, and what they are used with."""

    weights: sp.csr_matrix
    factor: Matrix  # of the genes
    offset: float

    def predict(self, kernel: Matrix) -> tuple[Matrix, Matrix, Matrix]:
        """Parts one-sided, two-sided and main of perturbations by genes; ``kernel``: (new, fitted) of perturbations."""
        kernel = kernel.astype(np.float32)
        one = 0.5 * dot(kernel, self.weights)
        two = 0.5 * (kernel @ (self.weights @ self.factor)) @ self.factor.T
        main = self.offset * kernel @ np.asarray(self.weights.sum(axis=1))
        return one, two, np.broadcast_to(main, one.shape)


def dot(dense: Matrix, sparse: sp.csr_matrix) -> Matrix:
    """Product of a dense and a sparse matrix."""
    return np.asarray((sparse.T @ dense.T).T)


def fit_joint(values: sp.csr_matrix, kernel: Matrix, factor: Matrix, *, offset: float, noise: float) -> Fitted:
    """Regress responses on products of kernels, a Gaussian process solved by conjugate gradients.

    ``values``: (perturbation, gene), what is stored is known, zeros too. ``kernel``: of the perturbations. Products of
    kernels are those of :cite:`bonilla2007multitask`; nothing of the size of all pairs squared is made. Variances:
    one half each for like perturbations with the same gene, and with like genes; ``offset`` for each offset: of a gene,
    of like genes, of a perturbation, of like perturbations; ``noise``.
    """
    weights = values.astype(np.float32).tocsr()
    rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    columns = weights.indices
    kernel = kernel.astype(np.float32)

    def covariance(dual: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
        held = sp.csr_matrix((dual, columns, weights.indptr), shape=weights.shape)
        of_rows, of_genes = np.asarray(held.sum(axis=1)).ravel(), np.asarray(held.sum(axis=0)).ravel()
        both = 0.5 * ((kernel @ (held @ factor)) @ factor.T + dot(kernel, held))
        of_gene = offset * (of_genes + factor @ (factor.T @ of_genes))
        of_row = offset * (kernel @ of_rows + of_rows)
        return np.asarray(both[rows, columns] + of_gene[columns] + of_row[rows] + noise * dual)

    weights.data = conjugate_gradients(covariance, weights.data - weights.data.mean(dtype=np.float64))
    return Fitted(weights=weights, factor=factor, offset=offset)


Vector = Float[np.ndarray, " pair"]


def conjugate_gradients(product: Callable[[Vector], Vector], right: Vector) -> Vector:
    """Solve a positive definite system :cite:`hestenes1952gradients`; stopped early, it is regularized the more."""
    found, left = np.zeros(len(right), dtype=np.float32), right.astype(np.float32)
    direction, size = left.copy(), float(left @ left)
    enough = _TOLERANCE**2 * size
    for _ in range(_MOST_STEPS):
        if size <= enough:
            break
        image = product(direction)
        step = size / float(direction @ image)
        found += np.float32(step) * direction
        left -= np.float32(step) * image
        size, before = float(left @ left), size
        direction = left + np.float32(size / before) * direction
    return found
