"""Antibody names of protein panels (CITE-seq, flow cytometry): the genes of their antigens.

A name is read without what a panel adds to it: barcodes (A0034), species (anti-human, Hu.), products (TotalSeqB), a
second name in brackets. What is left is an antigen of ``antibodies.tsv``, or a symbol or alias, in any case. A name
without such an addition is an antigen if that table has it, or as a number of the CD nomenclature (``CD11c``).
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

_SPECIES: Final = r"(?:human|mouse|rat|hamster|hu|ms|rt)"
_PRODUCT: Final = r"(?:total[-_. ]?seq[-_. ]?[abcd]?|total[abcd]|ts[abc]|adt|prot|protein|antibody|abseq)"
_NUMBER: Final = r"[A-D]?0\d{3}"
_PREFIX: Final = re.compile(
    rf"^(?:{_NUMBER}|{_PRODUCT}|ab|cite|anti|{_SPECIES}(?:[/_]?{_SPECIES})*)[-_.:/ ]+(?=\S)", re.IGNORECASE
)
_SUFFIX: Final = re.compile(rf"[-_.: ](?:{_PRODUCT}|{_NUMBER})$", re.IGNORECASE)
_SECOND_NAME: Final = re.compile(r"[-_. ]?\(([^()]+)\)$")  # CD279 (PD-1)
_ABSEQ: Final = re.compile(r"^[^|]+\|(?P<gene>[^|]+)\|.*pAbO$", re.IGNORECASE)  # CD3:UCHT1|CD3E|AHS0231|pAbO
_CD: Final = re.compile(r"^CD\d{1,3}(?:[a-z]\d?|[A-Z]{1,2})?$")
_ISOTYPE: Final = re.compile(r"isotype|\bigg\d?[abc]?\W*[kκ]?\W*(?:ctrl|control)", re.IGNORECASE)
_GREEK: Final = str.maketrans("αβγδεκλ", "abgdekl")
Genes = list[list[str]]  # spellings of the symbol of each gene, the likeliest first


def is_isotype_control(name: str) -> bool:
    """Whether a name is that of an antibody without an antigen: ``Mouse_IgG1_k_isotype_Ctrl``."""
    return _ISOTYPE.search(name.replace("_", " ")) is not None


def is_listed(name: str) -> bool:
    """Whether the table of antigens has a name as it stands."""
    return _key(name) in _antigens()


def propose_antigens(name: str) -> list[Genes]:
    """Propose what an antibody's antigen may be, the likeliest first; nothing for a name that is no antibody's.

    Examples
    --------
    >>> propose_antigens("HLA-DR")
    [[['HLA-DRA', 'Hla-dra', 'HLADRA', 'Hladra'], ['HLA-DRB1', 'Hla-drb1', 'HLADRB1', 'Hladrb1']]]
    """
    if is_isotype_control(name):
        return []
    if match := _ABSEQ.match(name):
        return [[_spellings(match["gene"])]]
    antigen = _without_labels(name)
    is_labeled = antigen != name
    stem = antigen.rpartition("_")[0] if is_labeled else ""  # a clone may follow: CD4_RPA-T4
    tried = (antigen, stem, *_SECOND_NAME.findall(name))
    return [genes for one in tried for genes in _meanings(one, is_labeled=is_labeled)]


def _meanings(antigen: str, *, is_labeled: bool) -> Iterator[Genes]:
    """Yield what one spelling of an antigen may mean: the table's genes, those of both halves of A/B, its own name."""
    if listed := _antigens().get(_key(antigen)):
        yield [_spellings(gene) for gene in listed]
    if "/" in antigen:
        halves = [next(_meanings(half, is_labeled=is_labeled), []) for half in antigen.split("/")]
        if all(halves):
            yield [gene for half in halves for gene in half]
    elif antigen and (is_labeled or _CD.match(antigen)):
        yield [_spellings(antigen)]


def _without_labels(name: str) -> str:
    """Remove what a panel adds to the name of an antigen, as often as there is something."""
    while True:
        rest = name
        for label in (_PREFIX, _SUFFIX, _SECOND_NAME):
            rest = label.sub("", rest).strip()
        if rest == name:
            return name
        name = rest


def _spellings(symbol: str) -> list[str]:
    """Spellings of a symbol or alias: as it is, as human and as mouse genes are written, without separators."""
    joined = re.sub(r"[-_. ]", "", symbol)
    return list(dict.fromkeys((symbol, symbol.upper(), symbol.capitalize(), joined.upper(), joined.capitalize())))


def _key(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", name.translate(_GREEK))


@cache
def _antigens() -> dict[str, list[str]]:
    lines = Path(__file__).with_name("antibodies.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")][1:]
    return {_key(name): genes.split(",") for name, genes in rows}
