"""How well scores rank the perturbations that a gene responds to: the area under the curve, gene by gene."""

import numpy as np
from jaxtyping import Bool, Float, Int


def gene_aucs(
    genes: Int[np.ndarray, " pair"],
    labels: Float[np.ndarray, " pair"],
    scores: Float[np.ndarray, " pair"],
    *,
    counts: Float[np.ndarray, " pair"] | None = None,
) -> Float[np.ndarray, " gene"]:
    """Area under the ROC curve of each gene over its pairs, in order of genes; NaN for a gene of one label alone.

    Equal scores count half. ``counts``: how often each pair is drawn, for a bootstrap; once if None.
    """
    weights = np.ones(len(genes)) if counts is None else counts
    order = np.lexsort((scores, genes))
    gene, score = genes[order], scores[order]
    hit, miss = (labels * weights)[order], ((1 - labels) * weights)[order]
    starts: Bool[np.ndarray, " pair"] = np.ones(len(gene), dtype=bool)
    starts[1:] = (np.diff(gene) != 0) | (np.diff(score) != 0)
    run = np.cumsum(starts) - 1
    of_run = gene[starts]
    hits, misses = np.bincount(run, hit), np.bincount(run, miss)
    below = np.cumsum(misses) - misses
    n_genes = int(genes.max()) + 1
    n_hits, n_misses = np.bincount(of_run, hits, n_genes), np.bincount(of_run, misses, n_genes)
    before = np.cumsum(n_misses) - n_misses
    pairs_won = np.bincount(of_run, hits * (below - before[of_run] + misses / 2), n_genes)
    compared = n_hits * n_misses
    return np.divide(pairs_won, compared, out=np.full(n_genes, np.nan), where=compared > 0)


def mean_gene_auc(
    genes: Int[np.ndarray, " pair"],
    labels: Float[np.ndarray, " pair"],
    scores: Float[np.ndarray, " pair"],
    *,
    counts: Float[np.ndarray, " pair"] | None = None,
) -> float:
    """Mean of :func:`gene_aucs` over the genes that have both labels; NaN where none has."""
    found = gene_aucs(genes, labels, scores, counts=counts)
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")
