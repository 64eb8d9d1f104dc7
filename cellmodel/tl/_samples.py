"""Tasks between samples: differential expression of pseudobulks, and composition."""

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import AnyStages
from cellmodel.core.tools import forwards_to, path_of, tool
from cellmodel.explain.samples.composition import ShareTests, Transform, compare_shares, composition_frame, share_frame
from cellmodel.explain.samples.design import Method, SampleConfig, find_replicates
from cellmodel.explain.samples.markers import SampleMarkers, find_markers, joined_notes, sampled_cells
from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import Cells, ReadConfig, obs_categories
from cellmodel.io.records import recorded_sample_key
from cellmodel.tl._cluster import VALUES, cluster, split_settings
from cellmodel.tl._run.files import CellFiles, run_task, table_of
from cellmodel.tl._run.task import Reads, Slot, Task
from genekb.core.messages import known_names
from genekb.core.plugins import installed_version
from genekb.files.replace import Target
from genekb.files.tables import write_table

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

log = logging.getLogger(__name__)
STORED: Final = 1000  # genes of a comparison in a slot; a table has all


@dataclass(frozen=True)
class MarkersJob(Task[SampleMarkers]):
    """Find markers between samples, see :func:`find_markers`.

    The slot has ``params``, the tables ``markers`` (the :data:`STORED` smallest p values of each comparison),
    ``comparisons`` and ``left_out``, ``notes`` and ``versions``.
    """

    config: SampleConfig
    table: Path | None = None  # of all genes
    renews: ClassVar[bool] = True

    @property
    def targets(self) -> tuple[Target, ...]:
        """The table."""
        return () if self.table is None else (Target(self.table, makes_parents=True),)

    @property
    def reads(self) -> Reads:
        """Settings of the comparison decide the result."""
        return Reads(stage_key={"markers": asdict(self.config)})

    def slots(self, key_added: str) -> list[Slot]:
        """Record and tables."""
        return [("uns", key_added)]

    def compute(self, cells: AnyCells, stages: AnyStages) -> SampleMarkers:
        """Compare the samples."""
        return find_markers(cells, _with_samples(self.config, cells))

    def values(self, cells: AnyCells, result: SampleMarkers, key_added: str) -> dict[Slot, Any]:
        """Give settings, tables and notes."""
        import pandas as pd

        record = {
            "params": asdict(result.config),
            "markers": result.genes(n_top=STORED),
            "comparisons": result.comparisons(),
            "left_out": pd.DataFrame(list(result.left_out), columns=["sample", "condition", "cluster", "n_cells"]),
            "notes": list(result.notes),
            "versions": _versions(),
        }
        return {("uns", key_added): record}

    def write_beside(self, cells: AnyCells, result: SampleMarkers, *, key_added: str, overwrite: bool) -> None:
        """Write the table."""
        if self.table is not None:
            _write_frame(result.genes(), self.table, overwrite=overwrite)


def check_samples(cells: AnyCells, config: SampleConfig) -> None:
    """Refuse samples and conditions that are no columns of the cells, or leave nothing to compare, before any work."""
    config = _with_samples(config, cells)
    keys = (config.sample_key, config.condition_key, config.batch_key)
    samples, conditions, batches = (
        None if key is None else obs_categories(cells.adata, key, source=cells.source, what=what)
        for key, what in zip(keys, ("sample", "condition", "batch"), strict=True)
    )
    assert samples is not None
    find_replicates(samples, conditions, batches, config=config)


def _with_samples(config: SampleConfig, cells: AnyCells) -> SampleConfig:
    """Take the samples by which a run joined files, where none are named; ``InputUnusable`` if there are none."""
    if config.sample_key:
        return config
    key = cells.sample_key or recorded_sample_key(cells.adata.uns, config.cluster_key)
    if not key:
        raise InputUnusable(
            f"{cells.source} is of no run of several files, which would say what the samples are; name their column of "
            f"obs with `sample_key` (it has: {known_names('sample', cells.adata.obs)})"
        )
    log.info("samples: %r, by which the files were joined", key)
    return replace(config, sample_key=key)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Composition:
    """Shares of the clusters in every sample, and the conditions compared."""

    config: SampleConfig  # what was compared
    shares: "pd.DataFrame"  # see :func:`cellmodel.explain.samples.composition.share_frame`
    tests: tuple[ShareTests, ...]  # empty without conditions
    notes: tuple[str, ...]

    def clusters(self) -> "pd.DataFrame":
        """Rows of tests, see :func:`cellmodel.explain.samples.composition.composition_frame`."""
        return composition_frame(self.tests)


