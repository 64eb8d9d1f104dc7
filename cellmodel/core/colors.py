"""Colors of clusters, and of text on them."""

from typing import Final

# Chosen greedily for the largest smallest distance in OKLab to all earlier ones, under normal vision and the three
# deficiencies as simulated by Machado et al. (2009), among colors that stand out on the light and the dark page (by a
# contrast of 1.7 and 3).
CLUSTER_COLORS: Final = (
    "#00a596", "#9600f0", "#e1c32d", "#b43c00", "#00d2ff", "#3c6987", "#e1781e", "#a578f0", "#a5c3a5", "#7869c3",
    "#b4695a", "#2d8796", "#d287d2", "#f0965a", "#875a5a", "#4bb4ff", "#b44bff", "#d25a0f", "#e100c3", "#87b487",
    "#d2a5d2", "#b4875a", "#d269c3", "#966978", "#b41ea5", "#2dc35a", "#9669e1", "#c3c3d2", "#c3a500", "#a5a5b4",
)  # fmt: skip


def cluster_color(index: int) -> str:
    """Color of a cluster as #rrggbb; after 30 they repeat, and the number on the badge distinguishes clusters."""
    return CLUSTER_COLORS[index % len(CLUSTER_COLORS)]


def text_color(color: str) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2) on a color given as #rrggbb."""
    luminance = relative_luminance(color)
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"


def relative_luminance(color: str) -> float:
    """Relative luminance (WCAG 2) of a color given as #rrggbb, 0 to 1."""
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)  # noqa: PLR2004 - sRGB
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
