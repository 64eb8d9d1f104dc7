"""Tools on an AnnData, in the manner of scanpy: `cm.tl.run`, `cluster`, `annotate`, `search`, `predict`, and others."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cellmodel.annotate.candidates import choose_types
from cellmodel.annotate.cell_types import CellType
from cellmodel.annotate.classify import ClassifyConfig, Contrast, Head
from cellmodel.annotate.label_transfer import TransferConfig
from cellmodel.annotate.levels import Level
from cellmodel.annotate.shared_genes import GenesBy
from cellmodel.core.config import BatchConfig, HeadName, Knowledge, RunConfig, Sentences, SpatialConfig, Values
from cellmodel.core.options import Paths, names_of, paths_of, settings_of
from cellmodel.core.tools import Kb, open_kb, tool
from cellmodel.io.cells import ReadConfig, cells_from_anndata
from cellmodel.io.writers import MODEL, check_targets
from cellmodel.pl.report.write import report_cells
from cellmodel.tl._annotate import annotate_markers as annotate_markers
from cellmodel.tl._annotate import map_labels as map_labels
from cellmodel.tl._chain import ChainConfig, ChainJob
from cellmodel.tl._classify import TransferJob
from cellmodel.tl._cluster import CellRun, ClusterJob
from cellmodel.tl._compare import compare as compare
from cellmodel.tl._explain import annotate as annotate
from cellmodel.tl._explain import attribute as attribute
from cellmodel.tl._explain import predict as predict
from cellmodel.tl._explain import search as search
from cellmodel.tl._export import cell_type_terms as cell_type_terms
from cellmodel.tl._export import export_graph as export_graph
from cellmodel.tl._perturb import perturb as perturb
from cellmodel.tl._run.task import run_on_anndata
from cellmodel.tl._run.within import parse_within
from cellmodel.tl._samples import composition as composition
from cellmodel.tl._samples import markers as markers
from cellmodel.tl.model.fitted import fit_model
from cellmodel.tl.model.fitted import save_model as keep_model
from cellmodel.tl.model.share import lock as lock
from cellmodel.tl.model.share import pull as pull
from cellmodel.tl.model.share import push as push
from cellmodel.tl.model.share import sync as sync
from genekb.files.replace import Target

if TYPE_CHECKING:
    from anndata import AnnData

    from cellmodel.recipes.base import Recipe

__all__ = [
    "annotate",
    "annotate_markers",
    "attribute",
    "cell_type_terms",
    "classify",
    "cluster",
    "compare",
    "composition",
    "embed",
    "export_graph",
    "lock",
    "map_labels",
    "markers",
    "perturb",
    "predict",
    "pull",
    "push",
    "run",
    "search",
    "sync",
]
log = logging.getLogger(__name__)


def __dir__() -> list[str]:
    """Names that people use."""
    return __all__


@tool
def embed(  # noqa: PLR0913 - those of the command
    adata: "AnnData",
    kb: Kb | None = None,
    *,
    recipe: "str | Recipe" = "fused",
    knowledge: Knowledge = "real",
    encoder: str | None = None,
    spatial: bool | SpatialConfig = False,
    batch_key: str | BatchConfig | None = None,
    use_rep: str | None = None,
    min_coverage: float = 0.3,
    orthologs: bool = False,
    sentences: Sentences = "pooled",
    low_data: bool = False,
    integration: str | None = None,
    confounded_ok: bool = False,
    harmony_theta: float = 2.0,
    head: HeadName | None = None,
    smooth_labels: bool = False,
    device: str = "cpu",
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    values: Values = "auto",
    key_added: str = "cellmodel",
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
) -> "AnnData | None":
    """Embed cells: by their expression, by their text, and in a joint space with words.

    From the shell: ``cellmodel cluster --no-clusters``.

    Parameters
    ----------
    adata
        Counts or log-normalised expression; genes by any of their names; in memory or backed.
    kb
        Store: its name, its folder, or opened; None only with ``knowledge="none"``.
    recipe
        Name of a recipe, or a `Recipe`.
    knowledge
        ``real`` gene vectors, ``shuffled`` among the genes, ``random`` ones, or ``none``.
    encoder
        Encoder of the store; its first one if None.
    spatial
        Whether ``obsm["spatial"]`` is used as a graph, or a `SpatialConfig` that says how.
    batch_key
        Column of obs with the batch of each cell, to be integrated by Harmony; or a `BatchConfig`.
    use_rep
        Key of obsm with an embedding in place of the principal components, such as ``X_scVI``.
    min_coverage
        Fraction of the genes that must have a text, in [0, 1].
    orthologs
        Whether symbols of the orthologous gene of another species may map to a gene.
    sentences
        How ranked-gene sentences are embedded: gene vectors ``pooled`` by rank; the same, compared with the sentences
        of 1,000 cells that the encoder reads (``sampled``); or every cell's sentence ``encoded`` (slow).
    low_data
        For few cells: whether genes are weighted by how informative they are, also by text.
    integration
        With ``batch_key``: ``harmony``, ``none``, or the name of a plug-in; Harmony if None, and none with ``use_rep``.
    confounded_ok
        With ``batch_key``: whether batches may be cell types or conditions, which integration would remove.
    harmony_theta
        With ``batch_key``: how strongly Harmony mixes batches; more mixes cell types of one batch, too.
    head
        Clustering method; that of the recipe if None.
    smooth_labels
        With ``spatial``: whether the majority around a cell decides its cluster.
    device
        Where models are trained: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``cpu`` repeats to the bit.
    layer
        Layer that holds the values; found by what the matrices hold if None.
    use_raw
        Whether the values are those of ``.raw``.
    gene_key
        Column of var with the gene names; the index of var if None.
    values
        What the values are: ``counts``, ``linear``, ``log1p``; found by what the matrices hold if ``auto``.
    key_added
        Name of the slots: ``obsm["X_<key>"]``, the embedding for neighbors, maps and clusters; its views
        ``obsm["X_<key>_expr"]`` and ``obsm["X_<key>_text"]``; ``obsm["X_<key>_joint"]``, where genes and free text can
        be placed among the cells (`fused` alone); the graph in ``obsp``, ``var["<key>_gene_id"]`` and ``uns["<key>"]``.
    overwrite
        Whether slots of that name may be replaced.
    random_state
        The run's one seed; ``seed`` is taken, too.
    copy
        Return a copy with the result instead of changing ``adata``.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("cells.h5ad")
    >>> cm.tl.embed(adata, "demo", recipe="pca-leiden")
    >>> adata.obsm["X_cellmodel"].shape[0] == adata.n_obs
    True
    """
    config = settings_of(
        None, recipe=recipe, knowledge=knowledge, encoder=encoder, spatial=spatial,
        batch_key=batch_key, use_rep=use_rep, random_state=random_state, min_coverage=min_coverage,
        orthologs=orthologs, sentences=sentences, low_data=low_data, integration=integration,
        confounded_ok=confounded_ok, harmony_theta=harmony_theta, head=head, smooth_labels=smooth_labels, device=device,
    )  # fmt: skip
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    task = ClusterJob(open_kb(kb), config, with_clusters=False)
    return run_on_anndata(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)[0]


@tool
def cluster(  # noqa: PLR0913 - what users of a clustering tool look for among its arguments
    adata: "AnnData",
    kb: Kb | None = None,
    *,
    n_clusters: "int | Literal['auto'] | None" = None,
    resolution: float | None = None,
    within: str | None = None,
    recipe: "str | Recipe" = "fused",
    knowledge: Knowledge = "real",
    encoder: str | None = None,
    batch_key: str | BatchConfig | None = None,
    use_rep: str | None = None,
    spatial: bool | SpatialConfig = False,
    save_model: str | Path | None = None,
    config: RunConfig | None = None,
    min_coverage: float = 0.3,
    orthologs: bool = False,
    sentences: Sentences = "pooled",
    low_data: bool = False,
    integration: str | None = None,
    confounded_ok: bool = False,
    harmony_theta: float = 2.0,
    head: HeadName | None = None,
    smooth_labels: bool = False,
    device: str = "cpu",
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    values: Values = "auto",
    key_added: str = "cellmodel",
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
) -> "AnnData | None":
    """Embed and cluster cells, and find markers and words of each cluster.

    Adds to the slots of :func:`embed` the categorical ``obs["<key>"]`` (clusters by size, as strings),
    ``obs["<key>_confidence"]``, the levels of their tree, coarsest first, in ``obs["<key>_level_1"]`` and so on, and
    tables in ``uns["<key>"]``.

    From the shell: ``cellmodel cluster``.

    Parameters
    ----------
    adata
        Counts or log-normalised expression; genes by any of their names; in memory or backed.
    kb
        Store: its name, such as ``human``, its folder, or opened.
    n_clusters
        Number of clusters; estimated without labels if None or ``"auto"``.
    resolution
        In place of it, > 0: as many clusters as there are Leiden communities at this resolution; higher gives more.
    within
        ``COLUMN=CLUSTER[,CLUSTER]``, such as ``cellmodel=3``: the cells of these clusters of obs are clustered again,
        with genes and components of their own, into ``3.0``, ``3.1``, ...; others keep their clusters.
    recipe
        Name of a recipe, or a `Recipe`.
    knowledge
        ``real`` gene vectors, ``shuffled`` among the genes, ``random`` ones, or ``none``.
    encoder
        Encoder of the store; its first one if None.
    batch_key
        Column of obs with the batch of each cell, to be integrated by Harmony; or a `BatchConfig`.
    use_rep
        Key of obsm with an embedding in place of the principal components, such as ``X_scVI``.
    spatial
        Whether ``obsm["spatial"]`` is used as a graph, or a `SpatialConfig` that says how.
    save_model
        Folder to keep the model in, for :func:`predict`.
    config
        All further settings of a run; an argument that is not at its default wins over it.
    min_coverage
        Fraction of the genes that must have a text, in [0, 1].
    orthologs
        Whether symbols of the orthologous gene of another species may map to a gene.
    sentences
        How ranked-gene sentences are embedded: gene vectors ``pooled`` by rank; the same, compared with the sentences
        of 1,000 cells that the encoder reads (``sampled``); or every cell's sentence ``encoded`` (slow).
    low_data
        For few cells: whether genes are weighted by how informative they are, also by text.
    integration
        With ``batch_key``: ``harmony``, ``none``, or the name of a plug-in; Harmony if None, and none with ``use_rep``.
    confounded_ok
        With ``batch_key``: whether batches may be cell types or conditions, which integration would remove.
    harmony_theta
        With ``batch_key``: how strongly Harmony mixes batches; more mixes cell types of one batch, too.
    head
        Clustering method; that of the recipe if None.
    smooth_labels
        With ``spatial``: whether the majority around a cell decides its cluster.
    device
        Where models are trained: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``cpu`` repeats to the bit.
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
    overwrite
        Whether slots of that name may be replaced.
    random_state
        The run's one seed; ``seed`` is taken, too.
    copy
        Return a copy with the result instead of changing ``adata``.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("cells.h5ad")
    >>> cm.tl.cluster(adata, "demo", n_clusters=2)
    >>> adata.obs["cellmodel"].cat.categories.tolist()
    ['0', '1']
    """
    chosen = settings_of(
        config, n_clusters=n_clusters, resolution=resolution, recipe=recipe, knowledge=knowledge, encoder=encoder,
        batch_key=batch_key, use_rep=use_rep, spatial=spatial, random_state=random_state, min_coverage=min_coverage,
        orthologs=orthologs, sentences=sentences, low_data=low_data, integration=integration,
        confounded_ok=confounded_ok, harmony_theta=harmony_theta, head=head, smooth_labels=smooth_labels, device=device,
    )  # fmt: skip
    check_targets([_model_target(save_model)], overwrite=overwrite)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    task = ClusterJob(open_kb(kb), chosen, within=None if within is None else parse_within(within))
    done, found = run_on_anndata(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)
    _note_structure(found)
    _keep_model(found, save_model, overwrite=overwrite)
    return done


@tool
def run(  # noqa: PLR0913 - those of the tools that it does
    adata: "AnnData",
    kb: Kb | None = None,
    *,
    n_clusters: "int | Literal['auto'] | None" = None,
    resolution: float | None = None,
    recipe: "str | Recipe" = "fused",
    knowledge: Knowledge = "real",
    encoder: str | None = None,
    batch_key: str | BatchConfig | None = None,
    use_rep: str | None = None,
    spatial: bool | SpatialConfig = False,
    candidates: str | Path | Sequence[str | CellType] | None = None,
    tissue: str | Sequence[str] | None = None,
    level: Level = "auto",
    gmt: Paths = (),
    skip: str | Sequence[str] = (),
    save_model: str | Path | None = None,
    report: str | Path | None = None,
    config: RunConfig | None = None,
    min_coverage: float = 0.3,
    orthologs: bool = False,
    sentences: Sentences = "pooled",
    low_data: bool = False,
    integration: str | None = None,
    confounded_ok: bool = False,
    harmony_theta: float = 2.0,
    head: HeadName | None = None,
    smooth_labels: bool = False,
    device: str = "cpu",
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    values: Values = "auto",
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
    adata
        Counts or log-normalised expression; genes by any of their names; in memory or backed.
    kb
        Store: its name, such as ``human``, its folder, or opened.
    n_clusters
        Number of clusters; estimated without labels if None or ``"auto"``.
    resolution
        In place of it, > 0: as many clusters as there are Leiden communities at this resolution; higher gives more.
    recipe
        Name of a recipe, or a `Recipe`.
    knowledge
        ``real`` gene vectors, ``shuffled`` among the genes, ``random`` ones, or ``none``.
    encoder
        Encoder of the store; its first one if None.
    batch_key
        Column of obs with the batch of each cell, to be integrated by Harmony; or a `BatchConfig`.
    use_rep
        Key of obsm with an embedding in place of the principal components, such as ``X_scVI``.
    spatial
        Whether ``obsm["spatial"]`` is used as a graph, or a `SpatialConfig` that says how.
    candidates
        Cell types to choose names from, or a file of them; those of the package's table if None.
    tissue
        Cell types of these tissues of the table, such as ``gut``, and the cells that every tissue has.
    level
        ``fine``: a type; ``broad``: its everyday group; ``auto``: a type, or the group of types that disagree.
    gmt
        Files of gene sets, tested beside those of the store.
    skip
        Steps to leave out, of ``annotate`` and ``attribute``.
    save_model
        Folder to keep the model in, for :func:`predict`.
    report
        HTML report to write; a file of that name is replaced with ``overwrite`` alone.
    config
        All further settings of a run; an argument that is not at its default wins over it.
    min_coverage
        Fraction of the genes that must have a text, in [0, 1].
    orthologs
        Whether symbols of the orthologous gene of another species may map to a gene.
    sentences
        How ranked-gene sentences are embedded: gene vectors ``pooled`` by rank; the same, compared with the sentences
        of 1,000 cells that the encoder reads (``sampled``); or every cell's sentence ``encoded`` (slow).
    low_data
        For few cells: whether genes are weighted by how informative they are, also by text.
    integration
        With ``batch_key``: ``harmony``, ``none``, or the name of a plug-in; Harmony if None, and none with ``use_rep``.
    confounded_ok
        With ``batch_key``: whether batches may be cell types or conditions, which integration would remove.
    harmony_theta
        With ``batch_key``: how strongly Harmony mixes batches; more mixes cell types of one batch, too.
    head
        Clustering method; that of the recipe if None.
    smooth_labels
        With ``spatial``: whether the majority around a cell decides its cluster.
    device
        Where models are trained: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``cpu`` repeats to the bit.
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
    overwrite
        Whether slots of that name may be replaced.
    random_state
        The run's one seed; ``seed`` is taken, too.
    copy
        Return a copy with the result instead of changing ``adata``.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("cells.h5ad")
    >>> cm.tl.run(adata, "demo", n_clusters=2, report="report.html")
    >>> cm.get.names(adata)["name"].tolist()  # doctest: +ELLIPSIS
    [...]
    """
    chosen = settings_of(
        config, n_clusters=n_clusters, resolution=resolution, recipe=recipe, knowledge=knowledge, encoder=encoder,
        batch_key=batch_key, use_rep=use_rep, spatial=spatial, random_state=random_state, min_coverage=min_coverage,
        orthologs=orthologs, sentences=sentences, low_data=low_data, integration=integration,
        confounded_ok=confounded_ok, harmony_theta=harmony_theta, head=head, smooth_labels=smooth_labels, device=device,
    )  # fmt: skip
    chain = ChainConfig(
        skip=names_of(skip), types=choose_types(candidates, tissue=tissue), level=level, gmt=paths_of(gmt)
    )
    page = None if report is None else Path(report)
    check_targets([_model_target(save_model), None if page is None else Target(page)], overwrite=overwrite)
    task = ChainJob(open_kb(kb), chosen, chain=chain, key_added=key_added)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    done, found = run_on_anndata(adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy)
    _note_structure(found["cluster"])
    _keep_model(found["cluster"], save_model, overwrite=overwrite)
    if page is not None:
        cells = cells_from_anndata(adata if done is None else done, read)
        report_cells(cells, page, cluster_key=key_added, overwrite=overwrite)
    return done


