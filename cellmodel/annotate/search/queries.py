"""Queries in plain words as weights of genes: by the texts of genes, and by the cell types that the words mean."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

import genekb
from cellmodel.annotate.cell_types import (
    CellType,
    gene_texts,
    marker_weights,
    read_cell_types,
    text_weights,
    type_nearness,
    widened_weights,
)
from cellmodel.core.random import generator
from cellmodel.pp.text.align import GeneAlignment
from genekb.core.words import content_words as all_content_words
from genekb.core.words import near_words, split_words
from genekb.query.gene_theme import share_reaching

_CELL: Final = "cell"  # in nearly every name
_NUMBERED: Final = re.compile(r"\s+type \d+$")  # of "innate lymphoid cell type 2"
_IN_NAME: Final = 3  # a word of a name counts like so many of a definition
_K1, _B = 1.2, 0.3  # of BM25; definitions are of nearly one length
_ALIKE: Final = 6  # letters that a word which no type has must share with one that a type has
_POWER: Final = 2  # of the share of a type beside the best, before :func:`~.cell_types.widened_weights` squares it
_MOST_WORDS: Final = 12  # of a random query
_AT_ONCE: Final = 25  # random queries that cells are scored by at once: bounds the memory
_INFLECTIONS: Final = re.compile(r"(?<=\w{4})(?:ing|ed|es|e|s|y|ies|ied|al|ic)$|(?<=\w{3})(?:ies|ied|y)$")


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    """Cut an inflection: secrete, secretes and secreting are one word."""
    return _INFLECTIONS.sub("", word) if word.isalpha() else word


def content_words(text: str) -> tuple[str, ...]:
    """Words of a text that mean something, each once: without stop words, a plural as its singular."""
    return tuple(dict.fromkeys(all_content_words(text)))


def unknown_words(query: str, texts: Sequence[str | None], types: Sequence[CellType]) -> dict[str, tuple[str, ...]]:
    """Content words of a query that are in no text of a gene, and in none of a type, in any inflection.

    Each with words of these texts that are spelt most alike.
    """
    missing = {word: _stem(word) for word in content_words(query)}
    every = [*(one.text for one in types), *(text for text in texts if text)]
    for text in every:
        if not missing:
            return {}
        found = set(map(_stem, split_words(text)))
        missing = {word: stem for word, stem in missing.items() if stem not in found}
    known = sorted({word for text in every for word in split_words(text)})
    return {word: near_words(word, known) for word in missing}


def random_queries(texts: Sequence[str | None], *, n_words: int, n: int, rng: np.random.Generator) -> list[str]:
    """Draw queries of words of gene texts: for each word a gene, and one of the words of its text."""
    usable = [text for text in texts if text]
    if not usable:
        return []
    drawn = rng.integers(len(usable), size=(n, n_words))
    words = [[content_words(usable[gene]) or (usable[gene],) for gene in row] for row in drawn.tolist()]
    return [" ".join(each[int(rng.integers(len(each)))] for each in row) for row in words]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TypeWords:
    """Words of cell types: those of their names, and weights of all."""

    names: tuple[frozenset[str], ...]  # of each type, the initials of its name among them
    heads: tuple[frozenset[str], ...]  # the last word of a name, which says what it is a kind of; and the initials
    weights: tuple[dict[str, float], ...]  # of each type: BM25 weight of each word
    most: dict[str, float]  # inverse document frequency of each word
    ordered: tuple[str, ...]  # these words, sorted

    def nearness(self, query: str) -> Float[np.ndarray, " type"]:
        """How surely a query means each type, 0 to 1.

        1 for the types whose name has all words of the query, the last word of the name among them: "T cells" are all
        kinds of T cells. Where there is none, BM25 of names and definitions :cite:`robertson2009bm25`: the best type
        counts as the fraction of the query's words, weighted by their rarity, that it has.
        """
        words = list(dict.fromkeys(self._alike(_stem(word)) for word in content_words(query)))
        wanted = frozenset(words) - {_CELL}
        pairs = zip(self.names, self.heads, strict=True)
        named = np.array([bool(wanted & head) and wanted <= name for name, head in pairs])
        if named.any():
            return named.astype(np.float64)
        scores = np.array([sum(of_type.get(word, 0.0) for word in words) for of_type in self.weights])
        best = int(np.argmax(scores))
        if scores[best] <= 0:
            return np.zeros(len(self.names))
        rarest = float(np.log(1 + (len(self.names) + 0.5) / 0.5))  # of a word that no type has
        rarity = {word: self.most.get(word, rarest) for word in words}
        surety = sum(rarity[word] for word in words if word in self.weights[best]) / sum(rarity.values())
        return surety * (scores / scores[best]) ** _POWER

    def _alike(self, word: str) -> str:
        """Word of the types that begins alike, for one that no type has: "microglia" for "microglial"."""
        if word in self.most or len(word) < _ALIKE:
            return word
        place = bisect_left(self.ordered, word[:_ALIKE])
        return next((one for one in self.ordered[place : place + 1] if one.startswith(word[:_ALIKE])), word)


def type_words(types: Sequence[CellType]) -> TypeWords:
    """Collect the words of names, labels of the ontology, definitions and markers."""
    names, heads, counts = [], [], []
    for one in types:
        parts = [_stem(word) for word in content_words(_NUMBERED.sub("", one.name))]
        kinds = [word for word in parts if word != _CELL] or parts
        initials = "".join(word[0] for word in re.findall(r"[a-z]+", one.name.lower()) if word != _CELL)
        own = {initials} if len(initials) > 1 else set()
        names.append(frozenset(map(_stem, content_words(one.name))) | own)
        heads.append(frozenset(kinds[-1:]) | own)
        count: Counter[str] = Counter(map(_stem, content_words(one.definition)))
        count.update(gene.lower() for gene in one.genes)
        for word in names[-1] | set(map(_stem, content_words(one.ontology_label))):
            count[word] += _IN_NAME
        counts.append(count)
    frequency = Counter(word for count in counts for word in count)
    rarity = {word: float(np.log(1 + (len(types) - n + 0.5) / (n + 0.5))) for word, n in frequency.items()}
    lengths = np.array([sum(count.values()) for count in counts])
    damping = (_K1 * (1 - _B + _B * lengths / max(float(lengths.mean()), 1.0))).tolist()
    weights = tuple(
        {word: rarity[word] * n / (n + damped) for word, n in count.items()}
        for count, damped in zip(counts, damping, strict=True)
    )
    return TypeWords(
        names=tuple(names), heads=tuple(heads), weights=weights, most=rarity, ordered=tuple(sorted(rarity))
    )


Heights = Callable[[sp.csr_matrix], Float[np.ndarray, " query"]]  # weights (query, gene) to how high cells score


class QueryReader:
    """Reads queries for the genes of some cells: opened once, for many queries.

    ``knowledge``: the vectors of ``alignment`` may be a control's; queries are read by its encoder.
    """

    def __init__(self, alignment: GeneAlignment, kb: genekb.Store, *, use_types: bool = True) -> None:
        self.types = read_cell_types()
        self._alignment, self._encoder = alignment, kb.encoder(alignment.lineage.encoder_id)
        self._last: tuple[tuple[str, ...], np.ndarray] = ((), np.zeros((0, 0)))
        texts = [one.name for one in self.types], [one.text for one in self.types]
        self._tables = [self.encode(each) for each in texts]
        self._genes = gene_texts(alignment.vectors, has_vector=alignment.has_vector)
        self._words = type_words(self.types) if use_types else None
        self._markers = marker_weights(self.types, alignment.gene_ids, kb)[0] if use_types else None

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
        """Vectors of texts, (text, dim); those of the last texts are kept, since a query is asked for twice."""
        if self._last[0] != tuple(texts):
            vectors = np.asarray(self._encoder.encode(list(texts)).vectors, dtype=np.float64)
            self._last = tuple(texts), vectors
        return self._last[1]

    def text_weights(self, queries: Sequence[str]) -> sp.csr_matrix:
        """Weights of genes by their texts alone, (query, gene)."""
        return text_weights(self.encode(queries), self._genes, center=self._tables[1].mean(axis=0))

    def nearness(self, queries: Sequence[str]) -> Float[np.ndarray, "query type"]:
        """How surely each query means each type, 0 to 1: by its words, or by its vector if that is surer."""
        if self._words is None:
            return np.zeros((len(queries), len(self.types)))
        by_words = np.stack([self._words.nearness(query) for query in queries])
        by_vector = type_nearness(self.encode(queries), *self._tables)
        is_surer = by_vector.max(axis=1) > by_words.max(axis=1)
        return np.where(is_surer[:, None], by_vector, by_words)

    def weights(self, queries: Sequence[str]) -> sp.csr_matrix:
        """Weights of genes, by texts and by the markers of the types meant, (query, gene)."""
        text = self.text_weights(queries)
        nearness = self.nearness(queries)
        return text if self._markers is None else widened_weights(text, self._markers, nearness)

    def p_values(self, queries: Sequence[str], heights: Heights, *, n: int, seed: int) -> Float[np.ndarray, " query"]:
        """Fraction of ``n`` random queries of as many words of gene texts by which cells score as high, and the query.

        Words that no gene has to do with score no higher than such; no permutation of genes says that, since genes of
        one text go together in cells whatever the text is.
        """
        n_words = [min(max(len(content_words(query)), 1), _MOST_WORDS) for query in queries]
        random = {k: self._random_heights(k, heights, n=n, seed=seed) for k in sorted(set(n_words))}
        found = zip(heights(self.weights(queries)).tolist(), n_words, strict=True)
        return np.array([share_reaching(height, random[k]) for height, k in found])

    def _random_heights(self, n_words: int, heights: Heights, *, n: int, seed: int) -> Float[np.ndarray, " query"]:
        drawn = random_queries(
            self._alignment.texts, n_words=n_words, n=n, rng=generator(seed, f"random queries of {n_words} words")
        )
        parts = [drawn[start : start + _AT_ONCE] for start in range(0, len(drawn), _AT_ONCE)]
        return np.concatenate([heights(self.weights(part)) for part in parts] or [np.zeros(0)])
