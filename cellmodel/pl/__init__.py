"""Plots for papers from the slots of an AnnData, in the manner of scanpy: `cm.pl.umap`, `cm.pl.dotplot`, and others.

Each function draws on the axes given with ``ax``, or on new ones of the size of a paper's column, saves the figure
where ``save`` says (.svg, .png, .pdf; the same plot gives the same bytes), and returns the axes. matplotlib is needed:
it comes with the extra ``plot``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable, NotAvailable
from cellmodel.explain.groups import ClusteredCells, clustered
from cellmodel.explain.markers import marker_frame, rank_markers
from cellmodel.io.cells import ReadConfig, cells_from_anndata, obs_columns
from cellmodel.io.records import stored_table
from cellmodel.pl._canvas import drawn
from cellmodel.pp.moments import cluster_moments
from genekb.core.messages import did_you_mean, listed
from genekb.core.plugins import require

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes


@overload
def umap(
    adata: "AnnData",
    *,
    color: str | None = None,
    split_by: None = None,
    key: str = "cellmodel",
    seed: int = 0,
    ax: "Axes | None" = None,
    save: Path | str | None = None,
) -> "Axes": ...
@overload
def umap(
    adata: "AnnData",
    *,
    color: str | None = None,
    split_by: str,
    key: str = "cellmodel",
    seed: int = 0,
    ax: None = None,
    save: Path | str | None = None,
) -> "list[Axes]": ...
def umap(
    adata: "AnnData",
    *,
    color: str | None = None,
    split_by: str | None = None,
    key: str = "cellmodel",
    seed: int = 0,
    ax: "Axes | None" = None,
    save: Path | str | None = None,
) -> "Axes | list[Axes]":
    """Draw the UMAP of the cells; ``obsm["X_umap"]`` is used where it exists, else made from the run's neighbours.

    Parameters
    ----------
    color
        Column of obs, or a gene; the clusters if None.
    split_by
        Column of obs with the sample, donor or condition of each cell; see :func:`embedding`.
    key
        Name of the run's slots.
    seed
        Of a UMAP that is made.

    Returns
    -------
    The axes; those of every small map with ``split_by``.

    Raises
    ------
    InputUnusable
        If there is neither a UMAP nor the neighbours of a run, or ``color`` or ``split_by`` is unknown.
    NotAvailable
        If one has to be made and scanpy is not installed.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> adata.obsm["X_umap"] = adata.obsm["X_cellmodel"][:, :2]
    >>> axes = cm.pl.umap(adata, color="CD3D", split_by="label", save="cd3d.svg")
    >>> len(axes)
    2
    """
    if split_by is not None:
        _categories(adata, split_by)  # known before a UMAP is made
    if "X_umap" not in adata.obsm:
        _make_umap(adata, key=key, seed=seed)
    if split_by is not None:
        _check_own_figure(ax)
        return embedding(adata, "X_umap", color=color or key, split_by=split_by, save=save)
    return embedding(adata, "X_umap", color=color or key, ax=ax, save=save)


@overload
def embedding(
    adata: "AnnData",
    basis: str,
    *,
    color: str = "cellmodel",
    split_by: None = None,
    ax: "Axes | None" = None,
    save: Path | str | None = None,
) -> "Axes": ...
@overload
def embedding(
    adata: "AnnData",
    basis: str,
    *,
    color: str = "cellmodel",
    split_by: str,
    ax: None = None,
    save: Path | str | None = None,
) -> "list[Axes]": ...
def embedding(
    adata: "AnnData",
    basis: str,
    *,
    color: str = "cellmodel",
    split_by: str | None = None,
    ax: "Axes | None" = None,
    save: Path | str | None = None,
) -> "Axes | list[Axes]":
    """Draw the first two coordinates of ``obsm[basis]``.

    Parameters
    ----------
    color
        Column of obs: numbers by a scale, all else by category; or a gene, by its log-normalised expression.
    split_by
        Column of obs with the sample, donor or condition of each cell: a small map for each, all on the same axes and
        in the same colours, with the other cells in grey. Of more than 12 values those with most cells are drawn, and
        the others are named in a warning. The maps are a figure of their own, so ``ax`` is not taken.

    Returns
    -------
    The axes; those of every small map, in the order of the categories, with ``split_by``.

    Raises
    ------
    InputUnusable
        If the basis, the colour or the column to split by is unknown.
    ValueError
        If ``ax`` is given with ``split_by``.
    """
    from cellmodel.pl._canvas import label_axes, scatter_categories, scatter_values
    from cellmodel.pl._panels import split_maps

    if basis not in adata.obsm:
        have = ", ".join(adata.obsm) or "none"
        raise InputUnusable(f"the cells hold no obsm[{basis!r}] (they hold: {have}); name another basis")
    points = np.asarray(adata.obsm[basis], dtype=np.float64)[:, :2]
    values = _color_values(adata, color)

    def draw() -> "Axes":
        if isinstance(values, np.ndarray):
            axes = scatter_values(points, values, name=color, ax=ax)
        else:
            axes = scatter_categories(points, values, ax=ax)
        label_axes(axes, basis)
        return axes

    if split_by is None:
        return drawn(draw, save)
    _check_own_figure(ax)
    split, maps = _categories(adata, split_by), list["Axes"]()

    def draw_maps() -> "Axes":
        maps.extend(split_maps(points, values, split, basis=basis, color=color, split_by=split_by))
        return maps[0]

    drawn(draw_maps, save)
    return maps


def dotplot(
    adata: "AnnData",
    *,
    key: str = "cellmodel",
    n_genes: int = 3,
    genes: Sequence[str] | None = None,
    ax: "Axes | None" = None,
    save: Path | str | None = None,
) -> "Axes":
    """Draw the markers of the clusters: a dot's size is the fraction of cells with the gene, its colour the mean.

    Parameters
    ----------
    key
        Column of obs with the clusters, of a run or from elsewhere; ``uns[key]["markers"]`` are their markers, which
        are computed where there are none.
    n_genes
        Markers of each cluster, highest t first.
    genes
        Genes to show instead.

    Raises
    ------
    InputUnusable
        If there are no clusters under that name, or a gene is unknown.
    """
    import pandas as pd

    from cellmodel.pl._grids import dot_grid

    found = clustered(cells_from_anndata(adata, ReadConfig()), None, RunConfig(), cluster_key=key)
    shown = list(genes) if genes is not None else _top_markers(adata, found, key=key, n_genes=n_genes)
    place = {name: column for column, name in reversed(list(enumerate(found.gene_names)))}
    unknown = [name for name in shown if name not in place]
    if unknown:
        raise InputUnusable(f"{', '.join(unknown[:3])}: no gene of these cells, or none that a cell expresses")
    inside, _ = cluster_moments(found.expression[:, [place[name] for name in shown]], found.labels)
    means = pd.DataFrame(inside.mean, index=found.names, columns=shown)
    return drawn(lambda: dot_grid(means, inside.fraction, ax=ax), save)


def sankey(
    adata: "AnnData", left: str, right: str, *, ax: "Axes | None" = None, save: Path | str | None = None
) -> "Axes":
    """Draw how the cells of one column of obs spread over another; cells without either are left out.

    Raises
    ------
    InputUnusable
        If a column is missing, or no cell has both.
    """
    from cellmodel.pl._sankey import draw_flows

    counts = _crossed(adata, left, right)
    return drawn(lambda: draw_flows(counts, titles=(left, right), ax=ax), save)


def heatmap(
    contributions: "pd.DataFrame", *, n_genes: int = 5, ax: "Axes | None" = None, save: Path | str | None = None
) -> "Axes":
    """Draw how much each gene pulls each cluster along its semantic direction, as a share of the cluster's largest.

    Parameters
    ----------
    contributions
        A row a cluster and gene, with the columns ``cluster``, ``gene`` and ``contribution``.
    n_genes
        Genes of each cluster, largest contribution first; grey where the table has none.

    Raises
    ------
    InputUnusable
        If a column is missing, or the table is empty.
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
    return drawn(lambda: heat_grid(scaled, label="share of the largest", ax=ax), save)