@tool
def classify(  # noqa: PLR0913 - those of the command
    adata: "AnnData",
    reference: "AnnData",
    kb: Kb,
    *,
    label_key: str,
    genes_by: GenesBy = "ids",
    head: Head = "logistic",
    contrastive: Contrast = "none",
    unassigned_below: float | None = None,
    classifier: ClassifyConfig | None = None,
    batch_key: str | BatchConfig | None = None,
    config: RunConfig | None = None,
    encoder: str | None = None,
    min_coverage: float = 0.3,
    orthologs: bool = False,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    values: Values = "auto",
    key_added: str = "cellmodel_class",
    other_store: bool = False,
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
) -> "AnnData | None":
    """Transfer labels of a reference to cells, of the same species or of another.

    Adds the categorical ``obs["<key>"]``, in which cells of low confidence are ``unassigned``,
    ``obs["<key>_confidence"]``, ``obsm["<key>_probabilities"]`` and ``uns["<key>"]``, whose ``classes`` name the
    columns of the probabilities. The reference is left as it is.

    From the shell: ``cellmodel classify``.

    Parameters
    ----------
    adata
        Counts or log-normalised expression; genes by any of their names; in memory or backed.
    reference
        Labelled cells; those without a label are left out and counted.
    kb
        Store: its name, such as ``human``, its folder, or opened.
    label_key
        Column of its obs with the labels.
    genes_by
        Genes of the two sides are matched by GeneID, by orthologue, or by the text of the genes.
    head
        ``logistic`` regression, nearest ``centroid``, or ``knn``.
    contrastive
        Contrastive projection before it: ``none``, ``supervised`` or ``self``.
    unassigned_below
        Confidence below which a cell is unassigned; found from the reference if None.
    classifier
        All of these, and what else can be set; they are not looked at then.
    batch_key
        Column of obs, of the reference, of the cells or of both, with the batch of each cell; genes are scaled within
        batches, and the graph over which cells are averaged is integrated.
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
    >>> new, reference = anndata.read_h5ad("cells.h5ad"), anndata.read_h5ad("cells.h5ad")
    >>> cm.tl.classify(new, reference, "demo", label_key="label", unassigned_below=0)
    >>> sorted(set(new.obs["cellmodel_class"]))
    ['B cell', 'T cell']
    """
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    how = classifier or ClassifyConfig(head=head, contrast=contrastive, unassigned_below=unassigned_below)
    transfer = TransferConfig(label_key=label_key, genes_by=genes_by, classify=how, other_store=other_store)
    labelled = cells_from_anndata(reference, read, source="reference in memory")
    chosen = settings_of(
        config,
        batch_key=batch_key,
        encoder=encoder,
        min_coverage=min_coverage,
        orthologs=orthologs,
        random_state=random_state,
    )
    task = TransferJob(open_kb(kb), chosen, reference=labelled, transfer=transfer)
    return run_on_anndata(
        adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy, source="query in memory"
    )[0]


def _model_target(folder: str | Path | None) -> Target | None:
    return None if folder is None else MODEL.target(Path(folder))


def _keep_model(found: Any, folder: str | Path | None, *, overwrite: bool) -> None:
    if folder is not None:
        keep_model(fit_model(found.cells, found.result), Path(folder), overwrite=overwrite)


def _note_structure(found: CellRun) -> None:
    for note in found.result.structure.notes() if found.result.structure else ():
        log.info("%s", note)
