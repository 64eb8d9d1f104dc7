"""Words of gene texts in reading order, with the ends of clauses and sentences: split once, kept in the store."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genekb.schema import WORDS, IntArray, integers, numbers, strings

CLAUSE_END, SENTENCE_END = ",", "."
_ROWS_AT_ONCE: Final = 1 << 10  # texts split at once: bounds memory
_BASE: Final = 0x9E3779B97F4A7C15  # odd: of the hashes of sentences
_BETWEEN: Final = 0  # byte between two texts
_BRACKETS: Final = re.compile(rb"\[[^\]\0]*\]")  # as split_sentences leaves them out
# Blanks and capitals of other scripts that count as ASCII's, and the byte that stands between texts
_STRANGE: Final = "[\0\u0085\u00a0\u0130\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u212a\u3000]"
_REPLACED: Final = {ord("\0"): "\1", ord("\u0130"): "i\u0307", ord("\u212a"): "k"}


def _holds(characters: bytes) -> NDArray[np.bool_]:
    """Which byte is one of some characters."""
    return np.isin(np.arange(256), np.frombuffer(characters, dtype=np.uint8))


_IS_BLANK: Final = _holds(b" \t\n\r\f\v\x1c\x1d\x1e\x1f")
_IS_WORD: Final = _holds(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_STARTS_SENTENCE: Final = _holds(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_ENDS_SENTENCE: Final = _holds(b".;")
_ENDS_CLAUSE: Final = _holds(b",:;()!?")
_LOWER: Final = np.frombuffer(bytes(range(256)).lower(), dtype=np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextWords:
    """Words of some texts in reading order."""

    vocabulary: tuple[str, ...]  # distinct words in lower case, and perhaps some that none of the texts has
    words: NDArray[np.int32]  # (word,) number in the vocabulary
    starts_clause: NDArray[np.bool_]  # (word,) whether it is the first of its clause
    sentences: IntArray  # (word,) its sentence, counted over all texts
    sentence_ids: NDArray[np.int32]  # (sentence,) the same number where sentences are the same, letter for letter
    texts: IntArray  # (sentence,) its text

    @classmethod
    def from_table(cls, table: pa.Table) -> "TextWords":
        """Read rows of :data:`genekb.schema.WORDS`."""
        listed = table["word"].combine_chunks()
        flat, ids = listed.flatten(), table["sentence"].combine_chunks()
        vocabulary = flat.dictionary.to_pylist()
        codes, marks = numbers(flat.indices), {word: number for number, word in enumerate(vocabulary)}
        is_end = codes == marks.get(SENTENCE_END, -1)
        is_word = ~(is_end | (codes == marks.get(CLAUSE_END, -1)))
        starts = np.ones(len(codes), dtype=bool)
        starts[1:] = ~is_word[:-1]
        before = np.cumsum(is_end) - is_end
        lengths = numbers(pc.list_value_length(ids))
        return cls(
            vocabulary=tuple(vocabulary),
            words=codes[is_word],
            starts_clause=starts[is_word],
            sentences=before[is_word],
            sentence_ids=numbers(ids.flatten()),
            texts=np.repeat(np.arange(len(lengths)), lengths),
        )


def split_texts(texts: Sequence[str]) -> TextWords:
    """Split texts into words now; see :meth:`genekb.Store.words` for those of a store."""
    return TextWords.from_table(words_table(strings(list(texts)), np.arange(len(texts))))


def words_table(texts: pa.StringArray | pa.ChunkedArray, gene_ids: IntArray) -> pa.Table:
    """Split texts into rows of :data:`genekb.schema.WORDS`.

    Words are runs of ASCII letters and digits, in lower case; sentences and clauses are those of
    :func:`genekb.core.words.split_sentences` and :func:`genekb.core.words.split_clauses`.
    """
    starts = range(0, max(len(texts), 1), _ROWS_AT_ONCE)
    parts = [_split(_joined(texts.slice(start, _ROWS_AT_ONCE))) for start in starts]
    words = pa.chunked_array([part.words for part in parts]).unify_dictionaries().combine_chunks()
    sentences = np.concatenate([part.sentences for part in parts])
    marks = np.concatenate([part.marks for part in parts])
    codes = marks.astype(np.int32) + len(words.dictionary) - 1  # the marks are the last of the vocabulary
    codes[marks == 0] = numbers(words.indices)
    vocabulary = pa.concat_arrays([words.dictionary, strings([CLAUSE_END, SENTENCE_END])])
    entries = pa.DictionaryArray.from_arrays(_int32(codes), vocabulary)
    columns = [
        integers(gene_ids),
        _lists(_int32(_numbered(sentences)), np.concatenate([part.n_sentences for part in parts])),
        _lists(entries, np.concatenate([part.n_entries for part in parts])),
    ]
    return pa.Table.from_arrays(columns, schema=WORDS)


def count_words(texts: pa.StringArray) -> IntArray:
    """Count the words of any script in each text: runs of letters and digits."""
    _, offsets, characters = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    if not len(texts) or bounds[0] == bounds[-1]:
        return np.zeros(len(texts), dtype=np.int64)
    data = np.frombuffer(characters, dtype=np.uint8)[bounds[0] : bounds[-1]]
    bounds = bounds - bounds[0]
    starts = _IS_WORD[data]
    starts[1:] &= ~_IS_WORD[data[:-1]]
    first = bounds[:-1][bounds[:-1] < bounds[1:]]
    starts[first] = _IS_WORD[data[first]]
    counts = np.diff(np.searchsorted(np.flatnonzero(starts), bounds))
    others = np.flatnonzero(np.diff(np.searchsorted(np.flatnonzero(data > 127), bounds)))  # noqa: PLR2004 - beyond ASCII
    counts[others] = numbers(pc.count_substring_regex(texts.take(integers(others)), r"[\pL\pN]+"))
    return counts


def _lists(values: pa.Array, lengths: IntArray) -> pa.ListArray:
    return pa.ListArray.from_arrays(_int32(np.concatenate([[0], np.cumsum(lengths)])), values)


def _int32(values: NDArray[np.integer]) -> pa.Int32Array:
    buffer = pa.py_buffer(np.ascontiguousarray(values, dtype=np.int32))
    return pa.Array.from_buffers(pa.int32(), len(values), [None, buffer])


def _numbered(values: NDArray[np.uint64]) -> IntArray:
    """Replace values by numbers, in the order in which they first appear."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _joined(texts: pa.StringArray | pa.ChunkedArray) -> NDArray[np.uint8]:
    """Bytes of the texts without what stands in brackets, a byte of its own behind each."""
    found = texts.to_pylist()
    if pc.any(pc.match_substring_regex(texts, _STRANGE)).as_py():
        found = [re.sub(_STRANGE, lambda one: _REPLACED.get(ord(one[0]), " "), text) for text in found]
    joined = "".join(f"{text}\0" for text in found).encode()
    return np.frombuffer(_BRACKETS.sub(b"", joined), dtype=np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Split:
    """Words and sentences of some texts."""

    words: pa.DictionaryArray
    marks: NDArray[np.int8]  # (entry,) 0 where it is a word, 1 where a clause ends, 2 where a sentence does
    n_entries: IntArray  # (text,)
    sentences: NDArray[np.uint64]  # hashes
    n_sentences: IntArray  # (text,)


def _split(data: NDArray[np.uint8]) -> _Split:
    ends = np.flatnonzero(data == _BETWEEN)  # of texts
    first, last = _sentences(data, ends)
    text_of = np.searchsorted(ends, first)
    is_word = _IS_WORD[data]
    starts = np.flatnonzero(is_word & ~np.concatenate([[False], is_word[:-1]]))
    stops = np.flatnonzero(is_word[:-1] & ~is_word[1:]) + 1  # the last byte is that behind a text
    n_breaks = np.cumsum(_clause_ends(data), dtype=np.int32)[starts]
    opens_sentence = np.zeros(len(data), dtype=bool)
    opens_sentence[first] = True
    sentence_of = np.cumsum(opens_sentence, dtype=np.int32)[starts] - 1
    follows_break = (np.diff(n_breaks, prepend=0) > 0) & (np.diff(sentence_of, prepend=-1) == 0)
    # an entry for each word, after a mark where a clause ended, and one for the end of each sentence
    place = np.arange(len(starts)) + np.cumsum(follows_break) + sentence_of
    n_of_sentence = np.bincount(sentence_of, weights=1 + follows_break, minlength=len(first)).astype(np.int64) + 1
    marks = np.full(int(n_of_sentence.sum()), 2, dtype=np.int8)
    marks[place] = 0
    marks[place[follows_break] - 1] = 1
    return _Split(
        words=_strings(_LOWER[data[is_word]], stops - starts).dictionary_encode(),
        marks=marks,
        n_entries=np.bincount(text_of, weights=n_of_sentence, minlength=len(ends)).astype(np.int64),
        sentences=_hashes(data, first, last),
        n_sentences=np.bincount(text_of, minlength=len(ends)),
    )


def _sentences(data: NDArray[np.uint8], ends: IntArray) -> tuple[IntArray, IntArray]:
    """First bytes of the sentences, and those behind their last ones; no sentence is empty."""
    is_blank = _IS_BLANK[data]
    after = np.flatnonzero(is_blank[:-1] & _STARTS_SENTENCE[data[1:]]) + 1
    before = _shown(after - 1, is_blank, step=-1)
    is_end = _ENDS_SENTENCE[data[before]]
    opening = _shown(np.concatenate([[0], ends[:-1] + 1])[: len(ends)], is_blank, step=1)
    closing = _shown(ends - 1, is_blank, step=-1)
    has_text = opening < ends
    return np.sort(np.concatenate([after[is_end], opening[has_text]])), np.sort(
        np.concatenate([before[is_end], closing[has_text]]) + 1
    )


def _shown(places: IntArray, is_blank: NDArray[np.bool_], *, step: int) -> IntArray:
    """Go on from places to the next byte that is not blank."""
    places = places.copy()
    while (blank := is_blank[places]).any():
        places[blank] += step
    return places


def _clause_ends(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which bytes end a clause: punctuation, a full stop before a blank, a dash between blanks."""
    is_blank = _IS_BLANK[data]
    found = _ENDS_CLAUSE[data]
    found[:-1] |= (data[:-1] == ord(".")) & is_blank[1:]
    found[1:-1] |= (data[1:-1] == ord("-")) & is_blank[:-2] & is_blank[2:]
    return found


def _hashes(data: NDArray[np.uint8], first: IntArray, last: IntArray) -> NDArray[np.uint64]:
    """Polynomial hashes of slices, none of which is empty; that two differ by chance has odds of 1 to 10^9 a store."""
    lengths = last - first
    if not len(lengths):
        return np.empty(0, dtype=np.uint64)
    starts = np.concatenate([[0], np.cumsum(lengths[:-1])])
    place = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)  # in its slice
    powers = np.cumprod(np.full(int(lengths.max()), _BASE, dtype=np.uint64))
    values = (data[place + np.repeat(first, lengths)].astype(np.uint64) + np.uint64(1)) * powers[place]
    return np.add.reduceat(values, starts)


def _strings(characters: NDArray[np.uint8], lengths: IntArray) -> pa.StringArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.StringArray.from_buffers(
        len(lengths), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(characters))
    )
