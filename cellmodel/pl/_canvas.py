"""Where plots are drawn and how they are kept: sizes of a paper, fonts, the same bytes for the same plot."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cellmodel.core.errors import InputUnusable, NotAvailable
from cellmodel.io.writers import output
from genekb.files.replace import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN: Final = 3.4  # inches: one column of a paper
FORMATS: Final = (".svg", ".png", ".pdf")
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


@contextmanager
def drawing() -> Iterator[None]:
    """Set fonts and lines inside the block, not beyond. Raises ``NotAvailable`` if matplotlib is not installed."""
    check_matplotlib()
    import matplotlib as mpl

    style: Any = _STYLE  # matplotlib types it by the names of all its settings
    with mpl.rc_context(style):
        yield


def drawn(draw: "Callable[[], Axes]", save: Path | str | None) -> "Axes":
    """Draw with our fonts and lines, and save the figure where ``save`` says."""
    with drawing():
        axes = draw()
        save_figure(axes, save)
    return axes


def axes_of(ax: "Axes | None", *, width: float, height: float) -> "Axes":
    """Give the axes to draw on: the user's, or those of a new figure of that size in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, made = plt.subplots(figsize=(width, height), layout="constrained")
    return made


def save_figure(ax: "Axes", save: Path | str | None, *, overwrite: bool = True) -> None:
    """Save the figure that holds the axes; the ending says the format. The same plot gives the same bytes.

    Raises ``InputUnusable`` if the ending is none of .svg, .png and .pdf, or the file cannot be written or replaced.
    """
    if save is None:
        return
    path = check_format(Path(save))
    with output(Target(path, makes_parents=True), overwrite=overwrite) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")  # drawn as a box
        path.parent.mkdir(parents=True, exist_ok=True)
        figure_of(ax).savefig(part, format=path.suffix[1:], dpi=_DPI, metadata=_NO_DATE[path.suffix])


def figure_of(ax: "Axes") -> "Figure":
    """Give the whole figure that holds the axes."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes are on no figure")
    return figure


def check_matplotlib() -> None:
    """Raise ``NotAvailable`` if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise NotAvailable("plots need matplotlib; pip install 'genekb-cellmodel[plot]'")


def check_format(path: Path) -> Path:
    """Check that a plot can be drawn, and written in the format of the ending: one of :data:`FORMATS`."""
    check_matplotlib()
    if path.suffix not in FORMATS:
        raise InputUnusable(f"{path} ends with {path.suffix!r}; plots are written as {', '.join(FORMATS)}")
    return path
