"""Colours of clusters: 30 that stay apart under normal vision, protanopia, deuteranopia and tritanopia."""

from typing import Final

# Chosen greedily for the largest smallest distance in OKLab to all earlier ones, under normal vision and the three
# deficiencies as simulated by Machado et al. (2009), among colours that stand out on the light and the dark page.
CLUSTER_COLORS: Final = (
    "#4ba5a5",
    "#3c0ff0",
    "#961e00",
    "#a5d22d",
    "#693c87",
    "#d26900",
    "#4bd2ff",
    "#a578ff",
    "#4b7878",
    "#69c387",
    "#965ac3",
    "#b44b3c",
    "#e1b4c3",
    "#96b42d",
    "#879669",
    "#783c5a",
    "#4b5aff",
    "#b496ff",
    "#5a3cb4",
    "#ff69c3",
    "#a569a5",
    "#695a96",
    "#78a5d2",
    "#5a8769",
    "#ffa5f0",
    "#ff9678",
    "#b469d2",
    "#873cd2",
    "#0f783c",
    "#005a1e",
)
_MAX_BADGE = 3  # characters that fit a badge


def cluster_color(index: int) -> str:
    """Colour of a cluster as #rrggbb; after 30 they repeat, and the number on the badge tells clusters apart."""
    return CLUSTER_COLORS[index % len(CLUSTER_COLORS)]


def text_color(color: str) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2) on a colour given as #rrggbb."""
    luminance = relative_luminance(color)
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"


def relative_luminance(color: str) -> float:
    """Relative luminance (WCAG 2) of a colour given as #rrggbb, 0 to 1."""
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)  # noqa: PLR2004 - sRGB
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def badges(names: tuple[str, ...]) -> tuple[str, ...]:
    """Short labels for the plot: the names themselves where all are short and differ, else numbers from 1."""
    if all(0 < len(name) <= _MAX_BADGE for name in names) and len(set(names)) == len(names):
        return names
    return tuple(str(number) for number in range(1, len(names) + 1))
