"""A model of responses to perturbations: features out of fold, their weights, and a calibrated probability."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

from cellmodel.perturb.auc import mean_gene_auc
from cellmodel.perturb.features import GRID, Known, Pairs, Settings, Vectors, pair_features

N_FOLDS: Final = 4
_PRIOR: Final = 2.0  # pairs of average label that a gene's own frequency is shrunken by
_LEAST_VARIANCE: Final = 0.02
_N_COMPARED: Final = 1_000  # genes, at equal distances in their order, that settings are compared by


def fold_of(names: Sequence[str]) -> Int[np.ndarray, " name"]:
    """Group of each perturbation by its name alone; groups are of equal size."""
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    folds = np.empty(len(names), dtype=np.int64)
    folds[np.argsort(digests, kind="stable")] = np.arange(len(names)) % N_FOLDS
    return folds


def out_of_fold(
    known: Known, folds: Int[np.ndarray, " row"], vectors: Vectors, *, settings: Settings
) -> Float[np.ndarray, "pair feature"]:
    """Features of each known pair by perturbations of the other groups alone; ``folds``: of rows of perturbations."""
    of_pair = folds[known.rows]
    found: Float[np.ndarray, "pair feature"] | None = None
    for fold in np.unique(of_pair).tolist():
        inside = of_pair == fold
        features = pair_features(
            known.take(~inside), known.rows[inside], known.columns[inside], vectors, settings=settings
        )
        if found is None:
            found = np.empty((len(of_pair), features.shape[1]))
        found[inside] = features
    return np.asarray(found)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stack:
    """Weights of features, each less its mean over the known pairs of a gene."""

    means: Float[np.ndarray, "gene feature"]
    weights: Float[np.ndarray, " feature"]

    def score(self, features: Float[np.ndarray, "pair feature"], columns: Pairs) -> Float[np.ndarray, " pair"]:
        """Departure of each pair from the mean of its gene."""
        return np.asarray((features - self.means[columns]) @ self.weights)


def fit_stack(features: Float[np.ndarray, "pair feature"], known: Known, *, n_genes: int) -> Stack:
    """Weigh features by least squares of what departs from the mean of a gene, in units of its variance.

    One step of logistic regression with an intercept a gene. Genes of one label alone say nothing of the weights.
    """
    n_pairs = np.bincount(known.columns, minlength=n_genes)
    counts = np.maximum(n_pairs, 1)
    means = np.stack([np.bincount(known.columns, one, n_genes) / counts for one in features.T], axis=1)
    means[n_pairs == 0] = features.mean(axis=0)
    rates = np.bincount(known.columns, known.values, n_genes) / counts
    squares = np.bincount(known.columns, known.values**2, n_genes) / counts
    variances = np.maximum(squares - rates**2, 0.0)
    used = variances[known.columns] > 0
    columns = known.columns[used]
    inside = features[used] - means[columns]
    scale = np.maximum(inside.std(axis=0), 1e-12)
    floor = _LEAST_VARIANCE * float(np.square(known.values).mean())
    precision = 1.0 / np.maximum(variances[columns], floor)
    precision /= precision.mean()
    design = inside / scale
    left = (design * precision[:, None]).T @ design + np.eye(design.shape[1])
    right = (design * precision[:, None]).T @ (known.values[used] - rates[columns])
    return Stack(means=means, weights=np.linalg.solve(left, right) / scale)


def scores_left_out(
    features: Float[np.ndarray, "pair feature"], known: Known, folds: Int[np.ndarray, " row"], *, n_genes: int
) -> Float[np.ndarray, " pair"]:
    """Scores of known pairs by features out of fold, with weights of the other groups."""
    found, of_pair = np.empty(len(known.rows)), folds[known.rows]
    for fold in np.unique(of_pair).tolist():
        inside = of_pair == fold
        stack = fit_stack(features[~inside], known.take(~inside), n_genes=n_genes)
        found[inside] = stack.score(features[inside], known.columns[inside])
    return found


def mean_auc(known: Known, folds: Int[np.ndarray, " row"], scores: Float[np.ndarray, " pair"]) -> float:
    """Mean AUC over genes inside each group of perturbations, which have offsets of their own; mean of groups."""
    of_pair = folds[known.rows]
    inside = [of_pair == fold for fold in np.unique(of_pair).tolist()]
    return float(np.mean([mean_gene_auc(known.columns[one], known.values[one], scores[one]) for one in inside]))


def choose_settings(known: Known, folds: Int[np.ndarray, " row"], vectors: Vectors) -> Settings:
    """Choose settings one after the other, each by the mean AUC of training perturbations that others predict."""
    known, vectors = _some_genes(known, vectors)

    def auc(settings: Settings) -> float:
        features = out_of_fold(known, folds, vectors, settings=settings)
        return mean_auc(known, folds, scores_left_out(features, known, folds, n_genes=len(vectors.genes)))

    best = Settings()
    highest = auc(best)
    for name, values in GRID.items():
        start = getattr(best, name)
        for value in values:
            one = replace(best, **{name: value})
            found = highest if value == start else auc(one)
            if found > highest:
                best, highest = one, found
    return best


def _some_genes(known: Known, vectors: Vectors) -> tuple[Known, Vectors]:
    """Known pairs of some of their genes, and the vectors of those genes: nothing but known pairs has a say."""
    genes = np.unique(known.columns)
    kept = genes[np.unique(np.linspace(0, len(genes) - 1, min(len(genes), _N_COMPARED)).round().astype(np.int64))]
    part = known.take(np.isin(known.columns, kept))
    return replace(part, columns=np.searchsorted(kept, part.columns)), replace(vectors, genes=vectors.genes[kept])


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Logistic regression of the label on the score and the gene's own frequency."""

    weights: tuple[float, float, float]  # score, logit of the frequency, intercept

    def probability(
        self, score: Float[np.ndarray, " pair"], frequency: Float[np.ndarray, " pair"]
    ) -> Float[np.ndarray, " pair"]:
        """Probability of label 1."""
        slope, rate, start = self.weights
        return np.asarray(1.0 / (1.0 + np.exp(-(slope * score + rate * _logit(frequency) + start))))


