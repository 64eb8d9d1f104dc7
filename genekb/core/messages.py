"""What a message says of a name that is not there, and of numbers of things."""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from difflib import get_close_matches
from html import escape
from pathlib import Path
from typing import Any, Final, TypeVar

from genekb.core.addresses import without_secrets

from_shell: ContextVar[bool] = ContextVar("from_shell", default=False)  # whether a command of the shell is what runs


MOST_NAMES: Final = 12
_SUFFIX: Final = re.compile(r"@.*|-[0-9a-f]{12}$")


def known_names(wanted: str, names: Iterable[object]) -> str:
    """List the names that there are, and the one that was probably meant: ``wcp, minilm; did you mean 'minilm'?``."""
    known = [str(name) for name in names]
    return (listed(known) or "none") + did_you_mean(wanted, known)


def listed(names: Sequence[str], *, most: int = MOST_NAMES) -> str:
    """List the first names, and say how many more there are: ``CD3D, CD3E, and 2,000 more``."""
    return ", ".join(names[:most]) + (f", and {len(names) - most:,} more" if len(names) > most else "")


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """Name the one of the known names that was probably meant: ``; did you mean 'minilm'?``, or nothing."""
    by_stem = {_stem(name): name for name in known}
    near = get_close_matches(_stem(wanted), by_stem, n=1)
    return f"; did you mean {by_stem[near[0]]!r}?" if near else ""


def check_choice(what: str, given: str, known: Iterable[str], *, error: type[Exception] = ValueError) -> None:
    """Raise an error, which says what was probably meant, where a name is none of those that there are."""
    names = list(known)
    if given not in names:
        raise error(f"{what} {given!r} is not one of {', '.join(names)}{did_you_mean(given, names)}")


def _stem(name: str) -> str:
    """Name as people type it: lower case, without the release of a store or the digest of an encoder."""
    return _SUFFIX.sub("", name.lower())


def shorten(text: str, most: int) -> str:
    """Cut a text after some characters, with an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def html_table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Lay out a table for a notebook; what stands in its cells is text, never markup."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(printable(str(cell)))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def counted(number: int, noun: str, *, plural: str = "") -> str:
    """Write a number with its noun in singular or plural: ``1 gene``, ``2,323 genes``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


SMALLEST_P: Final = 1e-16


def p_text(value: float, form: str = ".2g") -> str:
    """Write a p value for people: no smaller than :data:`SMALLEST_P`, below which it shows the model, not the data."""
    return f"< {SMALLEST_P:.0e}" if value < SMALLEST_P else format(value, form)


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
    """Lay out a table, commas for ``.csv``, else tabs; a formula gets an apostrophe, as OWASP advises: ``'=1+1``."""
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


Given = TypeVar("Given", bound=str | Path)
Names = str | Sequence[str]  # one, or several
Paths = str | Path | Sequence[str | Path]


def several(given: Given | Sequence[Given] | None) -> list[Given]:
    """List names or paths that may be one."""
    return [given] if isinstance(given, str | Path) else list(given or ())
