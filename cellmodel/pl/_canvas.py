"""Axes, fonts and files of plots, and cells in the plane; the same plot gives the same bytes."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float

from cellmodel.core.colors import cluster_color
from cellmodel.core.errors import InputUnusable, NotAvailable
from cellmodel.io.writers import output
from genekb.core.plugins import require
from genekb.files.endings import PLOT, check_ending
from genekb.files.replace import Target

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

COLUMN: Final = 3.4  # inches: one column of a paper
_STYLE: Final[dict[str, Any]] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "image.cmap": "viridis",
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # text stays text, to be edited
    "svg.hashsalt": "cellmodel",
    "pdf.fonttype": 42,
}
_NO_DATE: Final[dict[str, dict[str, Any]]] = {
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".png": {"Software": None},
}
_DPI: Final = 300
MISSING: Final = "#c8c8c8"
_MOST_AREA, _LEAST_AREA, _INK = 14.0, 0.6, 9_000.0  # square points: of a dot, and of all dots
_LONG_NAME: Final = 4  # characters of a name that still fits on its cells
_ROWS: Final = 14  # of a column of the legend

Points = Float[np.ndarray, "cell 2"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """How the dots of a map look."""

    colors: Sequence[str] = ()  # of the categories; those of the report if empty
    cmap: str | None = None  # of numbers
    size: float | None = None  # of a dot, in square points; by their number if None
    legend_loc: str | None = "right margin"  # of categories, as scanpy names it


_AS_EVER: Final = Look()


def drawn(
    draw: "Callable[[], Axes]", save: Path | str | None, *, overwrite: bool = True, show: bool | None = None
) -> "Axes":
    """Draw with our fonts and lines, and save the figure where ``save`` says; settings of matplotlib stay the user's.

    Raises ``NotAvailable`` if matplotlib is not installed, ``InputUnusable`` if the ending is none of .svg, .png and
    .pdf, or the file cannot be written or replaced.
    """
    check_matplotlib()
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    # Loads the backend, so that settings that it makes, as that of a notebook, outlive the context; has no types.
    plt.draw_if_interactive()  # type: ignore[no-untyped-call]
    style: Any = _STYLE  # matplotlib types it by the names of all its settings
    with mpl.rc_context(style):
        axes = draw()
        if save is not None:
            _save_figure(figure_of(axes), check_format(Path(save)), overwrite=overwrite)
        if show:
            plt.show()
    return axes


def draw_file(draw: "Callable[[], Axes]", path: Path, *, overwrite: bool) -> None:
    """Draw a figure of its own, save and close it."""
    import matplotlib.pyplot as plt

    plt.close(figure_of(drawn(draw, path, overwrite=overwrite)))


def axes_of(ax: "Axes | None", *, width: float, height: float) -> "Axes":
    """Give the axes to draw on: the user's, or those of a new figure of that size in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, made = plt.subplots(figsize=(width, height), layout="constrained")
    return made


def _save_figure(figure: "Figure", path: Path, *, overwrite: bool) -> None:
    """Save a figure; the same plot gives the same bytes."""
    with output(Target(path, makes_parents=True), overwrite=overwrite) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")  # drawn as a box
        figure.savefig(part, format=path.suffix[1:], dpi=_DPI, metadata=_NO_DATE[path.suffix])


