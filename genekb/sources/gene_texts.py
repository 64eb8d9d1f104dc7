"""Texts of genes beside NCBI's: functions by UniProt and STRING, descriptions by the Alliance, tables of a user."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from genekb import schema
from genekb.core.errors import SourceUnusable
from genekb.sources.base import SourceTables, current_gene_ids, damaged, describe_file, open_text

MIN_RESOLVED: Final = 0.5  # share of the texts whose gene has to be one of the source
PATTERNS: Final = ("*.protein.info*.txt*", "uniprot*.tsv*", "uniprot*.dat*", "uniprot*.json*", "GENE-DESCRIPTION*.tsv*")
_LINE_CHARS: Final = 1 << 20  # longer lines are no text of a gene
# who says so: PubMed numbers, evidence codes and similarity notes of UniProt, the end of what STRING cut
_CITATIONS: Final = re.compile(
    r"\s*(?:\((?:Ref\.|PubMed:|By similarity|Probable|Potential)[^)]*\)|\{ECO:[^}]*\}|\[\.\.\.\])"
)
_PREFIX: Final = re.compile(r"^FUNCTION:\s*(?:\[[^\]]*\]:\s*)?")


class OtherSpecies(SourceUnusable):
    """A file of texts has none of the species of the source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneText:
    """One text as a file has it."""

    genes: tuple[str, ...]  # GeneIDs, else one name
    text: str
    accession: str = ""  # of the protein or gene
    tax_id: str = ""  # empty where the file does not say


@dataclass(frozen=True, kw_only=True, slots=True)
class TextFormat:
    """A format of gene texts."""

    source: str  # who wrote the texts, as evidence names it
    vocabulary: str  # of the annotations
    licence: str
    read: Callable[[Path, list[str]], Iterator[GeneText]]  # of a file and the columns of its header


def find_text_files(folder: Path) -> list[Path]:
    """Find files with further texts in a folder of NCBI's files, by their names."""
    return sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()})


def add_gene_texts(tables: SourceTables, paths: Sequence[Path], *, min_resolved: float = MIN_RESOLVED) -> SourceTables:
    r"""Add the texts of files to gene records, as annotations of the vocabularies ``function`` and ``description``.

    Parameters
    ----------
    paths
        STRING's ``*.protein.info*``; UniProt's TSV (columns ``Entry``, ``Function [CC]``, and ``GeneID`` or ``Gene
        Names``), flat file (``.dat``) or JSON; the Alliance's gene descriptions; or a table (``.tsv``, ``.csv``) with
        ``gene_id`` or ``symbol``, and ``text``. Each may be gzipped.
    min_resolved
        Share of the texts, of the species of ``tables``, whose gene has to be among them.

    Raises
    ------
    SourceUnusable
        If a file is none of these, is damaged, holds no text of the species, or too few of its genes are known.

    Examples
    --------
    >>> import pathlib
    >>> import genekb as gk
    >>> from genekb.sources.gene_texts import add_gene_texts
    >>> table = pathlib.Path("functions.tsv")
    >>> _ = table.write_text("symbol\ttext\nCD3D\tPart of the TCR-CD3 complex (PubMed:2470098).\n")
    >>> tables = add_gene_texts(gk.read_demo_table(), [table])
    >>> tables.annotations.to_pylist()[0]["term"]
    'Part of the TCR-CD3 complex.'
    """
    for path in paths:
        tables = _add_file(tables, path, min_resolved=min_resolved)
    return tables


