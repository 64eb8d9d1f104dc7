"""Tools on clustered cells: names, evidence, free text, and the clusters of a fitted model for new cells."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import genekb
from cellmodel.annotate.candidates import choose_types, panel_of
from cellmodel.annotate.cell_types import CellType
from cellmodel.annotate.levels import Level
from cellmodel.annotate.name_cells import TypeChoice, TypeNaming
from cellmodel.annotate.search.cells import Found, SearchConfig, search_cells
from cellmodel.core.config import RunConfig, Values
from cellmodel.core.errors import InputUnusable
from cellmodel.core.options import Paths, paths_of, settings_of
from cellmodel.core.stages import AnyStages
from cellmodel.core.tools import Kb, open_kb, tool
from cellmodel.explain.evidence import AttributeConfig
from cellmodel.explain.samples.design import SampleConfig
from cellmodel.io.cells import Cells, ReadConfig
from cellmodel.tl._annotate import AnnotateJob, OverlapJob
from cellmodel.tl._attribute import AttributeJob, attribution_slot
from cellmodel.tl._run.task import Slot, Task, run_on_anndata
from cellmodel.tl.model.fitted import FittedModel, PredictJob, check_store, load_model

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class SearchJob(Task[Found]):
    """Score cells and rank clusters by free text, see :func:`cellmodel.annotate.search.cells.search_cells`."""

    kb: genekb.Store
    config: RunConfig
    _: KW_ONLY
    search: SearchConfig

    def slots(self, key_added: str) -> list[Slot]:
        """Score of each cell, and record."""
        return [("obs", key_added), ("uns", key_added)]

    def compute(self, cells: Cells, stages: AnyStages) -> Found:
        """Search the cells."""
        return search_cells(cells, self.kb, self.config, search=self.search)

    def values(self, cells: Cells, result: Found, key_added: str) -> dict[Slot, Any]:
        """Scores, settings, clusters and genes."""
        record = {"params": asdict(self.search), "seed": self.config.seed} | result.to_dict()
        return {("obs", key_added): result.scores.astype(np.float32), ("uns", key_added): record}


@tool
def attribute(  # noqa: PLR0913 - those of the command
    adata: "AnnData",
    kb: Kb,
    *,
    cluster_key: str = "cellmodel",
    between: tuple[str, str] | None = None,
    condition_key: str | None = None,
    sample_key: str | None = None,
    reference: str | None = None,
    cluster: str | None = None,
    permutations: int = 200,
    gmt: Paths = (),
    config: RunConfig | None = None,
    encoder: str | None = None,
    min_coverage: float = 0.3,
    orthologs: bool = False,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    values: Values = "auto",
    key_added: str | None = None,
    other_store: bool = False,
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
) -> "AnnData | None":
    """Explain what sets clusters apart: markers, exact contributions of genes, themes and enriched gene sets.

    Adds the tables ``groups``, ``markers``, ``contributions``, ``themes``, ``names`` and ``enrichment`` to
    ``uns["<key>"]``, which is ``cellmodel_attribution``, or of conditions ``cellmodel_attribution_conditions``, if
    ``key_added`` is None.

    From the shell: ``cellmodel attribute``.

    Parameters
    ----------
    adata
        Counts or log-normalised expression; genes by any of their names; in memory or backed.
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
    cluster
        With conditions: this cluster alone.
    permutations
        How often texts are permuted.
    gmt
        File of gene sets, or several, tested beside those of the store.
    config
        All further settings of a run; an argument that is not at its default wins over it.
    encoder
        Encoder of the store; its first one if None.
    min_coverage
        Fraction of the genes that must have a text, in [0, 1].
    orthologs
        Whether symbols of the orthologous gene of another species may map to a gene.
    layer
        Layer that holds the values; found by what the matrices hold if None.
    use_raw
        Whether the values are those of ``.raw``.
    gene_key
        Column of var with the gene names; the index of var if None.
    values
        What the values are: ``counts``, ``linear``, ``log1p``; found by what the matrices hold if ``auto``.
    key_added
        Name of the slots.
    other_store
        Whether the clusters or labels may be of another store or encoder; both are recorded then.
    overwrite
        Whether slots of that name may be replaced.
    random_state
        The run's one seed; ``seed`` is taken, too.
    copy
        Return a copy with the result instead of changing ``adata``.

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
            sample_key=sample_key, cluster_key=cluster_key, condition_key=condition_key, reference=reference
        )
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
    chosen = settings_of(
        config, encoder=encoder, min_coverage=min_coverage, orthologs=orthologs, random_state=random_state,
    )  # fmt: skip
    task = AttributeJob(open_kb(kb), chosen, choice=choice)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    key = attribution_slot(condition_key) if key_added is None else key_added
    return run_on_anndata(adata, task, read, key_added=key, overwrite=overwrite, copy=copy)[0]


