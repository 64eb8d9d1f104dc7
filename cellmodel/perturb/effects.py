"""Effects of perturbations on every gene: measured in cells by replicate, and predicted for those never seen."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

from cellmodel.core.arrays import CellByGene, unit_rows
from cellmodel.core.errors import InputUnusable
from cellmodel.perturb.features import GRID, MIN_TRAINED, Matrix, centered, nearness
from cellmodel.perturb.model import N_FOLDS, by_others, fold_of
from genekb.core.messages import counted, known_names

N_PSEUDO: Final = 3  # replicates that cells are divided into where none are named
COVERAGE: Final = 0.95  # of the intervals
_TEMPERATURES: Final = GRID["temperature"]
_RIDGES: Final = (0.3, 1.0, 3.0, 10.0, 30.0)
_GENE_TEMPERATURES: Final = GRID["gene_temperature"]
_BLOCK: Final = 1_024

Effects = Float[np.ndarray, "perturbation gene"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MeasuredEffects:
    """Mean log expression of perturbed cells less that of control cells of the same replicate, mean over replicates."""

    names: tuple[str, ...]  # of the perturbations, sorted
    mean: Effects
    error: Effects  # standard error over replicates; NaN where one replicate alone has the perturbation
    n_replicates: Int[np.ndarray, " perturbation"]
    n_cells: Int[np.ndarray, " perturbation"]


def pseudo_replicates(names: Sequence[str]) -> list[str]:
    """Divide cells into pseudo-replicates by a hash of their names; they vary less than experiments do."""
    return [str(hashlib.sha256(name.encode()).digest()[0] % N_PSEUDO) for name in names]


def measure_effects(
    expression: CellByGene, perturbations: Sequence[str], replicates: Sequence[str], *, control: str
) -> MeasuredEffects:
    """Measure pseudobulk effects; cells whose perturbation is empty are left out.

    Raises ``InputUnusable`` if no cell is of the control, or fewer than 20 perturbations share a replicate with it.
    """
    labels = np.array(perturbations, dtype=np.str_)
    present = sorted(set(labels.tolist()) - {"", control})
    if control not in labels:
        raise InputUnusable(f"no cell has the perturbation {control!r}; there are {known_names(control, present)}")
    batches, batch_of = np.unique(np.array(replicates, dtype=np.str_), return_inverse=True)
    every = sorted([*present, control])
    groups = np.searchsorted(every, labels) * len(batches) + batch_of
    groups[labels == ""] = -1
    means, n_cells = _group_means(expression, groups, n_groups=len(every) * len(batches))
    means = means.reshape(len(every), len(batches), -1)
    counts = n_cells.reshape(len(every), len(batches))
    at = every.index(control)
    kept = np.delete(np.arange(len(every)), at)
    has_both = (counts[kept] > 0) & (counts[at] > 0)
    n_replicates = has_both.sum(axis=1)
    n_compared = int(np.count_nonzero(n_replicates))
    if n_compared < MIN_TRAINED:
        raise InputUnusable(
            f"{counted(n_compared, 'perturbation')} beside {control!r} can be compared with it, at least {MIN_TRAINED} "
            "are needed: settings are chosen on groups of them; add perturbations"
        )
    kept, has_both, n_replicates = kept[n_replicates > 0], has_both[n_replicates > 0], n_replicates[n_replicates > 0]
    difference = np.where(has_both[:, :, None], means[kept] - means[at], 0.0)
    mean = difference.sum(axis=1) / n_replicates[:, None]
    squares = (np.where(has_both[:, :, None], difference - mean[:, None, :], 0.0) ** 2).sum(axis=1)
    degrees = np.where(n_replicates > 1, (n_replicates - 1) * n_replicates, np.nan)
    return MeasuredEffects(
        names=tuple(every[place] for place in kept.tolist()),
        mean=mean,
        error=np.sqrt(squares / degrees[:, None]),
        n_replicates=n_replicates,
        n_cells=np.where(has_both, counts[kept], 0).sum(axis=1),
    )


def _group_means(
    expression: CellByGene, groups: Int[np.ndarray, " cell"], *, n_groups: int
) -> tuple[Effects, Int[np.ndarray, " group"]]:
    """Mean expression of each group of cells, zero for one without cells, and their numbers."""
    import scipy.sparse as sp

    rows = np.flatnonzero(groups >= 0)
    counts = np.bincount(groups[rows], minlength=n_groups)
    members = sp.csr_matrix((np.ones(len(rows)), (groups[rows], rows)), shape=(n_groups, len(groups)))
    sums = np.asarray((members @ expression.astype(np.float64)).todense())
    return sums / np.maximum(counts, 1)[:, None], counts


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectSettings:
    """What the regression uses; chosen by the error of training perturbations that are predicted by others."""

    temperature: float = 0.0  # of the kernel of perturbations
    ridge: float = 0.0
    gene_temperature: float = 0.0  # of genes of like text, of which half of a prediction is made; 0: none of it
    uses_text: bool = False  # whether text predicted better than the mean of the trained ones; else that is given


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PredictedEffects:
    """Effects of perturbations never seen."""

    mean: Effects
    half_width: Float[np.ndarray, " gene"]  # of intervals that hold 95 % of all residuals out of fold
    settings: EffectSettings
    # 1 - squared error / that of the mean of trained perturbations, out of fold; 0: text says nothing
    explained: float


def predict_effects(
    measured: Effects, vectors: Matrix, names: Sequence[str], *, new: Matrix, gene_vectors: Matrix
) -> PredictedEffects:
    """Predict effects by kernel ridge regression on the texts of perturbed genes, smoothed over genes of like text.

    ``measured``: of the trained perturbations, whose vectors and names are ``vectors`` and ``names``; ``new``: vectors
    of those to predict; zero rows give the mean. Settings are chosen, and intervals taken, out of fold.
    """
    center = vectors.mean(axis=0)
    own, asked = centered(vectors, center), centered(new, center)
    smooth = _Smoother(gene_vectors)
    trials = _try_settings(measured, own, fold_of(names), smooth)
    settings, left_out = trials.best
    mean = np.broadcast_to(measured.mean(axis=0), (len(new), measured.shape[1])).copy()
    if settings.uses_text:
        inside, across = (nearness(one, own, temperature=settings.temperature) for one in (own, asked))
        has_text = np.any(new != 0, axis=1)
        mean[has_text] = _regress(measured, inside, across[has_text], ridge=settings.ridge)
        mean = smooth(mean, temperature=settings.gene_temperature)
    residual = measured - left_out
    own_spread = np.square(residual).mean(axis=0)
    spread = np.sqrt((own_spread * len(residual) + own_spread.mean()) / (len(residual) + 1))
    return PredictedEffects(
        mean=mean,
        half_width=spread * np.quantile(np.abs(residual) / np.maximum(spread, 1e-12), COVERAGE),
        settings=settings,
        explained=trials.explained() if settings.uses_text else 0.0,
    )


@dataclass(kw_only=True, slots=True, eq=False)
class _Trials:
    """Errors of settings in each group of perturbations; the first is the mean of the other groups."""

    measured: Effects
    folds: Int[np.ndarray, " perturbation"]
    best: tuple[EffectSettings, Effects]  # with what it predicts of each group by the others
    errors: list[Float[np.ndarray, " fold"]] = field(default_factory=list)
    lowest: float = np.inf

    def add(self, settings: EffectSettings, left_out: Effects) -> None:
        """Keep the error, and the prediction where it is the best."""
        scale = np.maximum(self.measured.std(axis=0), 1e-6)
        error = np.square((self.measured - left_out) / scale).mean(axis=1)
        self.errors.append(np.bincount(self.folds, error, N_FOLDS))
        if self.errors[-1].sum() < self.lowest:
            self.best, self.lowest = (settings, left_out), float(self.errors[-1].sum())

    def explained(self) -> float:
        """Part of the variance explained in each group by the settings that are best in the others."""
        errors = np.array(self.errors)
        chosen = (errors.sum(axis=1, keepdims=True) - errors).argmin(axis=0)
        return float(1 - errors[chosen, np.arange(N_FOLDS)].sum() / errors[0].sum())


def _try_settings(measured: Effects, own: Matrix, folds: Int[np.ndarray, " _"], smooth: "_Smoother") -> _Trials:
    """Try every regression, then every smoothing of the best of them."""
    mean = np.stack([measured[folds != fold].mean(axis=0) for fold in folds.tolist()])
    trials = _Trials(measured=measured, folds=folds, best=(EffectSettings(), mean))
    trials.add(*trials.best)
    for temperature in _TEMPERATURES:
        kernel = nearness(own, own, temperature=temperature).astype(np.float64)
        for ridge in _RIDGES:
            settings = EffectSettings(temperature=temperature, ridge=ridge, uses_text=True)
            trials.add(settings, _out_of_fold(measured, kernel, folds, ridge=ridge))
    settings, left_out = trials.best
    for temperature in _GENE_TEMPERATURES if settings.uses_text else ():
        smoothed = smooth(left_out, temperature=temperature)
        trials.add(replace(settings, gene_temperature=temperature), smoothed)
    return trials


def _regress(measured: Effects, kernel: Matrix, across: Matrix, *, ridge: float) -> Effects:
    mean = measured.mean(axis=0)
    inside = kernel.astype(np.float64) + ridge * np.eye(len(kernel))
    return np.asarray(mean + across @ np.linalg.solve(inside, measured - mean))


def _out_of_fold(measured: Effects, kernel: Matrix, folds: Int[np.ndarray, " _"], *, ridge: float) -> Effects:
    def predicted(inside: Bool[np.ndarray, " _"]) -> Effects:
        part = kernel[np.ix_(~inside, ~inside)]
        return _regress(measured[~inside], part, kernel[np.ix_(inside, ~inside)], ridge=ridge)

    return by_others(folds, predicted)


class _Smoother:
    """Mean of values and of those of genes of like text, in blocks of genes; genes without a text keep their own."""

    def __init__(self, vectors: Matrix) -> None:
        self._vectors = unit_rows(vectors.astype(np.float32))
        self._has_text = np.any(vectors != 0, axis=1)

    def __call__(self, values: Effects, *, temperature: float) -> Effects:
        found = values.copy()
        for start in range(0, values.shape[1] if temperature else 0, _BLOCK):
            block = slice(start, start + _BLOCK)
            weights = nearness(self._vectors, self._vectors[block], temperature=temperature)
            weights[~self._has_text] = 0.0
            smoothed = (values @ weights) / np.maximum(weights.sum(axis=0), 1e-12)
            found[:, block] = np.where(self._has_text[block], (smoothed + values[:, block]) / 2, values[:, block])
        return found
