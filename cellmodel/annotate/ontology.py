"""The Cell Ontology, and its terms for free labels of cell types, such as ``CD14+ Mono`` or ``0_Tregs``."""

import csv
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import pyarrow as pa

from cellmodel.core.errors import InputUnusable
from genekb.core.words import split_words
from genekb.files.endings import CELLS, ENDINGS, TABLE
from genekb.files.limits import parse_json
from genekb.files.tables import read_list, read_table, table_format


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Term:
    """A cell type of the Cell Ontology."""

    id: str  # ``CL:`` and seven digits
    label: str
    synonyms: tuple[str, ...]
    ancestors: Mapping[str, int]  # identifiers, and how many steps of is_a each is away; parents are one away


@cache
def read_ontology() -> dict[str, Term]:
    """Read the terms that are not deprecated, by identifier; `data/README.md` says of which release."""
    packed = files("cellmodel.annotate").joinpath("data", "CL-ontology-v2026-03-26.json.zst").read_bytes()
    found = parse_json(pa.input_stream(pa.py_buffer(packed), compression="zstd").read())
    return {
        key: Term(id=key, label=one["label"], synonyms=tuple(one.get("synonyms", ())), ancestors=one["ancestors"])
        for key, one in found.items()
        if not one["deprecated"]
    }


Words = tuple[str, ...]  # of a label or name in one spelling, each once, in their order
_SPELLINGS: Final = (  # what is replaced before a text is split into words
    (r"(?<=[a-z0-9])[-\s]?(?:\+|\b(?:pos|positive)\b)", " "),  # CD4+, CD4-positive
    (r"(?<=\d)(?:-(?=[\s,/)]|$)|[-\s]?\b(?:neg|negative)\b)", "neg "),  # CD8-, CD8-negative
    (r"\b(cd\d+[a-z]?)(?=(?:hi|high|bright|lo|low|dim)\b)", r"\1 "),  # CD56bright
    (r"\b(cd[48])(?=t)|(?<=\w)(?=cells?\b)|(?<=[a-z]{4})(?=\d\b)", r"\1 "),  # CD8T, Bcells, helper2
)
_SEVERAL: Final = re.compile(r"(?<![\d+-])\s*[/&](?!\d)|\b(?:and|or)\b")  # T/NK cells
_OPTIONAL: Final = frozenset({"alpha", "beta"})  # of "CD4-positive, alpha-beta T cell"; people leave them out
_UNKNOWN: Final = 3.0  # information of a word that no term has
_LEFT_OUT, _ADDED = 0.7, 1.5  # weights of words that the label alone has, and of those that the term alone has
_NOT_LAST, _NO_CLASS = 0.85, 0.6  # of the score where the term's class of cell is not the label's last, or not in it
_MEDIUM, _LOW = 0.6, 0.4  # scores from which a term is given with this confidence
_N_OTHERS: Final = 3  # alternatives
_SHORT, _LONG = 3, 300  # letters up to which a text is read as an abbreviation first; from which it is no label
_LABEL, _SYNONYM, _CUT, _NEAREST = 0, 1, 2, 3  # ranks of names: `_CUT` is without optional words


class MappedLabel(NamedTuple):
    """A label, and the term of the Cell Ontology that it means."""

    label: str
    id: str  # empty where no term fits
    name: str
    confidence: str  # high: the term's label; medium: a synonym, what is often meant, or most words; low: some
    score: float  # 1: all words agree
    alternatives: str  # identifier and name of the next best terms, with semicolons between


class _Name(NamedTuple):
    """A name of a term, as words."""

    term: Term
    words: frozenset[str]
    head: str  # class of cell: the last word before "of", a comma or a bracket
    rank: int


