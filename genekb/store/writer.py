"""Atomic writing of a store's files, and the commit that makes a store visible with one rename."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genekb import schema
from genekb.core.errors import NotAvailable, StoreBusy
from genekb.core.resources import release_unused
from genekb.files.atomic import TEMPORARY, atomic_file, sha256_file, sync, write_text
from genekb.schema import FloatArray, IntArray
from genekb.store.home import CURRENT
from genekb.store.manifest import MANIFEST, Manifest, StoredFile

_DICTIONARY_BYTES: Final = 1 << 16  # of a page of repeated texts, at most
_VOCABULARY_BYTES: Final = 1 << 22  # of the dictionary of words, all of which are repeated
_DISTINCT: Final = ("summary", "ortholog_summary", "text", "text_id", "sentence")  # seldom twice the same


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Report a full disk or a folder without permission in one line; finished parts stay for the next try."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise NotAvailable(
            f"cannot write to {folder}: {reason}; free space or choose another `home`, then run the same command again"
        ) from error


@contextmanager
def locked(folder: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the write lock of a store name; raises ``StoreBusy`` if another process holds it for over ``wait_s``."""
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=wait_s):
            yield
    except filelock.Timeout as error:
        raise StoreBusy(f"another process is writing {folder.name}; wait for it, or use another `name`") from error


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table of strings and numbers as Parquet, the same bytes for the same rows; dictionaries are short."""
    repeated = [_path(field) for field in table.schema if field.name not in _DISTINCT]
    with atomic_file(path) as part:
        pq.write_table(
            table.combine_chunks(),
            part,
            compression="zstd",
            row_group_size=1 << 16,
            use_dictionary=repeated,
            dictionary_pagesize_limit=_VOCABULARY_BYTES if "word" in table.column_names else _DICTIONARY_BYTES,
        )
    release_unused()


def _path(field: pa.Field) -> str:
    """Name of a column's values in Parquet."""
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)


def write_vectors(columns: Mapping[str, list[str] | IntArray], vectors: FloatArray, *, path: Path, dtype: str) -> None:
    """Write one shard of vectors (key, dim); ``columns``: the others of the schema, keys ascending."""
    key: Literal["text_id", "gene_id"] = "text_id" if "text_id" in columns else "gene_id"
    table_schema = schema.embeddings(vectors.shape[1], dtype, key=key)
    vector = schema.vector_column(vectors.astype(np.dtype(dtype))).cast(table_schema.field("vector").type)
    with atomic_file(path) as part:
        pq.write_table(
            pa.table({**columns, "vector": vector}, schema=table_schema),
            part,
            compression="zstd",
            use_dictionary=False,
            # DuckDB refuses float16 in byte-stream split, which would save a tenth
            use_byte_stream_split=["vector.list.element"] if dtype == "float32" else False,
        )


def describe_stored(folder: Path) -> tuple[StoredFile, ...]:
    """List every file below a folder as the manifest records it, without manifest and unfinished parts."""
    return tuple(
        describe_file(path, folder=folder)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST and not path.name.endswith(TEMPORARY)
    )


def describe_file(path: Path, *, folder: Path) -> StoredFile:
    """Describe one file below a folder as the manifest records it."""
    n_rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else 0
    relative = path.relative_to(folder).as_posix()
    return StoredFile(path=relative, n_bytes=path.stat().st_size, n_rows=n_rows, sha256=sha256_file(path))


def commit(staging: Path, manifest: Manifest) -> Path:
    """Write the manifest and make a staging folder the current store of its name; returns the store's folder."""
    write_text(manifest.to_json(), staging / MANIFEST)
    return make_current(staging, manifest.digest)


def make_current(staging: Path, digest: str) -> Path:
    """Rename a staging folder that holds its manifest to its digest, and point the name to that digest."""
    target = staging.parent / digest
    if (target / MANIFEST).is_file():
        shutil.rmtree(staging)
    else:
        for path in staging.rglob("*"):  # what was copied, or saved by an encoder, is on disk before it is visible
            sync(path)
        staging.rename(target)
        sync(target.parent)
    write_text(digest + "\n", target.parent / CURRENT)
    return target
