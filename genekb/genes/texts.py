"""The exact text of a gene, by numbered templates; fields that a gene lacks are left out."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from genekb import schema
from genekb.core.resources import release_unused
from genekb.core.words import without_brackets
from genekb.schema import TextID, empty, in_order_of_genes, integers, literal, literals, strings

Field = Literal[
    "symbol",
    "name",
    "aliases",
    "summary",
    "designations",
    "type",
    "map_location",
    "go_terms",
    "generifs",
    "functions",
]
DESIGNATIONS_LIMIT: Final = 200  # characters of other designations, which may run to thousands
_VOCABULARIES: Final = {
    "go_process": "go_terms",
    "go_function": "go_terms",
    "go_component": "go_terms",
    "generif": "generifs",
    "function": "functions",
    "description": "functions",
}
Section = tuple[str, str]  # source (NCBI, UniProt, the Alliance, ...) and text of a part of a gene's text
FUNCTION_VOCABULARIES: Final = tuple(name for name, field in _VOCABULARIES.items() if field == "functions")


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """Which fields make a gene's text, in which order."""

    number: int  # identity of the template; a change of meaning takes a new number
    name: str  # as the argument ``template`` names it
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
    Template(
        number=9,
        name="functions",
        head=("symbol", "name"),
        body=("summary", "functions", "designations"),
        informative=("name", "summary", "designations", "functions"),
    ),
)
DEFAULT_TEMPLATE: Final = TEMPLATES[0]

_PREFIX: Final = {
    "designations": "Also: ",
    "aliases": "Aliases: ",
    "type": "Type: ",
    "map_location": "Location: ",
    "go_terms": "GO: ",
}
_UNINFORMATIVE: Final = (
    r"(?i)^(uncharacterized|hypothetical|novel|predicted gene|RIKEN cDNA|expressed sequence|LOC\d+)\b"
)
_UNEVEN: Final = r"[^!-~ ]|  |^ | $"  # may hold blanks that are to be evened out, or others than ASCII's
_ROWS_AT_ONCE: Final = 1 << 13  # bounds memory
_EMPTY, _STOP, _AND, _NO_TEXT = (literal(text) for text in ("", ".", "; ", None))


def find_template(name: str) -> Template:
    """Find a template by name or number."""
    for template in TEMPLATES:
        if name in {template.name, str(template.number)}:
            return template
    raise ValueError(f"template {name!r} is not one of {', '.join(template.name for template in TEMPLATES)}")


def default_template(annotations: pa.Table) -> Template:
    """Choose the template of a source: ``functions`` where it has texts of functions, else ``summary``."""
    has_functions = pc.any(pc.is_in(annotations["vocabulary"], strings(list(FUNCTION_VOCABULARIES)))).as_py()
    return find_template("functions") if has_functions else DEFAULT_TEMPLATE


def uncited(text: str, sentence: str) -> str:
    """Give a sentence of a text as it is, where nothing is known of its source."""
    return sentence


def prose_of(text: str) -> str:
    """Give a text without the other designations at its end, many of which are names of clones and screens."""
    return text.partition(f" {_PREFIX['designations']}")[0]


def text_id(text: str) -> TextID:
    """SHA-256 of the exact text, in hex."""
    return TextID(hashlib.sha256(text.encode()).hexdigest())


def write_texts(
    genes: pa.Table, template: Template, terms: Mapping[int, Mapping[str, Sequence[str]]] | None = None
) -> pa.StringArray:
    """Write the texts of genes, rows of :data:`genekb.schema.GENES`; null where no field is informative."""
    genes = genes.combine_chunks()
    names = dict.fromkeys((*template.head, *template.body, *template.fallback, *template.informative))
    fields = {name: _field(genes, name, terms or {}) for name in names}
    informs = [_informs(fields[name], genes, name) for name in template.informative]
    blank = literals("", genes.num_rows)
    head = _sentence(_joined([blank, *(fields[name] for name in template.head)], ": "))
    body = _joined([blank, *(_sentence(fields[name]) for name in template.body)], " ")
    if template.fallback:
        fallback = _joined([blank, *(_sentence(fields[name]) for name in template.fallback)], " ")
        body = pc.if_else(_is_there(body), body, fallback)
    return pc.if_else(reduce(pc.or_, informs), _joined([blank, head, body], " "), _NO_TEXT)


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
    if selected is not None:
        genes = genes.filter(pc.is_in(genes["gene_id"], integers(sorted(selected))))
    starts = range(0, genes.num_rows, _ROWS_AT_ONCE)
    parts = [_texts_of(genes.slice(start, _ROWS_AT_ONCE), stand_in, template, terms) for start in starts]
    texts = in_order_of_genes(pa.concat_tables([empty(schema.TEXTS), *parts])).combine_chunks()
    parts.clear()
    release_unused()
    return texts


def _texts_of(
    genes: pa.Table,
    stand_in: Mapping[int, Mapping[str, Any]],
    template: Template,
    terms: Mapping[int, Mapping[str, Sequence[str]]],
) -> pa.Table:
    """Rows of :data:`genekb.schema.TEXTS` of some genes; ``stand_in``: orthologues for those without a summary."""
    gene_ids = genes["gene_id"].to_pylist()
    origins = list(gene_ids)
    if stand_in:
        summaries = genes["summary"].to_pylist()
        for row, (gene_id, summary) in enumerate(zip(gene_ids, summaries, strict=True)):
            if not summary and (found := stand_in.get(gene_id)):
                origins[row], summaries[row] = found["ortholog_gene_id"], found["ortholog_summary"]
        genes = genes.set_column(genes.column_names.index("summary"), "summary", strings(summaries))
    written = write_texts(genes, template, terms)
    kept = pc.is_valid(written)
    texts = written.filter(kept)
    kinds = ["own" if origin == gene_id else "ortholog" for origin, gene_id in zip(origins, gene_ids, strict=True)]
    columns = {
        "gene_id": genes["gene_id"].filter(kept),
        "text_id": strings([text_id(text) for text in texts.to_pylist()]),
        "text": texts,
        "template": integers([template.number] * len(texts)).cast(pa.int32()),
        "origin": strings(kinds).filter(kept),
        "origin_gene_id": integers(origins).filter(kept),
    }
    return pa.Table.from_arrays([columns[name] for name in schema.TEXTS.names], schema=schema.TEXTS)


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


