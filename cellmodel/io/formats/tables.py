"""Tables of numbers as text, .csv and .tsv: an error names its line or column."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.sparse as sp

from cellmodel.core.errors import InputUnusable
from cellmodel.io.guard import open_text

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_SEPARATORS: Final = {",": "commas", "\t": "tabs", ";": "semicolons"}
_FIELDS: Final = 10_000_000  # that are held as numbers of double precision at a time
_MISSING: Final = ("", "NA", "N/A", "n/a", "nan", "NaN", "NAN", "null", "NULL", "None", "<NA>", "#N/A")


def read_table(path: Path, separator: str, *, transpose: bool) -> "AnnData":
    """Read a table of numbers with a header and a first column of names; an error names a line or a column."""
    import anndata
    import pandas as pd

    names: list[str] = []
    blocks = []
    with open_text(path) as stream:
        header = next(filter(None, csv.reader(stream, delimiter=separator)), [])  # pandas would number repeated names
        _check_header(path, header, separator)
        n_rows = max(1, _FIELDS // len(header))
        try:
            missing: Any = {column: _MISSING for column in range(1, len(header) + 1)}  # names may be any text
            for rows in pd.read_csv(
                stream, sep=separator, header=None, dtype={0: str}, keep_default_na=False, na_values=missing,
                chunksize=n_rows,
            ):  # fmt: skip
                columns = _column_names(path, header, n_names=rows.shape[1] - 1)
                numbers = rows.set_index(0).set_axis(columns, axis=1)
                _check_numbers(path, numbers, separator)
                names.extend(numbers.index)
                blocks.append(sp.csr_matrix(numbers.to_numpy(dtype=np.float32)))
        except pd.errors.EmptyDataError as error:
            raise InputUnusable(f"{path} holds a header and no row below it; is it cut off?") from error
        except pd.errors.ParserError:
            _refuse_ragged(path, separator)
            raise
    if _are_repeated_numbers(names):
        raise InputUnusable(
            f"{path}: the first column holds numbers that repeat ({', '.join(names[:3])}, ...) and no names; put a "
            "column of names before it"
        )
    matrix, row_table, column_table = sp.vstack(blocks, format="csr"), *map(_named, (names, columns))
    if transpose:
        matrix, row_table, column_table = matrix.T.tocsr(), column_table, row_table
    return anndata.AnnData(matrix, obs=row_table, var=column_table)


def _named(names: list[str]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(index=pd.Index(names, dtype=str))


def _check_header(path: Path, header: list[str], separator: str) -> None:
    if not header:
        raise InputUnusable(f"{path} is empty; give a table with a header and a first column of names")
    if len(header) > 1:
        return
    others = [other for other in _SEPARATORS if other != separator and other in header[0]]
    if others:
        raise InputUnusable(
            f"{path}: the fields of its first line are parted by {_SEPARATORS[others[0]]}, {_SEPARATORS[separator]} "
            "are expected; save it again, or name it .tsv for tabs and .csv for commas"
        )


def _column_names(path: Path, header: list[str], *, n_names: int) -> list[str]:
    if len(header) - n_names not in {0, 1}:
        raise InputUnusable(
            f"{path}: the header has {len(header)} fields ({header[0]!r}, ...), the first row {n_names + 1}; is the "
            "table cut off, or is there a line above the header?"
        )
    names = header[len(header) - n_names :]
    if _are_repeated_numbers(names):
        raise InputUnusable(
            f"{path}: the first line holds numbers ({', '.join(names[:3])}, ...) and no names; put a header above it"
        )
    return names


def _are_repeated_numbers(names: list[str]) -> bool:
    """Whether names are numbers of which some occur twice: counts; identifiers do not repeat."""
    return len(set(names)) < len(names) and all(name.strip().replace(".", "", 1).isdigit() for name in names)


def _check_numbers(path: Path, table: "pd.DataFrame", separator: str) -> None:
    import pandas as pd

    kinds = zip(table.columns, table.dtypes, strict=True)
    wrong = [place for place, (_, kind) in enumerate(kinds) if not pd.api.types.is_numeric_dtype(kind)]
    if wrong:
        values = table.iloc[:, wrong[0]].astype(str)
        example = next(value for value in values if pd.isna(pd.to_numeric(value, errors="coerce")))
        raise InputUnusable(
            f"{path}: column {str(table.columns[wrong[0]])!r} holds {example!r}, which is no number "
            f"({len(wrong)} such columns of {table.shape[1]}); only numbers may follow the names, written as 1234.5 "
            "without a comma"
        )
    if table.isna().to_numpy().any():
        _refuse_ragged(path, separator)
        row, column = (int(places[0]) for places in np.nonzero(table.isna().to_numpy()))
        raise InputUnusable(
            f"{path}: the field of row {table.index[row]!r} and column {str(table.columns[column])!r} is empty or NA "
            f"({int(table.isna().to_numpy().sum())} such fields); write 0 where nothing was counted"
        )


def _refuse_ragged(path: Path, separator: str) -> None:
    """Raise if a row has another number of fields than the first."""
    n_fields = 0
    with open_text(path) as stream:
        rows = csv.reader(stream, delimiter=separator)
        next(filter(None, rows), None)
        for row in filter(None, rows):
            n_fields = n_fields or len(row)
            if len(row) != n_fields:
                raise InputUnusable(
                    f"{path}: line {rows.line_num} has {len(row)} fields, the lines before it {n_fields}; is it cut "
                    "off, or is a name with a separator in it not quoted?"
                )
