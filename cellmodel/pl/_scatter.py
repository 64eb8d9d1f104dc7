"""Cells in the plane, coloured by a category or by a number."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float, Int

from cellmodel.pl._canvas import COLUMN, axes_of
from cellmodel.pl._report.style import cluster_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

Points = Float[np.ndarray, "cell 2"]
MISSING: Final = "#c8c8c8"
_MOST_AREA, _LEAST_AREA, _INK = 14.0, 0.6, 9_000.0  # square points: of a dot, and of all dots
_LONG_NAME: Final = 4  # characters of a name that still fits on its cells
_ROWS: Final = 14  # of a column of the legend


def scatter_categories(
    points: Points, codes: Int[np.ndarray, " cell"], *, names: Sequence[str], ax: "Axes | None" = None
) -> "Axes":
    """Draw cells in the colour of their category; -1 is none, and grey.

    Short names stand on their cells; all stand in the legend, with the number of cells.
    """
    from matplotlib import patheffects

    n_columns = -(-len(names) // _ROWS)
    width = COLUMN + 0.22 * min(max(map(len, names), default=0), 24) * 0.35 * n_columns
    axes = axes_of(ax, width=width, height=COLUMN * 0.86)
    colors = np.array([*(cluster_color(code) for code in range(len(names))), MISSING])
    _dots(axes, points, colors[codes])
    for code, name in enumerate(names):
        axes.scatter([], [], s=18, c=[colors[code]], label=f"{name} ({int((codes == code).sum()):,})", linewidths=0)
        own = points[codes == code]
        if len(name) <= _LONG_NAME and len(own):
            middle = own[
                ((own - np.median(own, axis=0)) ** 2).sum(axis=1).argmin()
            ]  # a cell, where a median may be none
            text = axes.annotate(name, middle, ha="center", va="center", weight="bold", fontsize=7)
            text.set_path_effects([patheffects.withStroke(linewidth=1.8, foreground="white")])
    if names:
        axes.legend(
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            frameon=False,
            ncols=n_columns,
            handletextpad=0.1,
            columnspacing=0.8,
            borderaxespad=0.2,
        )
    return axes


def scatter_values(
    points: Points, values: Float[np.ndarray, " cell"], *, name: str, ax: "Axes | None" = None
) -> "Axes":
    """Draw cells in a colour for a number, highest on top; grey where there is none."""
    axes = axes_of(ax, width=COLUMN, height=COLUMN * 0.82)
    known = np.isfinite(values)
    _dots(axes, points[~known], np.full(int((~known).sum()), MISSING))
    order = np.argsort(values[known], kind="stable")
    drawn = _dots(axes, points[known][order], values[known][order], n_all=len(points))
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.6, aspect=18, pad=0.02)
    bar.outline.set_linewidth(0.4)
    bar.set_label(name)
    return axes


def label_axes(axes: "Axes", basis: str) -> None:
    """Name the axes of an embedding, which have no unit and hence no ticks."""
    name = basis.removeprefix("X_").replace("_", " ")
    name = name.upper() if name in {"umap", "pca"} else name
    axes.set(xticks=[], yticks=[], xlabel=f"{name} 1", ylabel=f"{name} 2")
    axes.margins(0.03)


def _dots(axes: "Axes", points: Points, colors: np.ndarray, *, n_all: int | None = None) -> "PathCollection":
    """Draw dots that are the smaller the more there are; as pixels in a vector file, which stays small."""
    area = float(np.clip(_INK / max(n_all or len(points), 1), _LEAST_AREA, _MOST_AREA))
    return axes.scatter(points[:, 0], points[:, 1], s=area, c=colors, linewidths=0, rasterized=True)
