"""Words of a text as they are compared, in lower case, a plural as its singular; its sentences and clauses."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+")
_BRACKETS: Final = re.compile(r"\[[^\]]*\]")  # "[provided by RefSeq, Jul 2008]"
_SENTENCE_END: Final = re.compile(r"(?<=[.;])\s+(?=[A-Z0-9])")
_CLAUSE_END: Final = re.compile(r"[,:;()!?]+|\.(?=\s|$)|\s-\s")
_SPIKE_IN: Final = re.compile(r"(?i)(ercc[-_.]\d|sirv|(rna[-_.]?)?spike[-_.]?(in)?[-_.]?\d)")
_ALIKE: Final = 0.8  # share of the letters of two words that stand in both in one order
_LEAST: Final = 5  # letters from which an ending is looked at: "lens", "plus", "aids" and "nras" stay as they are
_LONGEST_QUERY: Final = 2_000  # characters
_NO_PLURAL: Final = re.compile(
    "adherens|albicans|alias|always|besides|biceps|diabetes|elegans|feces|herpes|pancreas|perhaps|rabies|sapiens|"
    "series|(sub)?species|themselves|trans|triceps|whereas"
)
_ENDINGS: Final = {  # plural to singular; the first that fits
    "bacteria": "bacterium", "chondria": "chondrion", "cilia": "cilium", "flagella": "flagellum",
    "ganglia": "ganglion", "gonia": "gonium", "podia": "podium", "thelia": "thelium",
    "alveoli": "alveolus", "bacilli": "bacillus", "fungi": "fungus", "glomeruli": "glomerulus", "nuclei": "nucleus",
    "nucleoli": "nucleolus", "stimuli": "stimulus", "termini": "terminus", "villi": "villus",
    "headaches": "headache", "helices": "helix", "lenses": "lens", "matrices": "matrix",
    "metastases": "metastasis", "niches": "niche", "testes": "testis", "lyses": "lysis",
    "muses": "mus", "nuses": "nus", "ruses": "rus", "tuses": "tus",
    "ches": "ch", "shes": "sh", "sses": "ss", "oes": "o", "xes": "x", "ies": "y",
    "is": "is", "ss": "ss", "us": "us", "s": "",
}  # fmt: skip


def split_words(text: str) -> list[str]:
    """Split a text into its words: runs of letters and digits, each as :func:`singular` gives it.

    >>> split_words("T-cells, B Cells and mitochondria")
    ['t', 'cell', 'b', 'cell', 'and', 'mitochondrion']
    """
    return [singular(word) for word in _WORD.findall(text.lower())]


def check_query(query: str) -> str:
    """Give a free-text query back; ``ValueError`` beyond 2,000 characters, whose words would be sought for minutes."""
    if len(query) > _LONGEST_QUERY:
        raise ValueError(
            f"the query has {len(query):,} characters, at most {_LONGEST_QUERY:,} are searched; shorten it"
        )
    return query


@cache
def _read_words(name: str) -> frozenset[str]:
    lines = files("genekb.core").joinpath(name).read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def stop_words() -> frozenset[str]:
    """English words that say nothing by themselves."""
    return _read_words("stop_words.txt")


def gene_stop_words() -> frozenset[str]:
    """Words of gene texts that do not say what a gene does: "encoded", "isoform", "located"."""
    return _read_words("gene_stop_words.txt")


def content_words(text: str) -> list[str]:
    """Words of a text as :func:`split_words` gives them, without stop words."""
    left_out = stop_words()
    return [word for word in split_words(text) if word not in left_out]


def split_sentences(text: str, *, end: re.Pattern[str] = _SENTENCE_END) -> list[str]:
    """Sentences of a text, without bracketed provenance."""
    return [sentence.strip() for sentence in end.split(without_brackets(text)) if sentence.strip()]


def without_brackets(text: str) -> str:
    """Leave out provenance in square brackets."""
    return _BRACKETS.sub("", text)


def split_clauses(text: str) -> list[str]:
    """Clauses of a text: what stands between commas, colons, brackets, dashes and the ends of sentences."""
    return _CLAUSE_END.split(text)


def is_spike_in(name: str) -> bool:
    """Whether a name among those of genes is a spike-in control's: ``ERCC-00002``, ``SIRV1``, ``RNA_SPIKE_4``."""
    return _SPIKE_IN.match(name) is not None


@lru_cache(maxsize=1 << 17)
def singular(word: str) -> str:
    """Fold a plural to its singular by its ending :cite:`harman1991suffixing`; words that may be symbols stay."""
    if len(word) < _LEAST or not word.isalpha() or _NO_PLURAL.fullmatch(word):
        return word
    ending = next((ending for ending in _ENDINGS if word.endswith(ending)), "")
    return word.removesuffix(ending) + _ENDINGS.get(ending, "")


def spellings(word: str) -> list[str]:
    """All words that have the same singular as a word, itself among them, sorted."""
    one = singular(word)
    plurals = {one.removesuffix(end) + ending for ending, end in _ENDINGS.items() if one.endswith(end)}
    return sorted(spelling for spelling in {word, one, *plurals} if singular(spelling) == one)


def near_words(word: str, known: Iterable[str], *, n: int = 3) -> tuple[str, ...]:
    """Known words that are spelt most like a word, which may be a slip of one of them: most alike first.

    They begin with the same letter and are longer or shorter by a quarter at most; words of fewer than five letters
    have none.

    >>> near_words("plasmaa", ["plasma", "platelet", "asthma"])
    ('plasma',)
    """
    if len(word) < _LEAST:
        return ()
    of_its_length = (one for one in known if one[:1] == word[0] and abs(len(one) - len(word)) <= len(word) // 4)
    return tuple(get_close_matches(word, list(of_its_length), n=n, cutoff=_ALIKE))


def list_unknown(words: Mapping[str, Sequence[str]]) -> str:
    """List words that are not known, each with its near ones, for a message.

    >>> list_unknown({"plasmaa": ["plasma"], "qwerty": []})
    'plasmaa (nearest: plasma), qwerty'
    """
    return ", ".join(f"{word} (nearest: {', '.join(near)})" if len(near) else word for word, near in words.items())
