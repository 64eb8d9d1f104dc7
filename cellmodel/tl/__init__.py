"""Tools on an AnnData, in the manner of scanpy: `cm.tl.embed`, `cluster`, `classify`, `attribute`, `perturb`."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import genekb
from cellmodel.annotate.cell_types import CellType, read_cell_types
from cellmodel.annotate.classify import ClassifyConfig
from cellmodel.annotate.label_transfer import TransferConfig
from cellmodel.annotate.levels import Level
from cellmodel.annotate.name_cells import TypeChoice, TypeNaming
from cellmodel.annotate.search import SearchConfig
from cellmodel.annotate.shared_genes import GenesBy
from cellmodel.core.config import BatchConfig, Knowledge, RunConfig, SpatialConfig
from cellmodel.core.device import Compute
from cellmodel.explain.evidence import AttributeConfig
from cellmodel.explain.samples.design import SampleConfig
from cellmodel.io.cells import ReadConfig, cells_from_anndata
from cellmodel.io.writers import check_targets
from cellmodel.tl._compare import transfer_task
from cellmodel.tl._docs import documented
from cellmodel.tl._graph import export_graph as export_graph
from cellmodel.tl._names import annotate_markers as annotate_markers
from cellmodel.tl._names import annotate_task
from cellmodel.tl._perturb import perturb as perturb
from cellmodel.tl._samples import composition as composition
from cellmodel.tl._samples import markers as markers
from cellmodel.tl._slots import CellRun, ChainConfig, chain_task, cluster_task
from cellmodel.tl._task import Task, attribute_task, run_on_cells, search_task
from genekb.files.replace import Target

if TYPE_CHECKING:
    from anndata import AnnData

    from cellmodel.recipes.base import Recipe

log = logging.getLogger(__name__)


@documented
def embed(
    adata: "AnnData",
    kb: genekb.Store | None = None,
    *,
    recipe: "str | Recipe" = "fused",
    knowledge: Knowledge = "real",
    encoder: str | None = None,
    spatial: SpatialConfig | None = None,
    batch_key: str | BatchConfig | None = None,
    use_rep: str | None = None,
    compute: Compute | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel",
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
) -> "AnnData | None":
    """Embed cells: by their expression, by their text, and in a joint space with words.

    Parameters
    ----------
    kb
        Opened store; None only with ``knowledge="none"``.
    spatial
        How ``obsm["spatial"]`` is used; None leaves it out.
    compute
        Where the model is trained; by this process on the CPU if None.
    key_added
        Name of the slots: ``obsm["X_<key>"]``, the embedding for neighbors, maps and clusters; its views
        ``obsm["X_<key>_expr"]`` and ``obsm["X_<key>_text"]``; ``obsm["X_<key>_joint"]``, where genes and free text can
        be placed among the cells (`fused` alone); the graph in ``obsp``, ``var["<key>_gene_id"]`` and ``uns["<key>"]``.
    """
    config = RunConfig(
        recipe=recipe,
        knowledge=knowledge,
        encoder=encoder,
        seed=random_state,
        spatial=spatial,
        compute=compute or Compute(),
        **_batch_settings(batch_key, use_rep),
    )
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    task = cluster_task(kb, config, key_added=key_added, with_clusters=False)
    return _do(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)


@documented
def cluster(  # noqa: PLR0913 - what users of a clustering tool look for among its arguments
    adata: "AnnData",
    kb: genekb.Store | None = None,
    *,
    n_clusters: int | None = None,
    resolution: float | None = None,
    within: str | None = None,
    recipe: "str | Recipe" = "fused",
    knowledge: Knowledge = "real",
    encoder: str | None = None,
    batch_key: str | BatchConfig | None = None,
    use_rep: str | None = None,
    config: RunConfig | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel",
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
) -> "AnnData | None":
    """Embed and cluster cells, and find markers and words of each cluster.

    Adds to the slots of :func:`embed` the categorical ``obs["<key>"]`` (clusters by size, as strings),
    ``obs["<key>_confidence"]``, the levels of their tree, coarsest first, in ``obs["<key>_level_1"]`` and so on, and
    tables in ``uns["<key>"]``.

    Parameters
    ----------
    n_clusters
        Number of clusters; estimated without labels if None.
    resolution
        In place of it, > 0: as many clusters as there are Leiden communities at this resolution; higher gives more.
    within
        ``COLUMN=CLUSTER[,CLUSTER]``, such as ``cellmodel=3``: the cells of these clusters of obs are clustered again,
        with genes and components of their own, into ``3.0``, ``3.1``, ...; others keep their clusters.
    config
        All further settings; the named arguments above win over it, ``batch_key`` and ``use_rep`` where they are given.
    """
    chosen = replace(
        config or RunConfig(),
        n_clusters=n_clusters,
        resolution=resolution,
        recipe=recipe,
        knowledge=knowledge,
        encoder=encoder,
        seed=random_state,
        **_batch_settings(batch_key, use_rep),
    )
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    task = cluster_task(kb, chosen, key_added=key_added, within=within)
    return _do(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)


@documented
def run(  # noqa: PLR0913 - those of the tools that it does
    adata: "AnnData",
    kb: genekb.Store | None = None,
    *,
    n_clusters: int | None = None,
    resolution: float | None = None,
    recipe: "str | Recipe" = "fused",
    knowledge: Knowledge = "real",
    encoder: str | None = None,
    batch_key: str | BatchConfig | None = None,
    use_rep: str | None = None,
    candidates: Sequence[CellType] | None = None,
    level: Level = "auto",
    gmt: Sequence[str | Path] = (),
    skip: Sequence[str] = (),
    report: str | Path | None = None,
    config: RunConfig | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel",
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
) -> "AnnData | None":
    """Cluster cells, name the clusters, and explain what sets them apart, all in one go.

    Adds the slots of :func:`cluster`, those of :func:`annotate` under ``<key>_name``, and those of :func:`attribute`
    under ``<key>_attribution``: what the three do one after the other. Cells that are one cluster get the first alone.
    From the shell: ``cellmodel run``.

    Parameters
    ----------
    n_clusters
        Number of clusters; estimated without labels if None.
    resolution
        In place of ``n_clusters``, as for :func:`cluster`.
    candidates
        Types to choose names from; those of the package's table if None.
    level
        Of the names, as for :func:`annotate`.
    gmt
        Files of gene sets, tested beside those of the store.
    skip
        Steps to leave out, of ``annotate`` and ``attribute``.
    report
        HTML report to write; a file of that name is replaced with ``overwrite`` alone.
    config
        All further settings of the clusters; the named arguments above win over it.

    Examples
    --------
    >>> import cellmodel as cm, genekb as gk
    >>> cm.tl.run(adata, gk.open("human"), report="report.html")  # doctest: +SKIP
    >>> adata.obs["cellmodel_name"].value_counts()  # doctest: +SKIP
    """
    chosen = replace(
        config or RunConfig(),
        n_clusters=n_clusters,
        resolution=resolution,
        recipe=recipe,
        knowledge=knowledge,
        encoder=encoder,
        seed=random_state,
        **_batch_settings(batch_key, use_rep),
    )
    chain = ChainConfig(
        skip=tuple(skip),
        types=read_cell_types() if candidates is None else tuple(candidates),
        level=level,
        gmt=tuple(map(Path, gmt)),
    )
    if report is not None:
        check_targets([Target(Path(report))], overwrite=overwrite)
    task = chain_task(kb, chosen, chain, key_added=key_added)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    done = _do(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)
    if report is not None:
        from cellmodel.pl._report.collect import write_report_of

        cells = cells_from_anndata(adata if done is None else done, read)
        write_report_of(cells, Path(report), cluster_key=key_added, overwrite=overwrite)
    return done


@documented
def classify(
    adata: "AnnData",
    reference: "AnnData",
    kb: genekb.Store,
    *,
    label_key: str,
    genes_by: GenesBy = "ids",
    classifier: ClassifyConfig | None = None,
    batch_key: str | BatchConfig | None = None,
    config: RunConfig | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel_class",
    other_store: bool = False,
    overwrite: bool = False,
    copy: bool = False,
) -> "AnnData | None":
    """Transfer labels of a reference to cells, of the same species or of another.

    Adds the categorical ``obs["<key>"]``, in which cells of low confidence are ``unassigned``,
    ``obs["<key>_confidence"]``, ``obsm["<key>_probabilities"]`` and ``uns["<key>"]``, whose ``classes`` name the
    columns of the probabilities. The reference is left as it is.

    Parameters
    ----------
    reference
        Labelled cells; those without a label are left out and counted.
    label_key
        Column of its obs with the labels.
    genes_by
        Genes of the two sides are matched by GeneID, by orthologue, or by the text of the genes.
    classifier
        Head, contrastive step, and the confidence below which a cell is unassigned; found from the reference if None.
    batch_key
        Column of obs, of the reference, of the cells or of both, with the batch of each cell; genes are scaled within
        batches, and the graph over which cells are averaged is integrated.
    """
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    transfer = TransferConfig(label_key=label_key, genes_by=genes_by, other_store=other_store)
    if classifier is not None:
        transfer = replace(transfer, classify=classifier)
    labelled = cells_from_anndata(reference, read, source="reference in memory")
    chosen = replace(config or RunConfig(), **_batch_settings(batch_key, None))
    task = transfer_task(labelled, kb, chosen, transfer=transfer, read=read)
    return _do(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy, source="query in memory")


@documented
def attribute(
    adata: "AnnData",
    kb: genekb.Store,
    *,
    cluster_key: str = "cellmodel",
    between: tuple[str, str] | None = None,
    condition_key: str | None = None,
    sample_key: str | None = None,
    reference: str | None = None,
    gmt: Sequence[str | Path] = (),
    config: RunConfig | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel_attribution",
    other_store: bool = False,
    overwrite: bool = False,
    copy: bool = False,
) -> "AnnData | None":
    """Explain what sets clusters apart: markers, exact contributions of genes, themes and enriched gene sets.

    Adds the tables ``groups``, ``markers``, ``contributions``, ``themes``, ``names`` and ``enrichment`` to
    ``uns["<key>"]``.

    Parameters
    ----------
    between
        Two clusters to compare with one another; each with the rest if None.
    condition_key
        Column of obs with conditions to compare inside each cluster.
    sample_key
        Column of obs with the samples that are the replicates, as for :func:`markers`; cells are if None.
    reference
        With samples: condition that the others are compared with; the first one if None.
    gmt
        Files of gene sets, tested beside those of the store.
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
        gmt=tuple(map(Path, gmt)),
        other_store=other_store,
    )
    task = attribute_task(kb, config or RunConfig(), choice=choice)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    return _do(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)


