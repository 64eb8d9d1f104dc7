"""Features joined to one score: by least squares, and where that helps by boosted trees beside it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float, Int

from cellmodel.perturb.auc import mean_gene_auc
from cellmodel.perturb.features import FEATURES, FOR_TREES, Known, Pairs

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

SHARES: Final = (0.0, 0.5)  # of boosted trees in a score; the rest is linear
_LEAST_VARIANCE: Final = 0.02
_LINEAR: Final = np.array([name not in FOR_TREES for name in FEATURES])

Features = Float[np.ndarray, "pair feature"]
Scores = Float[np.ndarray, " pair"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stack:
    """Weights of features, each less its mean over the known pairs of a gene, and trees that share in the score."""

    means: Float[np.ndarray, "gene feature"]
    context: Float[np.ndarray, "gene two"]  # mean label, and logarithm of the number of known pairs
    weights: Float[np.ndarray, " feature"]
    trees: "HistGradientBoostingRegressor | None"
    share: float  # of the trees

    def score(self, features: Features, columns: Pairs) -> Scores:
        """Departure of each pair from the mean of its gene."""
        inside = features - self.means[columns]
        linear = np.asarray(_linear(inside) @ self.weights)
        if self.trees is None:
            return linear
        boosted = self.trees.predict(np.hstack([inside, self.context[columns]]))
        return np.asarray((1.0 - self.share) * linear + self.share * boosted)


def fit_stack(features: Features, known: Known, *, n_genes: int, share: float = 0.0) -> Stack:
    """Weigh features by least squares of what departs from the mean of a gene, in units of its variance.

    One step of logistic regression with an intercept a gene. Genes of one label alone say nothing of the weights.
    Trees, where they have a share, are fitted to the same.
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
    inside, departure = features[used] - means[columns], known.values[used] - rates[columns]
    floor = _LEAST_VARIANCE * float(np.square(known.values).mean())
    precision = 1.0 / np.maximum(variances[columns], floor)
    precision /= precision.mean()
    context = np.stack([rates, np.log1p(n_pairs)], axis=1)
    return Stack(
        means=means,
        context=context,
        weights=_least_squares(_linear(inside), departure, precision),
        trees=_boost(np.hstack([inside, context[columns]]), departure, precision) if share else None,
        share=share,
    )


def _linear(features: Features) -> Features:
    """Keep features that are weighed, of one table or of several side by side."""
    return features[:, np.tile(_LINEAR, features.shape[1] // len(FEATURES))]


def _least_squares(inside: Features, departure: Scores, precision: Scores) -> Float[np.ndarray, " feature"]:
    scale = np.maximum(inside.std(axis=0), 1e-12)
    design = inside / scale
    weighted = design * precision[:, None]
    left = weighted.T @ design + np.eye(design.shape[1])
    return np.asarray(np.linalg.solve(left, weighted.T @ departure) / scale)


def _boost(inputs: Features, departure: Scores, precision: Scores) -> "HistGradientBoostingRegressor":
    """Fit small boosted trees :cite:`friedman2001boosting`."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    model = HistGradientBoostingRegressor(
        max_iter=100,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=100,
        l2_regularization=10.0,
        early_stopping=False,
        random_state=0,
    )
    with threadpool_limits(limits=1, user_api="openmp"):  # sums of gradients depend on the number of threads
        return model.fit(inputs, departure, sample_weight=precision)


def scores_left_out(
    features: Features, known: Known, folds: Int[np.ndarray, " row"], *, n_genes: int, share: float = 0.0
) -> Scores:
    """Scores of known pairs by features out of fold, with weights of the other groups."""
    found, of_pair = np.empty(len(known.rows)), folds[known.rows]
    for fold in np.unique(of_pair).tolist():
        inside = of_pair == fold
        stack = fit_stack(features[~inside], known.take(~inside), n_genes=n_genes, share=share)
        found[inside] = stack.score(features[inside], known.columns[inside])
    return found


def group_aucs(known: Known, folds: Int[np.ndarray, " row"], scores: Scores) -> Float[np.ndarray, " group"]:
    """Mean AUC over genes inside each group of perturbations, which have offsets of their own."""
    of_pair = folds[known.rows]
    inside = [of_pair == fold for fold in np.unique(of_pair).tolist()]
    return np.array([mean_gene_auc(known.columns[one], known.values[one], scores[one]) for one in inside])


def choose_share(
    tried: Float[np.ndarray, "share pair"], known: Known, folds: Int[np.ndarray, " row"]
) -> tuple[int, Int[np.ndarray, " pair"]]:
    """Choose among :data:`SHARES` by the mean AUC of groups of perturbations, for scores that others gave them.

    Trees share where they gain more than the standard error of that gain over groups :cite:`breiman1984cart`.
    ``tried``: scores left out, of each share. Gives the place of the chosen one, and that of each pair: chosen in the
    groups that it is not in, so that the choice does not flatter it.
    """
    without, halves = (group_aucs(known, folds, one) for one in tried)
    gains = np.nan_to_num(halves - without)
    of_group = np.array([_is_gain(np.delete(gains, place)) for place in range(len(gains))])
    groups = np.unique(folds[known.rows], return_inverse=True)[1]
    return int(_is_gain(gains)), of_group.astype(np.int64)[groups]


def _is_gain(gains: Float[np.ndarray, " group"]) -> bool:
    return bool(gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains)))