def k_curve(
    adata: "AnnData", *, key: str = "cellmodel", ax: "Axes | None" = None, save: Path | str | None = None
) -> "Axes":
    """Draw how stable each number of clusters is, beside data without clusters, and the number that was chosen.

    Raises
    ------
    InputUnusable
        If the run did not estimate the number of clusters.
    """
    from cellmodel.pl._grids import stability_curve

    curve = stored_table(adata.uns, key, "n_clusters", "curve", columns=("stability",))
    if curve is None or not len(curve):
        raise InputUnusable(f'uns["{key}"] holds no curve; run `cellmodel cluster --n-clusters auto`')
    chosen = int(adata.uns[key]["n_clusters"]["n_clusters"])
    return drawn(lambda: stability_curve(curve, chosen=chosen, ax=ax), save)


def confusion(
    adata: "AnnData", rows: str, columns: str, *, ax: "Axes | None" = None, save: Path | str | None = None
) -> "Axes":
    """Draw the cells of two columns of obs, as numbers and as shares of a row.

    Columns are put in the order of the rows that they share most with; cells without either are left out.

    Raises
    ------
    InputUnusable
        If a column is missing, or no cell has both.
    """
    from cellmodel.pl._grids import count_grid

    table = _crossed(adata, rows, columns)
    counts = table.to_numpy()
    order = np.lexsort((-counts.max(axis=0), counts.argmax(axis=0)))
    return drawn(lambda: count_grid(table.iloc[:, order], ax=ax), save)


