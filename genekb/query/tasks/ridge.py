"""Class-balanced kernel ridge regression on the cosine of vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from genekb.encoders.base import unit_or_zero
from genekb.query.tasks.tables import Mask, Round

GAMMA: Final = 2.0  # K = exp(-GAMMA (1 - cosine)): a Gaussian kernel of vectors of unit length
PENALTY: Final = 3.0
MOST_EXACT: Final = 4_000  # rows trained on with their whole kernel; of more rows, with some of its columns
N_LANDMARKS: Final = 1_000
_TINY: Final = float(np.finfo(np.float32).tiny)
_JITTER: Final = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Points:
    """Genes, or pairs of genes, which have the direction of the sum of their two vectors."""

    vectors: Float32[np.ndarray, "gene dim"]  # of unit length
    members: Int[np.ndarray, "row member"]  # row of ``vectors`` of each gene of a row

    def unit(self, rows: Int[np.ndarray, " row"]) -> Float32[np.ndarray, "row dim"]:
        """Vectors of some rows, of unit length."""
        return unit_or_zero(self.vectors[self.members[rows]].sum(axis=1))

    def kernel(
        self, rows: Int[np.ndarray, " row"], landmarks: Float32[np.ndarray, "landmark dim"]
    ) -> Float32[np.ndarray, "row landmark"]:
        """Kernel of some rows with some vectors of unit length; a gene of many rows is multiplied once."""
        used, index = np.unique(self.members[rows], return_inverse=True)
        index = index.reshape(len(rows), -1)
        products = self.vectors[used] @ landmarks.T
        summed = sum((products[column] for column in index.T[1:]), start=products[index[:, 0]])
        return _kernel_of(summed / self._norms(rows)[:, None])

    def _norms(self, rows: Int[np.ndarray, " row"]) -> Float32[np.ndarray, " row"]:
        own = self.members[rows]
        if own.shape[1] == 1:
            return np.ones(len(rows), dtype=np.float32)
        first, second = own.T
        steps = range(0, len(rows), MOST_EXACT)
        cosines = [
            np.einsum("rd,rd->r", self.vectors[first[at : at + MOST_EXACT]], self.vectors[second[at : at + MOST_EXACT]])
            for at in steps
        ]
        return np.asarray(np.sqrt(np.maximum(2 + 2 * np.concatenate(cosines), _TINY)), dtype=np.float32)


def _kernel_of(cosines: np.ndarray) -> Float32[np.ndarray, "row other"]:
    return np.asarray(np.exp(GAMMA * (cosines - 1)), dtype=np.float32)


def score_rounds(
    points: Points, has_term: Bool[np.ndarray, " row"], rounds: Sequence[Round], *, seed: int = 0
) -> float:
    """Mean AUROC of the rounds of a term that train and score both classes; else NaN. ``seed`` draws landmarks."""
    from sklearn.metrics import roc_auc_score

    usable = [each for each in rounds if _has_both(has_term[each.train]) and _has_both(has_term[each.scored])]
    if not usable:
        return float("nan")
    whole: Float32[np.ndarray, "row row"] | None = None
    if max(int(each.train.sum()) for each in usable) <= MOST_EXACT >= len(has_term):
        unit = points.unit(np.arange(len(has_term)))
        whole = _kernel_of(unit @ unit.T)
    areas = []
    for each in usable:
        if whole is not None:
            scores = fit_whole(whole, has_term, each)
        else:
            scores = _fit_landmarks(points, has_term, each, np.random.default_rng([seed, 2]))
        areas.append(roc_auc_score(has_term[each.scored], scores))
    return float(np.mean(areas))


def _has_both(has_term: Mask) -> bool:
    return bool(has_term.any() and not has_term.all())


def _weights(has_term: Mask) -> Float[np.ndarray, " row"]:
    """Weight of each row, so that both classes count alike: n / (2 n of its class)."""
    share = has_term.mean()
    return np.where(has_term, 0.5 / share, 0.5 / (1 - share))


def fit_whole(
    kernel: Float32[np.ndarray, "row row"], has_term: Bool[np.ndarray, " row"], parts: Round
) -> Float[np.ndarray, " scored"]:
    r"""Scores of the scored rows by (K + λ diag(1/w)) a = ±1 on those that are trained on; score K a."""
    from sklearn.kernel_ridge import KernelRidge

    train, signs = np.flatnonzero(parts.train), np.where(has_term[parts.train], 1, -1).astype(np.float32)
    model = KernelRidge(alpha=PENALTY, kernel="precomputed")
    model.fit(kernel[np.ix_(train, train)], signs, sample_weight=_weights(has_term[train]).astype(np.float32))
    return np.asarray(model.predict(kernel[np.ix_(np.flatnonzero(parts.scored), train)]))


def _fit_landmarks(
    points: Points, has_term: Mask, parts: Round, rng: np.random.Generator
) -> Float[np.ndarray, " scored"]:
    """Give the same scores with the functions that some of the rows span (Nyström)."""
    from scipy.linalg import cho_factor, cho_solve

    train, scored = np.flatnonzero(parts.train), np.flatnonzero(parts.scored)
    landmarks = points.unit(np.sort(rng.choice(train, size=min(N_LANDMARKS, len(train)), replace=False)))
    root = np.sqrt(_weights(has_term[train])).astype(np.float32)
    weighted = points.kernel(train, landmarks) * root[:, None]
    own = _kernel_of(landmarks @ landmarks.T).astype(np.float64)
    own[np.diag_indices_from(own)] += _JITTER
    system = weighted.T @ weighted + PENALTY * own
    signs = np.where(has_term[train], 1, -1).astype(np.float32)
    found = cho_solve(cho_factor(system, lower=True, overwrite_a=True), weighted.T @ (root * signs))
    return np.asarray(points.kernel(scored, landmarks) @ found)
