"""SQL over a store, read-only: one SELECT at a time, and the database sees the store's Parquet files and nothing else.

DuckDB's own locks are not enough: it may write to a folder that it may read, and a COPY inside WITH counts as a
SELECT. So it reaches no file of the machine; the tables come through a read-only file system of ours.
"""

import os
import re
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from genekb.core.errors import SourceUnusable, StoreCorrupt
from genekb.core.resources import raise_resource_fault
from genekb.schema import TABLES
from genekb.store.files import files_here
from genekb.store.manifest import Manifest

MEMORY: Final = "4GB"  # tables, joins and sorts of one query; nothing is spilled to disk
MAX_THREADS: Final = 8
MAX_RESULT_BYTES: Final = 2 << 30  # of a result in Arrow's memory
_SCHEME: Final = "store://"
_EXPLAIN: Final = re.compile(r"\s*explain\s+(analyze\s+)?(\(\s*(analyze|format)\b[\w\s,]*\)\s*)?", re.IGNORECASE)
_DATED: Final = re.compile(r"\b(DATE|TIMESTAMP\w*)\b")  # also inside a list or a struct
_ANSWERS: Final = "a store answers one SELECT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN"
_CONFIG: Final[dict[str, str | int | float | list[str]]] = {
    "memory_limit": MEMORY,
    "temp_directory": "",
    "python_enable_replacements": False,  # else a name in a query may mean a variable of the program
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
}


