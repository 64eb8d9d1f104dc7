"""Flows from groups on the left to groups on the right: a Sankey diagram of two columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cellmodel.pl._canvas import COLUMN, axes_of
from cellmodel.pl._report.style import cluster_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP: Final = 0.25  # of the mean height of a group
_LEAST: Final = 0.4  # of that height: a group that is smaller could not be named
_BAR: Final = 0.04  # width of a group, of the whole
_GREY: Final = "#b4b4b4"


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """What goes from a group on the left to one on the right; a weak one is drawn lighter."""

    left: str
    right: str
    weight: float
    is_strong: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Where a group stands: from ``bottom`` to ``bottom + height``."""

    bottom: float
    height: float
    total: float


def draw_flows(
    flows: Sequence[Flow],
    *,
    left: Sequence[str],
    right: Sequence[str],
    titles: tuple[str, str] = ("", ""),
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw flows between groups, those on the right in an order that makes them cross little.

    ``left``, ``right``: all groups, also those without a flow, which are grey. Weights must not be negative.
    """
    _check(flows, left, right)
    letters = max(map(len, left), default=0) + max(map(len, right), default=0)
    axes = axes_of(
        ax, width=max(COLUMN, 1.7 + 0.062 * letters), height=max(1.6, 0.2 * max(len(left), len(right)) + 0.4)
    )
    places = _place(left, {name: sum(flow.weight for flow in flows if flow.left == name) for name in left})
    order = _untangled(flows, places, right)
    others = _place(order, {name: sum(flow.weight for flow in flows if flow.right == name) for name in right})
    colors = {name: cluster_color(number) for number, name in enumerate(left)}
    _draw_bands(axes, flows, (places, others), colors)
    _draw_groups(axes, places, colors=colors, at=0.0, is_left=True)
    _draw_groups(axes, others, colors={}, at=1.0, is_left=False)
    for at, title, align in ((_BAR, titles[0], "right"), (1 - _BAR, titles[1], "left")):
        axes.annotate(
            title, (at, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points", ha=align,
            va="bottom", weight="bold",
        )  # fmt: skip
    axes.set(xlim=(-_BAR, 1 + _BAR))
    axes.margins(y=0.01)
    axes.set_axis_off()
    return axes


def _check(flows: Sequence[Flow], left: Sequence[str], right: Sequence[str]) -> None:
    for flow in flows:
        if flow.left not in left or flow.right not in right:
            raise ValueError(f"flow from {flow.left!r} to {flow.right!r} names a group that is not listed")
        if flow.weight < 0:
            raise ValueError(f"flow from {flow.left!r} to {flow.right!r} has the negative weight {flow.weight}")


def _place(names: Sequence[str], totals: dict[str, float]) -> dict[str, _Group]:
    """Stack groups from the top, scaled to a height of 1 together."""
    mean = sum(totals.values()) / max(len(names), 1) or 1.0
    heights = [max(totals[name] / mean, _LEAST) for name in names]
    scale = 1 / (sum(heights) + _GAP * max(len(names) - 1, 0))
    places, top = {}, 1.0
    for name, height in zip(names, heights, strict=True):
        places[name] = _Group(bottom=top - height * scale, height=height * scale, total=totals[name])
        top -= (height + _GAP) * scale
    return places


def _untangled(flows: Sequence[Flow], places: dict[str, _Group], right: Sequence[str]) -> list[str]:
    """Order groups by the mean place of where their flows come from; those without one come last."""

    def height(name: str) -> float:
        own = [flow for flow in flows if flow.right == name and flow.weight > 0]
        if not own:
            return -1.0
        middle = [places[flow.left].bottom + places[flow.left].height / 2 for flow in own]
        return float(np.average(middle, weights=[flow.weight for flow in own]))

    return sorted(right, key=lambda name: -height(name))


def _draw_bands(
    axes: "Axes", flows: Sequence[Flow], places: tuple[dict[str, _Group], dict[str, _Group]], colors: dict[str, str]
) -> None:
    """Draw each flow as a band, in the colour of its left group, the bands of a group beside one another."""
    lefts, rights = places
    tops = [{name: group.bottom + group.height for name, group in side.items()} for side in places]
    order = {name: number for number, name in enumerate(rights)}
    bend = (1 - np.cos(np.linspace(0, np.pi, 50))) / 2
    across = np.linspace(_BAR, 1 - _BAR, 50)
    drawn = [flow for flow in flows if flow.weight > 0]
    for flow in sorted(drawn, key=lambda flow: (list(lefts).index(flow.left), order[flow.right])):
        thick = [group.height * flow.weight / group.total for group in (lefts[flow.left], rights[flow.right])]
        start, end = tops[0][flow.left], tops[1][flow.right]
        tops[0][flow.left] -= thick[0]
        tops[1][flow.right] -= thick[1]
        upper = start + (end - start) * bend
        lower = (start - thick[0]) + (end - thick[1] - start + thick[0]) * bend
        axes.fill_between(
            across, lower, upper, color=colors[flow.left], alpha=0.6 if flow.is_strong else 0.2, linewidth=0
        )


def _draw_groups(axes: "Axes", places: dict[str, _Group], *, colors: dict[str, str], at: float, is_left: bool) -> None:
    """Draw the groups of a side as bars with their names outside."""
    for name, group in places.items():
        color = colors.get(name, "#505050") if group.total > 0 else _GREY
        start = at if is_left else at - _BAR
        axes.barh(group.bottom, _BAR, height=group.height, left=start, align="edge", color=color, linewidth=0)
        axes.annotate(
            name, (at, group.bottom + group.height / 2), xytext=(-3 if is_left else 3, 0), textcoords="offset points",
            ha="right" if is_left else "left", va="center", color="black" if group.total > 0 else "#707070",
            annotation_clip=False,
        )  # fmt: skip
