"""What every source hands on: gene records, their names, their orthologues, and where each row came from."""

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from genekb import schema
from genekb.files.atomic import sha256_file
from genekb.files.limits import read_parquet


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One file that was read, as it is recorded in the manifest."""

    name: str
    n_bytes: int
    sha256: str
    n_rows_read: int
    n_rows_kept: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceTables:
    """Gene records of one or more species, ready to be written."""

    genes: pa.Table  # genes, names, orthologs, annotations: tables in the schemas of :mod:`genekb.schema`
    names: pa.Table
    orthologs: pa.Table = field(default_factory=schema.ORTHOLOGS.empty_table)
    annotations: pa.Table = field(default_factory=schema.ANNOTATIONS.empty_table)
    files: tuple[SourceFile, ...]  # what was read
    release: str  # release of the source, e.g. ``2022-11``
    licence: str  # terms of the source, as its publisher states them
    dropped: dict[str, int]  # rows that were left out, counted by reason


def describe_file(path: Path, *, n_rows_read: int, n_rows_kept: int) -> SourceFile:
    """Record a file that has been read."""
    return SourceFile(
        name=path.name,
        n_bytes=path.stat().st_size,
        sha256=sha256_file(path),
        n_rows_read=n_rows_read,
        n_rows_kept=n_rows_kept,
    )


def read_parquet_table(path: Path) -> pa.Table:
    """Read a Parquet file of a user, and stop where it decompresses beyond :mod:`genekb.files.limits`.

    Columns that are stored as numbers of a dictionary's values come as these values.

    Raises ``ValueError``, ``OSError``, ``pyarrow.ArrowException`` if it does, or is damaged.
    """
    table = read_parquet(path)
    for index, (name, kind) in enumerate(zip(table.schema.names, table.schema.types, strict=True)):
        if pa.types.is_dictionary(kind):
            table = table.set_column(index, name, table.column(index).cast(kind.value_type))
    table.validate(full=True)  # a text that is no UTF-8 is not seen when it is read
    return table


def explode(keys: pa.ChunkedArray, lists: pa.ChunkedArray, kind: str) -> pa.Table:
    """Turn one list of names per gene into rows of :data:`genekb.schema.NAMES`, without empty names and repeats."""
    import pyarrow.compute as pc

    table = pa.table({"gene_id": keys, "name": lists}).combine_chunks()
    if table.num_rows == 0:
        return schema.NAMES.empty_table()
    column = table["name"].chunk(0)
    rows = pc.list_parent_indices(column)
    flat = pa.table({"name": pc.list_flatten(column), "gene_id": table["gene_id"].take(rows)})
    flat = flat.filter(pc.and_(pc.is_valid(flat["name"]), pc.not_equal(flat["name"], "")))
    flat = flat.append_column("kind", pa.repeat(kind, flat.num_rows))
    return flat.group_by(["name", "gene_id", "kind"], use_threads=False).aggregate([]).cast(schema.NAMES)
