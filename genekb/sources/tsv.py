"""Tab-separated files of any size, gzipped or not, as blocks of strings; what is wrong with one is said in one line."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from genekb.errors import SourceUnusable

_BLOCK_BYTES = 1 << 22


def optional_file(folder: Path, *stems: str) -> Path | None:
    """Find the first of some files, gzipped or not, if the folder has any."""
    names = (name for stem in stems for name in (f"{stem}.gz", stem))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_header(path: Path) -> list[str]:
    """Read the column names of the first line; a ``#`` in front of it is taken off.

    Raises
    ------
    SourceUnusable
        If the file cannot be read as gzip or UTF-8.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as stream:
            line = stream.readline()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise damaged(path, str(error)) from error
    return [name.strip() for name in line.rstrip("\n").lstrip("#").split("\t")]


def check_header(path: Path, columns: Sequence[str]) -> None:
    """Compare the first line with the columns that a file must have.

    Raises
    ------
    SourceUnusable
        If it has others.
    """
    header = read_header(path)
    if header != list(columns):
        raise SourceUnusable(
            f"{path} starts with the columns {' '.join(header)[:80]!r}, expected '{' '.join(columns)[:80]}'; "
            "is it NCBI's file of that name?"
        )


def stream_tsv(
    path: Path, columns: Sequence[str], *, null_values: Sequence[str] = ("-",), quote_char: str | None = None
) -> Iterator[pa.Table]:
    """Give the rows below the first line block by block, every column as strings; memory does not grow with the file.

    Raises
    ------
    SourceUnusable
        If the file is truncated or a line has another number of fields.
    """
    try:
        reader = pacsv.open_csv(
            path,
            read_options=pacsv.ReadOptions(column_names=list(columns), skip_rows=1, block_size=_BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(delimiter="\t", quote_char=quote_char or False, escape_char=False),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                null_values=list(null_values),
                strings_can_be_null=True,
            ),
        )
        for batch in reader:
            yield pa.table(batch)
    except (pa.ArrowInvalid, OSError) as error:
        if "Empty CSV file" in str(error):
            return
        raise damaged(path, str(error).splitlines()[0]) from error


def find_non_identifiers(rows: pa.Table, column: str) -> pa.ChunkedArray:
    """Values of a column of strings that are no positive integer, missing ones among them."""
    n_digits = 9 if column == "tax_id" else 18  # what fits into 32 and 64 bits
    is_number = pc.match_substring_regex(rows[column], rf"^[1-9]\d{{0,{n_digits - 1}}}$")
    return rows[column].filter(pc.invert(pc.fill_null(is_number, fill_value=False)))


def with_integers(rows: pa.Table, path: Path, *columns: str) -> pa.Table:
    """Read some columns of strings as identifiers, which are positive integers.

    Raises
    ------
    SourceUnusable
        If one of their values is anything else.
    """
    for column in columns:
        wrong = find_non_identifiers(rows, column)
        if len(wrong):
            raise damaged(path, f"{column} {wrong[0].as_py() or '-'!r} is no number")
        place = rows.column_names.index(column)
        rows = rows.set_column(place, column, rows[column].cast(pa.int64()))
    return rows


def damaged(path: Path, reason: str) -> SourceUnusable:
    """Make the error for a file whose bytes cannot be read."""
    return SourceUnusable(f"{path} is damaged ({reason}); download it again and compare its size")
