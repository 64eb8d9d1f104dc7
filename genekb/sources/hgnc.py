"""HGNC's complete set: previous symbols, aliases, Ensembl ids and gene groups of human genes."""

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from genekb import schema
from genekb.errors import SourceUnusable
from genekb.sources.ncbi_extra import Extra, annotation_rows
from genekb.sources.tables import describe_file, explode
from genekb.sources.tsv import optional_file, read_header, stream_tsv

STEMS: Final = ("hgnc_complete_set.txt", "hgnc_complete_set.tsv")
LICENCE: Final = "HGNC: CC0"
NEEDED: Final = ("hgnc_id", "symbol", "status", "entrez_id")
KINDS: Final = {
    "hgnc_id": "hgnc",
    "prev_symbol": "retired_symbol",
    "alias_symbol": "alias",
    "ensembl_gene_id": "ensembl",
}


def read_hgnc(folder: Path, *, gene_ids: pa.ChunkedArray) -> Extra | None:
    """Read the complete set where a folder has it; None where it has not.

    Columns are taken by name, since their number and order changed over the years.

    Parameters
    ----------
    gene_ids
        Current human GeneIDs; rows about any other gene, or none, are counted as dropped.

    Raises
    ------
    SourceUnusable
        If the file is damaged or lacks a needed column.
    """
    path = optional_file(folder, *STEMS)
    if path is None:
        return None
    header = read_header(path)
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise SourceUnusable(f"{path} lacks the column {missing[0]!r}; is it HGNC's complete set?")
    extra = Extra()
    blocks = list(stream_tsv(path, header, null_values=("",), quote_char='"'))
    rows = pa.concat_tables(blocks) if blocks else pa.table({name: pa.array([], pa.string()) for name in header})
    kept = _current(rows, gene_ids, extra)
    keys = kept["entrez_id"].cast(pa.int64())
    for column, kind in KINDS.items():
        if column in header:
            extra.names.append(explode(keys, pc.split_pattern(kept[column], "|"), kind))
    if {"gene_group", "gene_group_id"} <= set(header):
        extra.annotations.append(_groups(kept, keys))
    extra.files.append(describe_file(path, n_rows_read=rows.num_rows, n_rows_kept=kept.num_rows))
    return extra


def _current(rows: pa.Table, gene_ids: pa.ChunkedArray, extra: Extra) -> pa.Table:
    approved = rows.filter(pc.fill_null(pc.equal(rows["status"], "Approved"), fill_value=False))
    current = gene_ids.cast(pa.string()).combine_chunks()
    known = approved.filter(pc.is_in(approved["entrez_id"], current))
    extra.drop("HGNC: withdrawn", rows.num_rows - approved.num_rows)
    extra.drop("HGNC: without a current GeneID", approved.num_rows - known.num_rows)
    return known


def _groups(rows: pa.Table, keys: pa.ChunkedArray) -> pa.Table:
    """Gene groups of HGNC; a gene may be in several, names and numbers stand in the same order."""
    gene_ids, numbers, names = [], [], []
    columns = (keys, rows["gene_group_id"], rows["gene_group"])
    for gene_id, ids, groups in zip(*(column.to_pylist() for column in columns), strict=True):
        for number, name in zip((ids or "").split("|"), (groups or "").split("|"), strict=False):
            if number and name:
                gene_ids.append(gene_id)
                numbers.append(f"HGNC.group:{number}")
                names.append(name)
    arrays = [pa.array(gene_ids, pa.int64()), pa.array(numbers, pa.string()), pa.array(names, pa.string())]
    table = pa.table(dict(zip(("gene_id", "term_id", "term"), arrays, strict=True)))
    return annotation_rows(table, "gene_group").cast(schema.ANNOTATIONS)
