"""The two text paths of a cell: expression-weighted knowledge, and the cell as a ranked sentence.

Both follow scLLM-DSC (arXiv 2606.13007), with three corrections: gene vectors are whitened first, weights come from
normalized expression instead of raw counts, and each path is L2-normalized before they are mixed, since otherwise
library size drowns the second path.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int

from cellmodel.core import random as seeding
from cellmodel.core.arrays import EPSILON, CellByGene, Embedding, GeneVectors, unit_rows
from cellmodel.core.config import Knowledge
from cellmodel.pp.moments import column_moments

_BLOCK: Final = 2_048  # cells that are ranked at once: bounds memory


@dataclass(frozen=True, kw_only=True, slots=True)
class Whitening:
    """A linear map that takes out the mean and makes the leading directions of text vectors equally long."""

    mean: Float[np.ndarray, " dim"]  # (dim,) mean of the vectors that it was fitted to
    components: Float[np.ndarray, "dim rank"]  # (dim, rank) directions, scaled to unit variance

    def __call__(self, vectors: Float[np.ndarray, "row dim"]) -> Float[np.ndarray, "row rank"]:
        """Map vectors of the encoder's space, of genes or of a query, into the whitened space."""
        return (vectors - self.mean) @ self.components


def fit_whitening(gene_vectors: GeneVectors, *, rank: int) -> Whitening:
    """Fit a whitening map by the singular value decomposition of the centered vectors.

    ``gene_vectors``: (gene, dim) vectors of genes that have a text. ``rank``: directions to keep; fewer where the
    vectors span fewer. Raises ``ValueError`` if there are fewer than two distinct vectors.
    """
    mean = gene_vectors.mean(axis=0)
    _, singular, directions = np.linalg.svd((gene_vectors - mean).astype(np.float64), full_matrices=False)
    kept = min(rank, int((singular > singular[0] * 1e-6).sum())) if len(singular) and singular[0] > 0 else 0
    if kept == 0:
        raise ValueError(f"{len(gene_vectors)} gene vectors are all equal; at least two distinct texts are needed")
    signs = np.sign(directions[np.arange(kept), np.abs(directions[:kept]).argmax(axis=1)])
    components = (directions[:kept] * signs[:, None]).T * (np.sqrt(len(gene_vectors)) / singular[:kept])
    return Whitening(mean=mean.astype(np.float32), components=components.astype(np.float32))


def rank_genes(
    expression: CellByGene, *, n_top: int, mean: Float[np.ndarray, " gene"] | None = None
) -> list[Int[np.ndarray, " gene"]]:
    """Order the expressed genes of each cell: highest expression first, ties by the rarer gene.

    ``mean``: mean expression of each gene, which says what is rare; that of these cells if None. Returns for each cell
    the column indices of at most ``n_top`` genes.
    """
    if mean is None:
        mean, _ = column_moments(expression)
    rarity = np.argsort(np.argsort(mean, kind="stable"), kind="stable")
    ranked = []
    for start, end in zip(expression.indptr[:-1], expression.indptr[1:], strict=True):
        genes, values = expression.indices[start:end], expression.data[start:end]
        ranked.append(genes[np.lexsort((rarity[genes], -values))[:n_top]])
    return ranked


def rank_weights(expression: CellByGene, *, n_top: int, mean: Float[np.ndarray, " gene"] | None = None) -> CellByGene:
    r"""Weights of a cell's sentence: :math:`1/\log_2(1 + r)` for the gene at rank *r*, summing to one a cell."""
    ranked = rank_genes(expression, n_top=n_top, mean=mean)
    lengths = np.array([len(genes) for genes in ranked])
    discount = 1.0 / np.log2(np.arange(2, n_top + 2))
    totals = np.concatenate([[0.0], np.cumsum(discount)])[lengths]
    data = np.concatenate([discount[: len(genes)] for genes in ranked]) if ranked else np.empty(0)
    data = data / np.repeat(np.maximum(totals, EPSILON), lengths)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.concatenate(ranked) if ranked else np.empty(0, dtype=np.int64)
    return sp.csr_matrix((data.astype(np.float32), indices, indptr), shape=expression.shape)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextMap:
    r"""Expression → both text paths of a cell, with everything that was fitted to the first cells.

    The expression-weighted path is a cell's mean of gene vectors, weighted by z-scored expression. It is linear in the
    vectors, so a gene's part in it is exact, and sparse expression stays sparse, since
    :math:`(X - 1\mu^T) D^{-1} G = X D^{-1} G - 1 (\mu^T D^{-1} G)`. The ranked sentence is the rank-weighted mean of
    its genes' vectors. It stands in for encoding one sentence a cell, which takes hours for a million cells; how far
    the two agree is measured by :mod:`cellmodel.pp.text.sentences`.
    """

    has_vector: Bool[np.ndarray, " gene"]  # which of the genes have a text
    # gene_vectors, raw_gene_vectors: (gene, dim) whitened and as the encoder gave them; zero where a gene has none
    gene_vectors: GeneVectors
    raw_gene_vectors: GeneVectors
    mean: Float[np.ndarray, " gene"]  # mean, deviation: of each gene's expression
    deviation: Float[np.ndarray, " gene"]
    center: Float[np.ndarray, " dim"]  # (dim,) mean of the pooled sentences

    def paths(self, expression: CellByGene, *, n_top: int) -> tuple[Embedding, Embedding]:
        """Both paths of some cells, float32, centered over the fitted cells, not normalized."""
        vectors = self.gene_vectors[self.has_vector]
        mean, deviation = self.mean[self.has_vector], self.deviation[self.has_vector]
        varies = deviation > EPSILON
        scaled = vectors * np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)[:, None]
        scaled, shift = scaled.astype(np.float32), (mean @ scaled).astype(np.float32)
        path1, path2 = (np.empty((expression.shape[0], vectors.shape[1]), dtype=np.float32) for _ in range(2))
        for start in range(0, expression.shape[0], _BLOCK):
            rows = slice(start, start + _BLOCK)
            known = expression[rows][:, self.has_vector]
            path1[rows] = known @ scaled - shift
            path2[rows] = rank_weights(known, n_top=n_top, mean=mean) @ vectors - self.center
        return path1, path2


