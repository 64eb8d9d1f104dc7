"""Words of gene texts in reading order, with the ends of clauses and sentences: split once, kept in the store."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genekb.core.words import split_sentences
from genekb.genes.texts import prose_of
from genekb.schema import WORDS, IntArray, integers, literal, numbers, strings

CLAUSE_END, SENTENCE_END = ",", "."
_MIN_BOILERPLATE_TEXTS: Final = 20
_ROWS_AT_ONCE: Final = 1 << 10  # texts split at once: bounds memory
_BRACKETS: Final = re.compile(rb"\[[^\]\0]*\]")  # as split_sentences leaves them out
# Blanks and capitals of other scripts that count as ASCII's, and the byte that stands between texts
_STRANGE: Final = "[\0\u0085\u00a0\u0130\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u212a\u3000]"
_REPLACED: Final = {ord("\0"): "\1", ord("\u0130"): "i\u0307", ord("\u212a"): "k"}
_WORD_OF_ANY_SCRIPT: Final = re.compile(r"[^\W_]+")
_LETTERS_AND_DIGITS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NO_LETTERS_OR_DIGITS: Final = bytes(set(range(256)) - set(_LETTERS_AND_DIGITS))
_IS_WORD, _IS_BLANK, _STARTS_SENTENCE, _ENDS_SENTENCE, _ENDS_CLAUSE = 1, 2, 4, 8, 16
_CHARACTERS: Final = {
    _IS_WORD: _LETTERS_AND_DIGITS,
    _IS_BLANK: b" \t\n\r\f\v\x1c\x1d\x1e\x1f",
    _STARTS_SENTENCE: _LETTERS_AND_DIGITS[26:],
    _ENDS_SENTENCE: b".;",
    _ENDS_CLAUSE: b",:;()!?",
}
_KINDS: Final = bytes(sum(kind for kind, found in _CHARACTERS.items() if byte in found) for byte in range(256))
_BYTES: Final = bytes(range(256)).lower()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextWords:
    """Words of some texts in reading order."""

    vocabulary: tuple[str, ...]  # distinct words in lower case, and perhaps some that none of the texts has
    words: NDArray[np.int32]  # (word,) number in the vocabulary
    starts_clause: NDArray[np.bool_]  # (word,) whether it is the first of its clause
    sentences: NDArray[np.int32]  # (word,) its sentence, counted over all texts
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
        before = np.cumsum(is_end, dtype=np.int32) - is_end
        lengths = numbers(pc.list_value_length(ids))
        return cls(
            vocabulary=tuple(vocabulary),
            words=codes[is_word],
            starts_clause=starts[is_word],
            sentences=before[is_word],
            sentence_ids=numbers(ids.flatten()),
            texts=np.repeat(np.arange(len(lengths)), lengths),
        )

    def in_prose(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which sentences are name and summary, and not the designations behind them; ``texts``: those split."""
        behind = (split_sentences(text[len(prose_of(text)) :]) for text in texts)
        n_behind = np.fromiter(map(len, behind), dtype=np.int64, count=len(texts))
        n_kept = np.bincount(self.texts, minlength=len(texts)) - n_behind
        return np.arange(len(self.texts)) - np.searchsorted(self.texts, self.texts) < n_kept[self.texts]

    def shared_sentences(self) -> NDArray[np.bool_]:
        """Which sentences, by their numbers, at least twenty texts hold: they describe the format, not the gene."""
        n_ids = int(self.sentence_ids.max(initial=-1)) + 1
        once = np.unique(self.texts * n_ids + self.sentence_ids)
        return np.bincount(once % max(n_ids, 1), minlength=n_ids) >= _MIN_BOILERPLATE_TEXTS

    def boilerplate(self, texts: Sequence[str]) -> frozenset[str]:
        """Spell these sentences; ``texts``: those that were split."""
        ids, first = np.unique(self.sentence_ids, return_index=True)
        first = first[self.shared_sentences()[ids]]
        place = first - np.searchsorted(self.texts, self.texts[first])  # in its text
        return frozenset(
            split_sentences(texts[self.texts[at]])[number] for at, number in zip(first, place, strict=True)
        )


def split_texts(texts: Sequence[str]) -> TextWords:
    """Split texts into words now; see :meth:`genekb.Store.words` for those of a store."""
    return TextWords.from_table(words_table(strings(list(texts)), np.arange(len(texts))))


