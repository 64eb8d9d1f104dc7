"""What tools found, as tables: `cm.get.markers(adata)`, `words`, `names`, `composition`, and any other by `table`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cellmodel.core.errors import InputUnusable
from cellmodel.io.records import stored_table
from genekb.core.messages import known_names
from genekb.core.python import for_python

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["composition", "markers", "names", "table", "words"]


def __dir__() -> list[str]:
    """Names that people use."""
    return __all__


@for_python
def markers(
    adata: "AnnData", cluster: str | Sequence[str] | None = None, *, key: str = "cellmodel", n_genes: int | None = None
) -> "pd.DataFrame":
    """Give the marker genes of clusters, best first: a row a cluster and gene.

    Parameters
    ----------
    adata
        Cells that :func:`cellmodel.tl.cluster` clustered.
    cluster
        One cluster, or several; all if None.
    key
        Name of the slots.
    n_genes
        Genes of each cluster; all that were kept if None.

    Raises
    ------
    InputUnusable
        If there is no such table, or no such cluster.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> cm.get.markers(adata, "0", n_genes=3)["cluster"].tolist()
    ['0', '0', '0']
    """
    return _first(_of_cluster(table(adata, key, "markers"), cluster), n_genes)


@for_python
def words(
    adata: "AnnData", cluster: str | Sequence[str] | None = None, *, key: str = "cellmodel", n_words: int | None = None
) -> "pd.DataFrame":
    """Give the words of clusters, best first; see :func:`markers`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> {"cluster", "term"} <= set(cm.get.words(adata))
    True
    """
    return _first(_of_cluster(table(adata, key, "words"), cluster), n_words)


@for_python
def names(adata: "AnnData", *, key: str = "cellmodel_name") -> "pd.DataFrame":
    """Give the names of clusters, with the evidence for each: a row a cluster.

    ``adata``: cells whose clusters :func:`cellmodel.tl.annotate` named, under ``key``.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> cm.tl.annotate(adata, "demo", candidates=["T cell", "B cell"])
    >>> {"cluster", "name", "best", "p_value", "genes"} <= set(cm.get.names(adata))
    True
    """
    return table(adata, key, "names")


@for_python
def composition(adata: "AnnData", *, key: str = "cellmodel_composition", what: str = "shares") -> "pd.DataFrame":
    """Give the shares of clusters in samples, or with ``what="clusters"`` the tests between conditions.

    ``adata``: cells that :func:`cellmodel.tl.composition` compared, under ``key``.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> adata.obs["donor"] = ["a", "b"] * (adata.n_obs // 2)
    >>> cm.tl.composition(adata, sample_key="donor")
    >>> cm.get.composition(adata)["share"].sum().round(6).item()
    2.0
    """
    return table(adata, key, what)


@for_python
def table(adata: "AnnData", key: str, what: str) -> "pd.DataFrame":
    """Give a copy of a table of ``uns[key]``, such as ``themes`` of ``cellmodel_attribution``.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> cm.get.table(adata, "cellmodel", "words").equals(cm.get.words(adata))
    True
    """
    found = stored_table(adata.uns, key, what)
    if found is not None:
        return found.copy()
    record = adata.uns.get(key)
    if record is None:
        raise InputUnusable(f'the cells hold no uns["{key}"] (they hold: {known_names(key, adata.uns)}); make it first')
    tables = [name for name in record if stored_table(record, name) is not None] if hasattr(record, "keys") else []
    raise InputUnusable(f'uns["{key}"] holds no table {what!r} (it has: {known_names(what, tables)})')


def _of_cluster(found: "pd.DataFrame", cluster: str | Sequence[str] | None) -> "pd.DataFrame":
    if cluster is None:
        return found
    wanted = [cluster] if isinstance(cluster, str | int) else list(cluster)
    known = list(dict.fromkeys(map(str, found["cluster"])))
    for name in map(str, wanted):
        if name not in known:
            raise InputUnusable(f"no cluster {name!r} (there are: {known_names(name, known)})")
    return found[found["cluster"].astype(str).isin(list(map(str, wanted)))].reset_index(drop=True)


def _first(found: "pd.DataFrame", most: int | None) -> Any:
    if most is None:
        return found
    return found.groupby("cluster", sort=False, observed=True).head(most).reset_index(drop=True)
