"""Designs: which samples are compared, in blocks of which donors and batches, and what so many samples cannot show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import orth

from cellmodel.core.arrays import Labels
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.samples.moderated_t import RANK
from cellmodel.io.cells import ObsCategories
from genekb.core.messages import counted, known_names, listed

Method = Literal["auto", "limma", "deseq2"]
_MOST_LEVELS: Final = 50  # of a condition; more are measured values
_ALPHA: Final = 0.05
_FEW_DF: Final = 2  # residual degrees of freedom of two samples a side


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleConfig:
    """What is compared between samples, and how."""

    sample_key: str = ""  # column of obs with the sample, or the donor, of each cell; empty for that of a run's files
    cluster_key: str = "cellmodel"  # column of obs with the clusters
    condition_key: str | None = None  # column of obs with the conditions to compare; clusters are compared if None
    reference: str | None = None  # condition that the others are compared with; the first one if None
    batch_key: str | None = None  # column of obs with a batch of whole samples, to adjust for
    confounded_ok: bool = False  # whether conditions are compared although they are confounded with batches
    # ``limma``: moderated t of log counts per million; ``deseq2``: PyDESeq2; ``auto``: the latter where it is installed
    # and either side has enough samples
    method: Method = "auto"
    min_cells: int = 10  # of a sample in a cluster, for it to be used there

    def __post_init__(self) -> None:
        """Check that the choices go together."""
        if self.min_cells < 1:
            raise ValueError(f"min_cells must be >= 1, got {self.min_cells}")
        if self.condition_key is None:
            for option, value in (("`reference`", self.reference), ("`batch_key`", self.batch_key)):
                if value is not None:
                    raise ValueError(f"{option} goes with `condition_key`; else clusters are compared in each sample")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Replicates:
    """Samples, or samples in a condition: each counts once in a test."""

    labels: Labels  # (cell,) replicate of each cell
    sample: Int[np.ndarray, " unit"]  # of each replicate: its place in ``samples``
    condition: Int[np.ndarray, " unit"]  # its place in ``conditions``; 0 without any
    batch: Int[np.ndarray, " unit"]  # number of its batch; 0 without any
    samples: tuple[str, ...]
    conditions: tuple[str, ...]  # the reference first; empty where clusters are compared
    is_paired: bool  # whether conditions are compared inside each sample, as most samples have several
    notes: tuple[str, ...]  # what was found and chosen


def find_replicates(
    samples: ObsCategories,
    conditions: ObsCategories | None,
    batches: ObsCategories | None,
    *,
    config: SampleConfig,
) -> Replicates:
    """Find the replicates, and whether the conditions are paired; ``InputUnusable`` if there is nothing to compare."""
    names, notes = _conditions(conditions, config)
    place = np.zeros(max(len(names), 1), dtype=np.int64)
    if conditions is not None:
        place = np.array([names.index(name) for name in conditions.names])
    of_cell = place[conditions.codes if conditions is not None else np.zeros(len(samples.codes), dtype=np.int64)]
    pairs, labels = np.unique(np.column_stack([samples.codes, of_cell]), axis=0, return_inverse=True)
    labels = labels.ravel().astype(np.int64)
    batch = _batches(labels, batches, [samples.names[code] for code in pairs[:, 0]])
    n_conditions = np.bincount(pairs[:, 0])
    is_paired = bool(2 * (n_conditions > 1).sum() >= len(n_conditions)) and len(names) > 1
    found = Replicates(
        labels=labels,
        sample=pairs[:, 0],
        condition=pairs[:, 1],
        batch=batch,
        samples=samples.names,
        conditions=names,
        is_paired=is_paired,
        notes=(*notes, *_pairing_note(n_conditions, samples, config=config, is_paired=is_paired)),
    )
    if batches is not None:
        _check_confounded(found, config)
    return found


def _conditions(conditions: ObsCategories | None, config: SampleConfig) -> tuple[tuple[str, ...], list[str]]:
    """Names of the conditions, the reference first, and what was chosen."""
    if conditions is None:
        return (), []
    names, key = conditions.names, conditions.key
    if len(names) < 2:  # noqa: PLR2004 - one has no other
        raise InputUnusable(
            f"column {key!r} holds the condition {names[0]!r} alone; two are needed, name another column with "
            "`condition_key`"
        )
    if len(names) > _MOST_LEVELS:
        raise InputUnusable(
            f"column {key!r} holds {len(names):,} values, which are measured rather than conditions; make groups of "
            f"them, at most {_MOST_LEVELS}"
        )
    if config.reference is not None and config.reference not in names:
        raise InputUnusable(
            f"{key!r} has no condition {config.reference!r} (it has: {known_names(config.reference, names)}); name "
            "one with `reference`"
        )
    reference = config.reference or names[0]
    notes = [] if config.reference else [f"{reference!r} is the reference of {key!r}; `reference` names another"]
    return (reference, *(name for name in names if name != reference)), notes


def _batches(labels: Labels, batches: ObsCategories | None, names: Sequence[str]) -> Int[np.ndarray, " unit"]:
    """Batch of each replicate; a replicate in several batches is refused."""
    batch = np.zeros(len(names), dtype=np.int64)
    if batches is None:
        return batch
    pairs = np.unique(np.column_stack([labels, batches.codes]), axis=0)
    several = np.flatnonzero(np.bincount(pairs[:, 0], minlength=len(names)) > 1)
    if len(several):
        raise InputUnusable(
            f"cells of sample {names[several[0]]!r} are in several batches of {batches.key!r}; a batch is one of whole "
            "samples, leave `batch_key` out"
        )
    batch[pairs[:, 0]] = pairs[:, 1]
    return batch


def _pairing_note(
    n_conditions: Int[np.ndarray, " sample"], samples: ObsCategories, *, config: SampleConfig, is_paired: bool
) -> list[str]:
    several = n_conditions > 1
    if not several.any():
        return []
    if several.all():
        return [f"paired by {config.sample_key!r}: every sample has several conditions and is compared with itself"]
    left_out = [name for name, kept in zip(samples.names, several == is_paired, strict=True) if not kept]
    if is_paired:
        what = f"paired by {config.sample_key!r}: samples with several conditions are compared with themselves"
    else:
        what = f"not paired: most of {config.sample_key!r} have one condition"
    return [f"{what}; left out: {listed(left_out)}"]


def _check_confounded(found: Replicates, config: SampleConfig) -> None:
    """Refuse conditions that the batches determine, unless that was allowed."""
    if config.confounded_ok:
        return
    for number, name in enumerate(found.conditions[1:], start=1):
        units = np.flatnonzero(np.isin(found.condition, (0, number)))
        if not _is_estimable(found.condition[units] == number, dummies(found.batch[units])):
            raise InputUnusable(
                f"{config.condition_key!r} is confounded with {config.batch_key!r}: no batch has both "
                f"{found.conditions[0]!r} and {name!r}, so a difference may be of either; confounded_ok=True compares "
                "them without adjusting for batches"
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Design:
    """The replicates of one comparison."""

    units: Int[np.ndarray, " unit"]
    side: Bool[np.ndarray, " unit"]  # the replicates whose condition is compared with the reference
    nuisance: Float[np.ndarray, "unit column"]  # intercept, blocks and batches
    is_paired: bool
    reason: str = ""  # why there is no test; empty where there is one

    @property
    def n_samples(self) -> tuple[int, int]:
        """Replicates on either side, the reference last."""
        return int(self.side.sum()), int((~self.side).sum())

    @property
    def df(self) -> int:
        """Residual degrees of freedom."""
        return len(self.units) - orth(self.nuisance, rcond=RANK).shape[1] - 1

    @property
    def least_p(self) -> float:
        """Smallest two-sided p value that permuting the condition could give."""
        n_side, n_other = self.n_samples
        if self.is_paired:
            return float(min(1.0, 2.0 ** (1 - n_side)))
        return float(min(1.0, (2.0 if n_side == n_other else 1.0) / comb(n_side + n_other, n_side)))


def design_of(
    found: Replicates, condition: int, *, usable: Bool[np.ndarray, " unit"], confounded_ok: bool = False
) -> Design:
    """Design the comparison of a condition with the reference by the replicates that are usable.

    Where conditions are paired, a replicate without its counterpart is left out; each sample is a block. Batches that
    are confounded with the condition are not adjusted for with ``confounded_ok``; else there is no test.
    """
    units = np.flatnonzero(usable & np.isin(found.condition, (0, condition)))
    n_here = np.bincount(found.sample[units], minlength=len(found.samples))
    n_all = np.bincount(found.sample, minlength=len(found.samples))
    allowed = n_here == 2 if found.is_paired else n_all == 1  # noqa: PLR2004 - both conditions
    units = units[allowed[found.sample[units]]]
    side = found.condition[units] == condition
    blocks = [np.ones((len(units), 1))]
    blocks += [dummies(found.sample[units])] if found.is_paired else []
    nuisance = np.hstack([*blocks, dummies(found.batch[units])])
    if confounded_ok and not _is_estimable(side, nuisance):
        nuisance = np.hstack(blocks)
    return _with_reason(Design(units=units, side=side, nuisance=nuisance, is_paired=found.is_paired))


def paired_design(units: Int[np.ndarray, " unit"]) -> Design:
    """Design the comparison of a cluster with the rest of the same replicates: each is a block."""
    side = np.repeat([True, False], len(units))
    twice = np.concatenate([units, units])
    nuisance = np.hstack([np.ones((len(twice), 1)), dummies(twice)])
    return _with_reason(Design(units=twice, side=side, nuisance=nuisance, is_paired=True))


def _with_reason(design: Design) -> Design:
    """Say why a design allows no test, if it does not."""
    n_side, n_other = design.n_samples
    reason = ""
    if min(n_side, n_other) == 0:
        reason = "a side has no sample with enough cells; a `batch_key` of samples integrates clusters that follow them"
    elif min(n_side, n_other) == 1:
        reason = "one sample on a side, so no p values: what differs may be that sample alone"
    elif not _is_estimable(design.side, design.nuisance):
        reason = "in these samples the condition is confounded with the batch"
    elif design.df < 1:
        reason = "no residual degree of freedom, so no p values"
    return replace(design, reason=reason)


def limits_of(design: Design, *, of: str = "genes") -> str:
    """Say what so few samples cannot show ``of`` what is tested; empty where they are enough."""
    if design.reason or design.least_p <= _ALPHA:
        return ""
    n_side, n_other = design.n_samples
    sides = counted(n_side, "pair") if design.is_paired else f"{n_side} and {counted(n_other, 'sample')}"
    limit = f"{sides}: no permutation of them gives p below {design.least_p:.2g}"
    if design.df > _FEW_DF:
        return f"{limit}; smaller p values rest on the linear model"
    of_freedom = f"{design.df} residual {'degree' if design.df == 1 else 'degrees'} of freedom"
    return f"{limit}; with {of_freedom}, smaller p values rest on variances of other {of}: candidates, to be repeated"


def dummies(codes: Int[np.ndarray, " unit"]) -> Float[np.ndarray, "unit column"]:
    """Give a column for each value of a category but the first."""
    values = np.unique(codes)[1:]
    return (codes[:, None] == values[None, :]).astype(np.float64)


def _is_estimable(side: Bool[np.ndarray, " unit"], nuisance: Float[np.ndarray, "unit column"]) -> bool:
    """Whether a condition is no combination of the intercept and nuisance columns."""
    basis = orth(np.hstack([np.ones((len(side), 1)), nuisance]), rcond=RANK)
    effect = side.astype(np.float64)
    rest = effect - basis @ (basis.T @ effect)
    return bool(rest @ rest > 1e-9)  # noqa: PLR2004 - 0 but for rounding
