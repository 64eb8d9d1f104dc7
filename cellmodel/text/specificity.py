"""A cell as the text of the genes that are its own: genes that every cell expresses say nothing about this one."""

from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from cellmodel.core.arrays import CellByGene, Embedding, GeneVectors, unit_rows
from cellmodel.text.paths import rank_genes

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
    totals = np.asarray(weights.sum(axis=1)).ravel()
    scale = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)
    return sp.csr_matrix(sp.diags(scale) @ weights)


def specific_text(expression: CellByGene, gene_vectors: GeneVectors, *, n_top: int = N_TOP) -> Embedding:
    """Mean text vector of each cell's most expressed genes, weighted by expression and specificity.

    ``expression``: (cell, gene) log-normalised. ``gene_vectors``: (gene, dim), whitened, in the order of the columns.
    Returns (cell, dim) centred over the cells, rows of length one.
    """
    weights = specific_weights(expression, specificity=gene_specificity(expression), n_top=n_top)
    pooled = np.asarray(weights @ gene_vectors, dtype=np.float32)
    return unit_rows(pooled - pooled.mean(axis=0))