@documented
def annotate(
    adata: "AnnData",
    kb: genekb.Store,
    *,
    cluster_key: str = "cellmodel",
    candidates: Sequence[CellType] | None = None,
    level: Level = "auto",
    config: RunConfig | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel_name",
    other_store: bool = False,
    overwrite: bool = False,
    copy: bool = False,
) -> "AnnData | None":
    """Name clusters, and cells, by the text of cell types and their marker genes.

    Adds ``obs["<key>"]``, the name of each cell's cluster, ``obs["<key>_cell"]`` and ``obs["<key>_cell_score"]``, the
    best type of each cell by scores averaged over its neighbours, and ``uns["<key>"]``, whose table ``names`` holds the
    evidence for each name. Where the clusters have a tree, ``obs["<key>_level_1"]`` and so on name its levels, coarsest
    first, by the group that the names of the clusters share.

    Parameters
    ----------
    candidates
        Types to choose from; those of the package's table if None.
    level
        ``fine``: a type; ``broad``: its everyday group; ``auto``: a type, or the group of types that disagree.
    """
    types = read_cell_types() if candidates is None else tuple(candidates)
    naming = TypeNaming(level=level)
    choice = TypeChoice(cluster_key=cluster_key, types=types, naming=naming, other_store=other_store)
    task = annotate_task(kb, config or RunConfig(), choice=choice)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    return _do(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)


