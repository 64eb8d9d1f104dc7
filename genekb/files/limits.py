"""How much a file may unfold to: looked at before it is read, so that a few kilobytes cannot fill the memory.

The limits are ratios of what lies in memory to what lies on disk, with room for small files. Of the real stores (human
and mouse, NCBI 2022-11) the tables unfold to 3 to 5 times their size, vectors to 1.2, NCBI's gzipped files to 5 to 13;
the ratios allowed are far above, and DEFLATE itself ends at 1,032.
"""

import gzip
import json
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genekb.files.parquet_pages import Encoding, Page, walk_pages

MAX_EXPANSION: Final = 200  # bytes in memory for each byte on disk
FREE_BYTES: Final = 1 << 26  # 64 MB: what any file may unfold to
MAX_PAGE_BYTES: Final = 1 << 28  # of one page of Parquet, decompressed
MAX_JSON_BYTES: Final = 1 << 26
SHORT_DICTIONARY: Final = 1 << 17  # bytes: no value of it can be longer
_BLOCK_BYTES: Final = 1 << 20
_ROWS_A_BATCH: Final = 1 << 13
_WIDTHS: Final = {"INT64": 8, "DOUBLE": 8}  # of a value in memory; of a string its place, of the rest 4 bytes at most


def may_unfold_to(n_bytes: int) -> int:
    """Bytes that a file of ``n_bytes`` may take up in memory."""
    return FREE_BYTES + MAX_EXPANSION * n_bytes


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file of bounded size.

    Raises ``ValueError`` if it is too large, nested too deeply, not UTF-8 or no JSON.
    """
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
    """Unfold a file once, keeping nothing, if it is named ``.gz``.

    Raises ``ValueError`` if it unfolds beyond the limits; ``OSError``, ``EOFError``, ``zlib.error`` if it is damaged.
    """
    if path.suffix != ".gz":
        return
    allowed, n_bytes = may_unfold_to(path.stat().st_size), 0
    with gzip.open(path, "rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            n_bytes += len(block)
            _refuse_above(allowed, n_bytes)


def check_rows(path: Path, *, n_rows: int) -> None:
    """Compare the number of rows that the footer of a Parquet file declares with the one that is promised.

    Raises ``ValueError`` if it is another, or there is no footer.
    """
    with pq.ParquetFile(path) as file:
        found = file.metadata.num_rows
    if found != n_rows:
        raise ValueError(f"it has {found:,} rows, the manifest says {n_rows:,}")


def check_pages(path: Path) -> None:
    """Compare the page headers of a Parquet file with what it may unfold to; no page is decompressed.

    Raises ``ValueError`` if a page or the whole unfolds beyond the limits, or is damaged.
    """
    with pq.ParquetFile(path) as file:
        _check_pages(path, file.metadata)


def _check_pages(path: Path, footer: pq.FileMetaData) -> frozenset[str]:
    """Check every page; give the columns of strings whose dictionary may hold a value above `SHORT_DICTIONARY`."""
    if not footer.num_row_groups:
        return frozenset()
    allowed = may_unfold_to(path.stat().st_size)
    unfolded, long_dictionaries = 0, set()
    with _mapped(path) as content:
        for chunk in _chunks(footer):
            pages = _checked_pages(content, chunk)
            width = _WIDTHS.get(chunk.physical_type, 4)
            unfolded += sum(max(page.n_bytes, page.n_values * width) for page in pages)
            is_long = any(page.is_dictionary and page.n_bytes > SHORT_DICTIONARY for page in pages)
            if is_long and chunk.physical_type == "BYTE_ARRAY":
                long_dictionaries.add(chunk.path_in_schema)
    if unfolded > allowed:
        raise ValueError(f"it unfolds to {unfolded:,} bytes, {allowed:,} are allowed for its size")
    return frozenset(long_dictionaries)


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        content = memoryview(mapped)
        try:
            yield content
        finally:
            content.release()


def _checked_pages(content: memoryview, chunk: pq.ColumnChunkMetaData) -> tuple[Page, ...]:
    """Pages of a column chunk, each within the limits; all of them are here, so that a reader looks for no others."""
    column = chunk.path_in_schema
    starts = (chunk.data_page_offset, chunk.dictionary_page_offset)
    pages = tuple(walk_pages(content, start=min(filter(None, starts)), n_bytes=chunk.total_compressed_size))
    for page in pages:
        if page.n_bytes > MAX_PAGE_BYTES:
            raise ValueError(f"a page of {column} has {page.n_bytes:,} bytes, {MAX_PAGE_BYTES:,} are allowed")
        if page.encoding not in set(Encoding):
            raise ValueError(f"a page of {column} has encoding {page.encoding}, which a store does not use")
    n_values = sum(page.n_values for page in pages if not page.is_dictionary)
    if n_values != chunk.num_values:
        raise ValueError(f"the pages of {column} hold {n_values:,} values, {chunk.num_values:,} are declared")
    return pages


def _chunks(footer: pq.FileMetaData) -> Iterator[pq.ColumnChunkMetaData]:
    for group in map(footer.row_group, range(footer.num_row_groups)):
        if group.num_rows:  # of an empty group, no page is ever read
            yield from map(group.column, range(group.num_columns))


def read_parquet(path: Path, *, columns: Sequence[str]) -> pa.Table:
    """Read columns of a file, and stop where they unfold beyond the limits.

    A long value that a dictionary holds once may stand in any number of rows. The columns where that is possible are
    first read as numbers of their dictionary's values, and their lengths added up.

    Raises ``ValueError`` if the file unfolds beyond the limits, or is damaged.
    """
    allowed = may_unfold_to(path.stat().st_size)
    n_rows = min(max(allowed // SHORT_DICTIONARY, 1), _ROWS_A_BATCH)  # so that one batch unfolds little past the limit
    batches, n_bytes = [], 0
    with pq.ParquetFile(path, memory_map=True) as file:
        for column in sorted(_check_pages(path, file.metadata)):
            if column.partition(".")[0] in columns:
                _refuse_above(allowed, _unfolded(path, column))
        for batch in file.iter_batches(batch_size=n_rows, columns=list(columns)):
            n_bytes += batch.nbytes
            _refuse_above(allowed, n_bytes)
            batches.append(batch)
        schema = pa.schema([file.schema_arrow.field(name) for name in columns])
        return pa.Table.from_batches(batches).select(list(columns)) if batches else schema.empty_table()


def _refuse_above(allowed: int, n_bytes: int) -> None:
    if n_bytes > allowed:
        raise ValueError(f"it unfolds to more than {allowed:,} bytes, which are allowed for its size")


def _unfolded(path: Path, column: str) -> int:
    """Bytes of a column's values, each counted as often as it stands in a row."""
    n_bytes = 0
    with pq.ParquetFile(path, memory_map=True, read_dictionary=[column]) as file:
        for batch in file.iter_batches(batch_size=1 << 16, columns=[column]):
            values = batch.column(0)
            values = values.flatten() if pa.types.is_list(values.type) else values
            lengths = pc.binary_length(values.dictionary).take(values.indices)
            n_bytes += pc.sum(lengths.cast(pa.int64())).as_py() or 0
    return n_bytes
