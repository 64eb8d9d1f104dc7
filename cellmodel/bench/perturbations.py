"""Scores of predicted effects of perturbations against labels: one AUC a gene, mean over genes, with an interval."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellmodel.core.errors import InputUnusable
from cellmodel.core.random import generator
from cellmodel.core.tools import paths_of
from cellmodel.perturb.model import gene_aucs, mean_gene_auc
from cellmodel.perturb.predict import PairTable, read_pairs, read_scores
from genekb.core.messages import Paths
from genekb.core.python import for_python

_INTERVAL = 1.96  # standard errors


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectScores:
    """Agreement of one table of predictions with labels."""

    name: str  # of the file
    auc: float  # mean over the genes that have both labels among the pairs asked
    # low, high: 95 % interval, by the standard deviation of a bootstrap of perturbations (its percentiles lean upwards,
    # since genes with few perturbations drop out of draws)
    low: float
    high: float
    n_genes: int  # that have both labels
    n_pairs: int
    n_missing: int  # pairs of the labels that the predictions lack; they count as average


@for_python
def perturb_eval(
    predictions: Paths, truth: str | Path, *, draws: int = 200, random_state: int = 0
) -> list[EffectScores]:
    """Score predicted effects of perturbations, as `cellmodel perturb --truth` does, several tables at once.

    ``predictions``: tables of `cellmodel perturb`; ``truth``: table with the label of each pair; ``draws``: of the
    bootstrap, the same for all tables. The metric is that of PerturbQA :cite:`wu2025perturbqa`: an AUC for each gene
    over the perturbations that it is asked with, genes of one label left out, mean over genes. Raises
    ``InputUnusable`` if a table cannot be read, or no gene has both labels.
    """
    labels = read_pairs(Path(truth), with_labels=True)
    return [_score(path, labels, n_draws=draws, seed=random_state) for path in paths_of(predictions)]


def _score(path: Path, truth: PairTable, *, n_draws: int, seed: int) -> EffectScores:
    given = read_scores(path)
    found = np.array([given.get(pair, np.nan) for pair in truth.pairs])
    is_missing = np.isnan(found)
    if is_missing.all():
        raise InputUnusable(
            f"{path} has none of the {len(truth):,} pairs of {truth.source}; is it the table of that query?"
        )
    scores = np.where(is_missing, np.nanmean(found), found)
    genes = np.unique(truth.genes, return_inverse=True)[1]
    perturbations, rows = np.unique(truth.perturbations, return_inverse=True)
    labels = np.asarray(truth.labels)
    aucs = gene_aucs(genes, labels, scores)
    if not np.isfinite(aucs).any():
        raise InputUnusable(f"no gene of {truth.source} has both labels; give more perturbations a gene")
    rng = generator(seed, "perturb-eval")
    drawn: list[float] = []
    for _ in range(n_draws):
        counts = np.bincount(rng.integers(0, len(perturbations), len(perturbations)), minlength=len(perturbations))
        drawn.append(mean_gene_auc(genes, labels, scores, counts=counts[rows].astype(np.float64)))
    auc, half = float(np.nanmean(aucs)), _INTERVAL * float(np.nanstd(drawn))
    return EffectScores(
        name=path.name,
        auc=auc,
        low=auc - half,
        high=auc + half,
        n_genes=int(np.isfinite(aucs).sum()),
        n_pairs=len(truth),
        n_missing=int(is_missing.sum()),
    )
