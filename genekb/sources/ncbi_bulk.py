"""NCBI's bulk files of gene/DATA, read from a folder, and HGNC's complete set beside them, of any release.

Files are read in blocks and filtered by taxonomy identifier, so memory does not grow with them. ``-`` is NCBI's empty
field, ``|`` separates lists.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genekb import schema
from genekb.core.errors import SourceUnusable
from genekb.core.resources import release_unused
from genekb.genes.taxa import REFERENCE_TAXON, Taxon, find_taxa, find_taxon
from genekb.schema import empty, in_order_of_genes, integers, literal, strings
from genekb.sources.base import (
    GO_LICENSE,
    LICENSE,
    PROVENANCE_NOTE,
    SourceFile,
    SourceTables,
    explode,
    first_rows,
    is_negated,
    name_rows,
    optional_file,
    read_current_rows,
    read_header,
    read_ncbi_file,
    read_rows,
    refuse_nul,
    sorted_names,
    with_integers,
)

_CODING: Final = "protein-coding"
_LICENSES: Final = {"hgnc_complete_set": "HGNC: CC0", "gene2go": GO_LICENSE}  # by the start of the file's name
_GENE_INFO_NAME: Final = re.compile(r"(^|\.)gene_info(\.gz)?$")
XREF_KINDS: Final = {
    "ensembl": r"^Ensembl:(?P<id>.+)$",
    "hgnc": r"^HGNC:(?P<id>HGNC:\d+)$",
    "mgi": r"^MGI:(?P<id>MGI:\d+)$",
    "flybase": r"^FLYBASE:(?P<id>.+)$",
    "rgd": r"^RGD:(?P<id>\d+)$",
    "zfin": r"^ZFIN:(?P<id>.+)$",
}
RIFS_A_GENE: Final = 10  # the newest are kept
EVIDENCE: Final = (  # codes of GO, strongest first: experiment, high throughput, author or curator, phylogeny, sequence
    *("EXP", "IDA", "IPI", "IMP", "IGI", "IEP", "HTP", "HDA", "HMP", "HGI", "HEP", "TAS", "IC"),
    *("IBA", "IBD", "IKR", "IRD", "ISS", "ISO", "ISA", "ISM", "IGC", "RCA", "NAS", "IEA", "ND"),
)
_GO_ASPECTS: Final = {"Process": "go_process", "Function": "go_function", "Component": "go_component"}
_HGNC_NEEDED: Final = ("hgnc_id", "symbol", "status", "entrez_id")
_HGNC_KINDS: Final = {
    "hgnc_id": "hgnc",
    "prev_symbol": "retired_symbol",
    "alias_symbol": "alias",
    "ensembl_gene_id": "ensembl",
}


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


def read_ncbi_folder(folder: Path, *, taxa: Sequence[str], release: str | None = None) -> SourceTables:
    """Read the gene records of some species from a folder of NCBI bulk files.

    Parameters
    ----------
    folder
        Holds ``gene_info.gz`` or ``<Species>.gene_info.gz``; and if there, ``gene_summary``, ``gene_orthologs``,
        ``gene_history``, ``gene2ensembl``, ``gene2go``, ``generifs_basic`` and, for human, ``hgnc_complete_set.txt``,
        each with or without ``.gz``. Of a file that is there in both forms, the gzipped one is read.
    taxa
        Short names, scientific names or taxonomy identifiers; ``all`` keeps every species of the files, and then
        memory grows with what is kept.
    release
        Name of the release; the folder's name if left out.

    Raises
    ------
    SourceUnusable
        If a file is missing, truncated or malformed, or holds no gene of the species.

    Examples
    --------
    >>> import pathlib
    >>> import genekb as gk
    >>> gk.read_ncbi_folder(pathlib.Path("2022-11"), taxa=["human"]).release
    '2022-11'
    """
    if not folder.is_dir():
        raise SourceUnusable(f"{folder} is not a folder; give one that holds NCBI's *.gene_info.gz")
    wanted = find_taxa(taxa, folder)
    parts = Parts()
    genes = _read_gene_info(folder, wanted, parts)
    summaries = _read_summaries(folder, wanted, parts)
    orthologs = _read_orthologs(folder, wanted, parts, genes=genes, summaries=summaries)
    summary_row = pc.index_in(genes["gene_id"], summaries["gene_id"].combine_chunks())
    genes = genes.append_column("summary", summaries["summary"].take(summary_row)).select(schema.GENES.names)
    _read_extra(folder, parts, genes=genes)
    annotations = pa.concat_tables([empty(schema.ANNOTATIONS), *parts.annotations])
    files = {file.name: file for file in parts.files}
    genes = in_order_of_genes(genes).cast(schema.GENES).combine_chunks()
    release_unused()
    names, parts.names = sorted_names(parts.names).combine_chunks(), []
    release_unused()
    return SourceTables(
        genes=genes,
        names=names,
        orthologs=orthologs,
        annotations=annotations.sort_by([(name, "ascending") for name in ("gene_id", "vocabulary", "term_id", "term")]),
        files=tuple(files.values()),
        release=release or folder.resolve().name,
        licence="; ".join(
            [LICENSE, *(terms for start, terms in _LICENSES.items() if any(name.startswith(start) for name in files))]
        ),
        dropped=parts.dropped,
        default_genes=_CODING if pc.any(pc.equal(genes["type"], literal(_CODING))).as_py() else "all",
    )


def has_gene_info(folder: Path) -> bool:
    """Whether a folder holds a gene_info file of any species."""
    return any(path.is_file() and _GENE_INFO_NAME.search(path.name) for path in folder.iterdir())


def _read_gene_info(folder: Path, taxa: list[Taxon], parts: Parts) -> pa.Table:
    tables = []
    parts.dropped |= {"other taxon or subspecies": 0, "biological-region": 0, "NEWENTRY": 0}
    for path in _gene_info_paths(folder, taxa):
        table, file = read_ncbi_file(path, "gene_info", lambda block: _kept_rows(block, taxa, parts.dropped))
        refuse_nul(table, path)
        tables.append(with_integers(table, path, "GeneID", "tax_id"))
        parts.files.append(file)
    rows = _each_gene_once(pa.concat_tables(tables), parts)
    for taxon in taxa:
        if not pc.any(pc.is_in(rows["tax_id"], integers([taxon.tax_id]))).as_py():
            where = ", ".join(file.name for file in parts.files)
            raise SourceUnusable(
                f"no gene of {taxon.name} (tax_id {taxon.tax_id}) in {where} of {folder}; is the taxon right?"
            )
    parts.names += _names(rows)
    return _genes(rows)


def _gene_info_paths(folder: Path, taxa: list[Taxon]) -> list[Path]:
    """gene_info files of the species where there are such, else every one of the folder."""
    found = sorted(path for path in folder.iterdir() if path.is_file() and _GENE_INFO_NAME.search(path.name))
    every = list({path.name.removesuffix(".gz"): path for path in found}.values())  # of both forms the gzipped one
    if not every:
        raise SourceUnusable(f"{folder} holds no gene_info file; {_where_to_find_one(folder)}")
    own = [path for path in every if any(path.name.startswith(f"{taxon.file_prefix}.") for taxon in taxa)]
    if taxa and len(own) == len(taxa):
        return own
    whole = [path for path in every if path.name.startswith("gene_info")]
    return whole[:1] or every  # the whole file holds every species' own


def _where_to_find_one(folder: Path) -> str:
    below = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and has_gene_info(path)]
    return f"give {folder / below[-1]}, which does" if below else "put NCBI's <Species>.gene_info.gz into it"


def _each_gene_once(rows: pa.Table, parts: Parts) -> pa.Table:
    """Keep the first row of a gene that is in the file of a species and of its group."""
    n_repeated = rows.num_rows - pc.count_distinct(rows["GeneID"]).as_py()
    if not n_repeated:
        return rows
    parts.drop("repeated GeneID", n_repeated)
    numbered = pa.table({"GeneID": rows["GeneID"], "row": pa.array(range(rows.num_rows))})
    first = numbered.group_by("GeneID").aggregate([("row", "min")])["row_min"]
    return rows.take(first.take(pc.sort_indices(first)))


def _kept_rows(block: pa.Table, taxa: list[Taxon], dropped: dict[str, int]) -> pa.Table:
    passes: dict[str, Callable[[pa.Table], pa.ChunkedArray]] = {
        "other taxon or subspecies": lambda rows: _is_of(rows["tax_id"], taxa),
        "biological-region": lambda rows: pc.invert(pc.is_in(rows["type_of_gene"], strings(["biological-region"]))),
        "NEWENTRY": lambda rows: pc.not_equal(rows["Symbol"], literal("NEWENTRY")),
    }
    for reason, is_kept in passes.items():
        kept = block.filter(is_kept(block))
        dropped[reason] += block.num_rows - kept.num_rows
        block = kept
    return block


def _genes(rows: pa.Table) -> pa.Table:
    return pa.table(
        {
            "gene_id": rows["GeneID"],
            "tax_id": rows["tax_id"].cast(pa.int32()),
            "symbol": rows["Symbol"],
            "name": pc.coalesce(rows["Full_name_from_nomenclature_authority"], rows["description"]),
            "type": rows["type_of_gene"],
            "chromosome": rows["chromosome"],
            "map_location": rows["map_location"],
            "designations": pc.split_pattern(rows["Other_designations"], "|"),
            "aliases": pc.split_pattern(rows["Synonyms"], "|"),
            "status": rows["Nomenclature_status"],
            "modified": rows["Modification_date"],
        }
    )


def _names(rows: pa.Table) -> list[pa.Table]:
    gene_id, official = rows["GeneID"], "Symbol_from_nomenclature_authority"
    kinds = {"Symbol": "symbol", "Synonyms": "alias", "LocusTag": "locus_tag"}
    tables = [explode(gene_id, rows[column], kind) for column, kind in kinds.items()]
    other = rows.filter(pc.not_equal(rows["Symbol"], rows[official]))
    tables.append(explode(other["GeneID"], other[official], "authority_symbol"))
    xrefs = explode(gene_id, rows["dbXrefs"], "xref")
    for kind, pattern in XREF_KINDS.items():
        ids = pc.struct_field(pc.extract_regex(xrefs["name"], pattern), "id")
        tables.append(name_rows(ids, xrefs["gene_id"], kind))
    return tables


def _read_summaries(folder: Path, taxa: list[Taxon], parts: Parts) -> pa.Table:
    """GeneID and its longest summary without the provenance note, of the species and of the reference species."""
    path = optional_file(folder, "gene_summary")
    if path is None:
        return empty(pa.schema([("gene_id", pa.int64()), ("summary", pa.string())]))
    species = [*taxa, find_taxon(REFERENCE_TAXON)] if taxa else []
    needed = ["GeneID", "Summary"]
    rows, file = read_ncbi_file(
        path, "gene_summary", lambda block: block.select(needed).filter(_is_of(block["tax_id"], species))
    )
    text = pc.utf8_trim_whitespace(pc.replace_substring_regex(rows["Summary"], PROVENANCE_NOTE, ""))
    table = pa.table({"gene_id": with_integers(rows, path, "GeneID")["GeneID"], "summary": text})
    table = table.append_column("length", pc.utf8_length(text)).filter(pc.binary_length(text).cast(pa.bool_()))
    table = table.sort_by([("gene_id", "ascending"), ("length", "descending"), ("summary", "ascending")])
    first = first_rows(table, ["gene_id"]).select(["gene_id", "summary"])
    parts.files.append(replace(file, n_rows_kept=first.num_rows))
    return first


def _read_orthologs(folder: Path, taxa: list[Taxon], parts: Parts, *, genes: pa.Table, summaries: pa.Table) -> pa.Table:
    """Human orthologue of every gene of another species, with its symbol (from gene_info) and its summary."""
    path = optional_file(folder, "gene_orthologs")
    reference = find_taxon(REFERENCE_TAXON)
    if path is None or (taxa and all(taxon.tax_id == reference.tax_id for taxon in taxa)):
        return empty(schema.ORTHOLOGS)
    pairs, file = _ortholog_pairs(path, taxa, reference)
    reference_parts = Parts()
    reference_genes = genes.filter(pc.equal(genes["tax_id"], reference.tax_id))
    if not reference_genes.num_rows:
        try:
            reference_genes = _read_gene_info(folder, [reference], reference_parts)
        except SourceUnusable:
            return empty(schema.ORTHOLOGS)
    known = reference_genes.select(["gene_id", "symbol"]).rename_columns(["ortholog_gene_id", "ortholog_symbol"])
    texts = summaries.rename_columns(["ortholog_gene_id", "ortholog_summary"])
    table = pairs.join(known, keys="ortholog_gene_id", join_type="inner", use_threads=False)
    table = table.join(texts, keys="ortholog_gene_id", join_type="left outer", use_threads=False)
    table = table.filter(pc.is_in(table["gene_id"], genes["gene_id"].combine_chunks()))
    table = table.select(schema.ORTHOLOGS.names).sort_by([("gene_id", "ascending"), ("ortholog_gene_id", "ascending")])
    parts.names.append(name_rows(table["ortholog_symbol"], table["gene_id"], "ortholog"))
    parts.files[:0] = [*reference_parts.files, file]
    return table.cast(schema.ORTHOLOGS)


def _ortholog_pairs(path: Path, taxa: list[Taxon], reference: Taxon) -> tuple[pa.Table, SourceFile]:
    """Genes of the species and their orthologues of the reference species, whichever of the two a row has first."""
    others = [taxon for taxon in taxa if taxon.tax_id != reference.tax_id]
    ways = (("Other_", ""), ("", "Other_"))

    def pairs(rows: pa.Table, own: str, other: str) -> pa.Table:
        species, number = rows[f"{own}tax_id"], str(reference.tax_id)
        is_other = pc.and_(_is_of(species, others), pc.not_equal(species, number))
        return rows.filter(pc.and_(is_other, pc.equal(rows[f"{other}tax_id"], number)))

    rows, file = read_ncbi_file(
        path, "gene_orthologs", lambda block: pa.concat_tables(pairs(block, *way) for way in ways)
    )
    rows = with_integers(rows, path, "GeneID", "Other_GeneID")
    columns = ["gene_id", "ortholog_gene_id"]
    parts = [pairs(rows, *way).select([f"{side}GeneID" for side in way]).rename_columns(columns) for way in ways]
    return pa.concat_tables(parts), file


def _is_of(tax_ids: pa.ChunkedArray, taxa: Sequence[Taxon]) -> pa.ChunkedArray:
    """Which rows are of some species; all of them where none is named."""
    if not taxa:
        return pa.chunked_array([pa.repeat(pa.scalar(value=True), len(tax_ids))])
    return pc.is_in(tax_ids, strings([str(taxon.tax_id) for taxon in taxa]))


def _read_extra(folder: Path, parts: Parts, *, genes: pa.Table) -> None:
    """Read the optional files of a folder; rows of other genes of the species of ``genes`` are counted as dropped."""
    readers = {"gene_history": _history, "gene2ensembl": _ensembl, "gene2go": _go, "generifs_basic": _rifs}
    for name, take in readers.items():
        if path := optional_file(folder, name):
            rows, file, dropped = read_current_rows(path, name, genes)
            parts.files.append(file)
            for reason, n_rows in dropped.items():
                parts.drop(reason, n_rows)
            take(rows, parts)
    human = genes.filter(pc.is_in(genes["tax_id"].cast(pa.int64()), integers([find_taxon("human").tax_id])))
    path = optional_file(folder, "hgnc_complete_set.txt", "hgnc_complete_set.tsv")
    if path and human.num_rows:
        _read_hgnc(path, parts, gene_ids=human["gene_id"])


def _history(rows: pa.Table, parts: Parts) -> None:
    """Retired GeneIDs and symbols of current genes, in the one hop that NCBI states."""
    for column, kind in (("Discontinued_GeneID", "retired_id"), ("Discontinued_Symbol", "retired_symbol")):
        parts.names.append(name_rows(rows[column], rows["GeneID"], kind))


def _ensembl(rows: pa.Table, parts: Parts) -> None:
    parts.names.append(name_rows(rows["Ensembl_gene_identifier"], rows["GeneID"], "ensembl"))


def _go(rows: pa.Table, parts: Parts) -> None:
    """GO terms of genes, without negated ones."""
    negated = is_negated(rows)
    parts.drop("gene2go: NOT", int(pc.sum(negated).as_py() or 0))
    rows = rows.filter(pc.invert(negated))
    known = pc.is_in(rows["Category"], pa.array(list(_GO_ASPECTS)))
    known = pc.and_(known, pc.and_(pc.is_valid(rows["GO_ID"]), pc.is_valid(rows["GO_term"])))
    parts.drop("gene2go: without a term of a known category", rows.num_rows - (pc.sum(known).as_py() or 0))
    rows = rows.filter(known)
    aspect = pc.index_in(rows["Category"], pa.array(list(_GO_ASPECTS)))
    table = pa.table(
        {
            "gene_id": rows["GeneID"].cast(pa.int64()),
            "vocabulary": pa.array(list(_GO_ASPECTS.values())).take(aspect.combine_chunks()),
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


def _read_hgnc(path: Path, parts: Parts, *, gene_ids: pa.ChunkedArray) -> None:
    """Read HGNC's complete set; columns go by name, as their number and order have changed."""
    header = read_header(path)
    missing = [name for name in _HGNC_NEEDED if name not in header]
    if missing:
        raise SourceUnusable(f"{path} lacks the column {missing[0]!r}; is it HGNC's complete set?")
    rows, file = read_rows(path, header, null_values=("",), quote_char='"')
    kept = _current(rows, gene_ids, parts)
    keys = kept["entrez_id"].cast(pa.int64())
    for column, kind in _HGNC_KINDS.items():
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
