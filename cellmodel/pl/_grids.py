"""Tables as pictures: dots by cluster and gene, contributions, cells of two groupings, shares in samples."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from cellmodel.core.colors import cluster_color
from cellmodel.pl._canvas import axes_of, color_bar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_CELL: Final = 0.17  # inches: a row or a column
_DOT: Final = 60.0  # square points: a gene that every cell expresses
_FEW: Final = 16  # columns of a table whose figures can be read
_DARK: Final = 0.55  # share of the scale from which white letters are read better
_BAR: Final = 0.2  # inches: a sample
_HEIGHT: Final = 2.2
_GAP: Final = 0.7  # between conditions, in bars
_MOST_NAMED: Final = 60  # samples whose names are written


def dot_grid(
    mean: "pd.DataFrame", fraction: np.ndarray, *, groups: Mapping[str, int] | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw a dot for each cluster and gene: its size the fraction of cells that express it, its color the mean.

    Means are scaled to 0 .. 1 a gene, so that genes of any height are compared over the clusters. ``groups``: names of
    genes that stand side by side, and how many they are; a bracket above holds them together.
    """
    axes = axes_of(ax, **_size(mean, beside=1.1))
    above = mean.to_numpy() - mean.to_numpy().min(axis=0)
    span = above.max(axis=0)
    scaled = np.divide(above, span, out=np.zeros_like(above), where=span > 0)
    row, column = np.indices(mean.shape)
    drawn = axes.scatter(
        column.ravel(), row.ravel(), s=_DOT * fraction.ravel(), c=scaled.ravel(), cmap="Blues", vmin=0, vmax=1,
        linewidths=0.3, edgecolors="#606060",
    )  # fmt: skip
    _name_rows_and_columns(axes, mean)
    ends = np.cumsum([0, *(groups or {}).values()])
    for name, start, end in zip(groups or (), ends[:-1], ends[1:], strict=True):
        x, y = [start - 0.4, start - 0.4, end - 0.6, end - 0.6], [-0.6, -0.8, -0.8, -0.6]
        axes.plot(x, y, color="#404040", linewidth=0.6, clip_on=False)
        axes.text((start + end - 1) / 2, -0.95, name, ha="left", va="bottom", rotation=45, fontsize=6.5)
    for size in (0.25, 0.5, 1.0):
        axes.scatter([], [], s=_DOT * size, c="#808080", linewidths=0.3, edgecolors="#606060", label=f"{size:.0%}")
    axes.legend(
        title="cells with it", loc="lower left", bbox_to_anchor=(1.01, 0.5), frameon=False, borderaxespad=0,
        title_fontsize=6.5, alignment="left",
    )  # fmt: skip
    bar = axes.figure.colorbar(drawn, cax=axes.inset_axes((1.04, 0.05, 0.012, 0.3)), ticks=(0, 1))
    bar.set_label("mean, scaled", labelpad=1)
    bar.outline.set_linewidth(0.4)
    return axes


def heat_grid(table: "pd.DataFrame", *, label: str, ax: "Axes | None" = None) -> "Axes":
    """Draw signed values: blue below 0, white at 0, red above; no value is light gray."""
    import matplotlib as mpl

    axes, values = axes_of(ax, **_size(table, beside=0.8)), table.to_numpy()
    limit = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    colors = mpl.colormaps["RdBu_r"].with_extremes(bad="#ececec")
    drawn = axes.imshow(np.ma.masked_invalid(values), cmap=colors, vmin=-limit, vmax=limit, aspect="auto")
    _name_rows_and_columns(axes, table)
    color_bar(axes, drawn, label)
    return axes


def count_grid(table: "pd.DataFrame", *, ax: "Axes | None" = None) -> "Axes":
    """Draw the cells of each pair of groups, as a fraction of the row; the number is written where it fits."""
    axes, counts = axes_of(ax, **_size(table, beside=0.8, cell=0.27)), table.to_numpy()
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    _name_rows_and_columns(axes, table)
    axes.set_yticklabels([f"{row} ({n:,})" for row, n in zip(table.index, totals[:, 0], strict=True)])
    if len(table.columns) <= _FEW:
        for (row, column), share in np.ndenumerate(shares):
            if counts[row, column]:
                axes.text(
                    column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=5.5,
                    color="white" if share > _DARK else "black",
                )  # fmt: skip
    color_bar(axes, drawn, "share of the row's cells")
    axes.set(ylabel=table.index.name, xlabel=table.columns.name)
    return axes


def draw_shares(shares: "pd.DataFrame", *, ax: "Axes | None" = None) -> "Axes":
    """Stack the shares of the clusters in every sample; conditions are apart, and named above their samples."""
    samples = shares[["sample", "condition"]].drop_duplicates()
    conditions = samples["condition"].tolist()
    group = np.cumsum([False, *(one != before for one, before in zip(conditions[1:], conditions[:-1], strict=True))])
    place = np.arange(len(samples)) + _GAP * group
    clusters = list(dict.fromkeys(shares["cluster"]))
    n_columns = -(-len(clusters) // 14)
    width = 0.7 + _BAR * (place[-1] + 1) + n_columns * (0.35 + 0.065 * max(map(len, clusters)))
    axes = axes_of(ax, width=max(width, 1.8), height=_HEIGHT)
    wide = shares.pivot_table(index=["sample", "condition"], columns="cluster", values="share", sort=False)
    heights = wide.loc[list(samples.itertuples(index=False, name=None)), clusters].to_numpy()
    bottom = np.zeros(len(samples))
    for number, name in enumerate(clusters):
        axes.bar(place, heights[:, number], bottom=bottom, width=0.85, color=cluster_color(number), label=name)
        bottom += np.nan_to_num(heights[:, number])  # a sample without cells has no share
    names = samples["sample"].tolist()
    axes.set_xticks(place, names if len(names) <= _MOST_NAMED else [""] * len(names), rotation=90)
    for one in np.unique(group):
        own = np.flatnonzero(group == one)
        axes.text(place[own].mean(), 1.02, conditions[own[0]], ha="center", va="bottom")
    axes.set(ylim=(0, 1), ylabel="share of cells", xlim=(place[0] - 0.6, place[-1] + 0.6))
    axes.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, ncols=n_columns, reverse=True, handlelength=1.0,
        handletextpad=0.4, columnspacing=0.8,
    )  # fmt: skip
    return axes


def _size(table: "pd.DataFrame", *, beside: float, cell: float = _CELL) -> dict[str, float]:
    """Size in inches that gives every row and column its place, and its name."""
    rows, columns = (0.055 * max(map(len, names), default=0) for names in table.axes)
    width, height = rows + cell * table.shape[1] + beside, columns + cell * table.shape[0] + 0.3
    return {"width": max(width, 2.2), "height": max(height, 1.5)}


def _name_rows_and_columns(axes: "Axes", table: "pd.DataFrame") -> None:
    n_rows, n_columns = table.shape
    axes.set_yticks(range(n_rows), table.index)
    axes.set_xticks(range(n_columns), table.columns, rotation=90)
    axes.set(xlim=(-0.6, n_columns - 0.4), ylim=(n_rows - 0.4, -0.6))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