def calibrate(
    score: Float[np.ndarray, " pair"], frequency: Float[np.ndarray, " pair"], labels: Float[np.ndarray, " pair"]
) -> Calibration:
    """Fit the calibration to scores and frequencies that are out of fold :cite:`platt1999probabilities`."""
    from sklearn.linear_model import LogisticRegression

    spread = float(score.std()) or 1.0
    model = LogisticRegression(C=1.0).fit(np.stack([score / spread, _logit(frequency)], axis=1), labels)
    slope, rate = model.coef_[0].tolist()
    return Calibration(weights=(slope / spread, rate, float(model.intercept_[0])))


def _logit(frequency: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
    return np.asarray(np.log(frequency) - np.log1p(-frequency))


def frequencies(known: Known, *, n_genes: int) -> Float[np.ndarray, " gene"]:
    """How often each gene has label 1, shrunken to the mean of all."""
    counts, hits = np.bincount(known.columns, minlength=n_genes), np.bincount(known.columns, known.values, n_genes)
    return np.asarray((hits + _PRIOR * known.values.mean()) / (counts + _PRIOR))


def frequencies_out_of_fold(
    known: Known, folds: Int[np.ndarray, " row"], *, n_genes: int
) -> Float[np.ndarray, " pair"]:
    """Frequency of the gene of each known pair in the other groups of perturbations."""
    of_pair, found = folds[known.rows], np.empty(len(known.rows))
    for fold in np.unique(of_pair).tolist():
        inside: Bool[np.ndarray, " pair"] = of_pair == fold
        found[inside] = frequencies(known.take(~inside), n_genes=n_genes)[known.columns[inside]]
    return found
