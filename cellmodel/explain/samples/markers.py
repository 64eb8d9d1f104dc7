"""Markers between samples: clusters, samples and conditions of cells, the genes that differ, and notes on both."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellmodel.core.arrays import Labels
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.groups import REST, ClusteredCells, Comparison, Contrast, group_cells
from cellmodel.explain.markers import Marker
from cellmodel.explain.samples.design import Replicates, SampleConfig, find_replicates
from cellmodel.explain.samples.differential import (
    GeneTests,
    check_method,
    compare_clusters,
    compare_conditions,
    gene_frame,
    group_frame,
    left_out,
)
from cellmodel.explain.samples.pseudobulk import Pseudobulk, sum_by_group
from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import ObsCategories, obs_categories
from cellmodel.io.matrix import ValueKind
from cellmodel.pp.integrate import ONE_BATCH
from cellmodel.pp.moments import cluster_moments
from cellmodel.pp.normalize import LogExpression
from genekb.core.messages import known_names, listed

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampledCells:
    """Cells with a cluster, and the sample and condition of each."""

    cells: AnyCells
    names: tuple[str, ...]  # of the clusters
    labels: Labels  # (cell,) place in ``names``; -1 without a cluster
    replicates: Replicates
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampleMarkers:
    """Genes that differ between samples, and what was left out."""

    config: SampleConfig  # what was compared
    tests: tuple[GeneTests, ...]
    gene_names: tuple[str, ...]  # of the columns
    left_out: tuple[Mapping[str, Any], ...]  # rows of pseudobulks that no comparison used
    notes: tuple[str, ...]

    def genes(self, *, n_top: int | None = None) -> "pd.DataFrame":
        """Rows of genes, see :func:`cellmodel.explain.samples.differential.gene_frame`."""
        return gene_frame(self.tests, self.gene_names, n_top=n_top)

    def comparisons(self) -> "pd.DataFrame":
        """Rows of comparisons, see :func:`cellmodel.explain.samples.differential.group_frame`."""
        return group_frame(self.tests)


def sampled_cells(cells: AnyCells, config: SampleConfig, *, least: int = 2) -> SampledCells:
    """Take clusters, samples, conditions and batches of cells from their columns of obs.

    ``least``: clusters that are needed where no conditions are compared.
    """
    grouped = group_cells(cells, config.cluster_key, least=least if config.condition_key is None else 1)
    labels = np.full(cells.shape[0], -1, dtype=np.int64)
    labels[grouped.rows] = grouped.labels
    samples = _column(cells, config.sample_key, "sample")
    replicates = find_replicates(
        samples,
        _column(cells, config.condition_key, "condition") if config.condition_key else None,
        _column(cells, config.batch_key, "batch") if config.batch_key else None,
        config=config,
    )
    notes = (*replicates.notes, *_one_sample_notes(labels, grouped.names, samples))
    return SampledCells(cells=cells, names=grouped.names, labels=labels, replicates=replicates, notes=notes)


def _column(cells: AnyCells, key: str, what: str) -> ObsCategories:
    return obs_categories(cells.adata, key, source=cells.source, what=what)


def _one_sample_notes(labels: Labels, names: Sequence[str], samples: ObsCategories) -> list[str]:
    """Name clusters that are of one sample, where there are several."""
    if len(samples.names) < 2:  # noqa: PLR2004 - all are of one
        return []
    notes = []
    for cluster, name in enumerate(names):
        n_cells = np.bincount(samples.codes[labels == cluster], minlength=len(samples.names))
        share = n_cells.max() / n_cells.sum()
        if share > ONE_BATCH:
            sample = samples.names[int(n_cells.argmax())]
            notes.append(f"cluster {name!r} is of one sample: {share:.0%} of its cells are of {sample!r}")
    return notes


def find_markers(cells: AnyCells, config: SampleConfig) -> SampleMarkers:
    """Compare conditions inside each cluster, or clusters inside each sample, on pseudobulks.

    Raises ``InputUnusable`` if no cluster has a sample with enough cells.
    """
    check_method(config, is_counts=cells.kind == ValueKind.COUNTS, source=cells.source)
    return markers_of(sampled_cells(cells, config), config)


def markers_of(found: SampledCells, config: SampleConfig) -> SampleMarkers:
    """Compare as :func:`find_markers`, cells whose samples are known."""
    cells, notes = found.cells, list(found.notes)
    is_counts = cells.kind == ValueKind.COUNTS
    if not is_counts:
        notes.append(
            f"{cells.source} holds {cells.kind.value} values, no counts: means of log expression are compared, in "
            "units of log 2, by limma-trend"
        )
    bulk = sum_by_group(
        cells.matrix if is_counts else LogExpression(matrix=cells.matrix, kind=cells.kind),
        found.labels,
        found.replicates.labels,
        n_clusters=len(found.names),
        is_counts=is_counts,
    )
    _check_enough(bulk, cells, config)
    if config.condition_key is None:
        tests = compare_clusters(bulk, cluster_names=found.names, config=config)
    else:
        tests = compare_conditions(bulk, found.replicates, cluster_names=found.names, config=config)
    if not any(len(one.genes) for one in tests):
        reasons = listed(list(dict.fromkeys(one.reason for one in tests)))
        raise InputUnusable(
            f"nothing can be compared in {cells.source}: in every cluster of {config.cluster_key!r}, {reasons}"
        )
    rows = tuple(left_out(bulk, found.replicates, tests, cluster_names=found.names))
    notes += _notes(tests)
    return SampleMarkers(config=config, tests=tests, gene_names=cells.names, left_out=rows, notes=tuple(notes))


def _check_enough(bulk: Pseudobulk, cells: AnyCells, config: SampleConfig) -> None:
    most = int(bulk.n_cells.max(initial=0))
    if most < config.min_cells:
        raise InputUnusable(
            f"no cluster of {cells.source} has {config.min_cells} cells of one sample (at most {most}); is "
            f"{config.sample_key!r} the column of samples? `min_cells` lowers the limit"
        )


def _notes(tests: Sequence[GeneTests]) -> list[str]:
    """Say why there are no p values, and what those there are cannot show."""
    has_several = len({one.condition for one in tests}) > 1
    names = [f"{one.cluster} ({one.comparison})" if has_several else one.cluster for one in tests]
    texts = [(one.reason, one.limits) for one in tests]
    return joined_notes(zip(names, texts, strict=True), of="clusters")


def joined_notes(notes: Iterable[tuple[str, Sequence[str]]], *, of: str) -> list[str]:
    """Join notes on clusters or comparisons: each once, with the names of all that it is ``of``."""
    where: dict[str, list[str]] = {}
    every = list(notes)
    for name, texts in every:
        for text in filter(None, texts):
            where.setdefault(text, []).append(name)
    return [
        f"{f'all {of}' if len(names) == len(every) else f'{of} {listed(names)}'}: {text}"
        for text, names in where.items()
    ]


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
        markers += _side_markers(found, comparison, one, n_top=n_top)
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


def _side_markers(
    found: ClusteredCells, comparison: Comparison, one: GeneTests, *, n_top: int
) -> list[tuple[Marker, ...]]:
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
