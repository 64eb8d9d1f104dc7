"""Curves of a sweep: the score over the values of each setting, a curve a recipe, and how alike cells are by layer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cellmodel.core.colors import cluster_color
from cellmodel.io.writers import check_targets
from cellmodel.pl._canvas import COLUMN, check_format, draw_file
from genekb.files.replace import Target

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

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