def find_composition(cells: Cells, config: SampleConfig, *, transform: Transform = "arcsine") -> Composition:
    """Count the cells of every cluster in every sample, and compare the conditions."""
    found = sampled_cells(cells, config, least=1)
    kept = found.labels >= 0
    n_cells = np.zeros((len(found.replicates.sample), len(found.names)), dtype=np.int64)
    np.add.at(n_cells, (found.replicates.labels[kept], found.labels[kept]), 1)
    tests: tuple[ShareTests, ...] = ()
    if config.condition_key is not None:
        tests = compare_shares(n_cells, found.replicates, cluster_names=found.names, config=config, transform=transform)
    shares = share_frame(n_cells, found.replicates, cluster_names=found.names)
    notes = joined_notes([(one.comparison, (one.reason, one.limits)) for one in tests], of="comparisons")
    return Composition(config=config, shares=shares, tests=tests, notes=(*found.notes, *notes))


@dataclass(frozen=True)
class CompositionJob(Task[Composition]):
    """Compare the composition of samples, see :func:`find_composition`.

    The slot has ``params``, the tables ``shares`` and ``clusters``, ``notes`` and ``versions``.
    """

    config: SampleConfig
    transform: Transform = "arcsine"
    table: Path | None = None  # of the tests, or of the shares where there are none
    shares: Path | None = None  # table of the shares
    reads_values: ClassVar[bool] = False
    renews: ClassVar[bool] = True

    @property
    def targets(self) -> tuple[Target, ...]:
        """The tables."""
        return tuple(Target(path, makes_parents=True) for path in (self.table, self.shares) if path is not None)

    def slots(self, key_added: str) -> list[Slot]:
        """Record and tables."""
        return [("uns", key_added)]

    def compute(self, cells: Cells, stages: AnyStages) -> Composition:
        """Count the cells, and compare the conditions."""
        return find_composition(cells, _with_samples(self.config, cells), transform=self.transform)

    def values(self, cells: Cells, result: Composition, key_added: str) -> dict[Slot, Any]:
        """Give settings, tables and notes."""
        record = {
            "params": asdict(result.config) | {"transform": self.transform},
            "shares": result.shares,
            "clusters": result.clusters(),
            "notes": list(result.notes),
            "versions": _versions(),
        }
        return {("uns", key_added): record}

    def write_beside(self, cells: Cells, result: Composition, *, key_added: str, overwrite: bool) -> None:
        """Write the tables."""
        tests = result.clusters() if result.tests else result.shares
        for frame, path in ((tests, self.table), (result.shares, self.shares)):
            if path is not None:
                _write_frame(frame, path, overwrite=overwrite)


def _versions() -> dict[str, str]:
    return {name: installed_version(name) for name in ("genekb-cellmodel", "numpy", "scipy")}


def _write_frame(frame: "pd.DataFrame", path: Path, *, overwrite: bool) -> None:
    """Write a table as .csv, else with tabs; a missing number is empty."""
    write_table(path, list(frame.columns), frame.itertuples(index=False), overwrite=overwrite)