def words_table(texts: pa.StringArray | pa.ChunkedArray, gene_ids: IntArray) -> pa.Table:
    """Split texts into rows of :data:`genekb.schema.WORDS`: runs of ASCII letters and digits, in lower case."""
    starts = range(0, max(len(texts), 1), _ROWS_AT_ONCE)
    known: dict[int, int] = {}
    parts = [_split(_without_brackets(texts.slice(start, _ROWS_AT_ONCE)), known) for start in starts]
    words = pa.chunked_array([part.words for part in parts]).unify_dictionaries().combine_chunks()
    sentences = np.concatenate([part.sentences for part in parts])
    marks = np.concatenate([part.marks for part in parts])
    codes = marks.astype(np.int32) + len(words.dictionary) - 1  # the marks are the last of the vocabulary
    codes[marks == 0] = numbers(words.indices)
    vocabulary = pa.concat_arrays([words.dictionary, strings([CLAUSE_END, SENTENCE_END])])
    entries = pa.DictionaryArray.from_arrays(_int32(codes), vocabulary)
    columns = [
        integers(gene_ids),
        _lists(_int32(sentences), np.concatenate([part.n_sentences for part in parts])),
        _lists(entries, np.concatenate([part.n_entries for part in parts])),
    ]
    return pa.Table.from_arrays(columns, schema=WORDS)


def count_words(texts: pa.StringArray, wanted: Sequence[Sequence[str]]) -> IntArray:
    """Count words of any script in each text: (text, word); ``wanted``: spellings of each, in lower case."""
    starts = range(0, max(len(texts), 1), _ROWS_AT_ONCE)
    return np.concatenate([_count(texts.slice(start, _ROWS_AT_ONCE), wanted) for start in starts])


def _count(texts: pa.StringArray, wanted: Sequence[Sequence[str]]) -> IntArray:
    ends = np.cumsum(numbers(pc.binary_length(texts)) + np.int64(1)) - 1
    text = _joined(texts).lower()
    data = np.frombuffer(text, dtype=np.uint8)
    starts, stops = _words(np.frombuffer(text.translate(_KINDS), dtype=np.uint8))
    lengths = stops - starts
    counts = np.zeros((len(texts), len(wanted)), dtype=np.int64)
    for number, spelling in ((number, one.encode()) for number, same in enumerate(wanted) for one in same):
        places = starts[lengths == len(spelling)]
        for offset, byte in enumerate(spelling):
            if not len(places):
                break
            places = places[data[places + offset] == byte]
        counts[:, number] += _per_text(places, ends)
    for row in np.flatnonzero(_per_text(np.flatnonzero(data > 127), ends)).tolist():  # noqa: PLR2004 - beyond ASCII
        found = _WORD_OF_ANY_SCRIPT.findall(texts[row].as_py().lower())
        counts[row] = [sum(map(found.count, same)) for same in wanted]
    return counts


def _per_text(places: IntArray, ends: IntArray) -> IntArray:
    """Count places, ascending, in each text, by the end of each."""
    return np.diff(np.searchsorted(places, ends), prepend=0)


def _words(kinds: NDArray[np.uint8]) -> tuple[IntArray, IntArray]:
    """First bytes of the words, and those behind their last ones; the last byte is that behind a text."""
    is_word = (kinds & _IS_WORD) > 0
    edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    edges = np.append(0, edges) if is_word[:1].any() else edges
    return edges[::2], edges[1::2]


def _lists(values: pa.Array, lengths: IntArray) -> pa.ListArray:
    return pa.ListArray.from_arrays(_int32(np.concatenate([[0], np.cumsum(lengths)])), values)


def _int32(values: NDArray[np.integer]) -> pa.Int32Array:
    buffer = pa.py_buffer(np.ascontiguousarray(values, dtype=np.int32))
    return pa.Array.from_buffers(pa.int32(), len(values), [None, buffer])


def _joined(texts: pa.StringArray | pa.ChunkedArray) -> bytes:
    """Bytes of the texts, a byte of its own behind each."""
    found = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    if not len(found):
        return b""
    whole = pa.LargeListArray.from_arrays(integers([0, len(found)]), found.cast(pa.large_string()))
    return pc.binary_join(whole, literal("\0").cast(pa.large_string()))[0].as_buffer().to_pybytes() + b"\0"