def figure_of(ax: "Axes") -> "Figure":
    """Give the whole figure that holds the axes."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes are on no figure")
    return figure


def check_matplotlib() -> None:
    """Raise ``NotAvailable`` if matplotlib is not installed."""
    require("matplotlib", needed_by="plots need", error=NotAvailable)


def check_format(path: Path) -> Path:
    """Check that a plot can be drawn, and written in the format of its ending."""
    check_matplotlib()
    check_ending(path, PLOT, error=InputUnusable)
    return path


def scatter_categories(
    points: Points, categories: "pd.Categorical[str]", *, ax: "Axes | None" = None, look: Look = _AS_EVER
) -> "Axes":
    """Draw cells in the color of their category, gray without one.

    Short names are written on their cells; all are in the legend, with the number of cells. Where the legend is ``on
    data``, all names are written there alone.
    """
    codes, names = categories.codes, list(categories.categories)
    on_data, beside = look.legend_loc == "on data", look.legend_loc == "right margin"
    n_columns, width = legend_size(names)
    axes = axes_of(ax, width=COLUMN + width * beside, height=COLUMN * 0.86)
    draw_dots(axes, points, category_colors(categories, look.colors)[codes], size=look.size)
    for code, name in enumerate(names):
        own = points[codes == code]
        if len(own) and (on_data or (beside and len(name) <= _LONG_NAME)):
            _write_name(axes, own, name)
    if not names or on_data or look.legend_loc in {None, "none"}:
        return axes
    add_to_legend(axes, categories, look.colors)
    if beside:
        axes.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, ncols=n_columns, handletextpad=0.1,
            columnspacing=0.8, borderaxespad=0.2,
        )  # fmt: skip
    else:
        where: Any = look.legend_loc  # matplotlib types it by all the places there are
        axes.legend(loc=where, frameon=False, handletextpad=0.1)
    return axes


def _write_name(axes: "Axes", points: Points, name: str) -> None:
    """Write the name of a category on the cell that is nearest to their median."""
    from matplotlib import patheffects

    away = ((points - np.median(points, axis=0)) ** 2).sum(axis=1)
    middle = points[away.argmin()]  # a cell, where a median may be none
    text = axes.annotate(name, middle, ha="center", va="center", weight="bold", fontsize=7)
    text.set_path_effects([patheffects.withStroke(linewidth=1.8, foreground="white")])


def category_colors(categories: "pd.Categorical[str]", colors: Sequence[str] = ()) -> np.ndarray:
    """Color of each category, and last that of cells without one, which have the code -1."""
    own = colors or [cluster_color(code) for code in range(len(categories.categories))]
    return np.array([*own, MISSING])


def legend_size(names: Sequence[str]) -> tuple[int, float]:
    """Give the columns of a legend, and how many inches wide it makes a figure."""
    n_columns = -(-len(names) // _ROWS)
    return n_columns, 0.22 * min(max(map(len, names), default=0), 24) * 0.35 * n_columns


def add_to_legend(axes: "Axes", categories: "pd.Categorical[str]", own: Sequence[str] = ()) -> None:
    """Add a line for each category, with the number of its cells."""
    colors = category_colors(categories, own)
    for code, name in enumerate(categories.categories):
        n_cells = int((categories.codes == code).sum())
        axes.scatter([], [], s=18, c=[colors[code]], label=f"{name} ({n_cells:,})", linewidths=0)


def scatter_values(
    points: Points, values: Float[np.ndarray, " cell"], *, name: str, ax: "Axes | None" = None, look: Look = _AS_EVER
) -> "Axes":
    """Draw cells in a color for a number, highest on top; gray where there is none."""
    axes = axes_of(ax, width=COLUMN, height=COLUMN * 0.82)
    known = np.isfinite(values)
    draw_dots(axes, points[~known], np.full(int((~known).sum()), MISSING), size=look.size)
    order = np.argsort(values[known], kind="stable")
    drawn = draw_dots(
        axes, points[known][order], values[known][order], n_all=len(points), size=look.size, cmap=look.cmap
    )
    color_bar(axes, drawn, name, shrink=0.6, aspect=18)
    return axes


def color_bar(
    axes: "Axes | Sequence[Axes]", drawn: Any, label: str, *, shrink: float = 0.7, aspect: float = 20
) -> None:
    """Draw the scale of the colors of what was drawn, beside the axes."""
    bar = drawn.axes.figure.colorbar(drawn, ax=axes, shrink=shrink, aspect=aspect, pad=0.02)
    bar.outline.set_linewidth(0.4)
    bar.set_label(label)


def label_axes(axes: "Axes", basis: str) -> None:
    """Name the axes of an embedding, which have no unit and hence no ticks."""
    name = basis.removeprefix("X_").replace("_", " ")
    name = name.upper() if name in {"umap", "pca"} else name
    axes.set(xticks=[], yticks=[], xlabel=f"{name} 1", ylabel=f"{name} 2")
    axes.margins(0.03)


def draw_dots(
    axes: "Axes",
    points: Points,
    colors: np.ndarray,
    *,
    n_all: int | None = None,
    ink: float = 1.0,
    size: float | None = None,
    **more: Any,
) -> "PathCollection":
    """Draw dots that are the smaller the more there are; as pixels in a vector file, which stays small.

    ``n_all``: dots that have the same size; as many as there are points if None. ``ink``: area of all of them, as a
    share of that in a figure of one column. ``size``: area of each in place of both.
    """
    area = size or float(np.clip(ink * _INK / max(n_all or len(points), 1), _LEAST_AREA * ink, _MOST_AREA * ink))
    return axes.scatter(points[:, 0], points[:, 1], s=area, c=colors, linewidths=0, rasterized=True, **more)
