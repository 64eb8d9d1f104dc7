"""Small maps: the cells of one category each, in color over all other cells in gray, on common axes."""

import logging
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Bool, Float

from cellmodel.core.errors import InputUnusable
from cellmodel.pl._canvas import (
    COLUMN,
    MISSING,
    Look,
    Points,
    add_to_legend,
    category_colors,
    color_bar,
    draw_dots,
    figure_of,
    label_axes,
    legend_size,
)
from genekb.core.messages import counted, listed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

log = logging.getLogger(__name__)
MOST_PANELS: Final = 12
_OTHERS: Final = "#e6e6e6"  # cells of other categories: paler than those without a color
_SIDE: Final = 1.45  # inches
_INK: Final = 0.35  # of a map of one column: less than its area, so that few cells of a category are seen
_IN_A_ROW: Final = 3  # panels that stand beside each other; more are put in rows, of at most four
_MOST_IN_ROW: Final = 4


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
    if isinstance(values, np.ndarray):
        maps, limits = _grid(len(shown), width=0.7), _limits(values)
    else:
        maps, limits = _grid(len(shown), width=legend_size(list(values.categories))[1] + 0.3), (0.0, 1.0)
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


def _grid(n_maps: int, *, width: float) -> "list[Axes]":
    """Make a figure of small maps with common axes; ``width``: inches of what stands beside them."""
    import matplotlib.pyplot as plt

    n_columns = n_maps if n_maps <= _IN_A_ROW else min(int(np.ceil(np.sqrt(n_maps))), _MOST_IN_ROW)
    n_rows = -(-n_maps // n_columns)
    size = (n_columns * _SIDE + width, n_rows * (_SIDE + 0.12))
    _, grid = plt.subplots(
        n_rows, n_columns, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for unused in grid.flat[n_maps:]:
        unused.remove()
    return list(grid.flat[:n_maps])


def grid(n_maps: int, *, n_columns: int) -> "list[Axes]":
    """Make a figure of maps of one column each, side by side and in rows."""
    import matplotlib.pyplot as plt

    n_columns = max(1, min(n_columns, n_maps))
    n_rows = -(-n_maps // n_columns)
    size = (n_columns * COLUMN * 1.2, n_rows * COLUMN * 0.9)
    _, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, layout="constrained")
    for unused in axes.flat[n_maps:]:
        unused.remove()
    return list(axes.flat[:n_maps])


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
