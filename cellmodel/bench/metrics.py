"""Scores of clusters and of predicted classes against an annotator's labels: the only module that labels enter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from cellmodel.core.errors import InputUnusable


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Agreement of clusters with labels, all in [0, 1] but ARI, which may be negative."""

    # fraction of cells whose cluster is matched to their type, by the best one-to-one matching (Hungarian) on the
    # rectangular contingency table; clusters or types left over match nothing
    accuracy: float
    nmi: float  # normalized mutual information, arithmetic mean
    ari: float  # adjusted Rand index
    # macro_f1, balanced_accuracy: means over types after that matching; a type without a cluster counts 0
    macro_f1: float
    balanced_accuracy: float
    n_clusters: int
    n_types: int

    @property
    def mean(self) -> float:
        """Mean of accuracy, NMI and ARI."""
        return (self.accuracy + self.nmi + self.ari) / 3


def score(y_true: Sequence[object], y_pred: Sequence[object]) -> Scores:
    """Score clusters against labels, one of each a cell; ``ValueError`` if the lengths differ or a label is missing."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    truth, found = _names(y_true, y_pred)
    table = contingency_matrix(truth, found)  # (type, cluster)
    types, clusters = linear_sum_assignment(table, maximize=True)
    hits, predicted = np.zeros((2, len(table)))
    hits[types], predicted[types] = table[types, clusters], table.sum(axis=0)[clusters]
    return Scores(
        nmi=float(normalized_mutual_info_score(truth, found)),
        ari=float(adjusted_rand_score(truth, found)),
        n_clusters=table.shape[1],
        n_types=table.shape[0],
        **_rates(hits, predicted, table.sum(axis=1)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScores:
    """Agreement of predicted classes with labels; names are compared as they are, nothing is matched."""

    accuracy: float  # fraction of cells whose class is their type; a cell without a class counts as wrong
    macro_f1: float  # macro_f1, balanced_accuracy: means over the types that occur in the truth
    balanced_accuracy: float
    share_unassigned: float  # share of cells without a class
    recall: dict[str, float]  # fraction of each type's cells that were given it
    # names of the columns of ``confusion``: the types of the truth, then other predicted classes
    classes: tuple[str, ...]
    # (type, class) numbers of cells; rows are the types of the truth, in the order of the first columns
    confusion: Int[np.ndarray, "type class"]


def score_classes(y_true: Sequence[object], y_pred: Sequence[object], *, unassigned: str = "unassigned") -> ClassScores:
    """Score predicted classes against labels; ``unassigned`` is no class.

    Raises ``ValueError`` if the lengths differ, there is no cell, or a label is missing.
    """
    import pandas as pd

    truth, found = _names(y_true, y_pred)
    types = np.unique(truth)
    classes = [*types.tolist(), *np.setdiff1d(found, types).tolist()]
    confusion = pd.crosstab(truth, found).reindex(columns=classes, fill_value=0).to_numpy()
    hits, actual = np.diag(confusion), confusion.sum(axis=1)
    return ClassScores(
        share_unassigned=float((found == unassigned).mean()),
        recall=dict(zip(types.tolist(), (hits / actual).tolist(), strict=True)),
        classes=tuple(classes),
        confusion=confusion,
        **_rates(hits, confusion.sum(axis=0)[: len(types)], actual),
    )


def _rates(hits: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> dict[str, float]:
    """Accuracy, and means over types, from the cells of each type that are right, predicted, and there."""
    return {
        "accuracy": float(hits.sum() / actual.sum()),
        "macro_f1": float((2 * hits / (actual + predicted)).mean()),
        "balanced_accuracy": float((hits / actual).mean()),
    }


def _names(y_true: Sequence[object], y_pred: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    """Give both labels of each cell as text; ``ValueError`` if there is no cell, or a label is missing."""
    import pandas as pd

    for name, labels in (("y_true", y_true), ("y_pred", y_pred)):
        missing = int(pd.isna(np.asarray(labels, dtype=object)).sum())
        if len(labels) == 0 or missing:
            raise ValueError(f"{name} has {len(labels)} cells, {missing} of them without a label; give one for each")
    if len(y_true) != len(y_pred):
        raise ValueError(f"y_true has {len(y_true)} cells, y_pred {len(y_pred)}; one of each a cell is needed")
    truth, found = (np.array([str(label) for label in labels]) for labels in (y_true, y_pred))
    return truth, found


def score_columns(columns: Mapping[str, Sequence[str]], truth: str, pred: str, *, source: str) -> Scores:
    """Score one column against another; cells that lack either are left out, ``InputUnusable`` if that leaves none."""
    labeled = [pair for pair in zip(columns[truth], columns[pred], strict=True) if pair[0] and pair[1]]
    if not labeled:
        raise InputUnusable(f"{source} has no cell with both {truth!r} and {pred!r}")
    return score([pair[0] for pair in labeled], [pair[1] for pair in labeled])