def _informs(field: pa.StringArray, genes: pa.Table, name: Field) -> pa.BooleanArray:
    """Whether a field says something of each gene."""
    if name == "name":
        is_symbol = pc.equal(field, pc.coalesce(genes["symbol"], _EMPTY).combine_chunks())
        return pc.and_(_is_there(field), pc.invert(pc.or_(is_symbol, pc.match_substring_regex(field, _UNINFORMATIVE))))
    if name == "designations":
        column = genes[name].combine_chunks()
        says = pc.invert(pc.match_substring_regex(pc.list_flatten(column), _UNINFORMATIVE))
        rows = pc.list_parent_indices(column).filter(says)
        return pc.and_(_is_there(field), pc.is_in(integers(range(len(column))), rows.cast(pa.int64())))
    return _is_there(field)


def _is_there(values: pa.StringArray) -> pa.BooleanArray:
    return pc.binary_length(values).cast(pa.bool_())


def _field(genes: pa.Table, name: Field, terms: Mapping[int, Mapping[str, Sequence[str]]]) -> pa.StringArray:
    """Values of a field with its prefix, blanks evened out; empty where a gene has none."""
    if name in _VOCABULARIES.values():
        join = "; ".join if name == "go_terms" else _sentences
        of_genes = (terms.get(gene_id, {}).get(name, ()) for gene_id in genes["gene_id"].to_pylist())
        values = strings([join(values) for values in of_genes])
    else:
        values = genes[name].combine_chunks()
        if pa.types.is_list(values.type):
            values = pc.binary_join(values, _AND)
        values = pc.coalesce(values, _EMPTY)
    if name == "designations":
        is_long = pc.less(integers([DESIGNATIONS_LIMIT])[0], pc.utf8_length(values).cast(pa.int64()))
        values = _changed(values, is_long, lambda value: value[:DESIGNATIONS_LIMIT].rsplit(";", 1)[0])
    values = _changed(values, pc.match_substring_regex(values, _UNEVEN), lambda value: " ".join(value.split()))
    if name not in _PREFIX:
        return values
    return pc.if_else(_is_there(values), pc.binary_join_element_wise(literal(_PREFIX[name]), values, _EMPTY), values)


def _changed(values: pa.StringArray, where: pa.BooleanArray, change: Callable[[str], str]) -> pa.StringArray:
    """Change the few values for which Arrow has no function."""
    few = values.filter(where).to_pylist()
    return pc.replace_with_mask(values, where, strings([change(value) for value in few])) if few else values


def _joined(columns: Sequence[pa.StringArray], separator: str) -> pa.StringArray:
    """Join the values of each row that are not empty; there may be no columns behind the first, an empty one."""
    first, *others = columns
    there = [pc.if_else(_is_there(column), column, _NO_TEXT) for column in others]
    joined = pc.binary_join_element_wise(first, *there, literal(separator), null_handling="skip")
    return pc.utf8_slice_codeunits(joined, start=len(separator))


def _sentence(values: pa.StringArray) -> pa.StringArray:
    """End values that are not empty with a full stop, unless they end as a sentence does."""
    is_ended = reduce(pc.or_, (pc.ends_with(values, end) for end in ".!?"), pc.invert(_is_there(values)))
    return pc.if_else(is_ended, values, pc.binary_join_element_wise(values, _STOP, _EMPTY))


def _sentences(values: Sequence[str]) -> str:
    return " ".join(value if not value or value.endswith((".", "!", "?")) else f"{value}." for value in values)


def cite(sentence: str, sections: Iterable[Section]) -> str:
    """Add to a sentence the source of the section that holds it, such as ``[UniProt]``; nothing where there is none."""
    wanted = sentence.strip().rstrip(".")
    source = next((source for source, section in sections if wanted and wanted in without_brackets(section)), "")
    return f"{sentence} [{source}]" if source else sentence


def text_sections(
    genes: pa.Table, texts: pa.Table, annotations: pa.Table, *, licences: Sequence[str]
) -> Callable[[str], list[Section]]:
    """Give a function from a text to its sections: none of any where no texts are of functions, so all are NCBI's."""
    functions = annotations.filter(pc.is_in(annotations["vocabulary"], strings(list(FUNCTION_VOCABULARIES))))
    own = "NCBI" if any(licence.startswith("NCBI Gene") for licence in licences) else "summary"

    @cache
    def of_text(text: str) -> list[Section]:
        row = pc.index(texts["text"], text).as_py() if functions.num_rows else -1
        if row < 0:
            return []
        gene = texts["gene_id"][row].as_py()
        at = pc.index(genes["gene_id"], gene).as_py()
        of_gene = functions.filter(pc.equal(functions["gene_id"], gene))
        found = zip(of_gene["evidence"].to_pylist(), of_gene["term"].to_pylist(), strict=True)
        summary = genes["summary"][at].as_py() if at >= 0 else ""
        return [(own, summary or ""), *((source or "annotations", term) for source, term in found)]

    return of_text
