"""Gene records of NCBI's E-utilities, read from the files that `genekb download --gene` wrote into a folder."""

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

PATTERN: Final = "esummary*.xml"
# What Biopython raises on bytes that are no answer.
MALFORMED: Final = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError, ExpatError)
_LIVE: Final = {"", "0", "live"}


@dataclass(frozen=True, kw_only=True, slots=True)
class EntrezRecord:
    """One gene of an answer."""

    gene_id: int  # the id that was asked for
    current_id: int  # the id that replaced it; 0 where none did
    is_withdrawn: bool  # and not replaced
    row: dict[str, Any]  # its fields as in :data:`genekb.schema.GENES`
    names: dict[str, list[str]]  # by kind


def read_entrez_folder(folder: Path, *, release: str | None = None) -> SourceTables:
    """Read every esummary answer of a folder; of a gene in several files the last one counts."""
    records: dict[int, EntrezRecord] = {}
    files: list[SourceFile] = []
    for path in sorted(folder.glob(PATTERN)):
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
        for document in _descend(read_xml(path, utility="esummary", folder=path.parent)):
            if document.tag == "DocumentSummary":
                below = reversed(list(_descend(document)))  # the first of each tag counts
                fields = {
                    tag.lower(): part for tag, part in ((each.tag, each) for each in below) if isinstance(part, str)
                }
                if "error" not in fields:
                    yield _of_summary(fields, document.attributes.get("uid", ""))
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


def _of_summary(fields: Mapping[str, str], uid: str) -> EntrezRecord:
    def text(name: str) -> str | None:
        return fields.get(name, "").strip() or None

    row: dict[str, Any] = {
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
    names = {"symbol": [row["symbol"]], "alias": row["aliases"] or []}
    official, current_id = text("nomenclaturesymbol"), int(text("currentid") or 0)
    if official and official != row["symbol"]:
        names["authority_symbol"] = [official]
    is_withdrawn = not current_id and (text("status") or "") not in _LIVE
    return EntrezRecord(gene_id=int(uid), current_id=current_id, is_withdrawn=is_withdrawn, row=row, names=names)


def _split(text: str | None, separator: str) -> list[str] | None:
    return [part.strip() for part in text.split(separator) if part.strip()] if text else None
