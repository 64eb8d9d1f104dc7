"""What others wrote, shown to people: no name steers a terminal, and none in a table runs in a spreadsheet."""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from genekb.addresses import without_secrets

_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def printable(text: str, *, escape: Callable[[str], str] = lambda char: ascii(char)[1:-1]) -> str:
    r"""Take secrets out of addresses; write control characters, and what is not seen or turns the text, as ``\x1b``."""
    text = without_secrets(text)
    if text.isprintable() or not any(map(_steers, set(text))):
        return text
    return "".join(escape(char) if _steers(char) else char for char in text)


def _steers(char: str) -> bool:
    """Whether a character is of Unicode's kinds control, format, surrogate, private, unassigned or line separator."""
    category = unicodedata.category(char)
    return char not in "\n\t" and (category[0] == "C" or category in {"Zl", "Zp"})


def table_text(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]], *, digits: int = 10) -> str:
    """Lay out a table for people and spreadsheets: commas between the fields where ``path`` is a ``.csv``, else tabs.

    Text is written as :func:`printable` shows it. Text that a spreadsheet would take for a formula gets an apostrophe
    in front, as OWASP advises: ``=1+1`` becomes ``'=1+1``. A missing number is empty.

    Parameters
    ----------
    digits
        Significant ones of a number that is not whole.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="," if path.suffix == ".csv" else "\t", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value, digits) for value in row] for row in rows)
    return stream.getvalue()


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.{digits}g}"
    text = printable(str(value))
    is_formula = text.startswith(("=", "+", "-", "@", "\t")) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text
