"""What known pairs of perturbation and gene say of pairs that are asked for: weighted means, regressions, nearness."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.arrays import unit_rows
from cellmodel.perturb.kernels import Matrix, Shares, centred, dot, fit_joint, gene_factor, nearness

FEATURES: Final = (
    *("one_sided", "two_sided", "main", "similarity", "learned"),
    *("wide_one_sided", "wide_two_sided", "wide_main", "narrow_one_sided", "narrow_two_sided", "narrow_main"),
    *("nearest", "nearest_ten"),
)
_NEAR, _MAIN, _GENES, _LEARNED, _RESPONSE = 0.15, 0.2, 0.1, 0.12, 0.25  # temperatures of kernels
# Of the genes in the two joint regressions, wide and narrow, and their noise
_JOINT: Final = ((0.4, Shares(noise=0.3)), (0.15, Shares(noise=1.0)))
_FACTORS, _RIDGE = 30, 3.0  # of the responses that a metric is learned from
_NEIGHBORS: Final = 10
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


def pair_features(known: Known, rows: Pairs, columns: Pairs, vectors: Vectors) -> Float[np.ndarray, "pair feature"]:
    """Features of pairs by what is known of other perturbations; (pair, :data:`FEATURES`).

    ``rows``, ``columns``: perturbation and gene of each pair. Weighted means are those of
    :cite:`nadaraya1964regression`, shrunken to nothing; cosines are of vectors less their mean over trained ones.
    """
    trained = _trained(known, len(vectors.genes))
    asked, places = np.unique(rows, return_inverse=True)
    centre = vectors.perturbations[trained.perturbations].mean(axis=0)
    near = centred(vectors.perturbations[trained.perturbations], centre)
    new = centred(vectors.perturbations[asked], centre)
    cosines = new @ near.T
    own = unit_rows(vectors.genes)
    gene_centre = vectors.genes[np.unique(known.columns)].mean(axis=0)
    joint = _joint(new, near, trained, centred(vectors.genes, gene_centre))
    best = -np.sort(-cosines, axis=1)[:, :_NEIGHBORS]
    one, two = _weighted(np.exp(cosines / _NEAR), trained, own)
    learned = _learned_cosines(new, near, trained, own)
    parts = (
        one,
        two,
        _main(np.exp(cosines / _MAIN), trained)[:, None],
        new @ centred(vectors.genes, centre).T,
        _one_sided(np.exp((learned + cosines) / (2 * _LEARNED)), trained),
        *joint,
        best[:, :1],
        best.mean(axis=1, keepdims=True),
    )
    return np.stack([np.broadcast_to(part, one.shape)[places, columns] for part in parts], axis=1).astype(np.float64)


def _one_sided(weights: Matrix, trained: _Trained) -> Matrix:
    return dot(weights, trained.residual) / (dot(weights, trained.measured) + 1.0)


def _weighted(weights: Matrix, trained: _Trained, genes: Matrix) -> tuple[Matrix, Matrix]:
    """Means of residuals over like perturbations: of the gene itself, and of like genes."""
    total, count = dot(weights, trained.residual), dot(weights, trained.measured)
    both = np.empty_like(total)
    for start in range(0, len(genes), _BLOCK):
        of_genes = nearness(genes, genes[start : start + _BLOCK], temperature=_GENES)
        both[:, start : start + _BLOCK] = (total @ of_genes) / (count @ of_genes + 0.1)
    return total / (count + 1.0), both


def _joint(new: Matrix, near: Matrix, trained: _Trained, genes: Matrix) -> list[Matrix]:
    """Parts of two joint regressions, of a wide and of a narrow kernel of the genes."""
    kernel, across = (nearness(one, near, temperature=_RESPONSE) for one in (near, new))
    parts: list[Matrix] = []
    for temperature, shares in _JOINT:
        factor = gene_factor(genes, temperature=temperature)
        parts += fit_joint(trained.response, kernel, factor, shares=shares).predict(across)
    return parts


def _main(weights: Matrix, trained: _Trained) -> Float[np.ndarray, " perturbation"]:
    """Mean of residuals over like perturbations and all genes."""
    total, count = (np.asarray(each.sum(axis=1)).ravel() for each in (trained.residual, trained.measured))
    return np.asarray((weights @ total) / (weights @ count + 1.0))


def _learned_cosines(new: Matrix, near: Matrix, trained: _Trained, genes: Matrix) -> Matrix:
    """Cosines of responses as kernel ridge regression predicts them from text; of trained ones, each left out."""
    smoothed = np.empty(trained.residual.shape, dtype=np.float32)
    for start in range(0, len(genes), _BLOCK):
        of_genes = nearness(genes, genes[start : start + _BLOCK], temperature=_GENES)
        smoothed[:, start : start + _BLOCK] = trained.residual @ of_genes
    targets = _factors(unit_rows(smoothed))
    kernel = nearness(near, near, temperature=_RESPONSE).astype(np.float64)
    inverse = np.linalg.inv(kernel + _RIDGE * np.eye(len(kernel)))
    dual = inverse @ targets
    left_out = targets - dual / np.diag(inverse)[:, None]
    predicted = nearness(new, near, temperature=_RESPONSE) @ dual
    return np.asarray(unit_rows(predicted) @ unit_rows(left_out).T, dtype=np.float32)


def _factors(responses: Matrix) -> Float[np.ndarray, "perturbation factor"]:
    """Leading principal factors of responses, of the smaller of their two products."""
    values, axes = np.linalg.eigh((responses @ responses.T).astype(np.float64))
    kept = np.argsort(-values, kind="stable")[:_FACTORS]
    return np.asarray(axes[:, kept] * np.sqrt(np.maximum(values[kept], 0.0)))
