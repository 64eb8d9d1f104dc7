"""Terms of a text (words, pairs of words, pieces of words) and how often they stand in it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import scipy.sparse as sp

PIECES: Final = (3, 4, 5)  # characters of a piece


def with_pairs(words: Sequence[str]) -> list[str]:
    """Words, and each two that follow one another."""
    return [*words, *(f"{first} {second}" for first, second in pairwise(words))]


@lru_cache(maxsize=1 << 17)
def pieces(word: str) -> tuple[str, ...]:
    """Cut a word with a space at either end into all runs of :data:`PIECES` characters.

    >>> pieces("cell")
    (' ce', 'cel', 'ell', 'll ', ' cel', 'cell', 'ell ', ' cell', 'cell ')
    """
    padded = f" {word} "
    return tuple(padded[at : at + n] for n in PIECES for at in range(len(padded) - n + 1))


def choose_terms(documents: Iterable[Sequence[str]], *, min_texts: int, max_terms: int) -> list[str]:
    """Terms that stand in enough texts, the most frequent of them, in the order of the alphabet."""
    containing = Counter(term for terms in documents for term in set(terms))
    frequent = [term for term, n in containing.items() if n >= min_texts]
    return sorted(sorted(frequent, key=lambda term: (-containing[term], term))[:max_terms])


def count_terms(documents: Iterable[Sequence[str]], columns: Mapping[str, int], *, log: bool = True) -> sp.csr_matrix:
    """(document, term) counts, or 1 + log of them, of each term; ``columns``: column of each known term."""
    indices: list[int] = []
    counts: list[float] = []
    ends = [0]
    for terms in documents:
        found = Counter(column for term in terms if (column := columns.get(term)) is not None)
        for column in sorted(found):
            indices.append(column)
            counts.append(found[column])
        ends.append(len(indices))
    data = np.array(counts, dtype=np.float64)
    data = (1 + np.log(data) if log else data).astype(np.float32)
    shape = (len(ends) - 1, len(columns))
    return sp.csr_matrix((data, np.array(indices, dtype=np.int32), np.array(ends, dtype=np.int64)), shape=shape)


def columns_of(vocabulary: Iterable[str]) -> dict[str, int]:
    """Column of each term."""
    return {term: column for column, term in enumerate(vocabulary)}


def piece_counts(words: Sequence[str], columns: Mapping[str, int]) -> sp.csr_matrix:
    """(word, piece) how often each known piece stands in a word."""
    return count_terms(map(pieces, words), columns, log=False)
