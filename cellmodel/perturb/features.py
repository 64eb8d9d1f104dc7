"""What known pairs of perturbation and gene say of pairs that are asked for: kernels of texts, means, regressions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.arrays import unit_rows

Matrix = Float[np.ndarray, "row column"]
MIN_TRAINED: Final = 20  # perturbations: fewer cannot be divided into groups that say anything
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


def dot(dense: Matrix, sparse: sp.csr_matrix) -> Matrix:
    """Product of a dense and a sparse matrix."""
    return np.asarray((sparse.T @ dense.T).T)


def joint_regression(
    values: sp.csr_matrix, kernel: Matrix, across: Matrix, factor: Matrix, *, offset: float, noise: float
) -> tuple[Matrix, Matrix, Matrix]:
    """Regress responses on products of kernels, and give the parts one-sided, two-sided and main of new perturbations.

    A Gaussian process solved by conjugate gradients. ``values``: (perturbation, gene), what is stored is known, zeros
    too. ``kernel``, ``across``: of the perturbations, and of the new ones with these. Products of kernels are those of
    :cite:`bonilla2007multitask`; nothing of the size of all pairs squared is made. Variances: one half each for like
    perturbations with the same gene, and with like genes; ``offset`` for each offset: of a gene, of like genes, of a
    perturbation, of like perturbations; ``noise``.
    """
    weights = values.astype(np.float32).tocsr()
    rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    columns = weights.indices

    def covariance(dual: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
        held = sp.csr_matrix((dual, columns, weights.indptr), shape=weights.shape)
        of_rows, of_genes = np.asarray(held.sum(axis=1)).ravel(), np.asarray(held.sum(axis=0)).ravel()
        both = 0.5 * ((kernel @ (held @ factor)) @ factor.T + dot(kernel, held))
        of_gene = offset * (of_genes + factor @ (factor.T @ of_genes))
        of_row = offset * (kernel @ of_rows + of_rows)
        return np.asarray(both[rows, columns] + of_gene[columns] + of_row[rows] + noise * dual)

    weights.data = conjugate_gradients(covariance, weights.data - weights.data.mean(dtype=np.float64))
    one = 0.5 * dot(across, weights)
    two = 0.5 * (across @ (weights @ factor)) @ factor.T
    main = offset * across @ np.asarray(weights.sum(axis=1))
    return one, two, np.broadcast_to(main, one.shape)


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


FEATURES: Final = (*("one_sided", "main", "similarity", "learned", "joint_one_sided", "joint_two_sided", "joint_main"),)
_BLOCK: Final = 1_024

Pairs = Int[np.ndarray, " pair"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Known:
    """Pairs with a label or a measured effect, by the rows of their perturbation and their gene."""

    rows: Pairs  # of the perturbation among all vectors of perturbations
    columns: Pairs  # of the gene among all vectors of genes
    values: Float[np.ndarray, " pair"]

    def take(self, kept: np.ndarray) -> "Known":
        """Keep some pairs, in the order given."""
        return Known(rows=self.rows[kept], columns=self.columns[kept], values=self.values[kept])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Vectors:
    """Text vectors of all perturbed genes and of all genes that may respond; zero where there is none."""

    perturbations: Matrix
    genes: Matrix


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What features are made with; chosen for each table among :data:`GRID`, from its middle."""

    temperature: float = 0.2  # of the kernels of perturbations
    gene_temperature: float = 0.2
    offset: float = 0.3  # variance of each offset, in units of what pairs share with like pairs
    noise: float = 1.0  # variance, in the same units


