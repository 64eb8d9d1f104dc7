"""Tools on an AnnData, in place, in the manner of scanpy: `cm.tl.embed`, `cm.tl.cluster`."""

from dataclasses import replace
from typing import TYPE_CHECKING

import genekb
from cellmodel.config import RunConfig
from cellmodel.io import ReadConfig, cells_from_anndata, claim_slots
from cellmodel.pipeline import run
from cellmodel.slots import result_slots, write_result
from cellmodel.types import Knowledge

if TYPE_CHECKING:
    from anndata import AnnData


def embed(
    adata: "AnnData",
    kb: genekb.Store | None = None,
    *,
    recipe: str = "fused",
    knowledge: Knowledge = "real",
    encoder: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    key_added: str = "cellmodel",
    overwrite: bool = False,
    random_state: int = 0,
    copy: bool = False,
) -> "AnnData | None":
    """Embed cells: expression view, text view and their joint space.

    Parameters
    ----------
    adata
        Counts or log-normalised expression; genes by symbol, alias, Ensembl identifier or GeneID.
    kb
        Opened store; None only with ``knowledge="none"``.
    layer, use_raw, gene_key
        Where the values and the gene names are.
    key_added
        Name of the slots: ``obsm["X_<key>"]``, ``obsm["X_<key>_expr"]``, ``obsm["X_<key>_text"]``, the graph in
        ``obsp``, ``var["<key>_gene_id"]`` and ``uns["<key>"]``.
    copy
        Return a copy with the result instead of changing ``adata``.

    Raises
    ------
    NotCounts, AlignmentTooLow, SlotTaken
        See :mod:`cellmodel.errors`.
    """
    config = RunConfig(recipe=recipe, knowledge=knowledge, encoder=encoder, seed=random_state)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    return _run(adata, kb, config, read, key_added=key_added, overwrite=overwrite, copy=copy, with_clusters=False)


def cluster(
    adata: "AnnData",
    kb: genekb.Store | None = None,
    *,
    n_clusters: int | None = None,
    recipe: str = "fused",
    knowledge: Knowledge = "real",
    encoder: str | None = None,
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
    ``obs["<key>_confidence"]``, and tables in ``uns["<key>"]``.

    Parameters
    ----------
    n_clusters
        Number of clusters; estimated without labels if None.
    config
        All further settings; the named arguments above win over it.

    Raises
    ------
    NotCounts, AlignmentTooLow, SlotTaken
        See :mod:`cellmodel.errors`.
    """
    chosen = replace(
        config or RunConfig(),
        n_clusters=n_clusters,
        recipe=recipe,
        knowledge=knowledge,
        encoder=encoder,
        seed=random_state,
    )
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    return _run(adata, kb, chosen, read, key_added=key_added, overwrite=overwrite, copy=copy, with_clusters=True)


def _run(
    adata: "AnnData",
    kb: genekb.Store | None,
    config: RunConfig,
    read: ReadConfig,
    *,
    key_added: str,
    overwrite: bool,
    copy: bool,
    with_clusters: bool,
) -> "AnnData | None":
    target = adata.copy() if copy else adata
    claim_slots(target, result_slots(key_added, with_clusters=with_clusters), overwrite=overwrite)
    cells = cells_from_anndata(target, read)
    result = run(cells, kb, config, with_clusters=with_clusters)
    write_result(cells, result, key_added=key_added, overwrite=overwrite)
    return target if copy else None
