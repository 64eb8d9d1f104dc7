"""How figures are written: short for the reader, and exact in a ``data`` element for the download."""

import math
import re
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING

from genekb.core.messages import p_text

if TYPE_CHECKING:
    from markupsafe import Markup

_SMALL_SHARE = 1e-3
_SMALL_P = 1e-3  # below it p is written with an exponent
_LARGE = 1e5  # from here on, and below its inverse, three digits need an exponent
_DASH = "–"


def percent(value: float) -> "Markup":
    """Write a share in [0, 1] as per cent: one decimal, or two digits where that would be next to nothing."""
    text = f"{100 * value:.2g}" if 0 < value < _SMALL_SHARE else f"{100 * value:.1f}"
    return _figure(value, f"{text}\u202f%")


def count(value: int) -> "Markup":
    """Write a whole number with separators of thousands."""
    return _figure(value, f"{value:,}")


def number(value: float) -> "Markup":
    """Write three significant digits, with an exponent where the number is very large or small."""
    size = abs(value)
    return _figure(value, f"{value:.2e}" if size and (size >= _LARGE or size < 1 / _LARGE) else _three_digits(value))


def p_value(value: float) -> "Markup":
    """Write a probability: three decimals, or two digits and an exponent where it is small."""
    return _figure(value, p_text(value, ".1e" if value < _SMALL_P else ".3f"))


def plain_number(value: float) -> str:
    """Write up to four significant digits, for the ticks of an axis."""
    return f"{value:.4g}"


def breakable(label: str) -> "Markup":
    """Write a label so that a line may end at its dots and underscores."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<=[._])", "<wbr>", str(escape(label))))


def fields(values: Sequence[str | float]) -> list[str | float]:
    """Give the row of a download: as it is, with nothing where a number is not finite."""
    return ["" if isinstance(value, float) and not math.isfinite(value) else value for value in values]


def _three_digits(value: float) -> str:
    is_plain = value == 0 or not math.isfinite(value)
    decimals = 2 if is_plain else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def _figure(value: float | int, text: str) -> "Markup":
    """Element that shows the text and holds the exact value; a dash where there is none."""
    from markupsafe import Markup

    if not math.isfinite(value):
        return Markup('<span class="none" title="no value">{}</span>').format(_DASH)
    exact = repr(int(value)) if isinstance(value, Integral) else repr(float(value))
    return Markup('<data value="{}">{}</data>').format(exact, text)


_MAX_BADGE = 3  # characters that fit a badge


def badges(names: tuple[str, ...]) -> tuple[str, ...]:
    """Short labels for the plot: the names themselves where all are short and differ, else numbers from 1."""
    if all(0 < len(name) <= _MAX_BADGE for name in names) and len(set(names)) == len(names):
        return names
    return tuple(str(number) for number in range(1, len(names) + 1))
