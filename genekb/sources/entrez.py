"""Gene records of NCBI's E-utilities, read from the files that `genekb fetch` wrote into a folder."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree
from xml.parsers import expat

import pyarrow as pa

from genekb import schema
from genekb.core.errors import SourceUnusable
from genekb.sources.base import LICENCE, SourceFile, SourceTables, describe_file, names_table, without_provenance

PATTERNS: Final = ("esummary*.xml", "esummary*.json", "efetch*.xml")
_LIVE: Final = {"", "0", "live"}
_XREFS: Final = {"Ensembl": "ensembl", "HGNC": "hgnc", "MGI": "mgi", "FLYBASE": "flybase", "RGD": "rgd", "ZFIN": "zfin"}


@dataclass(frozen=True, kw_only=True, slots=True)
class EntrezRecord:
    """One gene of an answer."""

    gene_id: int  # the id that was asked for
    current_id: int  # the id that replaced it; 0 where none did
    is_withdrawn: bool  # and not replaced
    row: dict[str, Any]  # its fields as in :data:`genekb.schema.GENES`
    names: dict[str, list[str]]  # by kind


def read_entrez_folder(folder: Path, *, release: str | None = None) -> SourceTables:
    """Read every esummary and efetch answer of a folder; of a gene in several files the last one counts."""
    records: dict[int, EntrezRecord] = {}
    files: list[SourceFile] = []
    for path in sorted(path for pattern in PATTERNS for path in folder.glob(pattern)):
        found = list(read_answer(path))
        records |= {record.gene_id: record for record in found}
        files.append(describe_file(path, n_rows_read=len(found), n_rows_kept=len(found)))
    current = {key: record for key, record in sorted(records.items()) if current_gene(key, records) == key}
    if not current:
        raise SourceUnusable(f"{folder} holds no answer with a current gene; fetch it again with `genekb fetch`")
    try:
        genes = pa.Table.from_pylist([record.row for record in current.values()], schema=schema.GENES)
        names = _names(current, records)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise SourceUnusable(
            f"{folder} holds an answer with a value that is none of NCBI's ({error}); fetch it again "
            "with `genekb fetch`"
        ) from error
    return SourceTables(
        genes=genes,
        names=names,
        files=tuple(files),
        release=release or folder.resolve().name,
        licence=LICENCE,
        dropped={
            "replaced by another GeneID": sum(record.current_id != 0 for record in records.values()),
            "withdrawn": sum(record.is_withdrawn for record in records.values()),
        },
    )


def current_gene(gene_id: int, records: Mapping[int, EntrezRecord]) -> int | None:
    """Follow a GeneID through its replacements to a current one; None where that is not known."""
    seen: set[int] = set()
    while gene_id in records and gene_id not in seen:
        record = records[gene_id]
        if not record.current_id:
            return None if record.is_withdrawn else gene_id
        seen.add(gene_id)
        gene_id = record.current_id
    return None


def _names(current: dict[int, EntrezRecord], records: dict[int, EntrezRecord]) -> pa.Table:
    own = ((gene_id, record.names) for gene_id, record in current.items())
    current_ids = {old: current_gene(old, records) for old, record in records.items() if record.current_id}
    retired = ((new, {"retired_id": [str(old)]}) for old, new in current_ids.items() if new is not None)
    return names_table([*own, *retired])


def read_answer(path: Path) -> Iterator[EntrezRecord]:
    """Read the records of one answer, without those that only report an error."""
    try:
        if path.suffix == ".json":
            yield from _read_json(path)
        else:
            _refuse_entities(path)
            yield from _read_xml(path)
    except (OSError, ElementTree.ParseError, expat.ExpatError) as error:
        raise SourceUnusable(f"{path} is damaged ({error}); delete it and run `genekb fetch` again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceUnusable(f"{path} is no esummary answer ({error}); fetch it again") from error


def _refuse_entities(path: Path) -> None:
    def refuse(*_: object) -> None:
        raise SourceUnusable(f"{path} defines entities, which no answer of NCBI's does; do not use it")

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    with path.open("rb") as stream:
        parser.ParseFile(stream)


def _read_xml(path: Path) -> Iterator[EntrezRecord]:
    """Yield records one by one, and free each, so that memory does not grow with the file."""
    depth: list[ElementTree.Element] = []
    for event, element in ElementTree.iterparse(path, events=("start", "end")):
        if event == "start":
            depth.append(element)
            continue
        depth.pop()
        if element.tag == "ERROR":
            message = (element.text or "").strip()[:100]
            raise SourceUnusable(f"{path} holds an error of NCBI's instead of an answer: {message}")
        if element.tag == "Entrezgene":
            yield _of_gene(element, path)
        elif element.tag == "DocumentSummary" and element.find("error") is None:
            fields = {child.tag.lower(): child.text or "" for child in element.iter()}
            yield _of_summary(fields, element.get("uid", ""))
        if element.tag in {"Entrezgene", "DocumentSummary"} and depth:
            depth[-1].clear()


def _read_json(path: Path) -> Iterator[EntrezRecord]:
    result = json.loads(path.read_text(encoding="utf-8"))["result"]
    for uid in result["uids"]:
        document = result[uid]
        if "error" not in document:
            organism = document.get("organism") or {}
            yield _of_summary(document | {"taxid": organism.get("taxid", "")}, uid)


def _of_summary(fields: dict[str, Any], uid: str) -> EntrezRecord:
    def text(name: str) -> str | None:
        return str(fields.get(name) or "").strip() or None

    row = {
        "gene_id": int(uid),
        "tax_id": int(text("taxid") or 0),
        "symbol": text("name") or f"LOC{uid}",
        "name": text("nomenclaturename") or text("description"),
        "chromosome": text("chromosome"),
        "map_location": text("maplocation"),
        "summary": without_provenance(text("summary") or "") or None,
        "designations": _split(text("otherdesignations"), "|"),
        "aliases": _split(text("otheraliases"), ","),
        "status": text("nomenclaturestatus"),
    }
    current_id, status = int(text("currentid") or 0), text("status") or ""
    return _record(row, official=text("nomenclaturesymbol"), current_id=current_id, status=status, xrefs={})


def _of_gene(gene: ElementTree.Element, path: Path) -> EntrezRecord:
    def text(name: str) -> str | None:
        return (gene.findtext(f".//{name}") or "").strip() or None

    def texts(name: str) -> list[str] | None:
        return [item.text or "" for item in gene.iterfind(f".//{name}")] or None

    def value(name: str) -> str | None:
        found = gene.find(f".//{name}")
        return None if found is None else found.get("value")

    gene_id = text("Gene-track_geneid")
    if gene_id is None:
        raise SourceUnusable(f"{path} has a gene without a GeneID; fetch it again")
    row = {
        "gene_id": int(gene_id),
        "tax_id": int(_identifiers(gene, "Entrezgene_source").get("taxon", ["0"])[0]),
        "symbol": text("Gene-ref_locus") or f"LOC{gene_id}",
        "name": text("Gene-ref_desc"),
        "type": value("Entrezgene_type"),
        "chromosome": text("SubSource_name"),
        "map_location": text("Gene-ref_maploc"),
        "summary": without_provenance(text("Entrezgene_summary") or "") or None,
        "designations": texts("Prot-ref_name_E"),
        "aliases": texts("Gene-ref_syn_E"),
    }
    xrefs = {_XREFS[db]: ids for db, ids in _identifiers(gene, "Entrezgene_gene").items() if db in _XREFS}
    current_id = int(_identifiers(gene, "Gene-track_current-id").get("GeneID", ["0"])[0])
    status, official = value("Gene-track_status") or "", text("Gene-nomenclature_symbol")
    return _record(row, official=official, current_id=current_id, status=status, xrefs=xrefs)


def _record(
    row: dict[str, Any], *, official: str | None, current_id: int, status: str, xrefs: Mapping[str, list[str]]
) -> EntrezRecord:
    names = {"symbol": [row["symbol"]], "alias": row["aliases"] or [], **xrefs}
    if official and official != row["symbol"]:
        names["authority_symbol"] = [official]
    is_withdrawn = not current_id and status not in _LIVE
    return EntrezRecord(gene_id=row["gene_id"], current_id=current_id, is_withdrawn=is_withdrawn, row=row, names=names)


def _identifiers(gene: ElementTree.Element, below: str) -> dict[str, list[str]]:
    """Find identifiers by database, below the first element of a name."""
    found: dict[str, list[str]] = {}
    element = gene.find(f".//{below}")
    for tag in element.iter("Dbtag") if element is not None else ():
        value = tag.findtext(".//Object-id_id") or tag.findtext(".//Object-id_str") or ""
        found.setdefault(tag.findtext("Dbtag_db") or "", []).append(value.strip())
    return found


def _split(text: str | None, separator: str) -> list[str] | None:
    return [part.strip() for part in text.split(separator) if part.strip()] if text else None
