"""Bars of the clusters in every sample, side by side in their conditions."""

from typing import TYPE_CHECKING, Final

import numpy as np

from cellmodel.core.colors import cluster_color
from cellmodel.pl._canvas import axes_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_BAR: Final = 0.2  # inches: a sample
_HEIGHT: Final = 2.2
_GAP: Final = 0.7  # between conditions, in bars
_MOST_NAMED: Final = 60  # samples whose names are written


def draw_shares(shares: "pd.DataFrame", *, ax: "Axes | None" = None) -> "Axes":
    """Stack the shares of the clusters in every sample; conditions are apart, and named above their samples."""
    samples = shares[["sample", "condition"]].drop_duplicates()
    conditions = samples["condition"].tolist()
    group = np.cumsum([False, *(one != before for one, before in zip(conditions[1:], conditions[:-1], strict=True))])
    place = np.arange(len(samples)) + _GAP * group
    clusters = list(dict.fromkeys(shares["cluster"]))
    n_columns = -(-len(clusters) // 14)
    width = 0.7 + _BAR * (place[-1] + 1) + n_columns * (0.35 + 0.065 * max(map(len, clusters)))
    axes = axes_of(ax, width=max(width, 1.8), height=_HEIGHT)
    wide = shares.pivot_table(index=["sample", "condition"], columns="cluster", values="share", sort=False)
    heights = wide.loc[list(samples.itertuples(index=False, name=None)), clusters].to_numpy()
    bottom = np.zeros(len(samples))
    for number, name in enumerate(clusters):
        axes.bar(place, heights[:, number], bottom=bottom, width=0.85, color=cluster_color(number), label=name)
        bottom += np.nan_to_num(heights[:, number])  # a sample without cells has no share
    names = samples["sample"].tolist()
    axes.set_xticks(place, names if len(names) <= _MOST_NAMED else [""] * len(names), rotation=90)
    for one in np.unique(group):
        own = np.flatnonzero(group == one)
        axes.text(place[own].mean(), 1.02, conditions[own[0]], ha="center", va="bottom")
    axes.set(ylim=(0, 1), ylabel="share of cells", xlim=(place[0] - 0.6, place[-1] + 0.6))
    axes.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, ncols=n_columns, reverse=True, handlelength=1.0,
        handletextpad=0.4, columnspacing=0.8,
    )  # fmt: skip
    return axes
