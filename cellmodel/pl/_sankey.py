"""Flows from groups on the left to groups on the right: a Sankey diagram of two columns."""

from typing import TYPE_CHECKING, Final

import numpy as np

from cellmodel.core.colors import cluster_color
from cellmodel.pl._canvas import COLUMN, axes_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_GAP: Final = 0.25  # of the mean height of a group
_LEAST: Final = 0.4  # of that height: a group that is smaller could not be named
_BAR: Final = 0.04  # width of a group, of the whole
_GRAY: Final = "#b4b4b4"


def draw_flows(
    weights: "pd.DataFrame",
    *,
    is_strong: "pd.DataFrame | None" = None,
    titles: tuple[str, str] = ("", ""),
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw flows between groups, those on the right in an order that makes them cross little.

    ``weights``: a row a group on the left, a column a group on the right; a group without a flow is gray.
    ``is_strong``: of the same shape; a weak flow is drawn lighter.
    """
    letters = sum(max(map(len, names), default=0) for names in weights.axes)
    size = {"width": max(COLUMN, 1.7 + 0.062 * letters), "height": max(1.6, 0.2 * max(weights.shape) + 0.4)}
    axes, left = axes_of(ax, **size), _stack(weights.sum(axis=1))
    weights = weights.iloc[:, _untangled(weights.to_numpy(), left)]
    right, colors = _stack(weights.sum()), [cluster_color(number) for number in range(len(left))]
    strong = np.ones(weights.shape, bool) if is_strong is None else is_strong[weights.columns].to_numpy()
    _draw_bands(axes, weights.to_numpy(), left, right, alpha=np.where(strong, 0.6, 0.2), colors=colors)
    _draw_groups(axes, left, colors=colors, at=0.0, is_left=True)
    _draw_groups(axes, right, colors=["#505050"] * len(right), at=1.0, is_left=False)
    for at, title, align in ((_BAR, titles[0], "right"), (1 - _BAR, titles[1], "left")):
        axes.annotate(
            title, (at, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points", ha=align,
            va="bottom", weight="bold",
        )  # fmt: skip
    axes.set(xlim=(-_BAR, 1 + _BAR))
    axes.margins(y=0.01)
    axes.set_axis_off()
    return axes


def _stack(totals: "pd.Series[float]") -> "pd.DataFrame":
    """Stack groups from the top, scaled to a height of 1 together: ``total``, ``height`` and ``top`` of each."""
    heights = (totals / (totals.mean() or 1.0)).clip(lower=_LEAST)
    scale = 1 / (heights.sum() + _GAP * max(len(heights) - 1, 0))
    tops = 1 - ((heights + _GAP) * scale).cumsum().shift(fill_value=0.0)
    return totals.to_frame("total").assign(height=heights * scale, top=tops)


def _untangled(weights: np.ndarray, left: "pd.DataFrame") -> np.ndarray:
    """Order groups by the mean height of where their flows come from; those without one come last."""
    middles = (left["top"] - left["height"] / 2).to_numpy()
    totals = weights.sum(axis=0)
    heights = np.divide(middles @ weights, totals, out=np.full(len(totals), -1.0), where=totals > 0)
    return np.argsort(-heights.round(9), kind="stable")


def _draw_bands(
    axes: "Axes",
    weights: np.ndarray,
    left: "pd.DataFrame",
    right: "pd.DataFrame",
    *,
    alpha: np.ndarray,
    colors: list[str],
) -> None:
    """Draw each flow as a band, in the color of its left group, the bands of a group beside one another."""
    tops = [side["top"].to_numpy(copy=True) for side in (left, right)]
    per_weight = [(side["height"] / side["total"]).to_numpy() for side in (left, right)]
    bend = (1 - np.cos(np.linspace(0, np.pi, 50))) / 2
    across = np.linspace(_BAR, 1 - _BAR, 50)
    for i, j in np.argwhere(weights > 0):
        thick = per_weight[0][i] * weights[i, j], per_weight[1][j] * weights[i, j]
        start, end = tops[0][i], tops[1][j]
        tops[0][i], tops[1][j] = start - thick[0], end - thick[1]
        upper = start + (end - start) * bend
        lower = tops[0][i] + (tops[1][j] - tops[0][i]) * bend
        axes.fill_between(across, lower, upper, color=colors[i], alpha=alpha[i, j], linewidth=0)


def _draw_groups(axes: "Axes", groups: "pd.DataFrame", *, colors: list[str], at: float, is_left: bool) -> None:
    """Draw the groups of a side as bars with their names outside."""
    for (name, total, height, top), color in zip(groups.itertuples(), colors, strict=True):
        axes.barh(
            top - height, _BAR, height=height, left=at if is_left else at - _BAR, align="edge",
            color=color if total > 0 else _GRAY, linewidth=0,
        )  # fmt: skip
        axes.annotate(
            name, (at, top - height / 2), xytext=(-3 if is_left else 3, 0), textcoords="offset points",
            ha="right" if is_left else "left", va="center", color="black" if total > 0 else "#707070",
            annotation_clip=False,
        )  # fmt: skip