@tool
def annotate(  # noqa: PLR0913 - those of the command
    adata: "AnnData",
    kb: Kb | None = None,
    *,
    cluster_key: str = "cellmodel",
    candidates: str | Path | Sequence[str | CellType] | None = None,
    tissue: str | Sequence[str] | None = None,
    only_tissue: str | Sequence[str] | None = None,
    markers: str | Path | Mapping[str, Sequence[str]] | None = None,
    permutations: int = 200,
    level: Level = "auto",
    config: RunConfig | None = None,
    encoder: str | None = None,
    min_coverage: float = 0.3,
    orthologs: bool = False,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    values: Values = "auto",
    key_added: str = "cellmodel_name",
    other_store: bool = False,
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
) -> "AnnData | None":
    """Name clusters, and cells, by the text of cell types and their marker genes.

    Adds ``obs["<key>"]``, the name of each cell's cluster, ``obs["<key>_cell"]`` and ``obs["<key>_cell_score"]``, the
    best type of each cell by scores averaged over its neighbours, and ``uns["<key>"]``, whose table ``names`` holds the
    evidence for each name. Where the clusters have a tree, ``obs["<key>_level_1"]`` and so on name its levels, coarsest
    first, by the group that the names of the clusters share.

    From the shell: ``cellmodel annotate``.

    Parameters
    ----------
    adata
        Counts or log-normalised expression; genes by any of their names; in memory or backed.
    kb
        Store: its name, its folder, or opened; without one, names come from the overlap with ``markers`` alone.
    cluster_key
        Column of obs with the clusters.
    candidates
        Types to choose from, or a file of them; those of the package's table if None.
    tissue
        Types of these tissues of the table, such as ``gut``, and the cells that every tissue has.
    only_tissue
        Types of these tissues and no others.
    markers
        Marker genes by type, or a file of them, in place of the table.
    permutations
        How often genes are permuted.
    level
        ``fine``: a type; ``broad``: its everyday group; ``auto``: a type, or the group of types that disagree.
    config
        All further settings of a run; an argument that is not at its default wins over it.
    encoder
        Encoder of the store; its first one if None.
    min_coverage
        Fraction of the genes that must have a text, in [0, 1].
    orthologs
        Whether symbols of the orthologous gene of another species may map to a gene.
    layer
        Layer that holds the values; found by what the matrices hold if None.
    use_raw
        Whether the values are those of ``.raw``.
    gene_key
        Column of var with the gene names; the index of var if None.
    values
        What the values are: ``counts``, ``linear``, ``log1p``; found by what the matrices hold if ``auto``.
    key_added
        Name of the slots.
    other_store
        Whether the clusters or labels may be of another store or encoder; both are recorded then.
    overwrite
        Whether slots of that name may be replaced.
    random_state
        The run's one seed; ``seed`` is taken, too.
    copy
        Return a copy with the result instead of changing ``adata``.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, LineageMismatch, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> cm.tl.annotate(adata, "demo", candidates=["T cell", "B cell", "monocyte"])
    >>> set(cm.get.names(adata)["best"]) <= {"T cell", "B cell", "monocyte"}
    True
    """
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    if kb is None:
        if markers is None:
            raise InputUnusable("names come from a store (kb), or from marker genes by type (markers); give one")
        task: Task[Any] = OverlapJob(panel=panel_of(markers), cluster_key=cluster_key)
    else:
        types = choose_types(candidates, tissue=tissue, only_tissue=only_tissue, markers=markers)
        naming = TypeNaming(level=level, n_permutations=permutations)
        choice = TypeChoice(cluster_key=cluster_key, types=types, naming=naming, other_store=other_store)
        chosen = settings_of(
            config, encoder=encoder, min_coverage=min_coverage, orthologs=orthologs, random_state=random_state,
        )  # fmt: skip
        task = AnnotateJob(open_kb(kb), chosen, choice=choice)
    return run_on_anndata(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)[0]