def composition(
    adata: "AnnData", *, key: str = "cellmodel_composition", ax: "Axes | None" = None, save: Path | str | None = None
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
    """
    from cellmodel.pl._composition import draw_shares

    shares = stored_table(adata.uns, key, "shares", columns=("sample", "condition", "cluster", "share"))
    if shares is None or not len(shares):
        raise InputUnusable(f'the cells hold no shares in uns["{key}"]; run `cellmodel composition` first')
    return drawn(lambda: draw_shares(shares, ax=ax), save)


def _make_umap(adata: "AnnData", *, key: str, seed: int) -> None:
    neighbors = f"{key}_neighbors"
    if neighbors not in adata.uns:
        raise InputUnusable(
            f'the cells hold no obsm["X_umap"] and no uns["{neighbors}"]; run `cellmodel cluster` first'
        )
    require(
        "scanpy",
        needed_by='making obsm["X_umap"] needs',
        instead="draw another embedding (--kind embedding)",
        error=NotAvailable,
    )
    import scanpy as sc

    sc.tl.umap(adata, neighbors_key=neighbors, random_state=seed % 2**32)  # all that it takes


def _top_markers(adata: "AnnData", found: ClusteredCells, *, key: str, n_genes: int) -> list[str]:
    """Markers of each cluster in the order of the clusters, each gene once; from the run's record where it has any."""
    markers = stored_table(adata.uns, key, "markers", columns=("cluster", "name", "t"))
    if markers is None or not len(markers):
        tables = rank_markers(found.expression, found.labels, gene_names=found.gene_names, n_top=n_genes)
        markers = marker_frame(tables, names=found.names)
    led = markers[markers["t"] > 0].groupby("cluster", sort=False).head(n_genes)
    return list(dict.fromkeys(map(str, led["name"])))


def _check_own_figure(ax: "Axes | None") -> None:
    if ax is not None:
        raise ValueError("split_by draws several maps, which are a figure of their own; leave ax out")


def _color_values(adata: "AnnData", color: str) -> "np.ndarray | pd.Categorical[str]":
    """Numbers or categories of the cells, of a column of obs or a gene."""
    column = adata.obs.get(color)
    if column is None:
        return _expression_of(adata, color)
    return (
        column.to_numpy(dtype=np.float64, na_value=np.nan) if column.dtype.kind in "fiu" else _categories(adata, color)
    )


def _expression_of(adata: "AnnData", gene: str) -> np.ndarray:
    from cellmodel.pp.normalize import log_expression

    cells = cells_from_anndata(adata, ReadConfig())
    if gene not in cells.names:
        have = listed(list(map(str, adata.obs))) or "none"
        meant = did_you_mean(gene, [*map(str, adata.obs), *cells.names])
        raise InputUnusable(f"{gene!r} is neither a column of obs (there are: {have}) nor a gene of these cells{meant}")
    return np.asarray(log_expression(cells)[:, [cells.names.index(gene)]].todense()).ravel()


def _categories(adata: "AnnData", column: str) -> "pd.Categorical[str]":
    """Category of each cell, as text; those that occur, in the order of the column where it has one."""
    import pandas as pd

    values = obs_columns(adata, [column], source="the AnnData")[column]
    present = set(values) - {""}
    has_order = hasattr(adata.obs[column], "cat")
    names = map(str, adata.obs[column].cat.categories) if has_order else sorted(present)
    return pd.Categorical(values, categories=[name for name in dict.fromkeys(names) if name in present])


def _crossed(adata: "AnnData", rows: str, columns: str) -> "pd.DataFrame":
    """Cells of each pair of categories."""
    import pandas as pd

    row, column = _categories(adata, rows), _categories(adata, columns)
    counts = pd.crosstab(row, column).reindex(index=row.categories, columns=column.categories, fill_value=0)
    if not counts.to_numpy().any():
        raise InputUnusable(f"no cell has both {rows!r} and {columns!r}")
    return counts.rename_axis(index=rows, columns=columns)
