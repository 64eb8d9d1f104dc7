"""NCBI's optional files beside gene_info: retired ids, Ensembl ids, GO terms and GeneRIFs of genes that were read."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genekb import schema
from genekb.core.errors import SourceUnusable
from genekb.genes.taxa import find_taxon
from genekb.sources.base import (
    NCBI_FILES,
    SourceFile,
    explode,
    name_rows,
    optional_file,
    read_header,
    read_ncbi_file,
    read_rows,
)

RIFS_A_GENE: Final = 10  # the newest are kept
EVIDENCE: Final = (  # codes of GO, strongest first: experiment, high throughput, author or curator, phylogeny, sequence
    *("EXP", "IDA", "IPI", "IMP", "IGI", "IEP", "HTP", "HDA", "HMP", "HGI", "HEP", "TAS", "IC"),
    *("IBA", "IBD", "IKR", "IRD", "ISS", "ISO", "ISA", "ISM", "IGC", "RCA", "NAS", "IEA", "ND"),
)
_ASPECTS: Final = {"Process": "go_process", "Function": "go_function", "Component": "go_component"}


@dataclass(kw_only=True, slots=True)
class Parts:
    """What files add to gene records: names, annotations, what was read, rows that were left out by reason."""

    names: list[pa.Table] = field(default_factory=list)
    annotations: list[pa.Table] = field(default_factory=list)
    files: list[SourceFile] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, n_rows: int) -> None:
        """Count rows that were left out."""
        if n_rows:
            self.dropped[reason] = self.dropped.get(reason, 0) + n_rows


def read_extra(folder: Path, parts: Parts, *, genes: pa.Table) -> None:
    """Read the optional files of a folder; rows of other genes of the species of ``genes`` are counted as dropped."""
    readers = {"gene_history": _history, "gene2ensembl": _ensembl, "gene2go": _go, "generifs_basic": _rifs}
    for name, take in readers.items():
        if path := optional_file(folder, name):
            take(_of_genes(path, name, genes=genes, parts=parts), parts)
    human = genes.filter(pc.equal(genes["tax_id"], find_taxon("human").tax_id))
    path = optional_file(folder, "hgnc_complete_set.txt", "hgnc_complete_set.tsv")
    if path and human.num_rows:
        _read_hgnc(path, parts, gene_ids=human["gene_id"])


def _of_genes(path: Path, name: str, *, genes: pa.Table, parts: Parts) -> pa.Table:
    """Rows of some genes: filtered by species block by block, then by gene."""
    species, gene = NCBI_FILES[name].columns[:2]
    taxa = genes["tax_id"].unique().cast(pa.string())
    rows, file = read_ncbi_file(path, name, lambda block: block.filter(pc.is_in(block[species], taxa)))
    current = rows.filter(pc.is_in(rows[gene], genes["gene_id"].cast(pa.string()).combine_chunks()))
    parts.drop(f"{name}: gone, no gene took its place", rows[gene].null_count)
    parts.drop(f"{name}: of no current gene", rows.num_rows - rows[gene].null_count - current.num_rows)
    parts.files.append(replace(file, n_rows_kept=current.num_rows))
    return current


def _history(rows: pa.Table, parts: Parts) -> None:
    """Retired GeneIDs and symbols of current genes, in the one hop that NCBI states."""
    for column, kind in (("Discontinued_GeneID", "retired_id"), ("Discontinued_Symbol", "retired_symbol")):
        parts.names.append(name_rows(rows[column], rows["GeneID"], kind))


def _ensembl(rows: pa.Table, parts: Parts) -> None:
    parts.names.append(name_rows(rows["Ensembl_gene_identifier"], rows["GeneID"], "ensembl"))


def _go(rows: pa.Table, parts: Parts) -> None:
    """GO terms of genes, without negated ones."""
    negated = pc.fill_null(pc.starts_with(rows["Qualifier"], "NOT"), fill_value=False)
    parts.drop("gene2go: NOT", int(pc.sum(negated).as_py() or 0))
    rows = rows.filter(pc.invert(negated))
    known = pc.is_in(rows["Category"], pa.array(list(_ASPECTS)))
    known = pc.and_(known, pc.and_(pc.is_valid(rows["GO_ID"]), pc.is_valid(rows["GO_term"])))
    parts.drop("gene2go: without a term of a known category", rows.num_rows - (pc.sum(known).as_py() or 0))
    rows = rows.filter(known)
    aspect = pc.index_in(rows["Category"], pa.array(list(_ASPECTS)))
    table = pa.table(
        {
            "gene_id": rows["GeneID"].cast(pa.int64()),
            "vocabulary": pa.array(list(_ASPECTS.values())).take(aspect.combine_chunks()),
            "term_id": rows["GO_ID"],
            "term": rows["GO_term"],
            "evidence": rows["Evidence"],
        }
    )
    parts.annotations.append(strongest_evidence(table))


def strongest_evidence(rows: pa.Table) -> pa.Table:
    """Keep one row of each gene and GO term, that of the strongest :data:`EVIDENCE`, ordered by these."""
    rank = pc.fill_null(pc.index_in(rows["evidence"], pa.array(EVIDENCE)), len(EVIDENCE))
    keys = ["gene_id", "vocabulary", "term_id"]
    order = [(name, "ascending") for name in (*keys, "rank", "evidence", "term")]
    table = rows.append_column("rank", rank).sort_by(order)
    first = table.group_by(keys, use_threads=False).aggregate([("term", "first"), ("evidence", "first")])
    return first.rename_columns([*keys, "term", "evidence"]).cast(schema.ANNOTATIONS)


def _rifs(rows: pa.Table, parts: Parts) -> None:
    """Keep the newest sentences of each gene, each once, ties in the order of their text."""
    text = pc.utf8_trim_whitespace(pc.fill_null(rows["GeneRIF text"], ""))
    table = pa.table(
        {
            "gene_id": rows["Gene ID"].cast(pa.int64()),
            "vocabulary": pa.repeat("generif", rows.num_rows),
            "term_id": pc.list_element(pc.split_pattern(pc.fill_null(rows["PubMed ID (PMID) list"], "0"), ","), 0),
            "term": text,
            "evidence": pa.nulls(rows.num_rows, pa.string()),
            "when": pc.fill_null(rows["last update timestamp"], ""),
        }
    ).filter(pc.not_equal(text, ""))
    table = table.sort_by([("gene_id", "ascending"), ("when", "descending"), ("term", "ascending")])
    columns = [name for name in schema.ANNOTATIONS.names if name not in {"gene_id", "term"}]
    each = table.group_by(["gene_id", "term"], use_threads=False).aggregate([(name, "first") for name in columns])
    gene_ids = each["gene_id"].to_numpy()
    place = np.arange(len(gene_ids)) - np.searchsorted(gene_ids, gene_ids)  # in the list of its gene
    kept = each.filter(pa.array(place < RIFS_A_GENE)).rename_columns(["gene_id", "term", *columns])
    parts.drop(f"generifs_basic: beyond the newest {RIFS_A_GENE} of a gene", table.num_rows - kept.num_rows)
    parts.annotations.append(kept.select(schema.ANNOTATIONS.names).cast(schema.ANNOTATIONS))


_NEEDED: Final = ("hgnc_id", "symbol", "status", "entrez_id")
_KINDS: Final = {
    "hgnc_id": "hgnc",
    "prev_symbol": "retired_symbol",
    "alias_symbol": "alias",
    "ensembl_gene_id": "ensembl",
}


def _read_hgnc(path: Path, parts: Parts, *, gene_ids: pa.ChunkedArray) -> None:
    """Read HGNC's complete set; columns go by name, as their number and order have changed."""
    header = read_header(path)
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        raise SourceUnusable(f"{path} lacks the column {missing[0]!r}; is it HGNC's complete set?")
    rows, file = read_rows(path, header, null_values=("",), quote_char='"')
    kept = _current(rows, gene_ids, parts)
    keys = kept["entrez_id"].cast(pa.int64())
    for column, kind in _KINDS.items():
        if column in header:
            parts.names.append(explode(keys, kept[column], kind))
    if {"gene_group", "gene_group_id"} <= set(header):
        parts.annotations.append(_groups(kept, keys))
    parts.files.append(replace(file, n_rows_kept=kept.num_rows))


def _current(rows: pa.Table, gene_ids: pa.ChunkedArray, parts: Parts) -> pa.Table:
    approved = rows.filter(pc.fill_null(pc.equal(rows["status"], "Approved"), fill_value=False))
    current = gene_ids.cast(pa.string()).combine_chunks()
    known = approved.filter(pc.is_in(approved["entrez_id"], current))
    parts.drop("HGNC: withdrawn", rows.num_rows - approved.num_rows)
    parts.drop("HGNC: without a current GeneID", approved.num_rows - known.num_rows)
    return known


def _groups(rows: pa.Table, keys: pa.ChunkedArray) -> pa.Table:
    """Gene groups of HGNC; a gene may be in several, with names and numbers in the same order."""
    columns = (keys, rows["gene_group_id"], rows["gene_group"])
    groups = [
        {"gene_id": gene_id, "vocabulary": "gene_group", "term_id": f"HGNC.group:{number}", "term": name}
        for gene_id, numbers, names in zip(*(column.to_pylist() for column in columns), strict=True)
        for number, name in zip((numbers or "").split("|"), (names or "").split("|"), strict=False)
        if number and name
    ]
    return pa.Table.from_pylist(groups, schema=schema.ANNOTATIONS)
