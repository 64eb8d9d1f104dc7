"""Maps of cells: UMAP and any other embedding, by categories and by numbers, a panel a color or a category."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float

from cellmodel.core.colors import cluster_color
from cellmodel.core.errors import InputUnusable, NotAvailable
from cellmodel.io.cells import ReadConfig, cells_from_anndata, obs_columns
from cellmodel.pl._canvas import (
    COLUMN,
    MISSING,
    Look,
    Points,
    add_to_legend,
    category_colors,
    color_bar,
    draw_dots,
    drawn,
    figure_of,
    label_axes,
    legend_size,
    scatter_categories,
    scatter_values,
)
from cellmodel.pp.normalize import log_expression
from genekb.core.messages import counted, did_you_mean, listed
from genekb.core.plugins import require
from genekb.core.python import for_python

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

log = logging.getLogger(__name__)
MOST_PANELS: Final = 12
_OTHERS: Final = "#e6e6e6"  # cells of other categories: paler than those without a color
_SIDE: Final = 1.45  # inches
_INK: Final = 0.35  # of a map of one column: less than its area, so that few cells of a category are seen
_IN_A_ROW: Final = 3  # panels that stand beside each other; more are put in rows, of at most four
_MOST_IN_ROW: Final = 4
Palette = str | Sequence[str] | Mapping[str, str]


@for_python
def umap(
    adata: "AnnData",
    *,
    color: str | Sequence[str] | None = None,
    split_by: str | None = None,
    palette: Palette | None = None,
    cmap: str | None = None,
    size: float | None = None,
    legend_loc: str | None = "right margin",
    title: str | Sequence[str] | None = None,
    ncols: int = 4,
    key: str = "cellmodel",
    random_state: int = 0,
    ax: "Axes | None" = None,
    show: bool | None = None,
    save: Path | str | None = None,
) -> "Axes | list[Axes]":
    """Draw the UMAP of the cells; ``obsm["X_umap"]`` is used where it exists, else made from the run's neighbors.

    Parameters
    ----------
    color, split_by, palette, cmap, size, legend_loc, title, ncols, ax, show, save
        As for :func:`embedding`; the clusters if ``color`` is None.
    key
        Name of the run's slots.
    random_state
        Of a UMAP that is made.

    Returns
    -------
    The axes; those of every map where there are several.

    Raises
    ------
    InputUnusable
        If there is neither a UMAP nor the neighbors of a run, or ``color`` or ``split_by`` is unknown.
    NotAvailable
        If one has to be made and scanpy is not installed.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> adata.obsm["X_umap"] = adata.obsm["X_cellmodel"][:, :2]
    >>> len(cm.pl.umap(adata, color=["cellmodel", "CD3D"], save="maps.png"))
    2
    >>> len(cm.pl.umap(adata, color="CD3D", split_by="label", save="cd3d.svg"))
    2
    """
    if split_by is not None:
        categories_of(adata, split_by)  # known before a UMAP is made
    if "X_umap" not in adata.obsm:
        _make_umap(adata, key=key, seed=random_state)
    return embedding(
        adata, "X_umap", color=key if color is None else color, split_by=split_by, palette=palette, cmap=cmap,
        size=size, legend_loc=legend_loc, title=title, ncols=ncols, ax=ax, show=show, save=save,
    )  # fmt: skip


@for_python
def embedding(
    adata: "AnnData",
    basis: str,
    *,
    color: str | Sequence[str] = "cellmodel",
    split_by: str | None = None,
    palette: Palette | None = None,
    cmap: str | None = None,
    size: float | None = None,
    legend_loc: str | None = "right margin",
    title: str | Sequence[str] | None = None,
    ncols: int = 4,
    ax: "Axes | None" = None,
    show: bool | None = None,
    save: Path | str | None = None,
) -> "Axes | list[Axes]":
    """Draw the first two coordinates of ``obsm[basis]``.

    Parameters
    ----------
    color
        Column of obs: numbers by a scale, all else by category; or a gene, by its log-normalized expression. Several
        are drawn side by side, and are a figure of their own.
    split_by
        Column of obs with the sample, donor or condition of each cell: a small map for each, all on the same axes and
        in the same colors, with the other cells in gray. Of more than 12 values those with most cells are drawn, and
        the others are named in a warning. The maps are a figure of their own, so ``ax`` is not taken.
    palette
        Colors of categories: a list, by name, or the name of a color map; ``uns["<color>_colors"]`` if None, else
        those of the report.
    cmap
        Color map of numbers.
    size
        Of a dot, in square points; by the number of cells if None.
    legend_loc
        ``right margin``, ``on data``, ``none``, or where matplotlib puts a legend, such as ``upper left``.
    title
        Above the map, or above each.
    ncols
        Maps in a row.
    ax
        Axes to draw one map on.
    show
        Whether the figure is shown now; notebooks show it all the same.
    save
        File to write: .svg, .png or .pdf.

    Returns
    -------
    The axes; those of every map where there are several, in the order of the colors or of the categories.

    Raises
    ------
    InputUnusable
        If the basis, a color or the column to split by is unknown.
    ValueError
        If ``ax`` is given where there are several maps.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> axes = cm.pl.embedding(adata, "X_cellmodel", palette=["red", "#0000ff"], legend_loc="on data", size=20)
    >>> axes.get_legend() is None
    True
    """
    if basis not in adata.obsm:
        have = ", ".join(adata.obsm) or "none"
        raise InputUnusable(f"the cells hold no obsm[{basis!r}] (they hold: {have}); name another basis")
    points = np.asarray(adata.obsm[basis], dtype=np.float64)[:, :2]
    colors = [color] if isinstance(color, str) else list(color)
    titles = [title] if isinstance(title, str) else list(title or ())
    several = split_by is not None or not isinstance(color, str)
    if several and ax is not None:
        what = "split_by draws" if split_by is not None else "several colors are"
        raise ValueError(f"{what} several maps, which are a figure of their own; leave ax out")
    if split_by is not None and len(colors) > 1:
        raise ValueError("split_by draws maps of one color; give one")
    values = [_color_values(adata, each) for each in colors]
    looks = [
        Look(colors=_colors_of(adata, name, each, palette), cmap=cmap, size=size, legend_loc=legend_loc)
        for name, each in zip(colors, values, strict=True)
    ]
    maps = list["Axes"]()

    def draw_one(number: int, axes: "Axes | None") -> "Axes":
        one = values[number]
        if isinstance(one, np.ndarray):
            axes = scatter_values(points, one, name=colors[number], ax=axes, look=looks[number])
        else:
            axes = scatter_categories(points, one, ax=axes, look=looks[number])
        label_axes(axes, basis)
        if several or number < len(titles):
            axes.set_title(titles[number] if number < len(titles) else colors[number])
        return axes

    def draw() -> "Axes":
        if split_by is not None:
            split = categories_of(adata, split_by)
            maps.extend(
                split_maps(points, values[0], split, basis=basis, color=colors[0], split_by=split_by, look=looks[0])
            )
        elif several:
            n_columns = max(1, min(ncols, len(colors)))
            several_axes = panels(len(colors), n_columns=n_columns, size=(COLUMN * 1.2, COLUMN * 0.9))
            maps.extend(draw_one(number, axes) for number, axes in enumerate(several_axes))
        else:
            maps.append(draw_one(0, ax))
        return maps[0]

    drawn(draw, save, show=show)
    return maps if several else maps[0]


def split_maps(
    points: Points,
    values: "pd.Categorical[str] | Float[np.ndarray, ' cell']",
    split: "pd.Categorical[str]",
    *,
    basis: str,
    color: str,
    split_by: str,
    look: Look,
) -> "list[Axes]":
    """Draw a map for each category of ``split``, those with most cells where there are many, in a figure of its own.

    ``values``: category or number of each cell, by which it is colored. ``basis``, ``color`` and ``split_by`` name the
    axes, the scale and what is split. Raises ``InputUnusable`` if no cell has a category.
    """
    shown = _shown(split, split_by)
    n_columns = len(shown) if len(shown) <= _IN_A_ROW else min(int(np.ceil(np.sqrt(len(shown)))), _MOST_IN_ROW)
    limits = _limits(values) if isinstance(values, np.ndarray) else (0.0, 1.0)
    beside = 0.7 if isinstance(values, np.ndarray) else legend_size(list(values.categories))[1] + 0.3
    maps = panels(len(shown), n_columns=n_columns, size=(_SIDE, _SIDE + 0.12), beside=beside, share_axes=True)
    for axes, code in zip(maps, shown, strict=True):
        own = split.codes == code
        draw_dots(axes, points[~own], np.full(int((~own).sum()), _OTHERS), n_all=len(points), ink=_INK)
        _draw_own(axes, points, values, own, limits=limits, look=look)
        axes.set_title(f"{split.categories[code]} ({int(own.sum()):,})", fontsize=7)
        label_axes(axes, basis)
        axes.label_outer()
    if isinstance(values, np.ndarray):
        color_bar(maps, maps[0].collections[-1], color, shrink=0.6, aspect=18)
    else:
        _add_legend(maps[0], values, look)
    return maps


def _shown(split: "pd.Categorical[str]", split_by: str) -> list[int]:
    """Give the codes of the categories that have a map, in their order; what has none is logged."""
    names, known = split.categories, split.codes >= 0
    sizes = np.bincount(split.codes[known], minlength=len(names))
    if not len(names):
        raise InputUnusable(f"no cell has a value in {split_by!r}; name another column to split by")
    if not known.all():
        log.warning("%s without a value in %r: gray in every map", counted(int((~known).sum()), "cell"), split_by)
    largest = np.argsort(-sizes, kind="stable")
    if len(names) > MOST_PANELS:
        rest = [f"{names[code]} ({sizes[code]:,})" for code in largest[MOST_PANELS:].tolist()]
        log.warning(
            "%r has %d values; the %d with most cells are drawn, not %s",
            split_by,
            len(names),
            MOST_PANELS,
            listed(rest),
        )
    return sorted(largest[:MOST_PANELS].tolist())


def panels(
    n_maps: int, *, n_columns: int, size: tuple[float, float], beside: float = 0.0, share_axes: bool = False
) -> "list[Axes]":
    """Make a figure of maps in rows; ``size``: of one, in inches; ``beside``: inches of what stands beside them."""
    import matplotlib.pyplot as plt

    n_rows = -(-n_maps // n_columns)
    _, grid = plt.subplots(
        n_rows, n_columns, figsize=(n_columns * size[0] + beside, n_rows * size[1]), sharex=share_axes,
        sharey=share_axes, squeeze=False, layout="constrained",
    )  # fmt: skip
    for unused in grid.flat[n_maps:]:
        unused.remove()
    return list(grid.flat[:n_maps])


def _limits(values: Float[np.ndarray, " cell"]) -> tuple[float, float]:
    """Give the ends of the scale of all maps."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)


