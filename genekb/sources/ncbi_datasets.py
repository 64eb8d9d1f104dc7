"""Gene reports of NCBI Datasets: one JSON object a line, as its command line and its API write them."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from genekb import schema
from genekb.core.errors import SourceUnusable
from genekb.genes.resolve import normalize_name
from genekb.genes.taxa import find_taxa
from genekb.sources.base import (
    GO_LICENSE,
    LICENSE,
    SourceTables,
    describe_file,
    max_digits,
    names_table,
    without_provenance,
)
from genekb.sources.ncbi_bulk import strongest_evidence

FILE_NAME: Final = "data_report.jsonl"
_FOLDERS: Final = ("", "data", "ncbi_dataset/data")
_TYPES: Final = (  # as gene_info spells them; here in capitals with underscores, or (tRNA) in the same letters
    *("protein-coding", "pseudo", "other", "unknown", "biological-region", "transposon"),
    *("ncRNA", "miscRNA", "rRNA", "tRNA", "snRNA", "snoRNA", "scRNA"),
)
_TYPE_OF: Final = {name.upper().replace("-", "_"): name for name in _TYPES}
_ASPECTS: Final = {
    "biologicalProcesses": "go_process",
    "molecularFunctions": "go_function",
    "cellularComponents": "go_component",
}
# Whether the prefix is part of the identifier
_AUTHORITIES: Final = {"hgnc": True, "mgi": True, "rgd": False, "zfin": False, "flybase": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Gene:
    """One report: a row of the table of genes, its names by kind, its GO terms."""

    row: dict[str, Any]
    names: dict[str, list[str]]
    terms: list[dict[str, Any]]


def read_datasets_report(path: Path, *, taxa: Sequence[str] | None = None, release: str | None = None) -> SourceTables:
    """Read gene records from a ``data_report.jsonl``, or a folder that holds one.

    ``taxa``: all if left out or if ``all`` is among them. ``release``: the unpacked download's folder if left out.
    """
    path = find_report(path) or path
    wanted = set[int]() if taxa is None else {int(taxon.tax_id) for taxon in find_taxa(taxa, path.parent)}
    dropped = {"other taxon or subspecies": 0, "biological-region": 0, "repeated GeneID": 0}
    genes: dict[int, _Gene] = {}
    n_read = 0
    for report in _reports(path):
        n_read += 1
        gene = _gene(report)
        if wanted and gene.row["tax_id"] not in wanted:
            dropped["other taxon or subspecies"] += 1
        elif gene.row["type"] == "biological-region":
            dropped["biological-region"] += 1
        elif gene.row["gene_id"] in genes:
            dropped["repeated GeneID"] += 1
        else:
            genes[gene.row["gene_id"]] = gene
    if not n_read:
        raise SourceUnusable(f"{path} holds no line; download it again")
    if not genes:
        raise SourceUnusable(f"{path} holds no gene of {', '.join(taxa or ['any species'])}; is the taxon right?")
    rows = [term for key in sorted(genes) for term in genes[key].terms]
    terms = strongest_evidence(pa.Table.from_pylist(rows, schema=schema.ANNOTATIONS))
    unpacked = (folder.name for folder in path.resolve().parents if folder.name not in {"data", "ncbi_dataset"})
    return SourceTables(
        genes=pa.Table.from_pylist([genes[key].row for key in sorted(genes)], schema=schema.GENES),
        names=names_table((key, gene.names) for key, gene in genes.items()),
        annotations=terms,
        files=(describe_file(path, n_rows_read=n_read, n_rows_kept=len(genes)),),
        release=release or next(unpacked),
        licence=f"{LICENSE}; {GO_LICENSE}" if terms.num_rows else LICENSE,
        dropped=dropped,
    )


def find_report(path: Path) -> Path | None:
    """Find the report of an unpacked download: the path itself, or the one file of that name below it."""
    if path.is_file():
        return path
    return next((path / below / FILE_NAME for below in _FOLDERS if (path / below / FILE_NAME).is_file()), None)


def _reports(path: Path) -> Iterator[dict[str, Any]]:
    """Yield gene reports, also those inside an object ``gene`` or a list ``reports``."""
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield from _unwrapped(_parsed(line, f"{path}, line {number}"), f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnusable(f"{path} cannot be read ({error}); give a {FILE_NAME} of NCBI Datasets") from error


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(line, object_hook=_in_camel_case)
    except (ValueError, RecursionError) as error:
        raise SourceUnusable(f"{where}: no JSON ({str(error)[:100]}); download it again") from error
    if not isinstance(content, dict):
        raise SourceUnusable(f"{where}: a {type(content).__name__}, an object is needed")
    return content


def _in_camel_case(content: dict[str, Any]) -> dict[str, Any]:
    """Spell fields as the command line writes them, ``geneId``; some versions write ``gene_id``."""
    return {re.sub("_(.)", lambda found: found[1].upper(), key): value for key, value in content.items()}


def _unwrapped(content: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    wrong = f"{where}: no gene report (geneId, symbol and taxId are needed)"
    for item in content.get("reports") or [content]:
        report = item.get("gene", item) if isinstance(item, dict) else {}
        if not isinstance(report, dict) or not report.get("geneId") or not report.get("symbol"):
            raise SourceUnusable(wrong)
        for key in ("geneId", "taxId"):
            found = str(report.get(key))
            if not re.fullmatch(rf"[1-9][0-9]{{0,{max_digits(key) - 1}}}", found):
                raise SourceUnusable(
                    f"{wrong}; {key} is {found[:40]!r}, a positive number of at most {max_digits(key)} digits is needed"
                )
        yield report


def _items(report: dict[str, Any], key: str) -> list[Any]:
    """Values of a field that holds one, several or none."""
    value = report.get(key)
    return value if isinstance(value, list) else [] if value in (None, "") else [value]


def _objects(report: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return [item for item in _items(report, key) if isinstance(item, dict)]


def _strings(report: dict[str, Any], key: str) -> list[str]:
    return [str(item) for item in _items(report, key)]


def _gene(report: dict[str, Any]) -> _Gene:
    summaries = [without_provenance(str(item.get("description") or "")) for item in _objects(report, "summary")]
    aliases = _strings(report, "synonyms")
    kind = str(report.get("type") or "")
    row: dict[str, Any] = {
        "gene_id": int(report["geneId"]),
        "tax_id": int(report["taxId"]),
        "symbol": str(report["symbol"]),
        "name": str(report.get("description") or "") or None,
        "type": _TYPE_OF.get(kind.upper(), kind.lower()) or None,
        "chromosome": "|".join(_strings(report, "chromosomes")) or None,
        "map_location": "|".join(_strings(report, "mapLocations")) or None,
        "summary": max(summaries, key=len, default="") or None,
        "aliases": aliases or None,
    }
    names: dict[str, list[str]] = {
        "symbol": [row["symbol"]],
        "alias": aliases,
        "ensembl": [normalize_name(name) for name in _strings(report, "ensemblGeneIds")],
        "retired_id": _strings(report, "replacedGeneId"),
        "locus_tag": _strings(report, "locusTag"),
    }
    for authority in _objects(report, "nomenclatureAuthority"):
        identifier = str(authority.get("identifier") or "")
        prefix, _, rest = identifier.partition(":")
        if prefix.lower() in _AUTHORITIES:
            names[prefix.lower()] = [identifier if _AUTHORITIES[prefix.lower()] else rest]
    return _Gene(row=row, names=names, terms=_go_terms(report))


def _go_terms(report: dict[str, Any]) -> list[dict[str, Any]]:
    """GO terms of a report, without negated ones."""
    return [
        {
            "gene_id": int(report["geneId"]),
            "vocabulary": vocabulary,
            "term_id": str(item.get("goId")),
            "term": str(item.get("name")),
            "evidence": item.get("evidenceCode"),
        }
        for ontology in _objects(report, "geneOntology")
        for key, vocabulary in _ASPECTS.items()
        for item in _objects(ontology, key)
        if item.get("goId") and item.get("name") and not str(item.get("qualifier") or "").startswith("NOT")
    ]
