"""Comparisons between samples as the evidence takes them: cells on either side, and their markers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellmodel.core.errors import InputUnusable
from cellmodel.explain.groups import REST, ClusteredCells, Comparison, Contrast
from cellmodel.explain.markers import Marker
from cellmodel.explain.samples.differential import GeneTests
from cellmodel.explain.samples.markers import SampledCells
from cellmodel.pp.moments import cluster_moments
from genekb.core.messages import known_names


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampleContrasts:
    """Groups that are compared between samples, with their markers."""

    comparisons: tuple[Comparison, ...]
    markers: tuple[tuple[Marker, ...], ...]  # of each contrast of each comparison, highest statistic first
    notes: tuple[str, ...]


def sample_contrasts(
    found: ClusteredCells,
    sampled: SampledCells,
    tests: Sequence[GeneTests],
    *,
    cluster: str | None,
    n_top: int,
    notes: tuple[str, ...],
) -> SampleContrasts:
    """Take tests as comparisons: a condition with the reference and the reverse, or a cluster with the rest.

    ``cluster``: alone, if it is given. Raises ``InputUnusable`` if no comparison has samples on both sides.
    """
    if cluster is not None and cluster not in found.names:
        raise InputUnusable(f"there is no cluster {cluster!r} (there are: {known_names(cluster, found.names)})")
    used = [one for one in tests if min(one.n_samples, one.n_against) and cluster in {None, one.cluster}]
    if not used:
        raise InputUnusable(
            f"no sample has enough cells of {cluster!r} in {found.cells.source} on either side; compare larger clusters"
        )
    comparisons, markers = [], []
    for one in used:
        comparison = _comparison(found, sampled, one)
        comparisons.append(comparison)
        markers += _markers(found, comparison, one, n_top=n_top)
    return SampleContrasts(comparisons=tuple(comparisons), markers=tuple(markers), notes=notes)


def _comparison(found: ClusteredCells, sampled: SampledCells, one: GeneTests) -> Comparison:
    units, replicates = sampled.replicates.labels[found.rows], sampled.replicates
    is_own = found.labels == found.names.index(one.cluster)
    is_used = np.isin(units, one.units)
    if not one.condition:
        rows = np.flatnonzero(is_used)
        labels = is_own[rows].astype(np.int64)
        sides = [(one.cluster, "", REST, 1)]
    else:
        rows = np.flatnonzero(is_used & is_own)
        level = replicates.conditions.index(one.condition)
        labels = (replicates.condition[units[rows]] == level).astype(np.int64)
        sides = [(one.cluster, one.condition, one.against, 1), (one.cluster, one.against, one.condition, 0)]
    contrasts = tuple(
        Contrast(
            cluster=cluster,
            condition=condition,
            against=against,
            n_cells=int((labels == group).sum()),
            n_against=int((labels != group).sum()),
            group=group,
        )
        for cluster, condition, against, group in sides
    )
    return Comparison(rows=rows, labels=labels, contrasts=contrasts, samples=units[rows])


def _markers(found: ClusteredCells, comparison: Comparison, one: GeneTests, *, n_top: int) -> list[tuple[Marker, ...]]:
    """Markers of both sides, or of a cluster; means and fractions are over the cells."""
    place = np.full(found.cells.shape[1], -1)
    place[found.columns] = np.arange(len(found.columns))
    columns = place[one.genes]
    inside, _ = cluster_moments(found.expression[comparison.rows][:, columns], comparison.labels)
    every = []
    for contrast in comparison.contrasts:
        sign = 1.0 if contrast.group else -1.0
        height = sign * np.where(np.isnan(one.statistic), one.log2_fold_change, one.statistic)
        order = np.argsort(-height, kind="stable")[:n_top]
        every.append(
            tuple(
                Marker(
                    gene=int(columns[row]),
                    name=found.gene_names[columns[row]],
                    t=sign * float(one.statistic[row]),
                    p_value=float(one.p_value[row]),
                    p_adjusted=float(one.p_adjusted[row]),
                    log2_fold_change=sign * float(one.log2_fold_change[row]),
                    fraction_in=float(inside.fraction[contrast.group, row]),
                    fraction_out=float(inside.fraction[1 - contrast.group, row]),
                    mean_in=float(inside.mean[contrast.group, row]),
                    mean_out=float(inside.mean[1 - contrast.group, row]),
                )
                for row in order.tolist()
            )
        )
    return every
