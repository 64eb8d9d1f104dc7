"""Compare the files of a store with its manifest before they are used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from genekb.core.errors import StoreCorrupt
from genekb.core.resources import raise_resource_fault
from genekb.files.atomic import sha256_file
from genekb.files.limits import check_footer, read_parquet
from genekb.store.manifest import Manifest, StoredFile
from genekb.store.notes import files_here


def file_fault(path: Path, file: StoredFile, *, only_size: bool = False) -> str:
    """Describe how a file differs from its entry in the manifest; empty if it does not."""
    if not path.is_file() or path.stat().st_size != file.n_bytes:
        return f"is missing or not {file.n_bytes} bytes long"
    if not only_size and sha256_file(path) != file.sha256:
        return "has other bytes than its manifest says"
    return ""


def check_files(folder: Path, manifest: Manifest, *, prefix: str = "") -> None:
    """Raise ``StoreCorrupt`` if a file whose path starts with ``prefix`` is missing or differs from the manifest."""
    for file in files_here(folder, manifest):
        if not file.path.startswith(prefix):
            continue
        path = folder / file.path
        fault = file_fault(path, file)
        if fault:
            raise StoreCorrupt(f"{path} {fault}; build or pull the store again")
        if path.suffix == ".parquet":
            with _refused(path):
                check_footer(path, n_rows=file.n_rows)


def check_tables(folder: Path, manifest: Manifest) -> None:
    """Raise ``StoreCorrupt`` if a table decompresses beyond :mod:`genekb.files.limits`, which DuckDB does not check."""
    for path in (folder / file.path for file in files_here(folder, manifest) if file.path.endswith(".parquet")):
        with _refused(path):
            check_footer(path)


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Report in one line what is wrong with a file of a store."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise_resource_fault(error)
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise StoreCorrupt(f"{path} is damaged ({reason}); build or pull the store again") from error


def read_columns(path: Path, schema: pa.Schema) -> pa.Table:
    """Read the columns of a schema from a Parquet file of a store, within :mod:`genekb.files.limits`.

    Raises ``StoreCorrupt`` if the file cannot be read, or a column is missing, of another type or has gaps.
    """
    with _refused(path):
        found = pq.read_schema(path)
        for field in schema:
            kind = found.field(field.name).type if found.names.count(field.name) == 1 else None
            if kind != field.type:
                what = (
                    f"its column {field.name!r} is {kind}" if kind else f"it has no column {field.name!r}, or several"
                )
                raise StoreCorrupt(f"{path} is no file of this schema: {what}; build or pull the store again")
        table = read_parquet(path, columns=schema.names)
        table.validate(full=True)
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise StoreCorrupt(f"{path}: its column {field.name!r} has gaps; build or pull the store again")
    return table
