"""How informative a gene is about the cells: from the data themselves, by its text, and how specific it is to cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from cellmodel.core.arrays import CellByGene, Embedding, GeneVectors, row_blocks, unit_rows
from cellmodel.pp.moments import column_moments
from cellmodel.pp.normalize import rank_genes
from genekb.files.atomic import read_arrays

ADAPTER: Final = Path(__file__).parent / "data" / "text_adapter.safetensors"
N_COMPONENTS: Final = 10  # components that a gene's variance is compared with
GENES_PER_BIN: Final = 20  # at least so many genes of like mean are ranked among themselves
MAX_BINS: Final = 20
LIMIT: Final = 2.0  # standard deviations; what lies beyond is cut
STRENGTH: Final = 0.4
N_TOP: Final = 256  # genes of a cell that are read, highest expression first
N_WORDS: Final = 2**14  # places for words and pairs of words


def own_informativeness(
    expression: CellByGene, pcs: Embedding, *, n_components: int = N_COMPONENTS
) -> Float[np.ndarray, " gene"]:
    r"""How much of each gene's variance the leading components explain, beside genes of about the same mean.

    .. math:: R^2_j = \lVert U^T x_j \rVert^2 / \lVert x_j \rVert^2

    with *U* the orthonormal leading scores and :math:`x_j` the centered gene; ranks within bins of the mean, as normal
    scores. A gene without variance has :math:`R^2 = 0`.

    ``expression``: (cell, gene) log-normalized. ``pcs``: (cell, dim) principal components of the same cells.
    """
    scores = pcs[:, :n_components].astype(np.float64)
    basis, strengths, _ = np.linalg.svd(scores - scores.mean(axis=0), full_matrices=False)
    basis = basis[:, strengths > strengths[0] * 1e-9]
    mean, deviation = column_moments(expression)
    product, start = np.zeros((expression.shape[1], basis.shape[1])), 0
    for block in row_blocks(expression):
        product += block.T @ basis[start : start + block.shape[0]]
        start += block.shape[0]
    explained = np.square(product - np.outer(mean, basis.sum(axis=0))).sum(axis=1)
    total = expression.shape[0] * deviation**2
    share = np.divide(explained, total, out=np.zeros_like(total), where=deviation > 1e-9 * (1 + np.abs(mean)))
    return normal_scores(share, mean)


def normal_scores(values: Float[np.ndarray, " gene"], mean: Float[np.ndarray, " gene"]) -> Float[np.ndarray, " gene"]:
    """Rank genes among those of about the same mean, and give the ranks as quantiles of the normal distribution."""
    from scipy.stats import norm, rankdata

    scores = np.zeros(len(values))
    n_bins = int(np.clip(len(values) // GENES_PER_BIN, 1, MAX_BINS))
    for genes in np.array_split(np.argsort(mean, kind="stable"), n_bins):
        scores[genes] = norm.ppf((rankdata(values[genes]) - 0.5) / len(genes))
    return scores


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextAdapter:
    """Text → how informative a gene is, learnt from other data sets (`benchmarks/lib/train_adapter.py`).

    It reads words and pairs of neighboring ones, and no encoder, so that it serves every store.
    """

    coefficients: Float[np.ndarray, " word"]  # one for each of the places that words are hashed to

    def __call__(self, texts: Sequence[str | None]) -> Float[np.ndarray, " gene"]:
        """Predicted informativeness, with mean 0 and deviation 1 over the genes that have a text, 0 for the others."""
        having = [row for row, text in enumerate(texts) if text]
        found = np.zeros(len(texts))
        if not having:
            return found
        predicted = words_of([texts[row] or "" for row in having]) @ self.coefficients
        found[having] = (predicted - predicted.mean()) / max(float(predicted.std()), 1e-12)
        return found


def words_of(texts: Sequence[str]) -> sp.csr_matrix:
    """(text, word) rows of length one that mark the words of each text, and the pairs of neighboring ones."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(
        n_features=N_WORDS,
        ngram_range=(1, 2),
        token_pattern=r"[a-z][a-z0-9]+",
        alternate_sign=False,
        binary=True,
        norm="l2",
    )
    return hashing.transform([text.lower() for text in texts]).tocsr()


def load_adapter() -> TextAdapter:
    """Read the adapter that comes with the package."""
    return TextAdapter(coefficients=read_arrays(ADAPTER)["coefficients"].astype(np.float64))


def information_weights(
    own: Float[np.ndarray, " gene"], from_text: Float[np.ndarray, " gene"] | None, *, strength: float = STRENGTH
) -> Float[np.ndarray, " gene"]:
    r"""Weights of genes: :math:`\exp(a z)`, *z* the sum of both statistics, cut at two deviations."""
    total = own if from_text is None else own + from_text
    return np.asarray(np.exp(strength * np.clip(total, -LIMIT, LIMIT)))


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
    ranked = rank_genes(expression, n_top=n_top, mean=column_moments(expression)[0] if mean is None else mean)
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
    """Mean whitened vector of each cell's most expressed genes, by expression and specificity; unit, centered rows."""
    weights = specific_weights(expression, specificity=gene_specificity(expression), n_top=n_top)
    pooled = np.asarray(weights @ gene_vectors, dtype=np.float32)
    return unit_rows(pooled - pooled.mean(axis=0))
