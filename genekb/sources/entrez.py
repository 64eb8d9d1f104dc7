"""Gene records as NCBI's E-utilities answer them, read from the files that a fetch left in a folder."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pyarrow as pa

from genekb import schema
from genekb.errors import SourceUnusable
from genekb.sources.ncbi_bulk import LICENCE, without_provenance
from genekb.sources.tables import SourceFile, SourceTables, describe_file

PATTERNS: Final = ("esummary*.xml", "esummary*.json", "efetch*.xml")
_XREFS: Final = {"Ensembl": "ensembl", "HGNC": "hgnc", "MGI": "mgi", "FLYBASE": "flybase", "RGD": "rgd", "ZFIN": "zfin"}


@dataclass(frozen=True, kw_only=True, slots=True)
class EntrezRecord:
    """One gene of an answer.

    Parameters
    ----------
    gene_id
        The id that was asked for.
    current_id
        The id that took its place; 0 where it is current.
    row
        Its fields as in :data:`genekb.schema.GENES`.
    names
        Further names by kind.
    """

    gene_id: int
    current_id: int
    row: dict[str, Any]
    names: dict[str, list[str]] = field(default_factory=dict)


def read_entrez_folder(folder: Path, *, release: str | None = None) -> SourceTables:
    """Read every esummary and efetch answer of a folder; of a gene in several the last in order of file name stands.

    Raises
    ------
    SourceUnusable
        If a file is damaged, or no answer holds a current gene.
    """
    records: dict[int, EntrezRecord] = {}
    files: list[SourceFile] = []
    for path in sorted(path for pattern in PATTERNS for path in folder.glob(pattern)):
        found = list(read_answer(path))
        records |= {record.gene_id: record for record in found}
        files.append(describe_file(path, n_rows_read=len(found), n_rows_kept=len(found)))
    current = {key: record for key, record in sorted(records.items()) if not record.current_id}
    if not current:
        raise SourceUnusable(f"{folder} holds no answer with a current gene; fetch it again with `genekb fetch`")
    rows = [record.row for record in current.values()]
    return SourceTables(
        genes=pa.Table.from_pylist(rows, schema=schema.GENES),
        names=_names(current, records),
        files=tuple(files),
        release=release or folder.resolve().name,
        licence=LICENCE,
        dropped={"replaced by another GeneID": len(records) - len(current)},
    )


def _names(current: dict[int, EntrezRecord], records: dict[int, EntrezRecord]) -> pa.Table:
    rows = {
        (name, gene_id, kind)
        for gene_id, record in current.items()
        for kind, names in (
            {"symbol": [record.row["symbol"]], "alias": record.row["aliases"] or []} | record.names
        ).items()
        for name in names
        if name
    }
    replaced = {record.gene_id: record.current_id for record in records.values() if record.current_id in current}
    rows |= {(str(old), new, "retired_id") for old, new in replaced.items()}
    columns = zip(*sorted(rows), strict=True)
    arrays = [pa.array(column, item.type) for column, item in zip(columns, schema.NAMES, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema.NAMES)


def read_answer(path: Path) -> Iterator[EntrezRecord]:
    """Read the records of one answer; a record that only says that there is none is passed over.

    Raises
    ------
    SourceUnusable
        If the file is damaged, or an error message in place of an answer.
    """
    if path.suffix == ".json":
        yield from _read_json(path)
        return
    try:
        text = path.read_bytes()
        if b"<!ENTITY" in text:
            raise SourceUnusable(f"{path} defines entities, which no answer of NCBI's does; do not use it")
        root = ElementTree.fromstring(text)
    except (OSError, ElementTree.ParseError) as error:
        raise SourceUnusable(f"{path} is damaged ({error}); delete it and run `genekb fetch` again") from error
    message = root.findtext(".//ERROR") or (root.text or "" if root.tag == "ERROR" else "")
    if message.strip():
        raise SourceUnusable(f"{path} holds an error of NCBI's in place of an answer: {message.strip()[:100]}")
    for document in root.iter("DocumentSummary"):
        if document.find("error") is None:
            yield _of_summary(
                {child.tag.lower(): child.text or "" for child in document.iter()}, document.get("uid", "")
            )
    for gene in root.iter("Entrezgene"):
        yield _of_gene(gene, path)


def _read_json(path: Path) -> Iterator[EntrezRecord]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))["result"]
        documents = [(uid, result[uid]) for uid in result["uids"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceUnusable(f"{path} is no esummary answer ({error}); fetch it again") from error
    for uid, document in documents:
        if "error" not in document:
            organism = document.get("organism") or {}
            yield _of_summary(document | {"taxid": organism.get("taxid", "")}, uid)


def _of_summary(fields: dict[str, Any], uid: str) -> EntrezRecord:
    def text(name: str) -> str | None:
        return str(fields.get(name) or "").strip() or None

    official = text("nomenclaturesymbol")
    row = {
        "gene_id": int(uid),
        "tax_id": int(text("taxid") or 0),
        "symbol": text("name") or f"LOC{uid}",
        "name": text("nomenclaturename") or text("description"),
        "type": None,
        "chromosome": text("chromosome"),
        "map_location": text("maplocation"),
        "summary": without_provenance(text("summary") or "") or None,
        "designations": _split(text("otherdesignations"), "|"),
        "aliases": _split(text("otheraliases"), ","),
        "status": text("nomenclaturestatus"),
        "modified": None,
    }
    names = {"authority_symbol": [official]} if official and official != row["symbol"] else {}
    return EntrezRecord(gene_id=int(uid), current_id=int(text("currentid") or 0), row=row, names=names)


def _of_gene(gene: ElementTree.Element, path: Path) -> EntrezRecord:
    def text(name: str) -> str | None:
        return (gene.findtext(f".//{name}") or "").strip() or None

    gene_id = text("Gene-track_geneid")
    if gene_id is None:
        raise SourceUnusable(f"{path} has a gene without a GeneID; fetch it again")
    source = gene.find(".//Entrezgene_source")
    reference = gene.find(".//Entrezgene_gene")
    tags = list(_tags(reference))
    kind = gene.find(".//Entrezgene_type")
    synonyms = [item.text or "" for item in gene.iterfind(".//Gene-ref_syn_E")]
    row = {
        "gene_id": int(gene_id),
        "tax_id": int(next((value for db, value in _tags(source) if db == "taxon"), 0)),
        "symbol": text("Gene-ref_locus") or f"LOC{gene_id}",
        "name": text("Gene-ref_desc"),
        "type": kind.get("value") if kind is not None else None,
        "chromosome": text("SubSource_name"),
        "map_location": text("Gene-ref_maploc"),
        "summary": without_provenance(text("Entrezgene_summary") or "") or None,
        "designations": [item.text or "" for item in gene.iterfind(".//Prot-ref_name_E")] or None,
        "aliases": synonyms or None,
        "status": None,
        "modified": None,
    }
    names: dict[str, list[str]] = {}
    for db, value in tags:
        if db in _XREFS:
            names.setdefault(_XREFS[db], []).append(value)
    return EntrezRecord(gene_id=int(gene_id), current_id=int(_replaced_by(gene)), row=row, names=names)


def _tags(element: ElementTree.Element | None) -> Iterator[tuple[str, str]]:
    for tag in element.iter("Dbtag") if element is not None else ():
        value = tag.findtext(".//Object-id_id") or tag.findtext(".//Object-id_str") or ""
        yield tag.findtext("Dbtag_db") or "", value.strip()


def _replaced_by(gene: ElementTree.Element) -> str:
    current = gene.find(".//Gene-track_current-id")
    return next((value for db, value in _tags(current) if db == "GeneID"), "0")


def _split(text: str | None, separator: str) -> list[str] | None:
    return [part.strip() for part in text.split(separator) if part.strip()] if text else None
