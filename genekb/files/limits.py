"""How much a file may decompress to, so that a few kilobytes do not fill the memory.

The limit is a ratio of bytes in memory to bytes on disk, with room for small files. The tables of real stores (human
and mouse, NCBI 2022-11) decompress to 3 to 5 times their size, vectors to 1.2, NCBI's gzipped files to 5 to 13; DEFLATE
ends at 1,032. What is within the ratio, or not seen before it is read, ends at the limit of the process
(:func:`genekb.core.resources.limit_memory`).
"""

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from genekb.core.resources import release_unused

MAX_EXPANSION: Final = 200  # bytes in memory for each byte on disk
FREE_BYTES: Final = 1 << 26  # 64 MB: what any file may decompress to
MAX_JSON_BYTES: Final = 1 << 26
_BLOCK_BYTES: Final = 1 << 20
_ROWS_A_BATCH: Final = 1 << 16
_BYTES_A_ROW: Final = 1 << 13  # above which few rows are read at a time


def max_decompressed(n_bytes: int) -> int:
    """Bytes that a file of ``n_bytes`` may take up in memory."""
    return FREE_BYTES + MAX_EXPANSION * n_bytes


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file of bounded size; ``ValueError`` if it is too large, nested too deeply, not UTF-8 or no JSON."""
    n_bytes = path.stat().st_size
    if n_bytes > max_bytes:
        raise ValueError(f"{n_bytes:,} bytes, {max_bytes:,} are allowed")
    return parse_json(path.read_bytes())


def parse_json(content: bytes) -> Any:
    """Read JSON in UTF-8; ValueError if it is nested too deeply, not UTF-8 or no JSON."""
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def check_gzip(path: Path) -> None:
    """Decompress a file once, keeping nothing, if it is named ``.gz``; ``ValueError`` if that is beyond the limits."""
    if path.suffix != ".gz":
        return
    allowed, n_bytes = max_decompressed(path.stat().st_size), 0
    with gzip.open(path, "rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            n_bytes += len(block)
            _refuse_above(allowed, n_bytes)


def check_footer(path: Path, *, n_rows: int | None = None) -> None:
    """Compare what a Parquet file's footer declares with the limits, and ``n_rows``; else ``ValueError``."""
    footer = pq.read_metadata(path)
    if n_rows not in {None, footer.num_rows}:
        raise ValueError(f"it has {footer.num_rows:,} rows, the manifest says {n_rows:,}")
    groups = map(footer.row_group, range(footer.num_row_groups))
    _refuse_above(max_decompressed(path.stat().st_size), sum(group.total_byte_size for group in groups))


def read_parquet(path: Path, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read columns of a file, all if None; ``ValueError`` where they decompress beyond the limits."""
    check_footer(path)
    release_unused()  # what Arrow keeps of work before, and of decoding, is as much as a table
    with pq.ParquetFile(path, memory_map=True) as file:
        names = file.schema_arrow.names if columns is None else list(columns)
        n_rows = min(max_decompressed(path.stat().st_size) // _BYTES_A_ROW, _ROWS_A_BATCH)
        batches = list(bounded(path, file.iter_batches(batch_size=max(n_rows, 1), columns=names)))
        schema = pa.schema([file.schema_arrow.field(name) for name in names])
    release_unused()
    return pa.Table.from_batches(batches, None if batches else schema).select(names)


def bounded(path: Path, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Pass on the batches of a file; ``ValueError`` where they decompress beyond what its size allows."""
    allowed, n_bytes = max_decompressed(path.stat().st_size), 0
    for batch in batches:
        n_bytes += batch.nbytes
        _refuse_above(allowed, n_bytes)
        yield batch


def _refuse_above(allowed: int, n_bytes: int) -> None:
    if n_bytes > allowed:
        raise ValueError(f"it decompresses to more than {allowed:,} bytes, which are allowed for its size")