def fit_text_map(
    expression: CellByGene, vectors: GeneVectors, *, has_vector: Bool[np.ndarray, " gene"], whitening: Whitening
) -> TextMap:
    """Fit all of a map but the center, which is zero until the sentences of all cells are pooled.

    ``vectors``: of the genes of ``expression`` that ``has_vector`` marks.
    """
    mean, deviation = column_moments(expression)
    whitened = whitening(vectors)
    every = [np.zeros((len(has_vector), given.shape[1]), dtype=np.float32) for given in (whitened, vectors)]
    for placed, given in zip(every, (whitened, vectors), strict=True):
        placed[has_vector] = given
    return TextMap(
        has_vector=has_vector,
        gene_vectors=every[0],
        raw_gene_vectors=every[1],
        mean=mean,
        deviation=deviation,
        center=np.zeros(whitened.shape[1], dtype=np.float32),
    )


def mix_paths(path1: Embedding, path2: Embedding, *, path1_weight: float) -> Embedding:
    r"""Mix the two paths, each row of each at length one: :math:`z = \omega z_1 + (1-\omega) z_2`."""
    return unit_rows(path1_weight * unit_rows(path1) + (1 - path1_weight) * unit_rows(path2))


N_TOP: Final = 256  # genes of a cell that are read, highest expression first


def gene_specificity(expression: CellByGene) -> Float[np.ndarray, " gene"]:
    r"""Inverse document frequency of each gene: :math:`\log\frac{1 + n}{1 + n_j}`, 0 for a gene that all cells express.

    ``expression``: (cell, gene); *n* cells, of which :math:`n_j` have a value above zero of gene *j*.
    """
    n_expressing = np.bincount(expression.indices[expression.data > 0], minlength=expression.shape[1])
    return np.asarray(np.log((1 + expression.shape[0]) / (1 + n_expressing)))


def specific_weights(
    expression: CellByGene,
    *,
    specificity: Float[np.ndarray, " gene"],
    n_top: int = N_TOP,
    mean: Float[np.ndarray, " gene"] | None = None,
) -> CellByGene:
    """Weights of the most expressed genes of each cell: expression times specificity, summing to one a cell.

    ``mean``: mean expression of each gene, which decides between equally expressed ones; that of these cells if None.
    Returns (cell, gene); a row of zeros where a cell expresses no gene that is specific at all.
    """
    ranked = rank_genes(expression, n_top=n_top, mean=mean)
    lengths = np.array([len(genes) for genes in ranked], dtype=np.int64)
    rows = np.repeat(np.arange(len(ranked)), lengths)
    genes = np.concatenate(ranked) if ranked else np.empty(0, dtype=np.int64)
    top = sp.csr_matrix((np.ones(len(genes)), (rows, genes)), shape=expression.shape)
    weights = top.multiply(expression).tocsr() @ sp.diags(specificity)
    return rows_to_one(weights)


def rows_to_one(weights: CellByGene) -> CellByGene:
    """Scale each row to sum to one; a row of zeros stays one."""
    totals = np.asarray(weights.sum(axis=1)).ravel()
    scale = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)
    return sp.csr_matrix(sp.diags(scale) @ weights)


def specific_text(expression: CellByGene, gene_vectors: GeneVectors, *, n_top: int = N_TOP) -> Embedding:
    """Mean text vector of each cell's most expressed genes, weighted by expression and specificity.

    ``expression``: (cell, gene) log-normalized. ``gene_vectors``: (gene, dim), whitened, in the order of the columns.
    Returns (cell, dim) centered over the cells, rows of length one.
    """
    weights = specific_weights(expression, specificity=gene_specificity(expression), n_top=n_top)
    pooled = np.asarray(weights @ gene_vectors, dtype=np.float32)
    return unit_rows(pooled - pooled.mean(axis=0))


def apply_knowledge(vectors: GeneVectors, *, knowledge: Knowledge, seed: int) -> GeneVectors:
    """Return the vectors, or a control in their place.

    ``shuffled`` gives each gene another gene's vector, which keeps the shape of the cloud; ``random`` draws isotropic
    Gaussian directions, a stronger control, since text vectors are anisotropic and compress expression badly.

    ``vectors``: (gene, dim) of genes that have a text. ``knowledge``: ``real``, ``shuffled`` or ``random``. Raises
    ``ValueError`` if ``knowledge`` is ``none``: then there is no text view to make.
    """
    if knowledge == "real":
        return vectors
    if knowledge == "shuffled":
        return vectors[seeding.generator(seed, "shuffled genes").permutation(len(vectors))]
    if knowledge == "random":
        drawn = seeding.generator(seed, "random genes").standard_normal(vectors.shape).astype(np.float32)
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    raise ValueError(f"knowledge {knowledge!r} has no gene vectors; use real, shuffled or random")
