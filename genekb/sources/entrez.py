"""Gene records of NCBI's E-utilities, read from the files that `genekb download --gene` wrote into a folder."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final
from xml.parsers.expat import ExpatError

import pyarrow as pa

from genekb import schema
from genekb.core.errors import SourceUnusable
from genekb.core.plugins import require
from genekb.files.atomic import system_errors
from genekb.sources.base import LICENSE, SourceFile, SourceTables, describe_file, names_table, without_provenance

PATTERNS: Final = ("esummary*.xml", "esummary*.json", "efetch*.xml")
# What Biopython raises on bytes that are no answer.
MALFORMED: Final = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError, ExpatError)
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
        raise SourceUnusable(
            f"{folder} holds no answer with a current gene; fetch it again with `genekb download` (`gene`)"
        )
    try:
        genes = pa.Table.from_pylist([record.row for record in current.values()], schema=schema.GENES)
        names = _names(current, records)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise SourceUnusable(
            f"{folder} holds an answer with a value that is none of NCBI's ({error}); fetch it again "
            "with `genekb download` (`gene`)"
        ) from error
    return SourceTables(
        genes=genes,
        names=names,
        files=tuple(files),
        release=release or folder.resolve().name,
        licence=LICENSE,
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
        elif path.name.startswith("efetch"):
            yield from map(_of_gene, _parser(path.parent).parse(path))  # one by one, since a gene has megabytes
        else:
            yield from _read_summaries(read_xml(path, utility="esummary", folder=path.parent))
    except (OSError, *MALFORMED) as error:
        reason = str(error).partition(". ")[0]
        raise SourceUnusable(
            f"{path} is no answer of NCBI's, or damaged ({reason}); delete it and run `genekb download` again"
        ) from error


def read_xml(source: Path | BinaryIO, *, utility: str, folder: Path) -> Any:
    """Parse the answer of a utility; one of :data:`MALFORMED` if it is an error, damaged, or of another utility."""
    answer = _parser(folder).read(source)
    errors = [element for element in _descend(answer) if element.tag == "ERROR"]
    if errors or not answer or answer.tag.lower() != f"{utility}result":
        raise ValueError(f"{errors[0].strip()[:100]!r} in place of an answer" if errors else f"not of {utility}")
    return answer


def _parser(folder: Path) -> Any:
    """Biopython's parser of NCBI's XML, by document types that it ships or that lie in a folder; none is downloaded."""
    require("Bio", needed_by="NCBI's answers need")
    with system_errors("cannot load Biopython", hint="set HOME to a folder that can be written to"):
        from Bio.Entrez.Parser import DataHandler

    class LocalTypes(DataHandler):  # type: ignore[misc]  # ships no types
        def open_dtd_file(self, filename: str) -> BinaryIO:
            """Open a document type; without one the library would ask the network."""
            for path in (Path(self.global_dtd_dir, filename), folder / filename):
                if path.is_file():
                    return path.open("rb")
            raise ValueError(f"its document type {filename!r} is not known")

        open_xsd_file = open_dtd_file

    parser = LocalTypes(validate=False, escape=False, ignore_errors=True)
    parser.bypass_url_security = True  # of the addresses of document types; none is opened
    return parser


def _descend(element: Any) -> Iterator[Any]:
    """Give an element and all below it, as Biopython nests them."""
    if hasattr(element, "tag"):
        yield element
    children = element.values() if isinstance(element, dict) else element if isinstance(element, list) else ()
    for child in children:
        yield from _descend(child)


def _by_tag(element: Any) -> dict[str, Any]:
    """First element of each tag at or below an element."""
    found: dict[str, Any] = {}
    for below in _descend(element):
        found.setdefault(below.tag, below)
    return found


def _read_summaries(answer: Any) -> Iterator[EntrezRecord]:
    for document in _descend(answer):
        if document.tag == "DocumentSummary":
            fields = {tag.lower(): below for tag, below in _by_tag(document).items() if isinstance(below, str)}
            if "error" not in fields:
                yield _of_summary(fields, document.attributes.get("uid", ""))


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


def _of_gene(gene: Any) -> EntrezRecord:
    found = _by_tag(gene)

    def text(tag: str) -> str | None:
        return str(found.get(tag, "")).strip() or None

    def texts(tag: str) -> list[str] | None:
        return list(map(str, found.get(tag, ()))) or None

    def value(tag: str) -> str | None:
        return found[tag].attributes.get("value") if tag in found else None

    def identifiers(tag: str) -> dict[str, list[str]]:
        """Group identifiers by database."""
        by_database: dict[str, list[str]] = {}
        for entry in found.get(tag, ()):
            identifier = entry["Dbtag_tag"]["Object-id"]
            value = identifier.get("Object-id_id") or identifier.get("Object-id_str") or ""
            by_database.setdefault(entry["Dbtag_db"], []).append(value.strip())
        return by_database

    gene_id = int(found["Gene-track_geneid"])
    row = {
        "gene_id": gene_id,
        "tax_id": int(identifiers("Org-ref_db").get("taxon", ["0"])[0]),
        "symbol": text("Gene-ref_locus") or f"LOC{gene_id}",
        "name": text("Gene-ref_desc"),
        "type": value("Entrezgene_type"),
        "chromosome": text("SubSource_name"),
        "map_location": text("Gene-ref_maploc"),
        "summary": without_provenance(text("Entrezgene_summary") or "") or None,
        "designations": texts("Prot-ref_name"),
        "aliases": texts("Gene-ref_syn"),
    }
    xrefs = {_XREFS[database]: ids for database, ids in identifiers("Gene-ref_db").items() if database in _XREFS}
    current_id = int(identifiers("Gene-track_current-id").get("GeneID", ["0"])[0])
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


def _split(text: str | None, separator: str) -> list[str] | None:
    return [part.strip() for part in text.split(separator) if part.strip()] if text else None
