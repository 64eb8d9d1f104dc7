"""The exact text of a gene, by numbered templates; fields that a gene lacks are left out."""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa

from genekb import schema
from genekb.schema import TextID

Field = Literal["symbol", "name", "aliases", "summary", "designations", "type", "map_location", "go_terms", "generifs"]
DESIGNATIONS_LIMIT: Final = 200  # characters of other designations, which may run to thousands
_VOCABULARIES: Final = {
    "go_process": "go_terms",
    "go_function": "go_terms",
    "go_component": "go_terms",
    "generif": "generifs",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """Which fields make a gene's text, in which order."""

    number: int  # identity of the template; a change of meaning takes a new number
    name: str  # what ``--template`` calls it
    head: tuple[Field, ...]  # head, body: fields joined as ``head: head. body body``
    body: tuple[Field, ...]
    fallback: tuple[Field, ...] = ()  # body of a gene that has none of the body's fields
    # a gene with none of these fields has no usable text
    informative: tuple[Field, ...] = ("name", "summary", "designations")
    use_ortholog: bool = True  # whether a missing summary is filled from the orthologue


_WITH_TERMS: Final[tuple[Field, ...]] = ("name", "summary", "go_terms")
_WITH_RIFS: Final[tuple[Field, ...]] = ("name", "summary", "generifs")
TEMPLATES: Final = (
    Template(number=1, name="summary", head=("symbol", "name"), body=("summary",), fallback=("designations",)),
    Template(number=2, name="names", head=("name",), body=("designations",), use_ortholog=False),
    Template(number=3, name="symbol", head=("symbol",), body=(), informative=("symbol",), use_ortholog=False),
    Template(number=4, name="full", head=("symbol", "name"), body=("type", "aliases", "map_location", "summary")),
    Template(number=5, name="summary-only", head=(), body=("summary",), informative=("summary",)),
    Template(number=6, name="go", head=("symbol", "name"), body=("summary", "go_terms"), informative=_WITH_TERMS),
    Template(number=7, name="generif", head=("symbol", "name"), body=("summary", "generifs"), informative=_WITH_RIFS),
    Template(number=8, name="designations", head=("symbol", "name"), body=("summary", "designations")),
)
DEFAULT_TEMPLATE: Final = TEMPLATES[0]

_PREFIX: Final = {
    "designations": "Also: ",
    "aliases": "Aliases: ",
    "type": "Type: ",
    "map_location": "Location: ",
    "go_terms": "GO: ",
}
_UNINFORMATIVE_NAME: Final = re.compile(
    r"^(uncharacterized|hypothetical|novel|predicted gene|RIKEN cDNA|expressed sequence|LOC\d+)\b", re.IGNORECASE
)


def find_template(name: str) -> Template:
    """Find a template by name or number."""
    for template in TEMPLATES:
        if name in {template.name, str(template.number)}:
            return template
    raise ValueError(f"template {name!r} is not one of {', '.join(template.name for template in TEMPLATES)}")


def text_id(text: str) -> TextID:
    """SHA-256 of the exact text, in hex."""
    return TextID(hashlib.sha256(text.encode()).hexdigest())


def gene_text(record: Mapping[str, Any], template: Template) -> str | None:
    """Write the text of one gene, a row of :data:`genekb.schema.GENES`; None where no field is informative."""
    if not any(_informs(record, name) for name in template.informative):
        return None
    head = [text for name in template.head if (text := _field(record, name))]
    body = [text for name in template.body if (text := _field(record, name))]
    if not body:
        body = [text for name in template.fallback if (text := _field(record, name))]
    return " ".join(filter(None, [_sentence(": ".join(head)), *(_sentence(text) for text in body)]))


def build_texts(
    genes: pa.Table,
    orthologs: pa.Table,
    *,
    template: Template,
    annotations: pa.Table | None = None,
    selected: Collection[int] | None = None,
) -> pa.Table:
    """Write the texts of the ``selected`` genes, or of all, that have one, ordered by gene_id."""
    stand_in = _stand_ins(genes, orthologs) if template.use_ortholog else {}
    terms = _terms(annotations, template)
    rows = []
    for record in genes.to_pylist():
        gene_id = record["gene_id"]
        if selected is not None and gene_id not in selected:
            continue
        origin, origin_id = "own", gene_id
        if not record["summary"] and gene_id in stand_in:
            origin, origin_id = "ortholog", stand_in[gene_id]["ortholog_gene_id"]
            record["summary"] = stand_in[gene_id]["ortholog_summary"]
        text = gene_text(record | terms.get(gene_id, {}), template)
        if text:
            rows.append((gene_id, text_id(text), text, template.number, origin, origin_id))
    columns = zip(*rows, strict=True) if rows else [()] * len(schema.TEXTS)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema.TEXTS, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema.TEXTS).sort_by("gene_id")


def _terms(annotations: pa.Table | None, template: Template) -> dict[int, dict[str, list[str]]]:
    """For each gene the terms that the template asks for, each once: GO terms by name, GeneRIFs in their order."""
    wanted = {key for key, name in _VOCABULARIES.items() if name in template.body}
    if annotations is None or not wanted:
        return {}
    terms: dict[int, dict[str, list[str]]] = {}
    for row in annotations.to_pylist():
        if row["vocabulary"] in wanted:
            found = terms.setdefault(row["gene_id"], {}).setdefault(_VOCABULARIES[row["vocabulary"]], [])
            if row["term"] not in found:
                found.append(row["term"])
    for lists in terms.values():
        lists.get("go_terms", []).sort()
    return terms


def _stand_ins(genes: pa.Table, orthologs: pa.Table) -> dict[int, dict[str, Any]]:
    """For each gene the orthologue whose summary replaces a missing one: of the same symbol, or the only one."""
    symbols = dict(zip(genes["gene_id"].to_pylist(), genes["symbol"].to_pylist(), strict=True))
    candidates: dict[int, list[dict[str, Any]]] = {}
    for row in orthologs.to_pylist():
        if row["ortholog_summary"]:
            candidates.setdefault(row["gene_id"], []).append(row)
    chosen = {}
    for gene_id, rows in candidates.items():
        same = [row for row in rows if row["ortholog_symbol"].upper() == symbols.get(gene_id, "").upper()]
        if len(same) == 1 or len(rows) == 1:
            chosen[gene_id] = (same or rows)[0]
    return chosen


def _informs(record: Mapping[str, Any], name: Field) -> bool:
    text = _field(record, name)
    if name == "name":
        return bool(text) and text != record["symbol"] and not _UNINFORMATIVE_NAME.match(text)
    if name == "designations":
        return bool(text) and any(not _UNINFORMATIVE_NAME.match(item) for item in record["designations"])
    return bool(text)


def _field(record: Mapping[str, Any], name: Field) -> str:
    value = record.get(name)
    if not value:
        return ""
    if isinstance(value, list):
        value = " ".join(map(_sentence, value)) if name == "generifs" else "; ".join(value)
        if name == "designations" and len(value) > DESIGNATIONS_LIMIT:
            value = value[:DESIGNATIONS_LIMIT].rsplit(";", 1)[0]
    return _PREFIX.get(name, "") + " ".join(str(value).split())


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
