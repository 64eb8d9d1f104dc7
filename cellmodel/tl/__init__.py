"""Tools on an AnnData, in the manner of scanpy: `cm.tl.run`, `cluster`, `annotate`, `search`, `predict`, and others."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from cellmodel.annotate.candidates import choose_types
from cellmodel.annotate.cell_types import CellType
from cellmodel.annotate.classify import ClassifyConfig, Contrast, Head
from cellmodel.annotate.label_transfer import TransferConfig
from cellmodel.annotate.levels import Level
from cellmodel.annotate.shared_genes import GenesBy
from cellmodel.core.config import BatchConfig, Knowledge, RunConfig, SpatialConfig
from cellmodel.core.options import GeneSettings, Paths, RunSettings, names_of, paths_of, settings_of
from cellmodel.core.tools import Kb, open_kb, tool
from cellmodel.io.cells import cells_from_anndata, reading
from cellmodel.io.writers import MODEL, check_targets
from cellmodel.pl._report.collect import report_cells
from cellmodel.tl._compare import compare as compare
from cellmodel.tl._compare import transfer_task
from cellmodel.tl._explain import annotate as annotate
from cellmodel.tl._explain import attribute as attribute
from cellmodel.tl._explain import predict as predict
from cellmodel.tl._explain import search as search
from cellmodel.tl._export import cell_type_terms as cell_type_terms
from cellmodel.tl._export import export_graph as export_graph
from cellmodel.tl._names import annotate_markers as annotate_markers
from cellmodel.tl._names import map_labels as map_labels
from cellmodel.tl._perturb import perturb as perturb
from cellmodel.tl._samples import composition as composition
from cellmodel.tl._samples import markers as markers
from cellmodel.tl._slots import CellRun, ChainConfig, chain_task, cluster_task
from cellmodel.tl._task import run_on_anndata
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
def embed(
    adata: "AnnData",
    kb: Kb | None = None,
    *,
    recipe: "str | Recipe" = "fused",
    knowledge: Knowledge = "real",
    encoder: str | None = None,
    spatial: bool | SpatialConfig | None = None,
    batch_key: str | BatchConfig | None = None,
    use_rep: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel",
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
    **settings: Unpack[RunSettings],
) -> "AnnData | None":
    """Embed cells: by their expression, by their text, and in a joint space with words.

    Parameters
    ----------
    kb
        Store: its name, its folder, or opened; None only with ``knowledge="none"``.
    key_added
        Name of the slots: ``obsm["X_<key>"]``, the embedding for neighbors, maps and clusters; its views
        ``obsm["X_<key>_expr"]`` and ``obsm["X_<key>_text"]``; ``obsm["X_<key>_joint"]``, where genes and free text can
        be placed among the cells (`fused` alone); the graph in ``obsp``, ``var["<key>_gene_id"]`` and ``uns["<key>"]``.

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
        batch_key=batch_key, use_rep=use_rep, random_state=random_state, **settings,
    )  # fmt: skip
    read = reading(settings, layer=layer, use_raw=use_raw, gene_key=gene_key)
    task = cluster_task(open_kb(kb), config, key_added=key_added, with_clusters=False)
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
    spatial: bool | SpatialConfig | None = None,
    save_model: str | Path | None = None,
    config: RunConfig | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel",
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
    **settings: Unpack[RunSettings],
) -> "AnnData | None":
    """Embed and cluster cells, and find markers and words of each cluster.

    Adds to the slots of :func:`embed` the categorical ``obs["<key>"]`` (clusters by size, as strings),
    ``obs["<key>_confidence"]``, the levels of their tree, coarsest first, in ``obs["<key>_level_1"]`` and so on, and
    tables in ``uns["<key>"]``.

    Parameters
    ----------
    n_clusters
        Number of clusters; estimated without labels if None or ``"auto"``.
    resolution
        In place of it, > 0: as many clusters as there are Leiden communities at this resolution; higher gives more.
    within
        ``COLUMN=CLUSTER[,CLUSTER]``, such as ``cellmodel=3``: the cells of these clusters of obs are clustered again,
        with genes and components of their own, into ``3.0``, ``3.1``, ...; others keep their clusters.
    save_model
        Folder to keep the model in, for :func:`predict`.
    config
        All further settings; the named arguments above win over it, ``batch_key``, ``use_rep`` and ``spatial`` where
        they are given.

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
        batch_key=batch_key, use_rep=use_rep, random_state=random_state, **_spatial(spatial), **settings,
    )  # fmt: skip
    check_targets([_model_target(save_model)], overwrite=overwrite)
    read = reading(settings, layer=layer, use_raw=use_raw, gene_key=gene_key)
    task = cluster_task(open_kb(kb), chosen, key_added=key_added, within=within)
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
    spatial: bool | SpatialConfig | None = None,
    candidates: str | Path | Sequence[str | CellType] | None = None,
    tissue: str | Sequence[str] | None = None,
    level: Level = "auto",
    gmt: Paths = (),
    skip: str | Sequence[str] = (),
    save_model: str | Path | None = None,
    report: str | Path | None = None,
    config: RunConfig | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel",
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
    **settings: Unpack[RunSettings],
) -> "AnnData | None":
    """Cluster cells, name the clusters, and explain what sets them apart, all in one go.

    Adds the slots of :func:`cluster`, those of :func:`annotate` under ``<key>_name``, and those of :func:`attribute`
    under ``<key>_attribution``: what the three do one after the other. Cells that are one cluster get the first alone.

    Parameters
    ----------
    n_clusters
        Number of clusters; estimated without labels if None.
    resolution
        In place of ``n_clusters``, as for :func:`cluster`.
    candidates, tissue, level
        Of the names, as for :func:`annotate`.
    gmt
        Files of gene sets, tested beside those of the store.
    skip
        Steps to leave out, of ``annotate`` and ``attribute``.
    save_model
        Folder to keep the model in, for :func:`predict`.
    report
        HTML report to write; a file of that name is replaced with ``overwrite`` alone.
    config
        All further settings of the clusters; the named arguments above win over it.

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
        batch_key=batch_key, use_rep=use_rep, random_state=random_state, **_spatial(spatial), **settings,
    )  # fmt: skip
    chain = ChainConfig(
        skip=names_of(skip), types=choose_types(candidates, tissue=tissue), level=level, gmt=paths_of(gmt)
    )
    page = None if report is None else Path(report)
    check_targets([_model_target(save_model), None if page is None else Target(page)], overwrite=overwrite)
    task = chain_task(open_kb(kb), chosen, chain, key_added=key_added)
    read = reading(settings, layer=layer, use_raw=use_raw, gene_key=gene_key)
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
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel_class",
    other_store: bool = False,
    overwrite: bool = False,
    copy: bool = False,
    **settings: Unpack[GeneSettings],
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

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> new, reference = anndata.read_h5ad("cells.h5ad"), anndata.read_h5ad("cells.h5ad")
    >>> cm.tl.classify(new, reference, "demo", label_key="label", unassigned_below=0)
    >>> sorted(set(new.obs["cellmodel_class"]))
    ['B cell', 'T cell']
    """
    read = reading(settings, layer=layer, use_raw=use_raw, gene_key=gene_key)
    how = classifier or ClassifyConfig(head=head, contrast=contrastive, unassigned_below=unassigned_below)
    transfer = TransferConfig(label_key=label_key, genes_by=genes_by, classify=how, other_store=other_store)
    labelled = cells_from_anndata(reference, read, source="reference in memory")
    chosen = settings_of(config, batch_key=batch_key, **settings)
    task = transfer_task(labelled, open_kb(kb), chosen, transfer=transfer, read=read)
    return run_on_anndata(
        adata, task, read, key_added=key_added, overwrite=overwrite, copy=copy, source="query in memory"
    )[0]


def _spatial(spatial: bool | SpatialConfig | None) -> dict[str, Any]:  # noqa: FBT001 - as a tool takes it
    """Give the setting where it was named, so that another is kept."""
    return {} if spatial is None else {"spatial": spatial}


def _model_target(folder: str | Path | None) -> Target | None:
    return None if folder is None else MODEL.target(Path(folder))


def _keep_model(found: Any, folder: str | Path | None, *, overwrite: bool) -> None:
    if folder is not None:
        keep_model(fit_model(found.cells, found.result), Path(folder), overwrite=overwrite)


def _note_structure(found: CellRun) -> None:
    for note in found.result.structure.notes() if found.result.structure else ():
        log.info("%s", note)