@documented
def search(
    adata: "AnnData",
    kb: genekb.Store,
    *,
    query: str,
    cluster_key: str | None = None,
    config: RunConfig | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel_search",
    other_store: bool = False,
    overwrite: bool = False,
    copy: bool = False,
) -> "AnnData | None":
    """Score cells and rank clusters by free text.

    Adds ``obs["<key>"]``, the score of each cell, and ``uns["<key>"]``: ranked clusters, genes with a sentence each.

    Parameters
    ----------
    query
        Free text, such as "cytotoxic T lymphocytes".
    cluster_key
        Column of obs with the clusters; ``cellmodel`` if None and it is there, else cells alone are scored.
    """
    wanted = SearchConfig(query=query, cluster_key=cluster_key, other_store=other_store)
    task = search_task(kb, config or RunConfig(), search=wanted)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    return _do(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)


def _batch_settings(batch_key: str | BatchConfig | None, use_rep: str | None) -> dict[str, Any]:
    """Give the settings of a run that were named."""
    batch = BatchConfig(key=batch_key) if isinstance(batch_key, str) else batch_key
    return {name: value for name, value in (("batch", batch), ("use_rep", use_rep)) if value is not None}


def _do(
    adata: "AnnData",
    task: Task[Any],
    read: ReadConfig,
    *,
    key_added: str,
    overwrite: bool,
    copy: bool,
    source: str = "AnnData in memory",
) -> "AnnData | None":
    target = adata.copy() if copy else adata
    cells = cells_from_anndata(target, read, source=source)
    found = run_on_cells(cells, task, key_added=key_added, overwrite=overwrite)
    if isinstance(found, dict):  # of several steps
        found = found["cluster"]
    if isinstance(found, CellRun) and found.result.estimate and not found.result.estimate.has_structure:
        log.warning("no structure found, so the cells are one cluster; n_clusters=K clusters them into K")
    return target if copy else None
