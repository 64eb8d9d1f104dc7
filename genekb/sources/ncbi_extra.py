"""NCBI's optional files beside gene_info: retired ids, Ensembl ids, GO terms and GeneRIFs of genes that were read."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genekb import schema
from genekb.core.errors import SourceUnusable
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
class Extra:
    """What optional files add to gene records: names, annotations, what was read, what was left out."""

    names: list[pa.Table] = field(default_factory=list)
    annotations: list[pa.Table] = field(default_factory=list)
    files: list[SourceFile] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, n_rows: int) -> None:
        """Count rows that were left out."""
        if n_rows:
            self.dropped[reason] = self.dropped.get(reason, 0) + n_rows


def read_extra(folder: Path, *, genes: pa.Table) -> Extra:
    """Read the optional files of a folder; rows of other genes of the species of ``genes`` are counted as dropped."""
    extra = Extra()
    readers = {"gene_history": _history, "gene2ensembl": _ensembl, "gene2go": _go, "generifs_basic": _rifs}
    for name, take in readers.items():
        if path := optional_file(folder, name):
            take(_of_genes(path, name, genes=genes, extra=extra), extra)
    return extra


def _of_genes(path: Path, name: str, *, genes: pa.Table, extra: Extra) -> pa.Table:
    """Rows of some genes: filtered by species block by block, then by gene."""
    species, gene = NCBI_FILES[name].columns[:2]
    taxa = genes["tax_id"].unique().cast(pa.string())
    rows, file = read_ncbi_file(path, name, lambda block: block.filter(pc.is_in(block[species], taxa)))
    current = rows.filter(pc.is_in(rows[gene], genes["gene_id"].cast(pa.string()).combine_chunks()))
    extra.drop(f"{name}: gone, no gene took its place", rows[gene].null_count)
    extra.drop(f"{name}: of no current gene", rows.num_rows - rows[gene].null_count - current.num_rows)
    extra.files.append(replace(file, n_rows_kept=current.num_rows))
    return current


def _history(rows: pa.Table, extra: Extra) -> None:
    """Retired GeneIDs and symbols of current genes, in the one hop that NCBI states."""
    for column, kind in (("Discontinued_GeneID", "retired_id"), ("Discontinued_Symbol", "retired_symbol")):
        extra.names.append(name_rows(rows[column], rows["GeneID"], kind))


def _ensembl(rows: pa.Table, extra: Extra) -> None:
    extra.names.append(name_rows(rows["Ensembl_gene_identifier"], rows["GeneID"], "ensembl"))


def _go(rows: pa.Table, extra: Extra) -> None:
    """GO terms of genes, without negated ones."""
    negated = pc.fill_null(pc.starts_with(rows["Qualifier"], "NOT"), fill_value=False)
    extra.drop("gene2go: NOT", int(pc.sum(negated).as_py() or 0))
    rows = rows.filter(pc.invert(negated))
    known = pc.is_in(rows["Category"], pa.array(list(_ASPECTS)))
    known = pc.and_(known, pc.and_(pc.is_valid(rows["GO_ID"]), pc.is_valid(rows["GO_term"])))
    extra.drop("gene2go: without a term of a known category", rows.num_rows - (pc.sum(known).as_py() or 0))
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
    extra.annotations.append(strongest_evidence(table))


def strongest_evidence(rows: pa.Table) -> pa.Table:
    """Keep one row of each gene and GO term, that of the strongest :data:`EVIDENCE`, ordered by these."""
    rank = pc.fill_null(pc.index_in(rows["evidence"], pa.array(EVIDENCE)), len(EVIDENCE))
    keys = ["gene_id", "vocabulary", "term_id"]
    order = [(name, "ascending") for name in (*keys, "rank", "evidence", "term")]
    table = rows.append_column("rank", rank).sort_by(order)
    first = table.group_by(keys, use_threads=False).aggregate([("term", "first"), ("evidence", "first")])
    return first.rename_columns([*keys, "term", "evidence"]).cast(schema.ANNOTATIONS)


def _rifs(rows: pa.Table, extra: Extra) -> None:
    """Keep the newest sentences of each gene, each once, ties in the order of their text."""
    table = pa.table(
        {
            "gene_id": rows["Gene ID"].cast(pa.int64()),
            "term_id": pc.list_element(pc.split_pattern(pc.fill_null(rows["PubMed ID (PMID) list"], "0"), ","), 0),
            "term": pc.utf8_trim_whitespace(pc.fill_null(rows["GeneRIF text"], "")),
            "when": pc.fill_null(rows["last update timestamp"], ""),
        }
    ).filter(pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(rows["GeneRIF text"], "")), ""))
    table = table.sort_by([("gene_id", "ascending"), ("when", "descending"), ("term", "ascending")])
    each = table.group_by(["gene_id", "term"], use_threads=False).aggregate([("term_id", "first")])
    gene_ids = each["gene_id"].to_numpy()
    place = np.arange(len(gene_ids)) - np.searchsorted(gene_ids, gene_ids)  # in the list of its gene
    kept = each.filter(pa.array(place < RIFS_A_GENE)).rename_columns(["gene_id", "term", "term_id"])
    extra.drop(f"generifs_basic: beyond the newest {RIFS_A_GENE} of a gene", table.num_rows - kept.num_rows)
    extra.annotations.append(annotation_rows(kept, "generif"))


def annotation_rows(rows: pa.Table, vocabulary: str) -> pa.Table:
    """Rows of :data:`genekb.schema.ANNOTATIONS` from columns gene_id, term_id and term."""
    n_rows = rows.num_rows
    columns = {
        "gene_id": rows["gene_id"],
        "vocabulary": pa.repeat(vocabulary, n_rows),
        "term_id": rows["term_id"],
        "term": rows["term"],
        "evidence": pa.nulls(n_rows, pa.string()),
    }
    return pa.table(columns).cast(schema.ANNOTATIONS)


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
    """Read HGNC's complete set, if the folder has it; columns go by name, as their number and order have changed.

    ``gene_ids``: current human GeneIDs; rows of other genes are counted as dropped.
    """
    path = optional_file(folder, *STEMS)
    if path is None:
        return None
    header = read_header(path)
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise SourceUnusable(f"{path} lacks the column {missing[0]!r}; is it HGNC's complete set?")
    extra = Extra()
    rows, file = read_rows(path, header, null_values=("",), quote_char='"')
    kept = _current(rows, gene_ids, extra)
    keys = kept["entrez_id"].cast(pa.int64())
    for column, kind in KINDS.items():
        if column in header:
            extra.names.append(explode(keys, kept[column], kind))
    if {"gene_group", "gene_group_id"} <= set(header):
        extra.annotations.append(_groups(kept, keys))
    extra.files.append(replace(file, n_rows_kept=kept.num_rows))
    return extra


def _current(rows: pa.Table, gene_ids: pa.ChunkedArray, extra: Extra) -> pa.Table:
    approved = rows.filter(pc.fill_null(pc.equal(rows["status"], "Approved"), fill_value=False))
    current = gene_ids.cast(pa.string()).combine_chunks()
    known = approved.filter(pc.is_in(approved["entrez_id"], current))
    extra.drop("HGNC: withdrawn", rows.num_rows - approved.num_rows)
    extra.drop("HGNC: without a current GeneID", approved.num_rows - known.num_rows)
    return known


def _groups(rows: pa.Table, keys: pa.ChunkedArray) -> pa.Table:
    """Gene groups of HGNC; a gene may be in several, with names and numbers in the same order."""
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
    return annotation_rows(table, "gene_group")
