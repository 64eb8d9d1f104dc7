"""Figures of benchmarks: curves of a sweep; a dot plot of gene-level tasks beside controls and published figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cellmodel.core.colors import cluster_color
from cellmodel.io.writers import check_targets
from cellmodel.pl._canvas import COLUMN, MISSING, check_format, draw_file
from genekb.files.replace import Target

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from genekb.query.tasks.scores import TaskRow

_ROW: Final = 0.26  # inches
_SPREAD: Final = 0.5  # of a row, over which the dots of one encoder lie
_PUBLISHED: Final = "published"
_PANEL: Final = COLUMN * 0.72  # inches
_SCORES: Final = {"ari": "ARI", "same_clusters": "ARI with the complete run"}
_NAMES: Final = {"thin": "fraction of counts kept", "drop_cells": "fraction of cells left out", "dropout": "dropout"}
_LAYER: Final = "cosine."  # begins the columns with the mean cosine between cells after a layer


def check_figure(figure: Path, cells: Path, output: Path, *, overwrite: bool) -> None:
    """Check that a figure can be written beside the folder of results, before the work."""
    targets = [Target(output, kind="shared", makes_parents=True), Target(check_format(figure))]
    check_targets(targets, inputs=(cells,), overwrite=overwrite)


def draw_sweep(
    rows: Sequence[Mapping[str, Any]], unchanged: Mapping[str, Any], path: Path, *, overwrite: bool = False
) -> None:
    """Draw the curves of a sweep's rows and write the figure.

    ``unchanged``: value of each setting in the complete run, where there is one. Raises ``InputUnusable`` if the ending
    is none of .svg, .png and .pdf; ``NotAvailable`` without matplotlib.
    """
    draw_file(lambda: sweep_curves(rows, unchanged), path, overwrite=overwrite)


def sweep_curves(rows: Sequence[Mapping[str, Any]], unchanged: Mapping[str, Any]) -> "Axes":
    """Draw a panel a setting, mean over seeds with its standard deviation, and give the axes of the first.

    The complete run is a dashed line; a last panel shows its mean cosine between cells by layer.
    """
    import matplotlib.pyplot as plt
    import pandas as pd

    table = pd.DataFrame(rows)
    settings = [name for name in dict.fromkeys(table["setting"]) if name]
    n_panels = len(settings) + 1
    _, grid = plt.subplots(1, n_panels, figsize=(n_panels * _PANEL, 1.1 * _PANEL), layout="constrained")
    for axes, setting in zip(grid, settings, strict=False):
        _draw_setting(axes, table, setting, unchanged=unchanged.get(setting))
    _draw_layers(grid[-1], table)
    first: Axes = grid[0]
    handles, names = first.get_legend_handles_labels()
    first.figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    return first


def _draw_setting(axes: "Axes", table: "pd.DataFrame", setting: str, *, unchanged: Any) -> None:
    """Draw the curves of one setting; its values stand apart evenly, in their order where they are numbers."""
    score = next(name for name in _SCORES if name in table)
    values = list(dict.fromkeys(table.loc[table["setting"] == setting, "value"]))
    values = sorted({*values, *([] if unchanged is None else [str(unchanged)])}, key=_number)
    for number, (recipe, own) in enumerate(table.groupby("recipe", sort=False)):
        complete = own.loc[own["setting"] == "", score]
        by_value = {value: own.loc[(own["setting"] == setting) & (own["value"] == value), score] for value in values}
        if unchanged is not None:
            by_value[str(unchanged)] = complete
        mean, sd = ([getattr(each, name)(**more) for each in by_value.values()] for name, more in _MOMENTS)
        places, color = range(len(values)), cluster_color(number)
        axes.plot(places, mean, marker="o", markersize=3, linewidth=1, color=color, label=str(recipe))
        low, high = zip(*((middle - each, middle + each) for middle, each in zip(mean, sd, strict=True)), strict=True)
        axes.fill_between(places, low, high, color=color, alpha=0.2, linewidth=0)
        axes.axhline(complete.mean(), color=color, linestyle="--", linewidth=0.6)
    axes.set_xticks(range(len(values)), values)
    axes.set(xlabel=_NAMES.get(setting, setting), ylabel=_SCORES[score])


_MOMENTS: Final[tuple[tuple[str, dict[str, int]], ...]] = (("mean", {}), ("std", {"ddof": 0}))


def _number(value: str) -> tuple[float, str]:
    """Order values as numbers where they are."""
    try:
        return float(value), value
    except ValueError:
        return 0.0, value


def _is_last(layer: str) -> bool:
    """Whether a layer gives the embedding; other recipes may have more layers before it."""
    return layer == f"{_LAYER}features"


def _draw_layers(axes: "Axes", table: "pd.DataFrame") -> None:
    """Draw the mean cosine between cells after each layer of the complete runs."""
    columns = sorted((name for name in map(str, table) if name.startswith(_LAYER)), key=_is_last)
    complete = table.loc[table["setting"] == ""].groupby("recipe", sort=False)[columns].mean()
    for number, (_, values) in enumerate(complete.iterrows()):
        known = values.dropna()
        axes.plot(range(len(known)), known, marker="o", markersize=3, linewidth=1, color=cluster_color(number))
    axes.set(xlabel="layer, from components to embedding", ylabel="mean cosine between cells")
    axes.locator_params(axis="x", integer=True)


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
