"""Effects of perturbations on every gene: measured in cells by replicate, and predicted for those never seen."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

from cellmodel.core.arrays import CellByGene, unit_rows
from cellmodel.core.errors import InputUnusable
from cellmodel.perturb.kernels import Matrix, centred, nearness
from cellmodel.perturb.model import fold_of
from cellmodel.perturb.tables import MIN_TRAINED
from genekb.core.messages import counted, known_names

N_PSEUDO: Final = 3  # replicates that cells are divided into where none are named
COVERAGE: Final = 0.95  # of the intervals
_TEMPERATURES: Final = (0.1, 0.25, 0.5)
_RIDGES: Final = (0.3, 1.0, 3.0, 10.0, 30.0)
_GENE_SHARES: Final = (0.0, 0.5)  # of a prediction that comes from genes of like text
_GENE_TEMPERATURE: Final = 0.1
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
    groups = np.searchsorted([*sorted([*present, control])], labels) * len(batches) + batch_of
    groups[labels == ""] = -1
    every = sorted([*present, control])
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

    temperature: float  # of the kernel of perturbations
    ridge: float
    gene_share: float  # of a prediction that comes from genes of like text
    uses_text: bool  # whether text predicted better than the mean of the trained perturbations; else that is given


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PredictedEffects:
    """Effects of perturbations never seen."""

    mean: Effects
    half_width: Float[np.ndarray, " gene"]  # of the interval, from residuals out of fold
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
    folds, scale = fold_of(names), np.maximum(measured.std(axis=0), 1e-6)
    centre = vectors.mean(axis=0)
    own, asked = centred(vectors, centre), centred(new, centre)
    smooth = _Smoother(gene_vectors)
    best: tuple[float, EffectSettings, Effects] | None = None
    base = float(np.square((measured - _means_of_others(measured, folds)) / scale).mean())
    for temperature in _TEMPERATURES:
        kernel = nearness(own, own, temperature=temperature).astype(np.float64)
        for ridge in _RIDGES:
            left_out = _out_of_fold(measured, kernel, folds, ridge=ridge)
            smoothed = smooth(left_out)
            for share in _GENE_SHARES:
                found = (1 - share) * left_out + share * smoothed
                error = float(np.square((measured - found) / scale).mean())
                if best is None or error < best[0]:
                    settings = EffectSettings(temperature=temperature, ridge=ridge, gene_share=share, uses_text=True)
                    best = (error, settings, found)
    if best is None or best[0] >= base:
        settings = EffectSettings(temperature=0.0, ridge=0.0, gene_share=0.0, uses_text=False)
        mean = np.broadcast_to(measured.mean(axis=0), (len(new), measured.shape[1])).copy()
        residual = measured - _means_of_others(measured, folds)
        return PredictedEffects(mean=mean, half_width=_half_width(residual), settings=settings, explained=0.0)
    error, settings, found = best
    plain = _regress(
        measured,
        nearness(own, own, temperature=settings.temperature),
        nearness(asked, own, temperature=settings.temperature),
        ridge=settings.ridge,
    )
    plain[~np.any(new != 0, axis=1)] = measured.mean(axis=0)
    mean = (1 - settings.gene_share) * plain + settings.gene_share * smooth(plain)
    half = _half_width(measured - found)
    return PredictedEffects(mean=mean, half_width=half, settings=settings, explained=1 - error / base)


def _regress(measured: Effects, kernel: Matrix, across: Matrix, *, ridge: float) -> Effects:
    mean = measured.mean(axis=0)
    inside = kernel.astype(np.float64) + ridge * np.eye(len(kernel))
    return np.asarray(mean + across @ np.linalg.solve(inside, measured - mean))


def _out_of_fold(measured: Effects, kernel: Matrix, folds: Int[np.ndarray, " _"], *, ridge: float) -> Effects:
    found = np.empty_like(measured)
    for fold in np.unique(folds).tolist():
        inside: Bool[np.ndarray, " _"] = folds == fold
        part = kernel[np.ix_(~inside, ~inside)]
        found[inside] = _regress(measured[~inside], part, kernel[np.ix_(inside, ~inside)], ridge=ridge)
    return found


def _means_of_others(measured: Effects, folds: Int[np.ndarray, " _"]) -> Effects:
    return np.stack([measured[folds != fold].mean(axis=0) for fold in folds.tolist()])


def _half_width(residual: Effects) -> Float[np.ndarray, " gene"]:
    """Half of an interval a gene that holds 95 % of all residuals: wide where those of the gene are."""
    own = np.square(residual).mean(axis=0)
    spread = np.sqrt((own * len(residual) + own.mean()) / (len(residual) + 1))
    return np.asarray(spread * np.quantile(np.abs(residual) / np.maximum(spread, 1e-12), COVERAGE))


class _Smoother:
    """Mean over genes of like text, in blocks of genes; genes without a text keep their own value."""

    def __init__(self, vectors: Matrix) -> None:
        self._vectors = unit_rows(vectors.astype(np.float32))
        self._has_text = np.any(vectors != 0, axis=1)

    def __call__(self, values: Effects) -> Effects:
        found = values.copy()
        for start in range(0, values.shape[1], _BLOCK):
            block = slice(start, start + _BLOCK)
            weights = nearness(self._vectors, self._vectors[block], temperature=_GENE_TEMPERATURE)
            weights[~self._has_text] = 0.0
            smoothed = (values @ weights) / np.maximum(weights.sum(axis=0), 1e-12)
            found[:, block] = np.where(self._has_text[block], smoothed, values[:, block])
        return found