def _draw_own(
    axes: "Axes",
    points: Points,
    values: "pd.Categorical[str] | Float[np.ndarray, ' cell']",
    own: Bool[np.ndarray, " cell"],
    *,
    limits: tuple[float, float],
    look: Look,
) -> None:
    """Draw the cells of one map in their colors; numbers highest on top."""
    n_all = len(points)
    if not isinstance(values, np.ndarray):
        draw_dots(
            axes,
            points[own],
            category_colors(values, look.colors)[values.codes[own]],
            n_all=n_all,
            ink=_INK,
            size=look.size,
        )
        return
    known = own & np.isfinite(values)
    gray = own & ~known
    draw_dots(axes, points[gray], np.full(int(gray.sum()), MISSING), n_all=n_all, ink=_INK)
    order = np.flatnonzero(known)[np.argsort(values[known], kind="stable")]
    draw_dots(
        axes, points[order], values[order], n_all=n_all, ink=_INK, size=look.size, vmin=limits[0], vmax=limits[1],
        cmap=look.cmap,
    )  # fmt: skip


def _add_legend(axes: "Axes", categories: "pd.Categorical[str]", look: Look) -> None:
    """Add one legend for all maps, on their right."""
    names = list(categories.categories)
    if not names or look.legend_loc in {None, "none"}:
        return
    add_to_legend(axes, categories, look.colors)
    figure_of(axes).legend(
        loc="outside right center", frameon=False, ncols=legend_size(names)[0], handletextpad=0.1, columnspacing=0.8
    )


