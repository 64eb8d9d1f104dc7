"""Lists and tables that people write: a name a line, ``.csv``, or tabs between the fields; read whole, also ``.gz``."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from genekb.core.errors import SourceUnusable
from genekb.core.messages import table_text
from genekb.files.endings import TABLE, check_ending
from genekb.files.limits import check_gzip
from genekb.files.replace import Target, output


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTable:
    """Rows of text by column, without blanks around a field; a missing field is empty."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]  # of columns of one name, the last counts
    lines: tuple[int, ...]  # line of the file of each row, from 1

    def __str__(self) -> str:
        """Name the columns for a message."""
        return ", ".join(self.columns) or "none"

    def first_of(self, names: Iterable[str]) -> str:
        """Name the first of some columns that there is; empty where there is none."""
        return next((name for name in names if name in self.columns), "")


def table_format(path: Path) -> str:
    """Name the format of a table by its ending, without ``.gz``."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


@contextmanager
def reading(path: Path, what: str, error: type[Exception]) -> Iterator[None]:
    """Say in one line, by an error of the caller's, why a file cannot be read as what it should be."""
    try:
        yield
    except UnicodeDecodeError as found:
        raise error(
            f"{path} cannot be read as {what}: it is no text in UTF-8 (byte {found.start}); save it as UTF-8"
        ) from found
    except gzip.BadGzipFile as found:
        reason = "is named .gz, but is not gzipped; take .gz off its name, or zip it"
        raise error(f"{path} cannot be read as {what}: it {reason}") from found
    except (OSError, EOFError, ValueError, RecursionError, csv.Error, zlib.error) as found:
        reason = getattr(found, "strerror", None) or str(found)[:200]
        raise error(f"{path} cannot be read as {what}: {reason}") from found


def read_text(path: Path, what: str, *, error: type[Exception] = SourceUnusable) -> str:
    """Read a text file in UTF-8, lines ended by newlines alone; ``error`` if that cannot be done."""
    with reading(path, what, error):
        check_gzip(path)
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return io.StringIO(content.decode("utf-8-sig"), newline=None).getvalue()


def read_list(path: Path, what: str, *, error: type[Exception] = SourceUnusable) -> list[str]:
    """Read what stands on each line that is not blank, see :func:`read_text`."""
    return [line.strip() for line in read_text(path, what, error=error).split("\n") if line.strip()]


def read_rows(path: Path, what: str, *, error: type[Exception] = SourceUnusable) -> list[tuple[int, list[str]]]:
    """Read the rows of a table that are not blank, with their lines; commas in a ``.csv``, else tabs."""
    text = read_text(path, what, error=error)
    first = next((line for line in text.split("\n") if line.strip() and line[0] != "#"), "")
    usual = "," if table_format(path) == ".csv" else "\t"
    delimiter = next((each for each in (usual, ";", "\t", ",") if each in first), usual)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    with reading(path, what, error):
        return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]


def read_table(path: Path, what: str, *, error: type[Exception] = SourceUnusable) -> TextTable:
    """Read a table by its header, see :func:`read_rows`."""
    found = read_rows(path, what, error=error)
    columns = tuple(found[0][1]) if found else ()
    rows = (dict(zip(columns, chain(row, [""] * len(columns)), strict=False)) for _, row in found[1:])
    return TextTable(columns=columns, rows=tuple(rows), lines=tuple(line for line, _ in found[1:]))


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]], *, digits: int = 10, overwrite: bool = False
) -> None:
    """Write a table, see :func:`table_text`; ``OutputUnusable`` if that cannot be done."""
    check_ending(path, TABLE)
    with output(Target(path, makes_parents=True), overwrite=overwrite) as part:
        part.write_text(table_text(path, columns, rows, digits=digits), encoding="utf-8")