def _add_file(tables: SourceTables, path: Path, *, min_resolved: float) -> SourceTables:
    text_format, columns = _find_format(path)
    taxa = set(tables.genes["tax_id"].unique().cast(pa.string()).to_pylist())
    try:
        listed = list(text_format.read(path, columns))
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
        raise damaged(path, " ".join(str(error).split())[:100] or type(error).__name__) from error
    texts = [each for each in listed if each.genes and (not each.tax_id or each.tax_id in taxa)]
    if not texts:
        raise OtherSpecies(f"{path} holds no text of a gene of the species {', '.join(sorted(taxa))}")
    listed_ids = iter(current_gene_ids([gene for each in texts for gene in each.genes], tables))
    gene_ids = [[gene_id for _ in each.genes if (gene_id := next(listed_ids))] for each in texts]
    share = sum(map(bool, gene_ids)) / len(texts)
    if share < min_resolved:
        lost = next(each.genes[0] for each, found in zip(texts, gene_ids, strict=True) if not found)
        raise SourceUnusable(
            f"{path}: {share:.0%} of {len(texts)} texts are of a gene of the source, {min_resolved:.0%} are needed "
            f"({lost!r} is unknown); is it the right species? Lower it with `min_resolved`"
        )
    rows = {
        (gene_id, _without_citations(each.text)): each.accession
        for each, found in zip(texts, gene_ids, strict=True)
        for gene_id in found
    }
    annotations = pa.Table.from_pylist(
        [
            {
                "gene_id": gene_id,
                "vocabulary": text_format.vocabulary,
                "term_id": accession or path.name,
                "term": text,
                "evidence": text_format.source,
            }
            for (gene_id, text), accession in rows.items()
            if text
        ],
        schema=schema.ANNOTATIONS,
    )
    joined = pa.concat_tables([tables.annotations, annotations])
    n_lost = len(texts) - sum(map(bool, gene_ids))
    return replace(
        tables,
        annotations=joined.sort_by([(name, "ascending") for name in ("gene_id", "vocabulary", "term_id", "term")]),
        files=(*tables.files, describe_file(path, n_rows_read=len(listed), n_rows_kept=annotations.num_rows)),
        licence="; ".join(dict.fromkeys([*tables.licence.split("; "), text_format.licence])),
        dropped=tables.dropped | ({f"{path.name}: of no current gene": n_lost} if n_lost else {}),
    )


def _without_citations(text: str) -> str:
    text = _PREFIX.sub("", " ".join(text.split()))
    return re.sub(r"\s+(?=[.,;])|\.\s*(?=\.)", "", _CITATIONS.sub("", text)).strip()


def _find_format(path: Path) -> tuple[TextFormat, list[str]]:
    """Recognize a file by its first lines."""
    try:
        with open_text(path) as stream:
            first = stream.readline(_LINE_CHARS)
            while first.startswith("#") and "\t" not in first:
                first = stream.readline(_LINE_CHARS)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be read as text"
        raise SourceUnusable(f"{path} {reason}; give a file with texts of genes") from error
    comma = path.name.removesuffix(".gz").endswith(".csv")
    columns = [name.strip().strip('"').lstrip("#") for name in first.rstrip("\r\n").split("," if comma else "\t")]
    if columns[:1] == ["string_protein_id"] and "annotation" in columns:
        return STRING, columns
    if "Entry" in columns and "Function [CC]" in columns:
        return UNIPROT_TSV, columns
    if first.startswith("ID   "):
        return UNIPROT_FLAT, []
    if first.lstrip().startswith("{"):
        return UNIPROT_JSON, []
    if re.match(r"[A-Z]+:\w+$", columns[0]) and len(columns) == len(ALLIANCE_COLUMNS):
        return ALLIANCE, list(ALLIANCE_COLUMNS)
    if "text" in columns and {"gene_id", "symbol"} & set(columns):
        return TABLE, columns
    raise SourceUnusable(
        f"{path} has the columns {', '.join(columns)[:80]!r}; give UniProt's (Entry, GeneID, Function [CC]), STRING's "
        "protein.info, the Alliance's gene descriptions, or a table with gene_id or symbol, and text"
    )


def _records(path: Path, columns: list[str]) -> Iterator[dict[str, str]]:
    """Rows of a delimited file below its header, or, where that names no column, all but comments."""
    import csv

    comma = path.name.removesuffix(".gz").endswith(".csv")
    has_header = columns != list(ALLIANCE_COLUMNS)
    with open_text(path) as stream:
        lines = (line for line in stream if has_header or not line.startswith("#"))
        rows = csv.reader(
            lines, delimiter="," if comma else "\t", quoting=csv.QUOTE_MINIMAL if comma else csv.QUOTE_NONE
        )
        for number, row in enumerate(rows):
            if row and not (has_header and number == 0):
                yield dict(zip(columns, row, strict=True))