def _make_umap(adata: "AnnData", *, key: str, seed: int) -> None:
    neighbors = f"{key}_neighbors"
    if neighbors not in adata.uns:
        raise InputUnusable(
            f'the cells hold no obsm["X_umap"] and no uns["{neighbors}"]; run `cellmodel cluster` first'
        )
    require(
        "scanpy",
        needed_by='making obsm["X_umap"] needs',
        instead='draw another embedding (kind="embedding")',
        error=NotAvailable,
    )
    import scanpy as sc

    sc.tl.umap(adata, neighbors_key=neighbors, random_state=seed % 2**32)  # all that it takes


def _color_values(adata: "AnnData", color: str) -> "np.ndarray | pd.Categorical[str]":
    """Numbers or categories of the cells, of a column of obs or a gene."""
    column = adata.obs.get(color)
    if column is None:
        return _expression_of(adata, color)
    is_number = column.dtype.kind in "fiu"
    return column.to_numpy(dtype=np.float64, na_value=np.nan) if is_number else categories_of(adata, color)


def _expression_of(adata: "AnnData", gene: str) -> np.ndarray:
    cells = cells_from_anndata(adata, ReadConfig())
    if gene not in cells.names:
        have = listed(list(map(str, adata.obs))) or "none"
        meant = did_you_mean(gene, [*map(str, adata.obs), *cells.names])
        raise InputUnusable(f"{gene!r} is neither a column of obs (there are: {have}) nor a gene of these cells{meant}")
    return np.asarray(log_expression(cells)[:, [cells.names.index(gene)]].todense()).ravel()


