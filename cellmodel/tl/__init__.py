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
from cellmodel.perturb.predict import PerturbConfig
from cellmodel.perturb.texts import TextKnowledge
from cellmodel.tl._docs import documented
from cellmodel.tl._graph import export_cells
from cellmodel.tl._lists import annotate_markers as annotate_markers
from cellmodel.tl._perturb import ScreenConfig, perturb_cells
from cellmodel.tl._samples import composition as composition
from cellmodel.tl._samples import markers as markers
from cellmodel.tl._slots import CellRun, cluster_task
from cellmodel.tl._task import Task, annotate_task, attribute_task, run_on_cells, search_task, transfer_task

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


@documented
def export_graph(
    adata: "AnnData",
    kb: genekb.Store | None = None,
    *,
    folder: str | Path,
    label_key: str | None = None,
    knowledge: Knowledge = "real",
    encoder: str | None = None,
    config: RunConfig | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    overwrite: bool = False,
    random_state: int = 0,
) -> None:
    """Write the cell graph, and the cell–gene graph with text vectors of the genes, for PyTorch Geometric.

    The folder has safetensors and JSON; :func:`cellmodel.io.read_graph` opens it, and says what is in it. The cells are
    prepared as for :func:`cluster`. ``adata`` is left as it is::

        cm.tl.export_graph(adata, gk.open("human"), folder="graph", label_key="cell_type")
        graph = cm.io.read_graph("graph")

    Parameters
    ----------
    kb
        Opened store; None only with ``knowledge="none"``, and then genes have no features.
    folder
        Folder to write.
    label_key
        Column of obs to write as ``y`` of the cells; nothing is computed from it.
    config
        All further settings; the named arguments above win over it.
    overwrite
        Whether a graph in that folder may be replaced.
    """
    chosen = replace(config or RunConfig(), knowledge=knowledge, encoder=encoder, seed=random_state)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    cells = cells_from_anndata(adata, read, source="AnnData in memory")
    export_cells(cells, Path(folder), kb, chosen, label_key=label_key, overwrite=overwrite)


@documented
def perturb(
    adata: "AnnData",
    kb: genekb.Store,
    *,
    genes: Sequence[str],
    perturbation_key: str = "perturbation",
    control: str = "non-targeting",
    replicate_key: str | None = None,
    knowledge: TextKnowledge = "real",
    encoder: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
) -> "AnnData":
    """Predict the effect of perturbations never seen on every gene, from the cells of a screen.

    An effect is the mean log expression of perturbed cells less that of control cells of the same replicate. It is
    predicted by kernel ridge regression on the texts of the perturbed genes; settings and the interval come from
    trained perturbations that are predicted by others. The effect on the perturbed gene itself is not predicted.

    Returns a new AnnData with a row for each of ``genes`` and a column a gene: the layers ``mean`` (and ``X``),
    ``lower`` and ``upper`` (95 %), in natural logarithms; ``obs["source"]`` is ``trained`` where the screen has the
    perturbation, whose own effect is given then, else ``predicted``; ``uns["cellmodel_perturb"]`` says what was chosen
    and how much of the variance it explains out of fold. ``adata`` is left as it is::

        effects = cm.tl.perturb(adata, gk.open("human"), genes=["STAT4", "IRF9"], replicate_key="batch")
        effects["IRF9"].to_df("lower")

    Parameters
    ----------
    genes
        Perturbations to give effects of, by symbol.
    perturbation_key
        Column of obs with the perturbed gene of each cell; cells without one are left out.
    control
        Value of that column for control cells.
    replicate_key
        Column of obs with replicates; cells are divided into three by a hash of their names if None, which makes
        intervals of measured effects too narrow.
    knowledge
        ``real`` texts, or a control: ``shuffled``, ``name`` (full names alone), ``symbol`` (characters of symbols).
    """
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    cells = cells_from_anndata(adata, read, source="AnnData in memory")
    screen = ScreenConfig(
        genes=tuple(genes), perturbation_key=perturbation_key, control=control, replicate_key=replicate_key
    )
    return perturb_cells(cells, kb, screen=screen, config=PerturbConfig(encoder=encoder, knowledge=knowledge))


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
    if isinstance(found, CellRun) and found.result.estimate and not found.result.estimate.has_structure:
        log.warning("no structure found, so the cells are one cluster; n_clusters=K clusters them into K")
    return target if copy else None
