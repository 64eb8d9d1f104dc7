"""How stable each number of clusters is, beside data without clusters."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from cellmodel.pl._canvas import COLUMN, axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def stability_curve(
    numbers: Int[np.ndarray, " number"],
    stability: Float[np.ndarray, " number"],
    *,
    null_mean: Float[np.ndarray, " number"],
    null_sd: Float[np.ndarray, " number"],
    chosen: int,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw stability by the number of clusters, the band of data without clusters (two deviations), and the choice."""
    axes = axes_of(ax, width=COLUMN, height=COLUMN * 0.66)
    axes.axvline(chosen, color="#d26900", linewidth=1.0, linestyle=(0, (4, 2)), zorder=0)
    axes.plot(numbers, stability, marker="o", markersize=3, color="#3c0ff0", linewidth=1.2, label="these cells")
    axes.plot(numbers, null_mean, color="#707070", linewidth=1.0, linestyle=(0, (1, 1)), label="without clusters")
    axes.fill_between(
        numbers, null_mean - 2 * null_sd, null_mean + 2 * null_sd, color="#b0b0b0", alpha=0.4, linewidth=0
    )
    axes.set(xlabel="number of clusters", ylabel="stability (mean ARI)", ylim=(0, 1.03))
    axes.annotate(
        f"chosen: {chosen}", (chosen, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2),
        textcoords="offset points", ha="center", va="bottom", color="#a04f00",
    )  # fmt: skip
    shown = numbers if chosen in numbers else np.sort(np.append(numbers, chosen))
    axes.set_xticks(shown)
    axes.legend(frameon=False, loc="best")
    return axes
