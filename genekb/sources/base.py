"""What every source returns (gene records, names, orthologues, files read), and the parts that readers share."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genekb import schema
from genekb.files.atomic import sha256_file
from genekb.files.limits import bounded, check_footer

_ROWS_A_BATCH: Final = 512
LICENCE: Final = "NCBI Gene: public domain (US government work)"
GO_LICENCE: Final = "Gene Ontology: CC BY 4.0"
PROVENANCE_NOTE: Final = r"\s*\[(?:provided|supplied) by [^\]]*\]\.?\s*$"  # who wrote a summary, and when


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
    """Record a file that was read."""
    return SourceFile(
        name=path.name,
        n_bytes=path.stat().st_size,
        sha256=sha256_file(path),
        n_rows_read=n_rows_read,
        n_rows_kept=n_rows_kept,
    )


def without_provenance(summary: str) -> str:
    """Remove the note of who wrote a summary, and when, from its end."""
    return re.sub(PROVENANCE_NOTE, "", summary).strip()


def read_parquet_table(path: Path) -> pa.Table:
    """Read a Parquet file of a user within :mod:`genekb.files.limits`; dictionaries come as their values.

    Raises ``ValueError``, ``OSError``, ``pyarrow.ArrowException`` if it is too large or damaged.
    """
    check_footer(path)
    with pq.ParquetFile(path) as file:
        batches = list(bounded(path, map(_decoded, file.iter_batches(batch_size=_ROWS_A_BATCH))))
        table = pa.Table.from_batches(batches) if batches else file.schema_arrow.empty_table()
    table.validate(full=True)  # invalid UTF-8 is not seen on reading
    return table


def _decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Replace dictionaries by their values before the batch is measured: they are small, what they hold is not."""
    columns = [one.dictionary_decode() if pa.types.is_dictionary(one.type) else one for one in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def explode(keys: pa.ChunkedArray, joined: pa.ChunkedArray, kind: str) -> pa.Table:
    """Split names that are joined by ``|``, one text a gene, into rows of :data:`genekb.schema.NAMES`."""
    table = pa.table({"gene_id": keys, "name": pc.split_pattern(joined, "|")}).combine_chunks()
    if table.num_rows == 0:
        return schema.NAMES.empty_table()
    column = table["name"].chunk(0)
    return name_rows(pc.list_flatten(column), table["gene_id"].take(pc.list_parent_indices(column)), kind)


def name_rows(names: pa.ChunkedArray | pa.Array, gene_ids: pa.ChunkedArray, kind: str) -> pa.Table:
    """Rows of :data:`genekb.schema.NAMES`, each once, without empty names."""
    table = pa.table({"name": names, "gene_id": gene_ids.cast(pa.int64()), "kind": pa.repeat(kind, len(names))})
    table = table.filter(pc.and_(pc.is_valid(table["name"]), pc.not_equal(table["name"], "")))
    return table.group_by(schema.NAMES.names, use_threads=False).aggregate([]).cast(schema.NAMES)


def sorted_names(tables: Iterable[pa.Table]) -> pa.Table:
    """Join tables of names, each name once, ordered by name, gene and kind."""
    names = pa.concat_tables([table.cast(schema.NAMES) for table in tables])
    names = names.group_by(schema.NAMES.names, use_threads=False).aggregate([]).cast(schema.NAMES)
    return names.sort_by([(column, "ascending") for column in schema.NAMES.names])


def names_by_kind(genes: Iterable[tuple[int, Mapping[str, Iterable[str]]]]) -> set[tuple[str, int, str]]:
    """Rows (name, gene_id, kind) of genes whose names are listed by kind, without empty names."""
    return {
        (name, gene_id, kind) for gene_id, kinds in genes for kind, names in kinds.items() for name in names if name
    }


def names_table(rows: Iterable[tuple[str, int, str]]) -> pa.Table:
    """Sort rows (name, gene_id, kind) into the table :data:`genekb.schema.NAMES`."""
    columns = list(zip(*sorted(rows), strict=True)) or [(), (), ()]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema.NAMES, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema.NAMES)
