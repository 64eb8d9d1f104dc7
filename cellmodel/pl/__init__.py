"""Plots for papers from the slots of an AnnData, in the manner of scanpy: `cm.pl.umap`, `cm.pl.dotplot`, and others.

Each function draws on the axes given with ``ax``, or on new ones of the size of a paper's column, saves the figure
where ``save`` says (.svg, .png, .pdf; the same plot gives the same bytes), shows it with ``show=True``, and returns the
axes. Colors of categories are those of ``uns["<column>_colors"]``, as scanpy has them. matplotlib is needed: it comes
with the extra ``plot``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.groups import ClusteredCells, clustered
from cellmodel.explain.markers import marker_frame, rank_markers
from cellmodel.io.cells import ReadConfig, cells_from_anndata
from cellmodel.io.records import stored_table
from cellmodel.pl._canvas import drawn
from cellmodel.pl._maps import categories_of
from cellmodel.pl._maps import embedding as embedding
from cellmodel.pl._maps import umap as umap
from cellmodel.pp.moments import cluster_moments
from genekb.core.messages import did_you_mean
from genekb.core.python import for_python

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["composition", "confusion", "dotplot", "embedding", "heatmap", "sankey", "umap"]


def __dir__() -> list[str]:
    """Names that people use."""
    return __all__


@for_python
def dotplot(
    adata: "AnnData",
    var_names: str | Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    groupby: str | None = None,
    *,
    key: str = "cellmodel",
    n_genes: int = 3,
    genes: Sequence[str] | None = None,
    ax: "Axes | None" = None,
    show: bool | None = None,
    save: Path | str | None = None,
) -> "Axes":
    """Draw the markers of the clusters: a dot's size is the fraction of cells with the gene, its color the mean.

    Parameters
    ----------
    var_names
        Genes to show, or lists of them by a name that is written above; the markers of the clusters if None.
    groupby
        Column of obs with the clusters, of a run or from elsewhere; ``uns[groupby]["markers"]`` are their markers,
        which are computed where there are none.
    key, genes
        Other names of ``groupby`` and ``var_names``.
    n_genes
        Markers of each cluster, best first.

    Raises
    ------
    InputUnusable
        If there are no clusters under that name, or a gene is unknown.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> axes = cm.pl.dotplot(adata, n_genes=2, save="markers.svg")
    >>> [label.get_text() for label in axes.get_yticklabels()]
    ['0', '1']
    """
    import pandas as pd

    from cellmodel.pl._grids import dot_grid

    key, asked = groupby or key, genes if var_names is None else var_names
    found = clustered(cells_from_anndata(adata, ReadConfig()), None, RunConfig(), cluster_key=key)
    named = asked if isinstance(asked, Mapping) else {}
    if asked is None:
        asked = _top_markers(adata, found, key=key, n_genes=n_genes)
    listed = [name for names in named.values() for name in names] if named else asked
    shown = [listed] if isinstance(listed, str) else list(listed)
    place = {name: column for column, name in reversed(list(enumerate(found.gene_names)))}
    unknown = [name for name in shown if name not in place]
    if unknown:
        raise InputUnusable(
            f"{', '.join(unknown[:3])}: no gene of these cells, or none that a cell expresses"
            f"{did_you_mean(unknown[0], place)}"
        )
    inside, _ = cluster_moments(found.expression[:, [place[name] for name in shown]], found.labels)
    means = pd.DataFrame(inside.mean, index=found.names, columns=shown)
    sizes = {name: len(names) for name, names in named.items()}
    return drawn(lambda: dot_grid(means, inside.fraction, groups=sizes, ax=ax), save, show=show)


@for_python
def sankey(
    adata: "AnnData",
    left: str,
    right: str,
    *,
    ax: "Axes | None" = None,
    show: bool | None = None,
    save: Path | str | None = None,
) -> "Axes":
    """Draw how the cells of one column of obs spread over another; cells without either are left out.

    Raises
    ------
    InputUnusable
        If a column is missing, or no cell has both.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> axes = cm.pl.sankey(adata, "label", "cellmodel", save="labels.svg")
    """
    from cellmodel.pl._sankey import draw_flows

    counts = _crossed(adata, left, right)
    return drawn(lambda: draw_flows(counts, titles=(left, right), ax=ax), save, show=show)


@for_python
def heatmap(
    contributions: "pd.DataFrame",
    *,
    n_genes: int = 5,
    ax: "Axes | None" = None,
    show: bool | None = None,
    save: Path | str | None = None,
) -> "Axes":
    """Draw how much each gene pulls each cluster along its semantic direction, as a share of the cluster's largest.

    Parameters
    ----------
    contributions
        A row a cluster and gene, with the columns ``cluster``, ``gene`` and ``contribution``.
    n_genes
        Genes of each cluster, largest contribution first; gray where the table has none.

    Raises
    ------
    InputUnusable
        If a column is missing, or the table is empty.

    Examples
    --------
    >>> import pandas as pd, cellmodel as cm
    >>> rows = [("0", "CD3D", 0.8), ("0", "LYZ", 0.1), ("1", "MS4A1", 0.6)]
    >>> axes = cm.pl.heatmap(pd.DataFrame(rows, columns=["cluster", "gene", "contribution"]), n_genes=1)
    >>> [label.get_text() for label in axes.get_xticklabels()]
    ['CD3D', 'MS4A1']
    """
    from cellmodel.pl._grids import heat_grid

    missing = {"cluster", "gene", "contribution"} - set(contributions)
    if missing or not len(contributions):
        lack = ", ".join(sorted(missing)) or "rows"
        raise InputUnusable(f"the table of contributions has no {lack}; make one with `cellmodel attribute`")
    table = contributions.assign(cluster=contributions["cluster"].astype(str), gene=contributions["gene"].astype(str))
    wide = table.pivot_table(index="cluster", columns="gene", values="contribution", aggfunc="sum", sort=False)
    clusters = list(dict.fromkeys(table["cluster"]))
    top = [gene for name in clusters for gene in wide.loc[name].nlargest(n_genes).index]
    genes = list(dict.fromkeys(top))
    values = wide.loc[clusters, genes]
    scaled = values.div(values.abs().max(axis=1).replace(0, np.inf), axis=0)
    return drawn(lambda: heat_grid(scaled, label="share of the largest", ax=ax), save, show=show)


@for_python
def confusion(
    adata: "AnnData",
    rows: str,
    columns: str,
    *,
    ax: "Axes | None" = None,
    show: bool | None = None,
    save: Path | str | None = None,
) -> "Axes":
    """Draw the cells of two columns of obs, as numbers and as shares of a row.

    Columns are put in the order of the rows that they share most with; cells without either are left out.

    Raises
    ------
    InputUnusable
        If a column is missing, or no cell has both.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> axes = cm.pl.confusion(adata, rows="label", columns="cellmodel")
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('cellmodel', 'label')
    """
    from cellmodel.pl._grids import count_grid

    table = _crossed(adata, rows, columns)
    counts = table.to_numpy()
    order = np.lexsort((-counts.max(axis=0), counts.argmax(axis=0)))
    return drawn(lambda: count_grid(table.iloc[:, order], ax=ax), save, show=show)


@for_python
def composition(
    adata: "AnnData",
    *,
    key: str = "cellmodel_composition",
    ax: "Axes | None" = None,
    show: bool | None = None,
    save: Path | str | None = None,
) -> "Axes":
    """Draw the shares of the clusters in every sample as stacked bars, by condition.

    Parameters
    ----------
    key
        Slot of uns with the shares, of :func:`cellmodel.tl.composition`.

    Raises
    ------
    InputUnusable
        If there are no shares under that name.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> adata.obs["donor"] = ["a", "b"] * (adata.n_obs // 2)
    >>> cm.tl.composition(adata, sample_key="donor")
    >>> axes = cm.pl.composition(adata, save="shares.svg")
    """
    from cellmodel.pl._grids import draw_shares

    shares = stored_table(adata.uns, key, "shares", columns=("sample", "condition", "cluster", "share"))
    if shares is None or not len(shares):
        raise InputUnusable(f'the cells hold no shares in uns["{key}"]; run `cellmodel composition` first')
    return drawn(lambda: draw_shares(shares, ax=ax), save, show=show)


def _top_markers(adata: "AnnData", found: ClusteredCells, *, key: str, n_genes: int) -> list[str]:
    """Markers of each cluster in the order of the clusters, each gene once; from the run's record where it has any."""
    markers = stored_table(adata.uns, key, "markers", columns=("cluster", "name", "t"))
    if markers is None or not len(markers):
        tables = rank_markers(found.expression, found.labels, gene_names=found.gene_names, n_top=n_genes)
        markers = marker_frame(tables, names=found.names)
    led = markers[markers["t"] > 0].groupby("cluster", sort=False).head(n_genes)
    return list(dict.fromkeys(map(str, led["name"])))


def _crossed(adata: "AnnData", rows: str, columns: str) -> "pd.DataFrame":
    """Cells of each pair of categories."""
    import pandas as pd

    row, column = categories_of(adata, rows), categories_of(adata, columns)
    counts = pd.crosstab(row, column).reindex(index=row.categories, columns=column.categories, fill_value=0)
    if not counts.to_numpy().any():
        raise InputUnusable(f"no cell has both {rows!r} and {columns!r}")
    return counts.rename_axis(index=rows, columns=columns)
