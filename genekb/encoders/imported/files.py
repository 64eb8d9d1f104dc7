"""Files of names and numbers, read without running anything in them."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from safetensors import SafetensorError, safe_open

from genekb.core.errors import SourceUnusable
from genekb.files.limits import max_decompressed
from genekb.schema import FloatArray
from genekb.sources.base import read_parquet_table

NAME_COLUMNS: Final = ("gene_id", "symbol", "gene")  # the first that a table has, where the caller names none
_NUMERIC: Final = "fiu"
_MATRIX_AXES: Final = 2
_COUNTS: Final = re.compile(r"\s*(\d{1,9})\s+(\d{1,9})\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneRows:
    """What a file holds, as it holds it."""

    # names of the rows by column, the one that identifies a gene first; none in a bare matrix
    columns: Mapping[str, Sequence[str]]
    matrix: np.ndarray  # (gene, dim) numbers of any type
    are_gene_ids: bool = False  # whether the file itself says that its first column holds GeneIDs


def read_rows(path: Path, column: str | None) -> tuple[str, GeneRows]:
    """Read a file by its ending; give its format, and what it holds.

    Raises ``SourceUnusable`` if the file is missing, of an unknown ending, or not what its format promises.
    """
    if not path.is_file():
        raise SourceUnusable(f"{path} does not exist; give a file of vectors")
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise SourceUnusable(
            f"{path}: the ending {path.suffix!r} is not known; known are .h5ad, {', '.join(sorted(_READERS))}"
        )
    kind, read = _READERS[suffix]
    with _reading(path, kind):
        return kind, read(path, column)


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Report in a line what a library says of a file that it cannot read."""
    try:
        yield
    except (
        ValueError,
        EOFError,
        OSError,
        RecursionError,
        TokenError,
        BadZipFile,
        SafetensorError,
        pa.ArrowException,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].partition("; ")[0][:100]
        raise SourceUnusable(f"{path} cannot be read as {kind}: {reason}") from error


def _stack(rows: Iterable[tuple[Any, Any]], *, path: Path) -> GeneRows:
    """Put named vectors into a matrix; integers among the names become text."""
    names, vectors = [], []
    for name, values in rows:
        if type(name) is not str and (type(name) is not int or abs(name) >> 64):
            raise SourceUnusable(f"{path} has a key of type {type(name).__name__} that is no name of a gene")
        names.append(str(name))
        vectors.append(_numbers(values, what=f"{path}: {names[-1][:40]!r}"))
        if len(vectors[-1]) != len(vectors[0]):
            raise SourceUnusable(
                f"{path}: {names[-1][:40]!r} has {len(values)} values, {names[0][:40]!r} has {len(vectors[0])}"
            )
    return GeneRows(columns={"name": names}, matrix=np.stack(vectors) if vectors else np.empty((0, 0)))


def _numbers(values: object, *, what: str) -> FloatArray:
    if not isinstance(values, list | tuple | np.ndarray):
        raise SourceUnusable(f"{what} is of type {type(values).__name__.strip('_')}, not a list of numbers")
    if not isinstance(values, np.ndarray) and not set(map(type, values)) <= {int, float}:
        raise SourceUnusable(f"{what} holds something that is no number")
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, dtype=np.float32)
    except OverflowError as error:
        raise SourceUnusable(f"{what} holds an integer that is too large") from error


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def _read_json(path: Path) -> Any:
    """Parse JSON; of an object the pairs are kept, so that a name that occurs twice is seen."""
    return json.loads(_read_text(path), object_pairs_hook=_Pairs)


class _Pairs(tuple[tuple[str, Any], ...]):
    """Pairs of a JSON object."""

    __slots__ = ()


def _read_word2vec(path: Path, _column: str | None) -> GeneRows:
    first, *lines = _read_text(path).split("\n")
    header = _COUNTS.fullmatch(first)
    if header is None:
        raise SourceUnusable(f"{path}: the first line must be two counts, rows and dims, it is {first[:40]!r}")
    promised = n_rows, dim = tuple(map(int, header.groups()))
    rows = [line.split(maxsplit=1) for line in lines if line.strip()]
    numbers = [text for _, text in rows]
    matrix = np.loadtxt(numbers, dtype=np.float32, comments=None, ndmin=2) if rows else np.empty((0, dim))
    if matrix.shape != promised:
        raise SourceUnusable(
            f"{path}: the first line promises {n_rows} rows of {dim} numbers, there are {matrix.shape}"
        )
    return GeneRows(columns={"name": [name for name, _ in rows]}, matrix=matrix)


def _read_genept(path: Path, _column: str | None) -> GeneRows:
    content = _read_json(path)
    if not isinstance(content, _Pairs):
        raise SourceUnusable(f"{path} holds a {type(content).__name__}, an object of name → numbers is needed")
    return _stack(content, path=path)


def _read_pickle(path: Path, _column: str | None) -> GeneRows:
    from genekb.encoders.imported.safe_pickle import read_pickled

    return _stack(read_pickled(path).items(), path=path)


def _read_parquet(path: Path, column: str | None) -> GeneRows:
    return _read_table(read_parquet_table(path), path=path, column=column)


def _read_csv(path: Path, column: str | None) -> GeneRows:
    return _read_table(_open_csv(path, column), path=path, column=column)


def _open_csv(path: Path, column: str | None = None) -> pa.Table:
    text = dict.fromkeys([*NAME_COLUMNS, *([] if column is None else [column])], pa.string())
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    return pacsv.read_csv(
        path,
        parse_options=pacsv.ParseOptions(delimiter=delimiter),
        convert_options=pacsv.ConvertOptions(column_types=text),
    )


