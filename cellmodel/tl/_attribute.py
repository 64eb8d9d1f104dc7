"""Explain what sets clusters apart: markers, contributions of genes, themes and enriched gene sets."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import genekb
from cellmodel.core.config import RunConfig
from cellmodel.core.stages import AnyStages
from cellmodel.core.tools import Kb, forwards_to, open_kb, path_of, paths_of, tool
from cellmodel.explain.evidence import (
    N_MARKERS,
    AttributeConfig,
    Evidence,
    attribute_clusters,
    evidence_frames,
    table_targets,
    write_tables,
)
from cellmodel.explain.groups import ClusteredCells, clustered
from cellmodel.explain.samples.design import SampleConfig
from cellmodel.explain.samples.markers import SampleContrasts, markers_of, sample_contrasts, sampled_cells
from cellmodel.explain.words import Word
from cellmodel.io.cells import Cells
from cellmodel.io.records import check_lineage, lineage_record
from cellmodel.tl._cluster import SHARED, cluster, split_settings
from cellmodel.tl._run.files import CellFiles, run_task
from cellmodel.tl._run.task import Slot, Task
from genekb.core.messages import Paths
from genekb.core.plugins import installed_version
from genekb.files.replace import Target

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class AttributeJob(Task[Evidence]):
    """Explain what sets clusters apart, see :func:`cellmodel.explain.evidence.attribute_clusters`.

    ``tables``: folder for ``markers.tsv``, ``contributions.tsv``, ``themes.tsv``, ``words.tsv``, ``names.tsv`` and
    ``enrichment.tsv``; made if missing.
    """

    kb: genekb.Store
    config: RunConfig
    _: KW_ONLY
    choice: AttributeConfig
    tables: Path | None = None
    words: Mapping[str, tuple[Word, ...]] | None = None  # of the clusters by name, where a run has found them
    renews: ClassVar[bool] = True

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files of gene sets."""
        return self.choice.gmt

    @property
    def targets(self) -> tuple[Target, ...]:
        """The tables."""
        return tuple(table_targets(self.tables)) if self.tables else ()

    def slots(self, key_added: str) -> list[Slot]:
        """Record and tables."""
        return [("uns", key_added)]

    def compute(self, cells: Cells, stages: AnyStages) -> Evidence:
        """Compare the clusters, or conditions inside them."""
        choice, kb, config = self.choice, self.kb, self.config
        made_with = check_lineage(cells, kb, config, key=choice.cluster_key, other_store=choice.other_store)
        found = clustered(cells, kb, config, cluster_key=choice.cluster_key)
        samples = self._samples(cells, found)
        evidence = attribute_clusters(found, kb, config=config, choice=choice, samples=samples, words=self.words)
        return replace(evidence, made_with=made_with)

    def _samples(self, cells: Cells, found: ClusteredCells) -> SampleContrasts | None:
        """Compare samples, where these are the replicates."""
        choice = self.choice
        if choice.samples is None:
            return None
        sampled = sampled_cells(cells, choice.samples)
        tested = markers_of(sampled, choice.samples)
        return sample_contrasts(
            found, sampled, tested.tests, cluster=choice.cluster, n_top=N_MARKERS, notes=tested.notes
        )

    def values(self, cells: Cells, result: Evidence, key_added: str) -> dict[Slot, Any]:
        """Give settings, lineage, notes and tables."""
        record: dict[str, Any] = {
            "params": asdict(self.choice) | {"gmt": [path.name for path in self.choice.gmt]},
            "seed": self.config.seed,
            "versions": {name: installed_version(name) for name in ("genekb-cellmodel", "numpy", "scipy")},
            **asdict(result.lineage),
            **lineage_record(result.made_with),
            "gene_sets": result.sources,
            "notes": list(result.notes),
        }
        return {("uns", key_added): record | evidence_frames(result)}

    def write_beside(self, cells: Cells, result: Evidence, *, key_added: str, overwrite: bool) -> None:
        """Write the tables."""
        if self.tables is not None:
            write_tables(result, self.tables, overwrite=overwrite)


@tool
@forwards_to(cluster, only=SHARED)
def attribute(
    adata: "AnnData | CellFiles",
    kb: Kb,
    *,
    cluster_key: str = "cellmodel",
    between: tuple[str, str] | None = None,
    condition_key: str | None = None,
    sample_key: str | None = None,
    reference: str | None = None,
    batch_key: str | None = None,
    confounded_ok: bool = False,
    min_cells: int = 10,
    cluster: str | None = None,
    permutations: int = 200,
    gmt: Paths = (),
    tables: str | Path | None = None,
    key_added: str | None = None,
    other_store: bool = False,
    **settings: Any,
) -> "AnnData | Evidence | None":
    """Explain what sets clusters apart: markers, exact contributions of genes, themes and enriched gene sets.

    Adds the tables ``groups``, ``markers``, ``contributions``, ``themes``, ``words``, ``names`` and ``enrichment`` to
    ``uns["<key>"]``, which is ``cellmodel_attribution``, or of conditions ``cellmodel_attribution_conditions``, if
    ``key_added`` is None.

    From the shell: ``cellmodel attribute``.

    Parameters
    ----------
    adata
        Counts or log-normalized expression; genes by any of their names; in memory, backed, or `CellFiles`.
    kb
        Store: its name, such as ``human``, its folder, or opened.
    cluster_key
        Column of obs with the clusters.
    between
        Two clusters to compare with one another; each with the rest if None.
    condition_key
        Column of obs with conditions to compare inside each cluster.
    sample_key
        Column of obs with the samples that are the replicates, as for :func:`markers`; cells are if None.
    reference
        With samples: condition that the others are compared with; the first one if None.
    batch_key
        With samples and conditions: column of obs with batches of whole samples, which conditions are adjusted for.
    confounded_ok
        With samples: whether conditions are compared that are confounded with batches, which are not adjusted for then.
    min_cells
        With samples: cells of a sample in a cluster, to be used there.
    cluster
        With conditions: this cluster alone.
    permutations
        How often texts are permuted.
    gmt
        File of gene sets, or several, tested beside those of the store.
    tables
        Folder for the tables as .tsv.
    key_added
        Name of the slots.
    other_store
        Whether the clusters or labels may be of another store or encoder; both are recorded then.
    settings
        Arguments of :func:`cluster`: encoder, where the values are, and the like.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, LineageMismatch, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> cm.tl.attribute(adata, "demo", permutations=20)
    >>> cm.get.table(adata, "cellmodel_attribution", "groups").shape[0]
    2
    """
    samples = None
    if sample_key is not None:
        samples = SampleConfig(
            sample_key=sample_key, cluster_key=cluster_key, condition_key=condition_key, reference=reference,
            batch_key=batch_key, confounded_ok=confounded_ok, min_cells=min_cells,
        )  # fmt: skip
    elif reference or batch_key or confounded_ok or min_cells != SampleConfig().min_cells:
        raise ValueError("`reference`, `batch_key`, `confounded_ok` and `min_cells` go with `sample_key`")
    choice = AttributeConfig(
        cluster_key=cluster_key,
        samples=samples,
        between=between,
        condition_key=condition_key,
        cluster=cluster,
        n_permutations=permutations,
        gmt=paths_of(gmt),
        other_store=other_store,
    )
    if key_added is None:
        key_added = "cellmodel_attribution" if condition_key is None else "cellmodel_attribution_conditions"
    config, read, slots = split_settings(settings | {"key_added": key_added})
    task = AttributeJob(open_kb(kb), config, choice=choice, tables=path_of(tables))
    return run_task(adata, task, read, **slots)
