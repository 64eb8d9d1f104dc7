"""A model of responses to perturbations: features out of fold, their weights, a calibrated probability, its AUC."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

from cellmodel.perturb.features import GRID, MIN_TRAINED, Known, Pairs, Settings, Vectors, pair_features
from cellmodel.perturb.texts import GeneTexts


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


def by_others(
    groups: Int[np.ndarray, " row"], predict: Callable[[Bool[np.ndarray, " row"]], Float[np.ndarray, "..."]]
) -> Float[np.ndarray, "..."]:
    """Values of the rows of each group as ``predict`` gives them by the rows outside; it takes which are inside."""
    inside = [groups == group for group in np.unique(groups).tolist()]
    parts = [predict(rows) for rows in inside]
    found = np.empty((len(groups), *parts[0].shape[1:]))
    for rows, part in zip(inside, parts, strict=True):
        found[rows] = part
    return found


def out_of_fold(
    known: Known, folds: Int[np.ndarray, " row"], vectors: Vectors, *, settings: Settings
) -> Float[np.ndarray, "pair feature"]:
    """Features of each known pair by perturbations of the other groups alone; ``folds``: of rows of perturbations."""

    def features(inside: Bool[np.ndarray, " pair"]) -> Float[np.ndarray, "inside feature"]:
        rows, columns = known.rows[inside], known.columns[inside]
        return pair_features(known.take(~inside), rows, columns, vectors, settings=settings)

    return by_others(folds[known.rows], features)


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

    def scores(inside: Bool[np.ndarray, " pair"]) -> Float[np.ndarray, " inside"]:
        stack = fit_stack(features[~inside], known.take(~inside), n_genes=n_genes)
        return stack.score(features[inside], known.columns[inside])

    return by_others(folds[known.rows], scores)


def mean_auc(known: Known, folds: Int[np.ndarray, " row"], scores: Float[np.ndarray, " pair"]) -> float:
    """Mean AUC over genes inside each group of perturbations, which have offsets of their own; mean of groups."""
    of_pair = folds[known.rows]
    inside = [of_pair == fold for fold in np.unique(of_pair).tolist()]
    return float(np.mean([mean_gene_auc(known.columns[one], known.values[one], scores[one]) for one in inside]))


def choose_settings(known: Known, folds: Int[np.ndarray, " row"], vectors: Vectors) -> Settings:
    """Choose settings one after the other, each by the mean AUC of training perturbations that others predict."""
    genes = np.unique(known.columns)
    kept = genes[np.unique(np.linspace(0, len(genes) - 1, min(len(genes), _N_COMPARED)).round().astype(np.int64))]
    known = known.take(np.isin(known.columns, kept))
    known, vectors = (
        replace(known, columns=np.searchsorted(kept, known.columns)),
        replace(vectors, genes=vectors.genes[kept]),
    )

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
    return by_others(
        folds[known.rows],
        lambda inside: frequencies(known.take(~inside), n_genes=n_genes)[known.columns[inside]],
    )


log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PairVectors:
    """Vectors of the perturbations and genes that occur, and places of rows among them."""

    vectors: Vectors
    perturbations: Int[np.ndarray, " perturbation"]  # rows, sorted
    genes: Int[np.ndarray, " gene"]

    def known(self, pairs: Known) -> Known:
        """Pairs by their places."""
        rows, columns = self.places(pairs)
        return Known(rows=rows, columns=columns, values=pairs.values)

    def places(self, pairs: Known) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
        """Places of perturbations and of genes of pairs of rows of texts."""
        return np.searchsorted(self.perturbations, pairs.rows), np.searchsorted(self.genes, pairs.columns)


def pair_vectors(texts: GeneTexts, pairs: Sequence[Known]) -> PairVectors:
    """Take the vectors that some pairs of rows of texts need."""
    perturbations = np.unique(np.concatenate([one.rows for one in pairs]))
    genes = np.unique(np.concatenate([one.columns for one in pairs]))
    vectors = Vectors(perturbations=texts.vectors[perturbations], genes=texts.vectors[genes])
    return PairVectors(vectors=vectors, perturbations=perturbations, genes=genes)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PairModel:
    """Weights and calibration of a training table, and what they are used with."""

    compact: PairVectors
    known: Known
    other: Known | None  # of other cell lines, where enough perturbations are shared
    stack: Stack
    stack_with_other: Stack | None
    rates: Float[np.ndarray, " gene"]
    calibration: Calibration
    settings: Settings
    auc: float
    n_shared: int

    @classmethod
    def fit(cls, compact: PairVectors, known: Known, other: Known | None, names: Sequence[str]) -> "PairModel":
        """Fit everything to features that are out of fold."""
        known, n_genes = compact.known(known), len(compact.genes)
        other = compact.known(other) if other else None
        trained = np.unique(known.rows)
        folds = np.zeros(len(compact.perturbations), dtype=np.int64)
        folds[trained] = fold_of([names[row] for row in compact.perturbations[trained].tolist()])
        settings = choose_settings(known, folds, compact.vectors)
        features = out_of_fold(known, folds, compact.vectors, settings=settings)
        stack = fit_stack(features, known, n_genes=n_genes)
        scores = stack.score(features, known.columns)
        left_out = scores_left_out(features, known, folds, n_genes=n_genes)
        shared = np.isin(known.rows, other.rows) if other else np.zeros(len(known.rows), dtype=bool)
        n_shared, with_other = len(np.unique(known.rows[shared])), None
        if other and n_shared < MIN_TRAINED:
            log.warning(
                "%d trained perturbations are in the other table, %d are needed; not used", n_shared, MIN_TRAINED
            )
            other, n_shared = None, 0
        elif other:
            part = known.take(shared)
            both = _with_other(features[shared], other, part, compact.vectors, settings)
            with_other = fit_stack(both, part, n_genes=n_genes)
            scores[shared] = with_other.score(both, part.columns)
            left_out[shared] = scores_left_out(both, part, folds, n_genes=n_genes)
        rates = frequencies_out_of_fold(known, folds, n_genes=n_genes)
        return cls(
            compact=compact,
            known=known,
            other=other,
            stack=stack,
            stack_with_other=with_other,
            rates=frequencies(known, n_genes=n_genes),
            calibration=calibrate(scores, rates, known.values),
            settings=settings,
            auc=mean_auc(known, folds, left_out),
            n_shared=n_shared,
        )

    def predict(self, asked: Known) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score and probability of pairs, and which of them used labels of other cell lines."""
        rows, columns = self.compact.places(asked)
        features = pair_features(self.known, rows, columns, self.compact.vectors, settings=self.settings)
        scores = self.stack.score(features, columns)
        used = np.zeros(len(rows), dtype=bool)
        if self.other is not None and self.stack_with_other is not None:
            used = np.isin(rows, self.other.rows)
            if used.any():
                part = Known(rows=rows[used], columns=columns[used], values=asked.values[used])
                both = _with_other(features[used], self.other, part, self.compact.vectors, self.settings)
                scores[used] = self.stack_with_other.score(both, columns[used])
        return scores, self.calibration.probability(scores, self.rates[columns]), used


def _with_other(
    features: Float[np.ndarray, "pair feature"], other: Known, pairs: Known, vectors: Vectors, settings: Settings
) -> Float[np.ndarray, "pair feature"]:
    others = pair_features(other, pairs.rows, pairs.columns, vectors, settings=settings)
    return np.concatenate([features, others], axis=1)
