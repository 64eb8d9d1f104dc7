"""NCBI's bulk files of gene/DATA, read from a folder: gene_info, gene_summary, gene_orthologs of any release.

Files are read in blocks and filtered by taxonomy identifier, so memory does not grow with them. ``-`` is NCBI's empty
field, ``|`` separates lists.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from genekb import schema
from genekb.core.errors import SourceUnusable
from genekb.genes.taxa import Taxon, find_taxa, find_taxon
from genekb.sources.base import (
    GO_LICENCE,
    LICENCE,
    PROVENANCE_NOTE,
    SourceFile,
    SourceTables,
    explode,
    name_rows,
    optional_file,
    read_ncbi_file,
    refuse_nul,
    sorted_names,
    with_integers,
)
from genekb.sources.ncbi_extra import Parts, read_extra

REFERENCE_TAXON: Final = "human"  # the species whose summaries stand in for an orthologue without one

_LICENCES: Final = {"hgnc_complete_set": "HGNC: CC0", "gene2go": GO_LICENCE}  # by the start of the file's name
_GENE_INFO_NAME: Final = re.compile(r"(^|\.)gene_info(\.gz)?$")
XREF_KINDS: Final = {
    "ensembl": r"^Ensembl:(?P<id>.+)$",
    "hgnc": r"^HGNC:(?P<id>HGNC:\d+)$",
    "mgi": r"^MGI:(?P<id>MGI:\d+)$",
    "flybase": r"^FLYBASE:(?P<id>.+)$",
    "rgd": r"^RGD:(?P<id>\d+)$",
    "zfin": r"^ZFIN:(?P<id>.+)$",
}


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
    read_extra(folder, parts, genes=genes)
    annotations = pa.concat_tables([schema.ANNOTATIONS.empty_table(), *parts.annotations])
    files = {file.name: file for file in parts.files}
    return SourceTables(
        genes=genes.sort_by("gene_id").cast(schema.GENES),
        names=sorted_names(parts.names),
        orthologs=orthologs,
        annotations=annotations.sort_by([(name, "ascending") for name in ("gene_id", "vocabulary", "term_id", "term")]),
        files=tuple(files.values()),
        release=release or folder.resolve().name,
        licence="; ".join(
            [LICENCE, *(terms for start, terms in _LICENCES.items() if any(name.startswith(start) for name in files))]
        ),
        dropped=parts.dropped,
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
        if not pc.any(pc.equal(rows["tax_id"], taxon.tax_id)).as_py():
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
        "biological-region": lambda rows: pc.fill_null(
            pc.not_equal(rows["type_of_gene"], "biological-region"), fill_value=True
        ),
        "NEWENTRY": lambda rows: pc.not_equal(rows["Symbol"], "NEWENTRY"),
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
    other = rows.filter(pc.fill_null(pc.not_equal(rows["Symbol"], rows[official]), fill_value=False))
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
        return pa.schema([("gene_id", pa.int64()), ("summary", pa.string())]).empty_table()
    species = [*taxa, find_taxon(REFERENCE_TAXON)] if taxa else []
    rows, file = read_ncbi_file(path, "gene_summary", lambda block: block.filter(_is_of(block["tax_id"], species)))
    text = pc.utf8_trim_whitespace(pc.replace_substring_regex(rows["Summary"], PROVENANCE_NOTE, ""))
    table = pa.table({"gene_id": with_integers(rows, path, "GeneID")["GeneID"], "summary": text})
    table = table.filter(pc.fill_null(pc.greater(pc.utf8_length(text), 0), fill_value=False))
    table = table.append_column("length", pc.utf8_length(table["summary"]))
    table = table.sort_by([("gene_id", "ascending"), ("length", "descending"), ("summary", "ascending")])
    first = table.group_by("gene_id", use_threads=False).aggregate([("summary", "first")])
    parts.files.append(replace(file, n_rows_kept=first.num_rows))
    return first.rename_columns(["gene_id", "summary"])


def _read_orthologs(folder: Path, taxa: list[Taxon], parts: Parts, *, genes: pa.Table, summaries: pa.Table) -> pa.Table:
    """Human orthologue of every gene of another species, with its symbol (from gene_info) and its summary."""
    path = optional_file(folder, "gene_orthologs")
    reference = find_taxon(REFERENCE_TAXON)
    if path is None or (taxa and all(taxon.tax_id == reference.tax_id for taxon in taxa)):
        return schema.ORTHOLOGS.empty_table()
    pairs, file = _ortholog_pairs(path, taxa, reference)
    reference_parts = Parts()
    reference_genes = genes.filter(pc.equal(genes["tax_id"], reference.tax_id))
    if not reference_genes.num_rows:
        try:
            reference_genes = _read_gene_info(folder, [reference], reference_parts)
        except SourceUnusable:
            return schema.ORTHOLOGS.empty_table()
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
    return pc.is_in(tax_ids, pa.array([str(taxon.tax_id) for taxon in taxa]))