def _without_brackets(texts: pa.StringArray | pa.ChunkedArray) -> bytes:
    """Bytes of the texts without what stands in brackets, see :func:`_joined`."""
    if pc.any(pc.match_substring_regex(texts, _STRANGE)).as_py():
        replaced = [re.sub(_STRANGE, lambda one: _REPLACED.get(ord(one[0]), " "), text) for text in texts.to_pylist()]
        texts = strings(replaced)
    return _BRACKETS.sub(b"", _joined(texts))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Split:
    """Words and sentences of some texts."""

    words: pa.DictionaryArray
    marks: NDArray[np.int8]  # (entry,) 0 where it is a word, 1 where a clause ends, 2 where a sentence does
    n_entries: IntArray  # (text,)
    sentences: NDArray[np.int32]  # a number for each, the same where they are the same
    n_sentences: IntArray  # (text,)


def _split(text: bytes, known: dict[int, int]) -> _Split:
    """Split texts; ``known``: numbers of the sentences before, by their hashes, which no two share by chance."""
    kinds = np.frombuffer(text.translate(_KINDS), dtype=np.uint8)
    ends = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == 0)  # of texts
    first, last = _sentences(kinds, ends)
    text_of = np.searchsorted(ends, first)
    starts, stops = _words(kinds)
    opening = np.append(np.searchsorted(starts, first), len(starts))  # first word of each sentence
    follows_break = np.zeros(len(starts) + 1, dtype=bool)
    follows_break[np.searchsorted(starts, _clause_ends(text, kinds))] = True
    follows_break[opening] = False
    n_breaks = np.cumsum(follows_break)
    # an entry for each word, after a mark where a clause ended, and one for the end of each sentence
    sentence_of = np.repeat(np.arange(len(first)), np.diff(opening))
    place = np.arange(len(starts)) + n_breaks[:-1] + sentence_of
    n_of_sentence = np.diff(opening + np.append(0, n_breaks)[opening]) + 1
    marks = np.full(int(n_of_sentence.sum()), 2, dtype=np.int8)
    marks[place] = 0
    marks[place[follows_break[:-1]] - 1] = 1
    hashes = (hash(text[start:stop]) for start, stop in zip(first.tolist(), last.tolist(), strict=True))
    return _Split(
        words=_strings(text.translate(_BYTES, _NO_LETTERS_OR_DIGITS), stops - starts).dictionary_encode(),
        marks=marks,
        n_entries=np.bincount(text_of, weights=n_of_sentence, minlength=len(ends)).astype(np.int64),
        sentences=np.fromiter((known.setdefault(one, len(known)) for one in hashes), dtype=np.int32, count=len(first)),
        n_sentences=np.bincount(text_of, minlength=len(ends)),
    )


def _sentences(kinds: NDArray[np.uint8], ends: IntArray) -> tuple[IntArray, IntArray]:
    """First bytes of the sentences, and those behind their last ones; no sentence is empty."""
    after = np.flatnonzero(kinds[:-1] & (kinds[1:] >> 1) & _IS_BLANK) + 1
    before = _shown(after - 1, kinds, step=-1)
    is_end = (kinds[before] & _ENDS_SENTENCE) > 0
    opening = _shown(np.append(0, ends[:-1] + 1)[: len(ends)], kinds, step=1)
    closing = _shown(ends - 1, kinds, step=-1)
    has_text = opening < ends
    return np.sort(np.append(after[is_end], opening[has_text])), np.sort(
        np.append(before[is_end], closing[has_text]) + 1
    )


def _shown(places: IntArray, kinds: NDArray[np.uint8], *, step: int) -> IntArray:
    """Go on from places to the next byte that is not blank."""
    places = places.copy()
    while (blank := (kinds[places] & _IS_BLANK) > 0).any():
        places[blank] += step
    return places


def _clause_ends(text: bytes, kinds: NDArray[np.uint8]) -> IntArray:
    """Bytes that end a clause: punctuation, a full stop before a blank, a dash between blanks."""
    data, is_blank = np.frombuffer(text, dtype=np.uint8), (kinds & _IS_BLANK) > 0
    found = (kinds & _ENDS_CLAUSE) > 0
    found[:-1] |= (data[:-1] == ord(".")) & is_blank[1:]
    found[1:-1] |= (data[1:-1] == ord("-")) & is_blank[:-2] & is_blank[2:]
    return np.flatnonzero(found)


def _strings(characters: bytes, lengths: IntArray) -> pa.StringArray:
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(characters))