@tool
@forwards_to(cluster, only=VALUES)
def markers(
    adata: "AnnData | CellFiles",
    *,
    sample_key: str = "",
    cluster_key: str = "cellmodel",
    condition_key: str | None = None,
    reference: str | None = None,
    batch_key: str | None = None,
    confounded_ok: bool = False,
    method: Method = "auto",
    min_cells: int = 10,
    key_added: str | None = None,
    **settings: Any,
) -> "AnnData | SampleMarkers | None":
    """Find genes that differ between samples: clusters inside each sample, or conditions inside each cluster.

    Counts are summed by sample and cluster, so that samples are the replicates, not cells. Adds to ``uns["<key>"]`` the
    tables ``markers`` (the 1,000 smallest p values of each comparison, highest statistic first), ``comparisons`` (both
    sides, method, genes that differ, and why there are no p values or what they cannot show) and ``left_out`` (samples
    with too few cells of a cluster), ``notes``, ``params`` and ``versions``.

    From the shell: ``cellmodel markers``.

    Parameters
    ----------
    adata
        Counts, of which sums are compared, or log-normalized expression, of which means are; or `CellFiles`.
    sample_key
        Column of obs with the sample, or the donor, of each cell; if empty, that which several files were joined with.
    cluster_key
        Column of obs with the clusters.
    condition_key
        Column of obs with conditions: each is compared with the reference inside every cluster, in blocks of samples
        where most of these have several conditions. If None, each cluster is compared with the rest of the cells of the
        same samples.
    reference
        Condition that the others are compared with; the first one if None.
    batch_key
        Column of obs with batches of whole samples, which conditions are adjusted for.
    confounded_ok
        With ``batch_key``: whether batches may be cell types or conditions, which integration would remove.
    method
        ``limma``: moderated t of log2 counts per million, the prior variance a trend of mean expression. ``deseq2``:
        PyDESeq2 (extra ``de``). ``auto``: the latter for conditions of 3 samples each, where it is installed.
    min_cells
        Cells of a sample in a cluster, to be used there.
    key_added
        Name of the slot; ``cellmodel_markers`` if None, with conditions ``cellmodel_conditions``.
    settings
        Arguments of :func:`cluster`: where the values are, ``overwrite`` and ``copy``.

    Raises
    ------
    InputUnusable, NotAvailable, NotCounts, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> adata.obs["donor"] = ["a", "b", "c"] * (adata.n_obs // 3)
    >>> cm.tl.markers(adata, sample_key="donor", min_cells=2)
    >>> cm.get.table(adata, "cellmodel_markers", "markers").empty
    False
    """
    config = SampleConfig(
        sample_key=sample_key, cluster_key=cluster_key, condition_key=condition_key, reference=reference,
        batch_key=batch_key, confounded_ok=confounded_ok, method=method, min_cells=min_cells,
    )  # fmt: skip
    key_added = key_added or ("cellmodel_conditions" if condition_key else "cellmodel_markers")
    _, read, slots = split_settings(settings | {"key_added": key_added})
    return run_task(adata, MarkersJob(config, table_of(adata)), read, **slots)


@tool
def composition(
    adata: "AnnData | CellFiles",
    *,
    sample_key: str = "",
    cluster_key: str = "cellmodel",
    condition_key: str | None = None,
    reference: str | None = None,
    batch_key: str | None = None,
    confounded_ok: bool = False,
    transform: Transform = "arcsine",
    min_cells: int = 10,
    shares: str | Path | None = None,
    key_added: str = "cellmodel_composition",
    overwrite: bool = False,
    copy: bool = False,
) -> "AnnData | Composition | None":
    """Compare the shares of clusters between conditions, with samples as replicates.

    Adds to ``uns["<key>"]`` the tables ``shares`` (cells of every cluster in every sample, and their share) and
    ``clusters`` (mean shares of both sides, their ratio, moderated t, p and adjusted p value), ``notes``, ``params``
    and ``versions``. :func:`cellmodel.pl.composition` draws the shares. They add up to one: where a cluster grows,
    others shrink.

    From the shell: ``cellmodel composition``.

    Parameters
    ----------
    adata
        Cells with clusters, or `CellFiles`; their values are not looked at.
    sample_key
        Column of obs with the sample, or the donor, of each cell; if empty, that which several files were joined with.
    cluster_key
        Column of obs with the clusters.
    condition_key
        Column of obs with conditions: each is compared with the reference, in blocks of samples where most of these
        have several conditions; shares alone if None.
    reference
        Condition that the others are compared with; the first one if None.
    batch_key
        Column of obs with batches of whole samples, which conditions are adjusted for.
    confounded_ok
        With ``batch_key``: whether batches may be cell types or conditions, which integration would remove.
    transform
        ``arcsine`` of the square root of a share, or ``logit``.
    min_cells
        Cells of a sample, for its shares to be compared.
    shares
        Table to write: cells and shares of every cluster in every sample.
    key_added
        Name of the slots.
    overwrite
        Whether slots of that name may be replaced.
    copy
        Return a copy with the result instead of changing ``adata``.

    Raises
    ------
    InputUnusable, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> adata.obs["donor"] = ["a", "b", "c"] * (adata.n_obs // 3)
    >>> cm.tl.composition(adata, sample_key="donor")
    >>> cm.get.composition(adata)["sample"].unique().tolist()
    ['a', 'b', 'c']
    """
    config = SampleConfig(
        sample_key=sample_key, cluster_key=cluster_key, condition_key=condition_key, reference=reference,
        batch_key=batch_key, confounded_ok=confounded_ok, min_cells=min_cells,
    )  # fmt: skip
    task = CompositionJob(config, transform, table=table_of(adata), shares=path_of(shares))
    return run_task(adata, task, ReadConfig(), key_added=key_added, overwrite=overwrite, copy=copy)
