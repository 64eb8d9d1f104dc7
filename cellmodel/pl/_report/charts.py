"""Line charts as numbers that the template draws as SVG: no plotting library, no script."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from cellmodel.pl._report.style import plain_number

WIDTH, HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 14.0, 12.0, 40.0
_N_TICKS = 5
_MAX_DOTS = 40  # more points than this are drawn as a line alone


@dataclass(frozen=True, kw_only=True, slots=True)
class LineChart:
    """One curve in the coordinates of an SVG of WIDTH by HEIGHT."""

    title: str  # title, x_label, y_label, summary: texts; the summary says in words what the curve does
    x_label: str
    y_label: str
    summary: str
    path: str  # the ``d`` of the line
    dots: tuple[tuple[float, float], ...]  # (x, y) of each point, if they are few
    marked: tuple[float, float] | None  # (x, y) of the point to stress, or None
    x_ticks: tuple[tuple[float, str], ...]  # x_ticks, y_ticks: (position, text)
    y_ticks: tuple[tuple[float, str], ...]
    frame: tuple[float, float, float, float]  # (left, top, right, bottom) of the plot


def line_chart(
    points: Sequence[tuple[float, float]], *, title: str, x_label: str, y_label: str, marked_x: float | None = None
) -> LineChart:
    """Lay out a curve; points whose y is not finite are left out, ``ValueError`` if none is left.

    ``points``: (x, y) in the order of the line. ``marked_x``: the x of the point to stress.
    """
    finite = [(float(x), float(y)) for x, y in points if math.isfinite(y)]
    if not finite:
        raise ValueError(f"the chart {title!r} has no finite point; leave it out")
    x_values, y_values = zip(*finite, strict=True)
    x_ticks, y_ticks = _ticks(min(x_values), max(x_values)), _ticks(min(y_values), max(y_values))
    x_range = (min(x_values), max(x_values))
    y_range = (min(y_ticks[0], *y_values), max(y_ticks[-1], *y_values))

    def place_x(x: float) -> float:
        return round(_scale(x, x_range, (_LEFT + 8, WIDTH - _RIGHT - 8)), 1)

    def place_y(y: float) -> float:
        return round(_scale(y, y_range, (HEIGHT - _BOTTOM, _TOP)), 1)

    places = [(place_x(x), place_y(y)) for x, y in finite]
    return LineChart(
        title=title,
        x_label=x_label,
        y_label=y_label,
        summary=_summary(finite, x_label=x_label, y_label=y_label),
        path="M" + "L".join(f"{x} {y}" for x, y in places),
        dots=tuple(places) if len(places) <= _MAX_DOTS else (),
        marked=next((place for place, (x, _) in zip(places, finite, strict=True) if x == marked_x), None),
        x_ticks=tuple((place_x(x), plain_number(x)) for x in x_ticks if x_range[0] <= x <= x_range[1]),
        y_ticks=tuple((place_y(y), plain_number(y)) for y in y_ticks),
        frame=(_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM),
    )


def _scale(value: float, source: tuple[float, float], target: tuple[float, float]) -> float:
    """Map a range linearly onto another; a range without width goes to the middle."""
    low, high = source
    share = (value - low) / (high - low) if high > low else 0.5
    return target[0] + share * (target[1] - target[0])


def _ticks(low: float, high: float) -> list[float]:
    """Round values (1, 2, 2.5 or 5 times a power of ten apart) that enclose a range."""
    rough = (high - low) / (_N_TICKS - 1)
    if rough < sys.float_info.min:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _summary(points: list[tuple[float, float]], *, x_label: str, y_label: str) -> str:
    (first_x, first_y), (last_x, last_y) = points[0], points[-1]
    best_x, best_y = max(points, key=lambda point: point[1])
    return (
        f"{y_label}: {plain_number(first_y)} at {x_label} {plain_number(first_x)}, {plain_number(last_y)} at "
        f"{plain_number(last_x)}; highest {plain_number(best_y)} at {plain_number(best_x)}."
    )