def _colors_of(
    adata: "AnnData", column: str, values: "np.ndarray | pd.Categorical[str]", palette: Palette | None
) -> list[str]:
    """Color of each category: of the palette, of the slot that scanpy reads, or of the report."""
    if isinstance(values, np.ndarray):
        return []
    names = list(values.categories)
    if isinstance(palette, Mapping):
        return [palette.get(name, cluster_color(number)) for number, name in enumerate(names)]
    if isinstance(palette, str):
        from matplotlib import colormaps
        from matplotlib.colors import to_hex

        chosen = colormaps[palette]
        n_colors = chosen.N if len(getattr(chosen, "colors", ())) < 256 else max(len(names), 2)  # noqa: PLR2004 - a list
        return [to_hex(chosen(number % n_colors / max(n_colors - 1, 1))) for number in range(len(names))]
    stored = palette
    if stored is None and hasattr(adata.obs[column], "cat"):
        of_all = list(map(str, adata.uns.get(f"{column}_colors", ())))
        known = list(map(str, adata.obs[column].cat.categories))
        stored = [of_all[known.index(name)] for name in names] if len(of_all) >= len(known) else None
    if not stored:
        return [cluster_color(number) for number in range(len(names))]
    return [stored[number % len(stored)] for number in range(len(names))]


def categories_of(adata: "AnnData", column: str) -> "pd.Categorical[str]":
    """Category of each cell, as text; those that occur, in the order of the column where it has one."""
    import pandas as pd

    values = obs_columns(adata, [column], source="the AnnData")[column]
    present = set(values) - {""}
    has_order = hasattr(adata.obs[column], "cat")
    names = map(str, adata.obs[column].cat.categories) if has_order else sorted(present)
    known = [name for name in dict.fromkeys(names) if name in present]
    of_cells: Any = [value if value in known else None for value in values]
    return pd.Categorical(of_cells, categories=known)