def _read_table(table: pa.Table, *, path: Path, column: str | None) -> GeneRows:
    """Take names and vectors out of a table; a column of lists goes before numeric columns."""
    columns = _name_columns(table, path=path, column=column)
    rest = table.drop_columns([name for name in table.column_names if name in {*columns, *NAME_COLUMNS}])
    lists = [field.name for field in rest.schema if _is_list(field.type)]
    if len(lists) > 1:
        raise SourceUnusable(f"{path} has {len(lists)} columns of lists ({', '.join(lists[:3])}); one is needed")
    matrix = _list_matrix(rest[lists[0]], path=path) if lists else _column_matrix(rest, path=path)
    return GeneRows(columns=columns, matrix=matrix)


def _name_columns(table: pa.Table, *, path: Path, column: str | None = None) -> dict[str, list[str]]:
    """Columns of names, the one that is asked for first."""
    repeated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if repeated:
        raise SourceUnusable(f"{path}: the column {min(repeated)!r} occurs twice")
    found = dict.fromkeys(name for name in (column, *NAME_COLUMNS) if name is not None and name in table.column_names)
    if not found or (column is not None and column not in found):
        asked = " or ".join(map(repr, NAME_COLUMNS if column is None else [column]))
        raise SourceUnusable(f"{path} has no column {asked} of names; name it with `column`")
    return {name: table[name].cast(pa.string()).fill_null("").to_pylist() for name in found}


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
    columns = [values.cast(pa.float32(), safe=False).to_numpy() for values in table.itercolumns()]
    return np.column_stack(columns) if columns else np.empty((table.num_rows, 0))


def _read_numpy(path: Path, column: str | None) -> GeneRows:
    found = np.load(path, allow_pickle=False, mmap_mode="r")
    if isinstance(found, np.ndarray):
        return _of_arrays({"the matrix": found}, path=path, column=None)
    with found:
        n_bytes = sum(member.file_size for member in found.zip.infolist())
        allowed = max_decompressed(path.stat().st_size)
        if n_bytes > allowed:
            raise ValueError(f"it decompresses to {n_bytes:,} bytes, {allowed:,} are allowed for its size")
        return _of_arrays(dict(found), path=path, column=column)


def _read_safetensors(path: Path, column: str | None) -> GeneRows:
    with safe_open(path, framework="numpy") as tensors:
        is_export = "store_digest" in (tensors.metadata() or {})
        try:
            arrays = {key: tensors.get_tensor(key) for key in sorted(tensors.keys())}
        except TypeError as error:  # a type that NumPy does not have
            raise ValueError(str(error)) from error
    return replace(_of_arrays(arrays, path=path, column=column), are_gene_ids=is_export)


def _of_arrays(arrays: Mapping[str, np.ndarray], *, path: Path, column: str | None) -> GeneRows:
    """Find the matrix among arrays, and the lists of names that belong to it, as ``gene_ids`` and ``symbols``."""
    matrices = [key for key, array in arrays.items() if array.ndim == _MATRIX_AXES]
    if column is not None and column not in arrays:
        raise SourceUnusable(f"{path} holds no array {column!r}; it holds {', '.join(list(arrays)[:3])}")
    if column is None and len(matrices) > 1:
        raise SourceUnusable(
            f"{path} holds {len(matrices)} matrices ({', '.join(matrices[:3])}); name one with `column`"
        )
    matrix = arrays.get(column or next(iter([*matrices, *arrays]), ""), np.empty(0))
    if matrix.ndim != _MATRIX_AXES or matrix.dtype.kind not in _NUMERIC:
        raise SourceUnusable(f"{path} holds {matrix.dtype} of shape {matrix.shape}, numbers (gene, dim) are needed")
    named = {name: arrays.get(f"{name}s", arrays.get(name)) for name in NAME_COLUMNS}
    columns = {name: array.astype(str).tolist() for name, array in named.items() if array is not None}
    if any(np.shape(each) != matrix.shape[:1] for each in columns.values()):
        raise SourceUnusable(f"{path}: its names are not one for each of {len(matrix)} rows")
    return GeneRows(columns=columns, matrix=matrix)


def read_names(path: Path) -> dict[str, list[str]]:
    """Columns of names: of a table as it has them, of any other file one."""
    if not path.is_file():
        raise SourceUnusable(f"{path} does not exist; give a file with one name a row")
    with _reading(path, "names"):
        if path.suffix.lower() == ".json":
            return {"name": _names_of_json(path)}
        lines = [line.rstrip("\r") for line in _read_text(path).rstrip("\n").split("\n")]
        if path.suffix.lower() in {".csv", ".tsv"} and set(re.split("[,\t]", lines[0])) & set(NAME_COLUMNS):
            return _name_columns(_open_csv(path), path=path)
    return {"name": lines}


def _names_of_json(path: Path) -> list[str]:
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


_READERS: Final[Mapping[str, tuple[str, Callable[[Path, str | None], GeneRows]]]] = {
    **dict.fromkeys((".emb", ".vec", ".w2v", ".txt"), ("word2vec", _read_word2vec)),
    ".npy": ("npy", _read_numpy),
    ".npz": ("npz", _read_numpy),
    ".parquet": ("parquet", _read_parquet),
    ".csv": ("csv", _read_csv),
    ".tsv": ("tsv", _read_csv),
    ".json": ("json", _read_genept),
    ".safetensors": ("safetensors", _read_safetensors),
    ".pkl": ("pickle", _read_pickle),
    ".pickle": ("pickle", _read_pickle),
}
