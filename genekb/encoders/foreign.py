"""Vectors of genes that were made elsewhere: files of names and numbers, read without running anything in them."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from genekb.encoders.base import EncoderSpec
from genekb.errors import SourceUnusable
from genekb.files import sha256_file
from genekb.sources.tables import read_parquet_table
from genekb.types import FloatArray

NAME_COLUMNS: Final = ("gene_id", "symbol", "gene")  # the first that a table has, where the caller names none
_NUMERIC: Final = "fiu"
_MATRIX_AXES: Final = 2
_COUNTS: Final = re.compile(r"\s*(\d{1,9})\s+(\d{1,9})\s*")
_Named = tuple[Sequence[str], np.ndarray]


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignVectors:
    """Vectors of genes as a file gives them; they are not scaled to unit length, a search does that.

    Parameters
    ----------
    names
        (gene,) symbols or identifiers, distinct, in the order of the file.
    vectors
        (gene, dim) float32, finite, none all zero.
    file_name, sha256
        The file.
    format
        ``word2vec``, ``npy``, ``parquet``, ``csv``, ``tsv``, ``json``, ``safetensors`` or ``pickle``.
    n_dropped
        Rows that were left out, by reason. Of rows with one name the first usable one is kept.
    """

    names: tuple[str, ...]
    vectors: FloatArray
    file_name: str
    sha256: str
    format: str
    n_dropped: dict[str, int]


def read_foreign(path: Path, *, names: Path | None = None, column: str | None = None) -> ForeignVectors:
    """Read vectors of genes; the ending of the file tells its format.

    ========================================  ==================================================================
    ``.emb``, ``.vec``, ``.w2v``, ``.txt``    word2vec text: a line of two counts, then a name and numbers a line
    ``.npy``, ``.safetensors``                a matrix (gene, dim) and a file of names
    ``.parquet``                              a column of names and one of lists, or numeric columns
    ``.csv``, ``.tsv``                        a column of names and numeric columns
    ``.json``                                 an object of name → list of numbers, as GenePT's
    ``.pkl``, ``.pickle``                     a dict of name → list or array, see `restricted_pickle`
    ========================================  ==================================================================

    Parameters
    ----------
    names
        For ``.npy`` and ``.safetensors``: one name a line in the order of the rows, or as JSON a list, or an object of
        name → row.
    column
        Column of a table that holds the names (:data:`NAME_COLUMNS` if left out), or the tensor of ``.safetensors``
        where it has several.

    Raises
    ------
    SourceUnusable
        If the file is missing, of another format, empty, or not what its format promises.
    """
    if not path.is_file():
        raise SourceUnusable(f"{path} does not exist; give a file of vectors")
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise SourceUnusable(
            f"{path}: the ending {path.suffix!r} is not known; known are {', '.join(sorted(_FORMATS))}"
        )
    if kind in _READ_WITH_NAMES:
        if names is None:
            raise SourceUnusable(f"{path} holds no names; give a file with one name a row")
        found = _label(_READ_WITH_NAMES[kind](path, column), path=path, names=names)
    elif names is not None:
        raise SourceUnusable(f"{path} holds its names itself; a file of names goes with .npy and .safetensors only")
    else:
        found = _READ[kind](path, column)
    return _keep_usable(found, path=path, kind=kind)


def foreign_spec(*, name: str, vectors: ForeignVectors) -> EncoderSpec:
    """Describe where vectors come from, in the form of a recipe; nobody can encode a text with it.

    The digest of names and values is part of it, since a file of names or another column may change what a row means.
    """
    digest = hashlib.sha256("\n".join(vectors.names).encode())
    digest.update(np.ascontiguousarray(vectors.vectors, dtype="<f4").tobytes())
    return EncoderSpec(
        name=name,
        kind="foreign",
        model_id=vectors.file_name,
        revision=vectors.format,
        weights_sha256=vectors.sha256,
        normalise=False,
        dim=vectors.vectors.shape[1],
        state_sha256=digest.hexdigest(),
    )


def _keep_usable(found: _Named, *, path: Path, kind: str) -> ForeignVectors:
    """Leave out rows that cannot serve, and count them by the first reason that holds."""
    names = [name.strip() for name in found[0]]
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and such rows are dropped
        vectors = np.asarray(found[1], dtype=np.float32)  # (gene, dim)
    if not vectors.size:
        raise SourceUnusable(f"{path} holds no vector")
    odd = next((name for name in names if not name.isprintable()), None)
    if odd is not None:
        raise SourceUnusable(f"{path}: {ascii(odd)[:60]} is no name of a gene")
    largest: FloatArray = np.abs(vectors).max(axis=1)  # (gene,), NaN where a value is
    dropped = {"no name": 0, "not finite": 0, "all zero": 0, "repeated name": 0}
    kept: dict[str, int] = {}
    for row, name in enumerate(names):
        tests = (not name, not np.isfinite(largest[row]), largest[row] == 0, name in kept)
        reason = next((reason for reason, holds in zip(dropped, tests, strict=True) if holds), None)
        if reason:
            dropped[reason] += 1
        else:
            kept[name] = row
    if not kept:
        told = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
        raise SourceUnusable(f"{path}: none of {len(names)} rows can be used ({told})")
    return ForeignVectors(
        names=tuple(kept),
        vectors=np.ascontiguousarray(vectors[list(kept.values())]),
        file_name=path.name,
        sha256=sha256_file(path),
        format=kind,
        n_dropped={reason: count for reason, count in dropped.items() if count},
    )


def _stack(rows: Sequence[tuple[str, Any]], *, path: Path) -> _Named:
    """Put vectors that come one by one into a matrix; they must be numbers, and equally many."""
    dim = len(rows[0][1]) if rows else 0
    odd = next(((name, len(values)) for name, values in rows if len(values) != dim), None)
    if odd:
        raise SourceUnusable(f"{path}: {odd[0][:40]!r} has {odd[1]} values, {rows[0][0][:40]!r} has {dim}")
    matrix = np.empty((len(rows), dim), dtype=np.float32)
    for row, (name, values) in enumerate(rows):
        if not isinstance(values, np.ndarray) and not set(map(type, values)) <= {int, float}:
            raise SourceUnusable(f"{path}: the vector of {name[:40]!r} holds something that is no number")
        try:
            with np.errstate(over="ignore"):
                matrix[row] = values
        except OverflowError as error:
            raise SourceUnusable(f"{path}: the vector of {name[:40]!r} holds an integer that is too large") from error
    return [name for name, _ in rows], matrix


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceUnusable(f"{path} is no UTF-8 text (byte {error.start})") from error


def _read_json(path: Path) -> Any:
    """Parse JSON; of an object the pairs are kept, so that a name that occurs twice is seen."""
    try:
        return json.loads(_read_text(path), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise SourceUnusable(f"{path} is no JSON ({type(error).__name__})") from error


class _Pairs(tuple[tuple[str, Any], ...]):
    """Pairs of a JSON object."""

    __slots__ = ()


def _read_word2vec(path: Path, _column: str | None) -> _Named:
    first, *lines = _read_text(path).split("\n")
    header = _COUNTS.fullmatch(first)
    if header is None:
        raise SourceUnusable(f"{path}: the first line must be two counts, rows and dims, it is {first[:40]!r}")
    n_rows, dim = map(int, header.groups())
    names: list[str] = []
    rows = []
    for number, line in enumerate(lines, start=2):
        name, *values = line.split() or [""]
        if not name:
            continue
        if len(values) != dim:
            raise SourceUnusable(f"{path}: line {number} has {len(values)} numbers, {dim} are promised")
        names.append(name)
        rows.append(_parse_numbers(values, path=path, number=number))
    if len(rows) != n_rows:
        raise SourceUnusable(f"{path}: the first line promises {n_rows} rows, there are {len(rows)}")
    return names, np.array(rows)


def _parse_numbers(values: Sequence[str], *, path: Path, number: int) -> FloatArray:
    try:
        with np.errstate(over="ignore"):
            return np.array(values, dtype=np.float64).astype(np.float32)
    except ValueError as error:
        raise SourceUnusable(f"{path}: line {number} holds something that is no number") from error


def _read_genept(path: Path, _column: str | None) -> _Named:
    content = _read_json(path)
    if not isinstance(content, _Pairs):
        raise SourceUnusable(f"{path} holds a {type(content).__name__}, an object of name → numbers is needed")
    odd = next((name for name, values in content if type(values) is not list), None)
    if odd is not None:
        raise SourceUnusable(f"{path}: {odd[:40]!r} has no list of numbers")
    return _stack(content, path=path)


def _read_pickle(path: Path, _column: str | None) -> _Named:
    from genekb.encoders.restricted_pickle import read_pickled_vectors

    return _stack(read_pickled_vectors(path), path=path)


def _read_parquet(path: Path, column: str | None) -> _Named:
    try:
        table = read_parquet_table(path)
        _refuse_repeated(table.column_names, path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceUnusable(f"{path} cannot be read as Parquet: {_first_line(error)}") from error
    return _read_table(table, path=path, column=column)


def _read_csv(path: Path, column: str | None) -> _Named:
    text = dict.fromkeys([*NAME_COLUMNS, *([] if column is None else [column])], pa.string())
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        table = pacsv.read_csv(
            path,
            parse_options=pacsv.ParseOptions(delimiter=delimiter),
            convert_options=pacsv.ConvertOptions(column_types=text),
        )
        _refuse_repeated(table.column_names, path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceUnusable(f"{path} is no table: {_first_line(error)}") from error
    return _read_table(table, path=path, column=column)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]


def _refuse_repeated(columns: Sequence[str], path: Path) -> None:
    repeated = {name for name in columns if columns.count(name) > 1}
    if repeated:
        raise SourceUnusable(f"{path}: the column {min(repeated)!r} occurs twice")


def _read_table(table: pa.Table, *, path: Path, column: str | None) -> _Named:
    """Take names and vectors out of a table; a column of lists goes before numeric columns."""
    wanted = [column] if column is not None else [name for name in NAME_COLUMNS if name in table.column_names]
    if not wanted or wanted[0] not in table.column_names:
        asked = " or ".join(map(repr, wanted or NAME_COLUMNS))
        raise SourceUnusable(f"{path} has no column {asked} of names; name it with --column")
    try:
        names = table[wanted[0]].cast(pa.string()).fill_null("").to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise SourceUnusable(f"{path}: the column {wanted[0]!r} holds something that is no name") from error
    rest = table.drop_columns([name for name in table.column_names if name in {wanted[0], *NAME_COLUMNS}])
    lists = [field.name for field in rest.schema if _is_list(field.type)]
    if len(lists) > 1:
        raise SourceUnusable(f"{path} has {len(lists)} columns of lists ({', '.join(lists[:3])}); one is needed")
    return names, _list_matrix(rest[lists[0]], path=path) if lists else _column_matrix(rest, path=path)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)


def _list_matrix(column: pa.ChunkedArray, *, path: Path) -> np.ndarray:
    import pyarrow.compute as pc

    if not _is_number(column.type.value_type):
        raise SourceUnusable(f"{path}: the lists hold {column.type.value_type}, numbers are needed")
    lengths = pc.list_value_length(column).fill_null(0).unique().to_pylist()
    if len(lengths) > 1:
        raise SourceUnusable(f"{path}: vectors have {min(lengths)} to {max(lengths)} values, all must have as many")
    values = pc.list_flatten(column).cast(pa.float32(), safe=False).to_numpy()  # missing values become NaN
    return values.reshape(len(column), -1) if len(column) else values


def _column_matrix(table: pa.Table, *, path: Path) -> np.ndarray:
    odd = [field.name for field in table.schema if not _is_number(field.type)]
    if odd:
        raise SourceUnusable(f"{path}: the column {odd[0]!r} holds something that is no number; leave it out")
    matrix = np.empty((table.num_rows, table.num_columns), dtype=np.float32)
    for position, values in enumerate(table.itercolumns()):
        matrix[:, position] = values.cast(pa.float32(), safe=False).to_numpy()
    return matrix


def _read_npy(path: Path, _column: str | None) -> np.ndarray:
    try:
        matrix = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, EOFError, OSError, TokenError) as error:
        raise SourceUnusable(f"{path} is no plain .npy file: {_first_line(error)}") from error
    if not isinstance(matrix, np.ndarray):
        matrix.close()
        raise SourceUnusable(f"{path} is an archive of arrays; save the matrix alone")
    return matrix


def _read_safetensors(path: Path, column: str | None) -> np.ndarray:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            keys = sorted(tensors.keys())
            if column is None and len(keys) != 1:
                raise SourceUnusable(
                    f"{path} holds {len(keys)} tensors ({', '.join(keys[:3])}); name one with --column"
                )
            key = keys[0] if column is None else column
            if key not in keys:
                raise SourceUnusable(f"{path} holds no tensor {key!r}; it holds {', '.join(keys[:3])}")
            return tensors.get_tensor(key)
    except (SafetensorError, TypeError, OSError) as error:
        raise SourceUnusable(f"{path} cannot be read as safetensors ({str(error)[:100]})") from error


def _label(matrix: np.ndarray, *, path: Path, names: Path) -> _Named:
    """Put the names of another file to the rows of a matrix."""
    if matrix.ndim != _MATRIX_AXES or matrix.dtype.kind not in _NUMERIC:
        raise SourceUnusable(f"{path} holds {matrix.dtype} of shape {matrix.shape}, numbers (gene, dim) are needed")
    listed = _read_names(names)
    if len(listed) != len(matrix):
        raise SourceUnusable(f"{names} has {len(listed)} names, {path.name} has {len(matrix)} rows")
    return listed, matrix


def _read_names(path: Path) -> list[str]:
    if not path.is_file():
        raise SourceUnusable(f"{path} does not exist; give a file with one name a row")
    if path.suffix.lower() != ".json":
        return [line.rstrip("\r") for line in _read_text(path).rstrip("\n").split("\n")]
    content = _read_json(path)
    if isinstance(content, _Pairs):
        rows = {row: name for name, row in content if type(row) is int}
        if len(rows) != len(content) or rows.keys() != set(range(len(rows))):
            raise SourceUnusable(
                f"{path}: its {len(content)} names must have the rows 0 to {len(content) - 1}, each once"
            )
        return [rows[row] for row in range(len(rows))]
    if not isinstance(content, list) or not set(map(type, content)) <= {str, int}:
        raise SourceUnusable(f"{path} must be a list of names, or an object of name → row")
    return list(map(str, content))


_FORMATS: Final[Mapping[str, str]] = {
    ".emb": "word2vec",
    ".vec": "word2vec",
    ".w2v": "word2vec",
    ".txt": "word2vec",
    ".npy": "npy",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".safetensors": "safetensors",
    ".pkl": "pickle",
    ".pickle": "pickle",
}
_READ: Final[Mapping[str, Callable[[Path, str | None], _Named]]] = {
    "word2vec": _read_word2vec,
    "parquet": _read_parquet,
    "csv": _read_csv,
    "tsv": _read_csv,
    "json": _read_genept,
    "pickle": _read_pickle,
}
_READ_WITH_NAMES: Final[Mapping[str, Callable[[Path, str | None], np.ndarray]]] = {
    "npy": _read_npy,
    "safetensors": _read_safetensors,
}
