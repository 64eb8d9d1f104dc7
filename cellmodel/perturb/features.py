"""What known pairs of perturbation and gene say of pairs that are asked for: weighted means, regressions, nearness."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.arrays import unit_rows
from cellmodel.perturb.kernels import Matrix, centered, dot, fit_joint, gene_factor, nearness

FEATURES: Final = (
    *("one_sided", "main", "similarity", "learned"),
    *("joint_one_sided", "joint_two_sided", "joint_main"),
)
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

    ``rows``, ``columns``: perturbation and gene of each pair. Weighted means are those of
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
    parts = (
        _one_sided(weights, trained),
        _main(weights, trained)[:, None],
        new @ centered(vectors.genes, center).T,
        _one_sided(np.exp((learned + cosines) / (2 * heat)), trained),
        *fit_joint(trained.response, inside, factor, offset=settings.offset, noise=settings.noise).predict(across),
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


def _main(weights: Matrix, trained: _Trained) -> Float[np.ndarray, " perturbation"]:
    """Mean of residuals over like perturbations and all genes."""
    total, count = (np.asarray(each.sum(axis=1)).ravel() for each in (trained.residual, trained.measured))
    return np.asarray((weights @ total) / (weights @ count + 1.0))


def _learned_cosines(inside: Matrix, across: Matrix, responses: Matrix, *, noise: float) -> Matrix:
    """Cosines of responses as kernel ridge regression predicts them from text; of trained ones, each left out."""
    targets = unit_rows(responses).astype(np.float64)
    inverse = np.linalg.inv(inside.astype(np.float64) + noise * np.eye(len(inside)))
    dual = inverse @ targets
    left_out = targets - dual / np.diag(inverse)[:, None]
    return np.asarray(unit_rows(across @ dual) @ unit_rows(left_out).T, dtype=np.float32)