def _rows(name: str) -> list[dict[str, str]]:
    lines = files("cellmodel.annotate").joinpath("data", name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


@cache
def _meanings(where: str) -> dict[frozenset[str], Words]:
    """Read what words mean in all ``names``, in ``labels``, ``alone`` in a label, or that they mean ``nothing``."""
    split = str.split if where == "names" else _split
    rows = sorted(_rows("label_words.tsv"), key=lambda row: -len(row["words"].split()))
    return {frozenset(split(row["words"])): tuple(split(row["meaning"])) for row in rows if row["where"] == where}


def _rewrite(words: Words, where: str) -> Words:
    """Put what words mean in the place of the last of them, several words before single ones."""
    for old, new in _meanings(where).items():
        if old <= set(words):
            last = max(map(words.index, old))
            parts = (new if place == last else (word,) * (word not in old) for place, word in enumerate(words))
            words = tuple(dict.fromkeys(word for part in parts for word in part))
    return words


@lru_cache(maxsize=1 << 15)
def _split(text: str) -> Words:
    text = re.sub(r"(?<=[A-Z]{2})s\b", "", text.replace("_", " ")).lower()  # DCs
    text = re.sub("[\u03b1-\u03c9]", lambda found: f" {unicodedata.name(found[0]).split()[-1].lower()} ", text)  # Greek
    for pattern, new in _SPELLINGS:
        text = re.sub(pattern, new, text)
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _rewrite(tuple(dict.fromkeys(split_words(text))), "names")


@cache
def _names() -> list[_Name]:
    """Names of all terms, labels first; of a term of one species no synonyms, which name clusters of an atlas."""
    terms, tables = read_ontology(), (*_rows("cell_types.tsv"), *_rows("cell_groups.tsv"))
    found = [(one, one.label, _LABEL) for one in terms.values()]
    found += [(one, name, _SYNONYM) for one in terms.values() if not one.label.endswith(")") for name in one.synonyms]
    found += [(terms[row["ontology_id"]], row["cell_type"], _NEAREST) for row in tables if row["ontology_id"] in terms]
    names = []
    for term, name, rank in found:
        if words := _split(name):
            head = (_split(re.split(r" of |,(?=[^,]*$)| \(", name)[0]) or words)[-1]
            names.append(_Name(term, frozenset(words), head, rank))
    names += [one._replace(words=one.words - _OPTIONAL, rank=_CUT) for one in names if one.words > _OPTIONAL]
    return sorted(names, key=lambda one: (one.rank, len(one.term.ancestors)))


@cache
def _names_by(kind: Literal["word", "words", "class"]) -> dict[Any, list[_Name]]:
    """Names by each word, by all words, or by the class of cell; labels before synonyms, broad terms first."""
    found: dict[Any, list[_Name]] = defaultdict(list)
    for name in _names():
        for key in {"word": name.words, "words": (name.words,), "class": (name.head,)}[kind]:
            found[key].append(name)
    return dict(found)


@cache
def _information(word: str) -> float:
    terms = {name.term.id for name in _names_by("word").get(word, ())}
    return math.log(1 + len(read_ontology()) / len(terms)) if terms else _UNKNOWN


def _rank_terms(words: Words) -> list[tuple[float, Term]]:
    """Terms that share words with a label and their scores, best first; of equal ones the broader first."""
    own, best = frozenset(words), defaultdict[Term, float](float)
    last = next((word for word in reversed(words) if word in _names_by("class")), "")
    for name in {name for word in words for name in _names_by("word").get(word, ()) if name.rank < _NEAREST}:
        parts = (own & name.words, own - name.words, name.words - own)
        shared, left_out, added = (sum(map(_information, sorted(part))) for part in parts)
        score = shared / (shared + _LEFT_OUT * left_out + _ADDED * added)
        score *= 1 if name.head == last else _NOT_LAST if name.head in own else _NO_CLASS
        best[name.term] = max(best[name.term], score)
    order = sorted(best, key=lambda term: (-best[term], len(term.ancestors), term.id))
    return [(best[term], term) for term in order]


def _without_numbers(words: Words) -> Words:
    """Leave out numbers of clusters: at the ends, and at the end of a word that no term has."""
    known = _names_by("word")
    kept = " ".join(word if word in known else re.sub(r"(?<=[a-z]{2})\d+$", "", word) for word in words)
    return tuple(dict.fromkeys(re.sub(r"^(\d+\b ?)+|( ?\b\d+)+$", "", kept).split()))


def _meant(words: Words) -> Words:
    """Write out abbreviations of the field; twice, as some are made of others."""
    return _rewrite(_rewrite(words, "labels"), "labels")


def _readings(label: str) -> Iterator[tuple[str, Words]]:
    """Words that a label may mean, the likeliest first, and how sure a term is that has just these as a name."""
    whole, without_brackets = _split(label), _split(re.sub(r"\(.*?\)", " ", label))
    shorter = _without_numbers(whole), _without_numbers(without_brackets)
    for sure, words in (("high", whole), ("high", shorter[0]), ("medium", shorter[1])):
        forms = (words, _rewrite(words, "labels"), _meant(words))
        for form in reversed(forms) if len("".join(words)) <= _SHORT else forms:
            if frozenset(form) in _meanings("alone"):
                yield "medium", _meanings("alone")[frozenset(form)]
            yield sure, form


@cache
def _literal() -> dict[str, Term]:
    """Terms by label and identifier, in lower case."""
    return {name.lower(): term for term in read_ontology().values() for name in (term.label, term.id)}


def _named(label: str) -> tuple[str, float, Term] | None:
    """Find the term that has the words of a label as its name."""
    if term := _literal().get(label.lower()):
        return "high", 1.0, term
    found = [(sure, name) for sure, words in _readings(label) for name in _names_by("words").get(frozenset(words), ())]
    labels = [(sure, name) for sure, name in found if name.rank in {_LABEL, _CUT} and name.term.label[-1] != ")"]
    for sure, name in labels or found:  # a bracket says that another term is called so, too: neuroblast (sensu ...)
        return "low" if _SEVERAL.search(label) else sure if labels else "medium", 1.0, name.term
    return None


def map_label(label: str) -> MappedLabel:
    """Find the term of the Cell Ontology that a label means; none for ``unknown``, ``doublet`` or ``cluster 7``."""
    is_nothing = len(label) >= _LONG or (
        label.lower() not in _literal() and any(words <= {*_split(label)} for words in _meanings("nothing"))
    )
    ranked = [] if is_nothing else _rank_terms(_meant(_without_numbers(_split(label))))
    score, best = ranked[0] if ranked else (0.0, None)
    sure = "medium" if score >= _MEDIUM else "low" if score >= _LOW else "none"
    if not is_nothing:
        sure, score, best = _named(label) or (sure, score, best)
    term = None if sure == "none" else best
    others = "; ".join([f"{one.id} {one.label}" for _, one in ranked if one is not term][:_N_OTHERS])
    found = (term.id, term.label) if term else ("", "")
    return MappedLabel(label, *found, sure, round(score, 3), others)


def read_labels(path: Path, column: str | None = None) -> list[str]:
    """Read labels: one a line, or a column of a .tsv or .csv, or of obs of cells."""
    is_table = table_format(path) in ENDINGS[TABLE]
    if column is None and (is_table or path.suffix in ENDINGS[CELLS]):
        raise InputUnusable(f"{path} has columns; name that of the labels by column")
    if column is None:
        return read_list(path, "a list of labels", error=InputUnusable)
    if not is_table:
        from cellmodel.io.cells import read_obs_columns

        return read_obs_columns(path, [column])[column]
    table = read_table(path, "a table of labels", error=InputUnusable)
    if column not in table.columns:
        raise InputUnusable(f"{path} has the columns {table}, and no {column}; name another")
    return [row[column] for row in table.rows]


def map_labels(labels: Iterable[object]) -> list[MappedLabel]:
    """Map labels, each once; empty ones are left out, and ``InputUnusable`` if all are."""
    found = [map_label(label) for label in dict.fromkeys(str(label).strip() for label in labels) if label]
    if not found:
        raise InputUnusable("there is no label to map; give one a line, or a column of labels")
    return found
