"""Files of a store, each written whole or not at all; and the commit that makes a store visible with one rename."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genekb import schema
from genekb.errors import NotAvailable, StoreBusy
from genekb.sources.tables import sha256_file
from genekb.store.home import CURRENT
from genekb.store.manifest import MANIFEST, Manifest, StoredFile
from genekb.types import FloatArray, IntArray

TEMPORARY: Final = ".part"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; it takes its place, synced to disk, when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + TEMPORARY)
    try:
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder without permission into one clear error; finished parts stay for the next try."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise NotAvailable(
            f"cannot write to {folder}: {reason}; free space or choose another --home, then run the same command again"
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the write lock of a store name; readers need none.

    Raises
    ------
    StoreBusy
        If another process holds it.
    """
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", blocking=False):
            yield
    except filelock.Timeout as error:
        raise StoreBusy(f"another process is writing {folder.name}; wait for it, or use another --name") from error


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table of strings and numbers as Parquet."""
    with atomic_file(path) as part:
        pq.write_table(table, part, compression="zstd", row_group_size=1 << 16)


def write_text(text: str, path: Path) -> None:
    """Write a text file."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_vectors(
    text_ids: list[str], vectors: FloatArray, tokens: tuple[IntArray, IntArray], *, path: Path, dtype: str
) -> None:
    """Write one shard of vectors, without a dictionary.

    float16 is stored plain: DuckDB reads that and refuses float16 in byte-stream split, which would save a tenth.

    Parameters
    ----------
    text_ids
        Keys, ascending.
    vectors
        (text, dim), in the order of the keys.
    tokens
        Number of tokens of each text, and how many of them were cut.
    """
    table_schema = schema.embeddings(vectors.shape[1], dtype)
    flat = pa.array(vectors.astype(np.dtype(dtype)).ravel())
    columns = [
        pa.array(text_ids, pa.string()),
        pa.array(tokens[0], pa.int32()),
        pa.array(tokens[1], pa.int32()),
        pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    ]
    columns[3] = columns[3].cast(table_schema.field("vector").type)
    with atomic_file(path) as part:
        pq.write_table(
            pa.Table.from_arrays(columns, schema=table_schema),
            part,
            compression="zstd",
            use_dictionary=False,
            use_byte_stream_split=["vector.list.element"] if dtype == "float32" else False,
        )


def describe_stored(folder: Path) -> tuple[StoredFile, ...]:
    """List every file below a folder as the manifest records it, the manifest and unfinished parts left out."""
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST and not path.name.endswith(TEMPORARY):
            n_rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else 0
            relative = path.relative_to(folder).as_posix()
            digest = sha256_file(path)
            files.append(StoredFile(path=relative, n_bytes=path.stat().st_size, n_rows=n_rows, sha256=digest))
    return tuple(files)


def commit(staging: Path, manifest: Manifest) -> Path:
    """Make a finished staging folder the current store of its name.

    The manifest is written last; one rename makes the store visible under its digest, one more moves the name to it.

    Returns
    -------
    The store's folder.
    """
    write_text(manifest.to_json(), staging / MANIFEST)
    target = staging.parent / manifest.digest
    if (target / MANIFEST).is_file():
        shutil.rmtree(staging)
    else:
        staging.rename(target)
    write_text(manifest.digest + "\n", target.parent / CURRENT)
    return target


def write_json(content: Any, path: Path) -> None:
    """Write a value as indented JSON."""
    write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", path)