class _StoreFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The Parquet files of a store as ``store://PATH``, read-only."""

    protocol = "store"
    cachable = False

    def __init__(self, folder: Path, paths: frozenset[str]) -> None:
        super().__init__()
        self._folder = folder
        self._paths = paths

    def _path(self, path: str) -> Path:
        name = path.removeprefix(_SCHEME)
        if name not in self._paths:
            raise FileNotFoundError(f"{name} is no table of this store")
        return self._folder / name

    def _open(self, path: str, mode: str = "rb", **_: Any) -> pa.NativeFile:
        if mode != "rb":
            raise PermissionError(f"{path} cannot be written: {_ANSWERS}")
        return pa.OSFile(str(self._path(path)), "rb")  # DuckDB drops files without closing them

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Size of a file."""
        return {"name": path, "size": self._path(path).stat().st_size, "type": "file"}

    def modified(self, path: str) -> datetime:
        """When a file was written."""
        return datetime.fromtimestamp(self._path(path).stat().st_mtime, UTC)


def open_database(folder: Path, manifest: Manifest, *, owner: object) -> duckdb.DuckDBPyConnection:
    """Open a database in memory with a view of every table of a checked store; it is closed when its owner is gone."""
    paths = [file.path for file in files_here(folder, manifest) if file.path.endswith(".parquet")]
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    database = duckdb.connect(":memory:", config={**_CONFIG, "threads": threads})
    weakref.finalize(owner, database.close)
    database.register_filesystem(_StoreFiles(folder, frozenset(paths)))
    try:
        for name in TABLES:
            if f"{name}.parquet" in paths:
                database.execute(f"create view {name} as from read_parquet({_literal(f'{_SCHEME}{name}.parquet')})")
        views = [_add_vectors(database, key, paths=paths, manifest=manifest) for key in manifest.encoders]
        if any(views):
            database.execute(f"create view vectors as {' union all '.join(filter(None, views))}")
    except duckdb.Error as error:
        raise_resource_fault(error)
        raise StoreCorrupt(f"{folder} is damaged ({_reason(error)}); build or pull the store again") from error
    database.execute(f"set allowed_paths = [{', '.join(_literal(_SCHEME + path) for path in paths)}]")
    database.execute("set enable_external_access = false")
    database.execute("set lock_configuration = true")
    return database


def _add_vectors(database: duckdb.DuckDBPyConnection, encoder_id: str, *, paths: list[str], manifest: Manifest) -> str:
    """Add the view of an encoder by its short name, or its id; give what selects its vectors with their genes."""
    parts = [path for path in paths if path.startswith(f"embeddings/{encoder_id}/part-")]
    if not parts:
        return ""
    names = [str(entry["recipe"]["name"]) for entry in manifest.encoders.values()]
    name = str(manifest.recipe(encoder_id)["name"])
    name = name if names.count(name) == 1 else encoder_id
    view = _identifier(f"vectors_{name}".replace('"', ""))
    files = ", ".join(_literal(_SCHEME + path) for path in parts)
    dim = int(manifest.recipe(encoder_id)["dim"])
    database.execute(
        f"create view {view} as select * replace (vector::float[{dim}] as vector) from read_parquet([{files}])"
    )
    texts = " join texts using (text_id)" if "text_id" in database.sql(f"from {view}").columns else ""
    return (
        f"select gene_id, symbol, {_literal(name)} as encoder, vector::float[] as vector "
        f"from {view}{texts} join genes using (gene_id)"
    )


def run_query(database: duckdb.DuckDBPyConnection, query: str, *, dates_as_text: bool = False) -> pa.Table:
    """Run one statement that reads; Ctrl-C stops it. Python has no dates BC or beyond 9999: ``dates_as_text``."""
    # DuckDB handles signals only after a result: it runs in a thread, so that this one gets Ctrl-C.
    with database.cursor() as connection, ThreadPoolExecutor(1) as worker:
        future = worker.submit(_run, connection, query, dates_as_text=dates_as_text)
        try:
            return future.result()
        except KeyboardInterrupt:
            connection.interrupt()
            raise
        except (duckdb.Error, RuntimeError) as error:
            raise_resource_fault(error)
            tables = ""
            if isinstance(error, duckdb.CatalogException):
                found = database.execute("select view_name from duckdb_views() where not internal").fetchall()
                tables = f"; there are {', '.join(sorted(name for (name,) in found))}"
            raise SourceUnusable(f"the query failed: {_reason(error).rstrip('!')}{tables}") from error


def _run(connection: duckdb.DuckDBPyConnection, query: str, *, dates_as_text: bool) -> pa.Table:
    relation = connection.sql(_checked_statement(connection, query))
    if relation is None:
        raise SourceUnusable(f"the query failed: it gives no table; {_ANSWERS}")
    if dates_as_text:
        relation = _with_dates_as_text(relation)
    reader = relation.to_arrow_reader()
    return pa.Table.from_batches(_bounded(reader), schema=reader.schema)


def _with_dates_as_text(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    dated = [_DATED.search(str(kind)) is not None for kind in relation.types]
    if not any(dated):
        return relation
    columns = zip(relation.columns, dated, strict=True)
    return relation.project(
        ", ".join(
            f"{f'#{number}::varchar' if is_dated else f'#{number}'} as {_identifier(name)}"
            for number, (name, is_dated) in enumerate(columns, start=1)
        )
    )


def _bounded(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    n_bytes = 0
    for batch in batches:
        n_bytes += batch.nbytes
        if n_bytes > MAX_RESULT_BYTES:
            raise SourceUnusable(
                f"the query failed: it gives more than {MAX_RESULT_BYTES >> 20:,} MB; add `limit`, or name columns"
            )
        yield batch


def _checked_statement(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    """Parse a query, which must be one statement that reads."""
    if "\0" in query or not query.encode(errors="ignore").decode() == query:  # half a surrogate pair
        raise SourceUnusable("the query failed: it holds characters that are no text")
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise SourceUnusable(f"the query failed: it holds {len(statements)} statements; {_ANSWERS}")
    kind = _kind(statements[0])
    if kind == "EXPLAIN":
        explained = connection.extract_statements(_EXPLAIN.sub("", query, count=1))
        kind = _kind(explained[0]) if len(explained) == 1 else kind
    if kind != "SELECT":
        raise SourceUnusable(f"the query failed: {kind} is refused; {_ANSWERS}")
    return statements[0]


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:  # a kind that DuckDB's Python package has no name for
        return "this statement"


def _reason(error: Exception) -> str:
    """First line of DuckDB's message; the last one of a traceback of our file system."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if "Traceback" in lines[0] else lines[0]) if lines else type(error).__name__


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
