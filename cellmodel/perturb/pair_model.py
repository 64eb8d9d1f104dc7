"""A model of labeled pairs of perturbation and gene: weights, calibration, and labels of other cell lines."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cellmodel.perturb.features import Known, Settings, Vectors, pair_features
from cellmodel.perturb.model import (
    Calibration,
    Stack,
    calibrate,
    choose_settings,
    fit_stack,
    fold_of,
    frequencies,
    frequencies_out_of_fold,
    mean_auc,
    out_of_fold,
    scores_left_out,
)
from cellmodel.perturb.tables import MIN_TRAINED
from cellmodel.perturb.texts import GeneTexts

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
