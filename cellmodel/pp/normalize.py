"""Counts to features: normalize, choose genes, reduce; all on CSR, never a dense (cell, gene) matrix."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from cellmodel.core.arrays import CellByGene, Embedding, in_order, row_blocks
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import Cells
from cellmodel.io.matrix import ValueKind
from cellmodel.pp.moments import Entries, GeneSums, column_moments, runs_of_rows

_N_BINS = 20  # bins of mean expression within which Seurat's rule compares dispersions
_SPARSE_BELOW = 0.12  # fraction of non-zero values up to which sparse products of genes are the faster ones
_LEAST_BESIDE_ONE = 1e-6


def normalize_log1p(counts: CellByGene, *, target_sum: float = 1e4) -> CellByGene:
    """Scale the counts of every cell to the same total, then log(1 + x), in float32.

    ``counts``: without negative values and duplicate entries. A cell without counts stays all zero.
    """
    return _log_scaled(counts, size_factors(counts, target_sum=target_sum))


def size_factors(counts: CellByGene, *, target_sum: float = 1e4) -> Float[np.ndarray, " cell"]:
    """Factor that scales the counts of each cell to a total; 0 for a cell without any."""
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    return np.divide(target_sum, totals, out=np.zeros_like(totals), where=totals > 0)


def scaled_entries(counts: CellByGene, scale: Float[np.ndarray, " cell"], rows: slice) -> Entries:
    """Give the stored counts of some cells, each times the factor of its cell, in double precision."""
    entries = slice(counts.indptr[rows.start], counts.indptr[rows.stop])
    return counts.data[entries] * np.repeat(scale[rows], np.diff(counts.indptr[rows.start : rows.stop + 1]))


def _log_scaled(counts: CellByGene, scale: Float[np.ndarray, " cell"]) -> CellByGene:
    """Take log(1 + x) of scaled counts, in float32."""
    expression = np.empty(counts.nnz, dtype=np.float32)
    for rows in runs_of_rows(counts.indptr):
        values = scaled_entries(counts, scale, rows)
        # beside 1 nothing is lost that float32 would hold, and the logarithm takes a third of the time of log1p
        logs = (
            np.log1p(values) if values.min(initial=1.0) < _LEAST_BESIDE_ONE else np.log(np.add(values, 1, out=values))
        )
        expression[counts.indptr[rows.start] : counts.indptr[rows.stop]] = logs
    return sp.csr_matrix((expression, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)


def detected_genes(counts: CellByGene, *, min_cells: int = 3) -> Bool[np.ndarray, " gene"]:
    """Mark the genes with a value above zero in at least ``min_cells`` cells."""
    found = np.bincount(counts.indices[counts.data > 0], minlength=counts.shape[1])
    return np.asarray(found >= min_cells)


def highly_variable(expression: CellByGene, *, n_top: int = 2000) -> Int[np.ndarray, " gene"]:
    """Choose the genes that vary more than others of their mean: Scanpy's ``flavor="seurat"`` :cite:`satija2015seurat`.

    The log of variance over mean is turned into a z-score within 20 bins of log mean expression, both taken on the
    scale before the logarithm. A gene alone in its bin scores 1. Genes that tie with the last one are kept too, so that
    the choice does not depend on the order of the genes.

    Returns column numbers in rising order: all columns if there are no more than ``n_top``, otherwise without the genes
    whose score is not defined (no variance, or none within their bin).
    """
    if expression.shape[1] <= n_top:
        return variable_by_moments(*np.zeros((2, expression.shape[1])), n_top=n_top)
    sums = GeneSums(expression.shape[1])
    for block in row_blocks(expression):
        sums.add(block, transform=lambda values, _: np.expm1(values))
    (mean,), (scatter,) = sums.moments()
    return variable_by_moments(mean, scatter / max(expression.shape[0] - 1, 1), n_top=n_top)


def variable_by_moments(
    mean: Float[np.ndarray, " gene"], variance: Float[np.ndarray, " gene"], *, n_top: int
) -> Int[np.ndarray, " gene"]:
    """Choose genes as :func:`highly_variable`, from mean and variance before the logarithm.

    Raises ``InputUnusable`` if there is a choice to make and no gene varies.
    """
    n_genes = len(mean)
    if n_genes <= n_top:
        return np.arange(n_genes)
    score = _dispersion_scores(mean, variance)
    if np.isnan(score).all():
        raise InputUnusable(
            f"none of {n_genes:,} genes varies after normalizing, so the cells are all the same; is it the right layer "
            "(`layer`), or one cell written many times?"
        )
    return np.flatnonzero(_is_top(score, n_top=n_top))


def variable_in_batches(
    mean: Float[np.ndarray, "batch gene"], variance: Float[np.ndarray, "batch gene"], *, n_top: int
) -> Int[np.ndarray, " gene"]:
    """Choose genes that are highly variable within batches: Scanpy's ``batch_key`` with ``flavor="seurat"``.

    A gene is ranked by the number of batches in which :func:`variable_by_moments` would choose it, then by the mean of
    its scores, 0 where a batch gives none. Ties and columns: see there, and so are the errors.
    """
    n_genes = mean.shape[1]
    if n_genes <= n_top:
        return variable_by_moments(mean[0], variance[0], n_top=n_top)
    scores = np.full(mean.shape, np.nan)
    for score, center, spread in zip(scores, mean, variance, strict=True):
        seen = np.flatnonzero(center > 0)
        if len(seen):
            score[seen] = _dispersion_scores(center[seen], spread[seen])
    n_batches = np.sum([_is_top(score, n_top=n_top) for score in scores], axis=0)
    if not n_batches.any():
        return variable_by_moments(mean.mean(axis=0), variance.mean(axis=0), n_top=n_top)
    mean_score = np.where(np.isnan(scores), 0.0, scores).mean(axis=0)
    rank = np.unique(np.column_stack([n_batches, mean_score]), axis=0, return_inverse=True)[1].ravel()
    return np.flatnonzero((rank >= np.sort(rank)[n_genes - n_top]) & (n_batches > 0))


def _is_top(score: Float[np.ndarray, " gene"], *, n_top: int) -> Bool[np.ndarray, " gene"]:
    """Mark the genes of the highest scores, and those that tie with the last one; none without a score."""
    usable = score[~np.isnan(score)]
    if usable.size == 0:
        return np.zeros(len(score), dtype=np.bool_)
    last = max(usable.size - n_top, 0)
    return np.asarray(score >= np.partition(usable, last)[last])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Components:
    """Leading principal components of expression, which new cells can be projected on as well."""

    mean: Float[np.ndarray, " gene"]  # of each gene, over the cells that the components were fitted to
    # (gene, dim) the leading component first: orthonormal columns, times the weights of the genes where these have any
    loadings: Float[np.ndarray, "gene dim"]

    def __call__(self, expression: CellByGene, *, out: Embedding | None = None) -> Embedding:
        """Float32 scores of cells, in ``out`` if it is given; sparse expression is never made dense."""
        shape = (expression.shape[0], self.loadings.shape[1])
        scores = np.empty(shape, dtype=np.float32) if out is None else out
        start, shift = 0, self.mean @ self.loadings
        for found in in_order(lambda block: block.astype(np.float64) @ self.loadings - shift, row_blocks(expression)):
            scores[start : start + len(found)] = found
            start += len(found)
        return scores


def fit_components(
    expression: CellByGene, *, n_components: int = 30, weights: Float[np.ndarray, " gene"] | None = None
) -> Components:
    """Leading principal components of gene-centered, not z-scored, expression.

    Eigenvectors of the covariance of the genes, which is summed in one pass over blocks of cells: expression may be
    mapped from a file, and memory is O(genes squared). Signs are fixed by making the largest loading of each component
    positive.

    ``n_components``: at most; fewer if there are fewer genes, or fewer than that many cells and one. ``weights``: of
    the genes; all 1 if None.
    """
    from scipy.linalg import eigh

    n_cells, n_genes = expression.shape
    n_kept = min(n_components, n_genes, max(n_cells - 1, 1))
    mean = column_moments(expression)[0]
    scale = np.ones(n_genes) if weights is None else weights
    scatter = (_summed_products(expression) - n_cells * np.outer(mean, mean)) * np.outer(scale, scale)
    loadings = eigh(scatter, subset_by_index=(n_genes - n_kept, n_genes - 1), overwrite_a=True)[1][:, ::-1]
    return Components(mean=mean, loadings=scale[:, None] * loadings * _signs(loadings))


def _summed_products(expression: CellByGene) -> Float[np.ndarray, "gene gene"]:
    """Sum the products of all pairs of genes over the cells, block by block."""

    def of_block(block: CellByGene) -> Float[np.ndarray, "gene gene"]:
        values = block.astype(np.float64)
        if values.nnz < _SPARSE_BELOW * np.prod(values.shape):
            return (values.T @ values).toarray()
        dense = values.toarray()
        return dense.T @ dense

    products = np.zeros((expression.shape[1], expression.shape[1]))
    for of_genes in in_order(of_block, row_blocks(expression)):
        products += of_genes
    return products


def _signs(axes: Float[np.ndarray, "dim component"]) -> Float[np.ndarray, " component"]:
    """Signs that make the largest entry of each column positive."""
    return np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])


def principal_components(expression: CellByGene, *, n_components: int = 30) -> Embedding:
    """Scores of cells on their own leading components; see :func:`fit_components`."""
    return fit_components(expression, n_components=n_components)(expression)


def principal_axes(embedding: Embedding) -> Embedding:
    """Rotate an embedding so that its axes are uncorrelated, the one of most variance first, less its mean.

    Distances stay as they are. Signs as in :func:`fit_components`.
    """
    points = embedding.astype(np.float64)
    points -= points.mean(axis=0)
    axes = np.linalg.eigh(points.T @ points)[1][:, ::-1]
    return np.asarray(points @ (axes * _signs(axes)), dtype=np.float32)


def _dispersion_scores(
    mean: Float[np.ndarray, " gene"], variance: Float[np.ndarray, " gene"]
) -> Float[np.ndarray, " gene"]:
    """Z-score of log dispersion within bins of log mean; NaN where it is not defined."""
    mean = np.where(mean == 0, 1e-12, mean)
    dispersion = np.log(variance / mean, out=np.full(len(mean), np.nan), where=variance > 0)
    bins = _equal_width_bins(np.log1p(mean))
    defined = ~np.isnan(dispersion)
    center, spread = _bin_statistics(bins[defined], dispersion[defined])
    score = np.full(len(mean), np.nan)
    np.divide(dispersion - center[bins], spread[bins], out=score, where=defined & (spread[bins] != 0))
    return score


def _equal_width_bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin number of each value; bins are closed on the right, as in ``pandas.cut``."""
    edges = np.linspace(values.min(), values.max(), _N_BINS + 1)
    return np.asarray(np.clip(np.searchsorted(edges, values, side="left") - 1, 0, _N_BINS - 1), dtype=np.int64)


def _bin_statistics(
    bins: NDArray[np.int64], dispersion: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation within each bin; (0, the value itself) for a gene that is alone in its bin."""
    n_genes = np.bincount(bins, minlength=_N_BINS)
    center = np.bincount(bins, dispersion, minlength=_N_BINS) / np.maximum(n_genes, 1)
    squares = np.bincount(bins, (dispersion - center[bins]) ** 2, minlength=_N_BINS)
    spread = np.sqrt(squares / np.maximum(n_genes - 1, 1))
    alone = n_genes == 1
    return np.where(alone, 0.0, center), np.where(alone, center, spread)


def log_expression(cells: Cells) -> CellByGene:
    """Take log-normalized values as they are, and normalize counts."""
    return log_values(cells.matrix, cells.kind)


def log_values(values: CellByGene, kind: ValueKind, columns: Int[np.ndarray, " gene"] | None = None) -> CellByGene:
    """As :func:`log_expression`, for values of a kind, of all genes; ``columns``: genes to keep, None for all."""
    chosen = values if columns is None else values[:, columns]
    return chosen if kind == ValueKind.LOG1P else _log_scaled(chosen, size_factors(values))