def _read_string(path: Path, columns: list[str]) -> Iterator[GeneText]:
    for row in _records(path, columns):
        tax_id, _, accession = row["string_protein_id"].partition(".")
        if row["annotation"] != "annotation not available":
            yield GeneText(genes=(row["preferred_name"],), text=row["annotation"], accession=accession, tax_id=tax_id)


def _read_uniprot_tsv(path: Path, columns: list[str]) -> Iterator[GeneText]:
    for row in _records(path, columns):
        ids = tuple(filter(None, row.get("GeneID", "").split(";")))
        names = tuple((row.get("Gene Names (primary)") or row.get("Gene Names", "")).replace(";", " ").split()[:1])
        if row["Function [CC]"]:
            tax_id = row.get("Organism (ID)", "")
            yield GeneText(genes=ids or names, text=row["Function [CC]"], accession=row["Entry"], tax_id=tax_id)


def _read_uniprot_flat(path: Path, columns: list[str]) -> Iterator[GeneText]:
    from Bio import SwissProt

    del columns
    with open_text(path) as stream:
        for record in SwissProt.parse(stream):
            functions = [comment for comment in record.comments if comment.startswith("FUNCTION: ")]
            if functions:
                yield GeneText(
                    genes=tuple(entry[1] for entry in record.cross_references if entry[0] == "GeneID"),
                    text=" ".join(_PREFIX.sub("", function) for function in functions),
                    accession=record.accessions[0],
                    tax_id=record.taxonomy_id[0],
                )


def _read_uniprot_json(path: Path, columns: list[str]) -> Iterator[GeneText]:
    del columns
    with open_text(path) as stream:
        results = json.load(stream)["results"]
    for entry in results:
        functions = [each for each in entry.get("comments", ()) if each["commentType"] == "FUNCTION"]
        if functions:
            references = entry.get("uniProtKBCrossReferences", ())
            yield GeneText(
                genes=tuple(each["id"] for each in references if each["database"] == "GeneID"),
                text=" ".join(text["value"] for each in functions for text in each["texts"]),
                accession=entry["primaryAccession"],
                tax_id=str(entry["organism"]["taxonId"]),
            )


def _read_alliance(path: Path, columns: list[str]) -> Iterator[GeneText]:
    for row in _records(path, columns):
        if not row["description"].startswith("No description available"):
            yield GeneText(genes=(row["symbol"],), text=row["description"], accession=row["id"])


def _read_table(path: Path, columns: list[str]) -> Iterator[GeneText]:
    for row in _records(path, columns):
        gene = row.get("gene_id") or row.get("symbol", "")
        if gene and row["text"]:
            yield GeneText(genes=(gene,), text=row["text"], tax_id=row.get("tax_id", ""))


ALLIANCE_COLUMNS: Final = ("id", "symbol", "description")
_UNIPROT: Final = "UniProt: CC BY 4.0"
STRING: Final = TextFormat(
    source="UniProt", vocabulary="function", licence=f"STRING: CC BY 4.0; {_UNIPROT}", read=_read_string
)
UNIPROT_TSV, UNIPROT_FLAT, UNIPROT_JSON = (
    TextFormat(source="UniProt", vocabulary="function", licence=_UNIPROT, read=read)
    for read in (_read_uniprot_tsv, _read_uniprot_flat, _read_uniprot_json)
)
ALLIANCE: Final = TextFormat(
    source="Alliance",
    vocabulary="description",
    licence="Alliance of Genome Resources: CC BY 4.0",
    read=_read_alliance,
)
TABLE: Final = TextFormat(
    source="table", vocabulary="function", licence="as stated by the table's author", read=_read_table
)