@tool
def search(  # noqa: PLR0913 - those of the command
    adata: "AnnData",
    kb: Kb,
    query: str,
    *,
    use_types: bool = True,
    cluster_key: str | None = None,
    config: RunConfig | None = None,
    encoder: str | None = None,
    min_coverage: float = 0.3,
    orthologs: bool = False,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    values: Values = "auto",
    key_added: str = "cellmodel_search",
    other_store: bool = False,
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
) -> "AnnData | None":
    """Score cells and rank clusters by free text.

    Adds ``obs["<key>"]``, the score of each cell, and ``uns["<key>"]``: ranked clusters, genes with a sentence each.

    From the shell: ``cellmodel search``.

    Parameters
    ----------
    adata
        Counts or log-normalised expression; genes by any of their names; in memory or backed.
    kb
        Store: its name, such as ``human``, its folder, or opened.
    query
        Free text, such as "cytotoxic T lymphocytes".
    use_types
        Whether a query that names a cell type brings the markers of that type.
    cluster_key
        Column of obs with the clusters; ``cellmodel`` if None and it is there, else cells alone are scored.
    config
        All further settings of a run; an argument that is not at its default wins over it.
    encoder
        Encoder of the store; its first one if None.
    min_coverage
        Fraction of the genes that must have a text, in [0, 1].
    orthologs
        Whether symbols of the orthologous gene of another species may map to a gene.
    layer
        Layer that holds the values; found by what the matrices hold if None.
    use_raw
        Whether the values are those of ``.raw``.
    gene_key
        Column of var with the gene names; the index of var if None.
    values
        What the values are: ``counts``, ``linear``, ``log1p``; found by what the matrices hold if ``auto``.
    key_added
        Name of the slots.
    other_store
        Whether the clusters or labels may be of another store or encoder; both are recorded then.
    overwrite
        Whether slots of that name may be replaced.
    random_state
        The run's one seed; ``seed`` is taken, too.
    copy
        Return a copy with the result instead of changing ``adata``.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, LineageMismatch, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> cm.tl.search(adata, "demo", "B lymphocytes")
    >>> adata.obs["cellmodel_search"].shape == (adata.n_obs,)
    True
    """
    wanted = SearchConfig(query=query, cluster_key=cluster_key, use_types=use_types, other_store=other_store)
    chosen = settings_of(
        config, encoder=encoder, min_coverage=min_coverage, orthologs=orthologs, random_state=random_state,
    )  # fmt: skip
    task = SearchJob(open_kb(kb), chosen, search=wanted)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    return run_on_anndata(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)[0]


@tool
def predict(
    adata: "AnnData",
    model: str | Path | FittedModel,
    kb: Kb | None = None,
    *,
    batch_key: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel",
    overwrite: bool = False,
    copy: bool = False,
) -> "AnnData | None":
    """Embed new cells with a fitted model, and give each the cluster of the fitted cells around it.

    Adds ``obs["<key>"]``, ``obs["<key>_confidence"]``, the embeddings ``obsm["X_<key>"]``, ``_expr``, ``_text`` and
    ``_joint``, and ``uns["<key>"]``.

    From the shell: ``cellmodel predict``.

    Parameters
    ----------
    adata
        Counts or log-normalised expression; genes by any of their names; in memory or backed.
    model
        Folder that ``cm.tl.cluster(..., save_model=...)`` wrote.
    kb
        Store that the model was fitted with; None for a model without one.
    batch_key
        Column of obs with the new cells' batches, for a model of batches; one batch if None.
    layer
        Layer that holds the values; found by what the matrices hold if None.
    use_raw
        Whether the values are those of ``.raw``.
    gene_key
        Column of var with the gene names; the index of var if None.
    key_added
        Name of the slots.
    overwrite
        Whether slots of that name may be replaced.
    copy
        Return a copy with the result instead of changing ``adata``.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata, new = anndata.read_h5ad("clustered.h5ad"), anndata.read_h5ad("cells.h5ad")
    >>> cm.tl.predict(new, "model", "demo")
    >>> bool((new.obs["cellmodel"].astype(str) == adata.obs["cellmodel"].astype(str)).mean() > 0.9)
    True
    """
    folder = Path() if isinstance(model, FittedModel) else Path(model)
    fitted = model if isinstance(model, FittedModel) else load_model(folder)
    store = open_kb(kb)
    check_store(fitted, store)
    task = PredictJob(fitted, store, folder=folder, new_batch_key=batch_key)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    return run_on_anndata(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)[0]
