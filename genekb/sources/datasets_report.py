"""Gene reports of NCBI Datasets: one JSON object a line, as its command line and its API write them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from genekb import schema
from genekb.errors import SourceUnusable
from genekb.sources.ncbi_bulk import LICENCE, without_provenance
from genekb.sources.tables import SourceTables, describe_file
from genekb.sources.taxa import find_taxon

FILE_NAME: Final = "data_report.jsonl"
_FOLDERS: Final = ("", "data", "ncbi_dataset/data")
_TYPES: Final = {
    "PROTEIN_CODING": "protein-coding",
    "NCRNA": "ncRNA",
    "RRNA": "rRNA",
    "TRNA": "tRNA",
    "SNRNA": "snRNA",
    "SNORNA": "snoRNA",
    "SCRNA": "scRNA",
    "PSEUDO": "pseudo",
    "OTHER": "other",
    "UNKNOWN": "unknown",
    "BIOLOGICAL_REGION": "biological-region",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Gene:
    """One report: a row of the table of genes, and its names by kind."""

    row: dict[str, Any]
    names: dict[str, list[str]]


def read_datasets_report(path: Path, *, taxa: Sequence[str] | None = None, release: str | None = None) -> SourceTables:
    """Read gene records from a ``data_report.jsonl``.

    Parameters
    ----------
    path
        The file, or a folder with one somewhere below it.
    taxa
        Species to keep; all if left out.

    Raises
    ------
    SourceUnusable
        If a line is no gene report, or no gene of the species is in the file.
    """
    path = find_report(path) or path
    wanted = None if taxa is None else {int(find_taxon(name).tax_id) for name in taxa}
    dropped = {"other taxon or subspecies": 0, "biological-region": 0, "repeated GeneID": 0}
    genes: dict[int, _Gene] = {}
    n_read = 0
    for report in _reports(path):
        n_read += 1
        gene = _gene(report)
        if wanted is not None and gene.row["tax_id"] not in wanted:
            dropped["other taxon or subspecies"] += 1
        elif gene.row["type"] == "biological-region":
            dropped["biological-region"] += 1
        elif gene.row["gene_id"] in genes:
            dropped["repeated GeneID"] += 1
        else:
            genes[gene.row["gene_id"]] = gene
    if not genes:
        raise SourceUnusable(f"{path} holds no gene of {', '.join(taxa or ['any species'])}; is the taxon right?")
    return SourceTables(
        genes=pa.Table.from_pylist([genes[key].row for key in sorted(genes)], schema=schema.GENES),
        names=_names(genes),
        files=(describe_file(path, n_rows_read=n_read, n_rows_kept=len(genes)),),
        release=release or path.resolve().parent.name,
        licence=LICENCE,
        dropped=dropped,
    )


def find_report(path: Path) -> Path | None:
    """Find the report of an unpacked download: the path itself, or the one file of that name below it."""
    if path.is_file():
        return path
    return next((path / below / FILE_NAME for below in _FOLDERS if (path / below / FILE_NAME).is_file()), None)


def _reports(path: Path) -> Iterator[dict[str, Any]]:
    """Gene reports one by one, also those that are wrapped into an object ``gene`` or a list ``reports``."""
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                yield from _unwrapped(_parsed(line, path, number), path, number)
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnusable(f"{path} cannot be read ({error}); give a {FILE_NAME} of NCBI Datasets") from error


def _parsed(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise SourceUnusable(f"{path}, line {number}: no JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise SourceUnusable(f"{path}, line {number}: a {type(content).__name__}, an object is needed")
    return content


def _unwrapped(content: dict[str, Any], path: Path, number: int) -> Iterator[dict[str, Any]]:
    for item in content.get("reports") or [content]:
        report = item.get("gene", item) if isinstance(item, dict) else {}
        if not _of(report, "geneId") or not _of(report, "symbol") or not _of(report, "taxId"):
            raise SourceUnusable(f"{path}, line {number}: no gene report (geneId, symbol and taxId are needed)")
        yield report


def _of(report: dict[str, Any], key: str) -> Any:
    """Value of a field in either spelling, geneId or gene_id."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)
    return report.get(key, report.get(snake))


def _gene(report: dict[str, Any]) -> _Gene:
    summaries = [without_provenance(str(_of(item, "description") or "")) for item in _of(report, "summary") or []]
    authority = _of(report, "nomenclatureAuthority") or {}
    identifier = str(_of(authority, "identifier") or "")
    aliases = [str(name) for name in _of(report, "synonyms") or []]
    kind = str(_of(report, "type") or "")
    row = {
        "gene_id": int(_of(report, "geneId")),
        "tax_id": int(_of(report, "taxId")),
        "symbol": str(report["symbol"]),
        "name": _of(report, "description"),
        "type": _TYPES.get(kind, kind.lower() or None),
        "chromosome": "|".join(map(str, _of(report, "chromosomes") or [])) or None,
        "map_location": None,
        "summary": max(summaries, key=len, default="") or None,
        "designations": None,
        "aliases": aliases or None,
        "status": None,
        "modified": None,
    }
    names = {
        "symbol": [row["symbol"]],
        "alias": aliases,
        "ensembl": [str(name).split(".")[0] for name in _of(report, "ensemblGeneIds") or []],
        "retired_id": [str(name) for name in _of(report, "replacedGeneId") or []],
        identifier.partition(":")[0].lower(): [identifier],
    }
    return _Gene(row=row, names=names)


def _names(genes: dict[int, _Gene]) -> pa.Table:
    known = {"symbol", "alias", "ensembl", "retired_id", "hgnc", "mgi"}
    rows = sorted(
        {
            (name, gene_id, kind)
            for gene_id, gene in genes.items()
            for kind, names in gene.names.items()
            for name in names
            if kind in known and name
        }
    )
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema.NAMES, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema.NAMES)
