"""Composition: shares of clusters in samples, compared between conditions with samples as replicates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from jaxtyping import Float, Int

from cellmodel.core.errors import InputUnusable
from cellmodel.explain.enrichment import adjusted_p
from cellmodel.explain.samples.design import Design, Replicates, SampleConfig, design_of, limits_of
from cellmodel.explain.samples.moderated_t import ALIKE, fit_effects, moderate

if TYPE_CHECKING:
    import pandas as pd

Transform = Literal["arcsine", "logit"]
_HALF_CELL: Final = 0.5  # added to every count before the logit
Values = Float[np.ndarray, " cluster"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShareTests:
    """Shares of the clusters in a condition and in the reference."""

    condition: str
    against: str
    design: Design
    reason: str  # why there are no p values; empty where there are
    limits: str  # what so few samples cannot show; empty where they are enough
    clusters: tuple[str, ...]  # that occur in these samples; all below is of them
    mean: Values  # mean, mean_against: mean share over the samples of either side
    mean_against: Values
    statistic: Values  # moderated t of the transformed shares; NaN without a test, as p_value and p_adjusted
    p_value: Values
    p_adjusted: Values  # after Benjamini-Hochberg over the clusters

    @property
    def comparison(self) -> str:
        """Name both sides."""
        return f"{self.condition} vs {self.against}"


def compare_shares(
    n_cells: Int[np.ndarray, "unit cluster"],
    found: Replicates,
    *,
    cluster_names: Sequence[str],
    config: SampleConfig,
    transform: Transform = "arcsine",
) -> tuple[ShareTests, ...]:
    r"""Compare the shares of every condition with those of the reference, as propeller :cite:`phipson2022propeller`.

    Shares are transformed, :math:`\arcsin\sqrt p` or :math:`\log(p / (1 - p))` with half a cell added, regressed on
    condition, blocks and batches, and tested by moderated t with one prior variance for all clusters. Raises
    ``InputUnusable`` if no sample has enough cells.
    """
    usable = n_cells.sum(axis=1) >= config.min_cells
    if not usable.any():
        raise InputUnusable(
            f"no sample in {config.sample_key!r} has {config.min_cells} cells with a cluster; `min_cells` lowers the "
            "limit"
        )
    return tuple(
        _tested(
            n_cells,
            design_of(found, number, usable=usable, confounded_ok=config.confounded_ok),
            names=(name, found.conditions[0]),
            cluster_names=cluster_names,
            transform=transform,
        )
        for number, name in enumerate(found.conditions[1:], start=1)
    )


def _tested(
    n_cells: Int[np.ndarray, "unit cluster"],
    design: Design,
    *,
    names: tuple[str, str],
    cluster_names: Sequence[str],
    transform: Transform,
) -> ShareTests:
    """Test one comparison; shares alone where there is no test."""
    counts = n_cells[design.units].T
    kept = np.flatnonzero(counts.sum(axis=1))
    shares = counts[kept] / counts.sum(axis=0)
    empty = np.full(len(kept), np.nan)
    statistic = p_value = p_adjusted = empty
    reason = design.reason or ("" if len(kept) > 1 else "all cells of these samples are of one cluster")
    if not reason:
        values = transform_shares(counts, transform)[kept]
        effects = fit_effects(values, design.side.astype(np.float64), design.nuisance)
        reason = ALIKE if effects.are_exact else ""
    if not reason:
        tested = moderate(effects)
        statistic, p_value = tested.t, tested.p_value
        p_adjusted = adjusted_p(p_value)
    return ShareTests(
        condition=names[0],
        against=names[1],
        design=design,
        reason=reason,
        limits=limits_of(design, of="clusters"),
        clusters=tuple(cluster_names[cluster] for cluster in kept.tolist()),
        mean=shares[:, design.side].mean(axis=1) if design.side.any() else empty,
        mean_against=shares[:, ~design.side].mean(axis=1) if (~design.side).any() else empty,
        statistic=statistic,
        p_value=p_value,
        p_adjusted=p_adjusted,
    )


def transform_shares(
    n_cells: Int[np.ndarray, "cluster unit"], transform: Transform
) -> Float[np.ndarray, "cluster unit"]:
    """Transform the shares of clusters in samples, so that their variance depends little on their size."""
    if transform == "arcsine":
        return np.asarray(np.arcsin(np.sqrt(n_cells / n_cells.sum(axis=0))))
    counts = n_cells + _HALF_CELL
    return np.asarray(np.log(counts / (counts.sum(axis=0) - counts)))


def share_frame(
    n_cells: Int[np.ndarray, "unit cluster"], found: Replicates, *, cluster_names: Sequence[str]
) -> "pd.DataFrame":
    """One row a sample and cluster: cells, and their share of the sample's cells."""
    import pandas as pd

    rows = []
    for unit in np.lexsort((found.sample, found.condition)).tolist():
        total = int(n_cells[unit].sum())
        sample, condition = found.samples[found.sample[unit]], ""
        if found.conditions:
            condition = found.conditions[found.condition[unit]]
        for name, number in zip(cluster_names, n_cells[unit].tolist(), strict=True):
            share = number / total if total else np.nan
            rows.append({"sample": sample, "condition": condition, "cluster": name, "n_cells": number, "share": share})
    return pd.DataFrame(rows)


def composition_frame(tests: Sequence[ShareTests]) -> "pd.DataFrame":
    """One row a comparison and cluster: mean shares, their ratio, and the test."""
    import pandas as pd

    columns = ["cluster", "comparison", "mean_share", "mean_share_against", "ratio", "statistic", "p_value"]
    columns += ["p_adjusted", "n_samples", "n_against", "is_paired"]
    frames = []
    for one in tests:
        n_samples, n_against = one.design.n_samples
        has_ratio = one.mean_against > 0
        ratio = np.divide(one.mean, one.mean_against, out=np.full(len(one.clusters), np.nan), where=has_ratio)
        frame = pd.DataFrame(
            {
                "cluster": list(one.clusters), "comparison": one.comparison, "mean_share": one.mean,
                "mean_share_against": one.mean_against, "ratio": ratio, "statistic": one.statistic,
                "p_value": one.p_value, "p_adjusted": one.p_adjusted, "n_samples": n_samples, "n_against": n_against,
                "is_paired": one.design.is_paired,
            },
            columns=columns,
        )  # fmt: skip
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
