"""Dot plot of gene-level tasks: AUROC of each encoder with its interval, beside controls and published figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cellmodel.core.colors import cluster_color
from cellmodel.pl._canvas import COLUMN, MISSING, draw_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from genekb.query.tasks.scores import TaskRow

_ROW: Final = 0.26  # inches
_SPREAD: Final = 0.5  # of a row, over which the dots of one encoder lie
_PUBLISHED: Final = "published"


def draw_tasks(rows: "Sequence[TaskRow]", path: Path, *, overwrite: bool = False) -> None:
    """Draw a panel a task and a line an encoder, with a dot for each kind of knowledge, and write the figure.

    Raises ``InputUnusable`` if the ending is none of .svg, .png and .pdf; ``NotAvailable`` without matplotlib.
    """
    draw_file(lambda: task_dots(rows), path, overwrite=overwrite)


def task_dots(rows: "Sequence[TaskRow]") -> "Axes":
    """Draw the figure, and give the axes of its first panel."""
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(row.task for row in rows))
    names = list(dict.fromkeys(_line_of(row) for row in rows))
    size = (0.9 * COLUMN * len(tasks) + 1.2, _ROW * len(names) + 1.0)
    _, panels = plt.subplots(1, len(tasks), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axes, task in zip(panels[0], tasks, strict=True):
        _draw_panel(axes, [row for row in rows if row.task == task], names)
        axes.set(title=task, xlabel="AUROC")
    first: Axes = panels[0][0]
    first.set_yticks(range(len(names)), names)
    first.invert_yaxis()
    handles = dict(zip(*reversed(first.get_legend_handles_labels()), strict=True))
    first.figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    return first


def _line_of(row: "TaskRow") -> str:
    release = row.store_id.partition(":")[0]
    return f"{row.encoder} (published)" if row.knowledge == _PUBLISHED else f"{row.encoder}, {release}"


def _draw_panel(axes: "Axes", rows: "Sequence[TaskRow]", names: Sequence[str]) -> None:
    kinds = list(dict.fromkeys(row.knowledge for row in rows if row.knowledge != _PUBLISHED))
    axes.axvline(0.5, color=MISSING, linewidth=0.8, zorder=0)
    for kind in [*kinds, _PUBLISHED]:
        own = [row for row in rows if row.knowledge == kind]
        if not own:
            continue
        number = kinds.index(kind) if kind in kinds else 0
        shift = _SPREAD * (number / (len(kinds) - 1) - 0.5) if kind in kinds and len(kinds) > 1 else 0.0
        heights = [names.index(_line_of(row)) + shift for row in own]
        color, marker = (cluster_color(number), "o") if kind in kinds else ("#606060", "D")
        for row, height in zip(own, heights, strict=True):
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [height, height], color=color, linewidth=1.0, zorder=1)
        axes.scatter(
            [row.auroc for row in own], heights, s=14, c=color, marker=marker, linewidths=0, label=kind, zorder=2
        )
