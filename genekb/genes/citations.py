"""Citations: which source (NCBI, UniProt, the Alliance, ...) a sentence of a gene's text is from."""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from genekb.core.words import without_brackets
from genekb.genes.texts import FUNCTION_VOCABULARIES
from genekb.schema import strings

Section = tuple[str, str]  # source and text of a part of a gene's text


def cite(sentence: str, sections: Iterable[Section]) -> str:
    """Add to a sentence the source of the section that holds it, such as ``[UniProt]``; nothing where there is none."""
    wanted = sentence.strip().rstrip(".")
    source = next((source for source, section in sections if wanted and wanted in without_brackets(section)), "")
    return f"{sentence} [{source}]" if source else sentence


def text_sections(
    genes: pa.Table, texts: pa.Table, annotations: pa.Table, *, licences: Sequence[str]
) -> dict[str, list[Section]]:
    """Sections of each text; none at all where the store has no texts of functions, so that all are NCBI's."""
    functions = _functions(annotations)
    if not functions:
        return {}
    summaries = dict(zip(genes["gene_id"].to_pylist(), genes["summary"].to_pylist(), strict=True))
    pairs = zip(texts["text"].to_pylist(), texts["gene_id"].to_pylist(), strict=True)
    own = "NCBI" if any(licence.startswith("NCBI Gene") for licence in licences) else "summary"
    return {text: [(own, summaries.get(gene) or ""), *functions.get(gene, [])] for text, gene in pairs}


def _functions(annotations: pa.Table) -> dict[int, list[Section]]:
    """Collect sources and texts of functions by gene."""
    table = annotations.filter(pc.is_in(annotations["vocabulary"], strings(list(FUNCTION_VOCABULARIES))))
    found: dict[int, list[Section]] = {}
    for gene, source, text in zip(*(table[name].to_pylist() for name in ("gene_id", "evidence", "term")), strict=True):
        found.setdefault(gene, []).append((source or "annotations", text))
    return found