GRID: Final = {
    "temperature": (0.1, 0.2, 0.4),
    "gene_temperature": (0.1, 0.2, 0.4),
    "offset": (0.1, 0.3, 1.0),
    "noise": (0.3, 1.0, 3.0),
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Trained:
    """Known responses as matrices (trained perturbation, gene)."""

    perturbations: Pairs  # their rows, sorted
    residual: sp.csr_matrix  # response less the mean of the gene
    measured: sp.csr_matrix  # ones
    response: sp.csr_matrix  # as it is, zeros stored


def _trained(known: Known, n_genes: int) -> _Trained:
    trained, rows = np.unique(known.rows, return_inverse=True)
    order = np.lexsort((known.columns, rows))
    columns, values = known.columns[order], known.values[order]
    counts = np.bincount(columns, minlength=n_genes)
    means = np.bincount(columns, values, n_genes) / np.maximum(counts, 1)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(trained)))])
    residual, measured, response = (
        sp.csr_matrix((data.astype(np.float32), columns, starts), shape=(len(trained), n_genes))
        for data in (values - means[columns], np.ones(len(values)), values)
    )
    return _Trained(perturbations=trained, residual=residual, measured=measured, response=response)


def pair_features(
    known: Known, rows: Pairs, columns: Pairs, vectors: Vectors, *, settings: Settings
) -> Float[np.ndarray, "pair feature"]:
    """Features of pairs by what is known of other perturbations; (pair, :data:`FEATURES`).

    Weighted means are those of
    :cite:`nadaraya1964regression`, shrunken to nothing as by one unrelated perturbation; cosines are of vectors less
    their mean over trained ones.
    """
    trained = _trained(known, len(vectors.genes))
    asked, places = np.unique(rows, return_inverse=True)
    center = vectors.perturbations[trained.perturbations].mean(axis=0)
    near = centered(vectors.perturbations[trained.perturbations], center)
    new = centered(vectors.perturbations[asked], center)
    genes = centered(vectors.genes, vectors.genes[np.unique(known.columns)].mean(axis=0))
    cosines, heat = new @ near.T, settings.temperature
    inside, across = (nearness(one, near, temperature=heat) for one in (near, new))
    weights = np.exp(cosines / heat)
    learned = _learned_cosines(inside, across, _like_genes(trained.residual, genes, settings), noise=settings.noise)
    factor = gene_factor(genes, temperature=settings.gene_temperature)
    total, count = (np.asarray(each.sum(axis=1)).ravel() for each in (trained.residual, trained.measured))
    parts = (
        _one_sided(weights, trained),
        ((weights @ total) / (weights @ count + 1.0))[:, None],  # mean of residuals of all genes
        new @ centered(vectors.genes, center).T,
        _one_sided(np.exp((learned + cosines) / (2 * heat)), trained),
        *joint_regression(trained.response, inside, across, factor, offset=settings.offset, noise=settings.noise),
    )
    shape = (len(asked), len(genes))
    return np.stack([np.broadcast_to(part, shape)[places, columns] for part in parts], axis=1).astype(np.float64)


def _one_sided(weights: Matrix, trained: _Trained) -> Matrix:
    """Means of residuals of the gene itself over like perturbations."""
    return dot(weights, trained.residual) / (dot(weights, trained.measured) + 1.0)


def _like_genes(values: sp.csr_matrix, genes: Matrix, settings: Settings) -> Matrix:
    """Sum values over genes, weighted by how near they are to each gene; in blocks of genes."""
    found = np.empty(values.shape, dtype=np.float32)
    for start in range(0, len(genes), _BLOCK):
        block = slice(start, start + _BLOCK)
        found[:, block] = values @ nearness(genes, genes[block], temperature=settings.gene_temperature)
    return found


def _learned_cosines(inside: Matrix, across: Matrix, responses: Matrix, *, noise: float) -> Matrix:
    """Cosines of responses as kernel ridge regression predicts them from text; of trained ones, each left out."""
    targets = unit_rows(responses).astype(np.float64)
    inverse = np.linalg.inv(inside.astype(np.float64) + noise * np.eye(len(inside)))
    dual = inverse @ targets
    left_out = targets - dual / np.diag(inverse)[:, None]
    return np.asarray(unit_rows(across @ dual) @ unit_rows(left_out).T, dtype=np.float32)
