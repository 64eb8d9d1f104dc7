"""A fitted encoder of three views of a text: its words, their pieces, and what the words stand beside.

The fitted state is part of the recipe and is saved with the vectors.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from genekb.core.errors import NotAvailable, StoreCorrupt
from genekb.core.words import content_words
from genekb.encoders.base import EncoderSpec, TextEncoder, VectorsAndTokens, unit_or_zero
from genekb.files.atomic import read_arrays, write_arrays
from genekb.files.limits import read_json
from genekb.schema import FloatArray

REVISION: Final = "1"
PIECES: Final = (3, 4, 5)  # characters of a piece
VIEWS: Final = ("words", "characters", "contexts")
_FIELDS: Final = ("weights", "codes", "mean")  # of a view
_LEVELS: Final = 127  # of an int8 on either side of zero


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """Vectors of terms; a text has the weighted sum of those of its terms."""

    vocabulary: Sequence[str]  # terms, in the order of the rows
    # (term,) of the counts of a term: how rare it is, times the step of its int8
    weights: FloatArray
    codes: NDArray[np.int8]  # (term, dim)
    mean: FloatArray  # (dim,) of the fitted texts, which is subtracted; zeros where it is kept

    def embed(self, counts: sp.csr_matrix) -> FloatArray:
        """Embed texts (text, dim) by the counts of their terms, at unit length; zeros for a text without any."""
        used, columns = np.unique(counts.indices, return_inverse=True)
        data = counts.data * self.weights[counts.indices]
        weighted = sp.csr_matrix((data, columns, counts.indptr), shape=(counts.shape[0], len(used)))
        vectors = unit_or_zero(weighted @ self.codes[used].astype(np.float32))
        vectors[np.diff(counts.indptr) > 0] -= self.mean
        return unit_or_zero(vectors)


def make_view(
    vocabulary: Sequence[str],
    weights: FloatArray,
    vectors: FloatArray,
) -> View:
    """Make a view that keeps its vectors in int8, each scaled by its largest value; its mean is zero."""
    step = np.abs(vectors).max(axis=1) / _LEVELS
    step[step == 0] = 1
    return View(
        vocabulary=vocabulary,
        weights=(weights * step).astype(np.float32),
        codes=np.ascontiguousarray(np.rint(vectors / step[:, None]), dtype=np.int8),
        mean=np.zeros(vectors.shape[1], dtype=np.float32),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WcpEncoder(TextEncoder):
    """The fitted views and their projection; a text without any word that is known gets the neutral vector."""

    spec: EncoderSpec
    views: Mapping[str, View]  # by name, in the order of :data:`VIEWS`
    projection: np.ndarray  # (dim of all views, dim) in float16; holds the weights of the views
    neutral: FloatArray  # (dim,) unit vector: the mean of the fitted texts

    def _encode(self, texts: Sequence[str], progress: Callable[[int], None]) -> VectorsAndTokens:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

        counts = count_views([content_words(text) for text in texts], self.views)
        joined = np.hstack([view.embed(counts[name]) for name, view in self.views.items()])
        with threadpool_limits(limits=1):  # rounding depends on the number of threads
            vectors = joined @ self.projection.astype(np.float32)
        vectors[~(np.linalg.norm(vectors, axis=1) > 0)] = self.neutral
        progress(len(texts))
        return vectors, np.diff(counts["words"].indptr), 0

    def save(self, folder: Path) -> None:
        """Write vocabularies and matrices."""
        words, numbers = _files(folder)
        folder.mkdir(parents=True, exist_ok=True)
        vocabularies = {name: list(view.vocabulary) for name, view in self.views.items()}
        words.write_text(json.dumps(vocabularies, ensure_ascii=False), encoding="utf-8")
        write_arrays(state_arrays(self.views, self.projection, self.neutral), numbers)


def _files(folder: Path) -> tuple[Path, Path]:
    return folder / "wcp-vocabulary.json", folder / "wcp.safetensors"


def count_views(documents: Sequence[Sequence[str]], views: Mapping[str, View]) -> dict[str, sp.csr_matrix]:
    """Count the known terms of texts, which are given by their words, for each view."""
    columns = {name: columns_of(view.vocabulary) for name, view in views.items()}
    words = sorted({word for document in documents for word in document})
    spelled = count_terms(documents, columns_of(words)) @ piece_counts(words, columns["characters"])
    spelled.sort_indices()
    return {
        "words": count_terms(map(with_pairs, documents), columns["words"]),
        "characters": sp.csr_matrix(spelled),
        "contexts": count_terms(documents, columns["contexts"]),
    }


def state_arrays(views: Mapping[str, View], projection: np.ndarray, neutral: FloatArray) -> dict[str, np.ndarray]:
    """All arrays of a fitted state by name."""
    parts = {f"{name}.{field}": getattr(view, field) for name, view in views.items() for field in _FIELDS}
    return {**parts, "projection": projection, "neutral": neutral}


def state_digest(vocabularies: Mapping[str, Sequence[str]], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of a fitted state."""
    digest = hashlib.sha256(json.dumps(vocabularies, ensure_ascii=False, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(str((name, array.shape, str(array.dtype))).encode())
        digest.update(np.ascontiguousarray(array).ravel().data)
    return digest.hexdigest()


def reopen_wcp(spec: EncoderSpec, folder: Path) -> WcpEncoder:
    """Open the encoder of a fitted state, and check that it is that of the recipe.

    Raises ``NotAvailable`` if a file is missing, or the revision is another; ``StoreCorrupt`` if the state is another,
    or damaged.
    """
    if spec.revision != REVISION:
        raise NotAvailable(
            f"{spec.encoder_id} is revision {spec.revision!r} of wcp, this genekb knows {REVISION}; update genekb"
        )
    words, numbers = _files(folder)
    if not words.is_file() or not numbers.is_file():
        raise NotAvailable(f"{folder} lacks the fitted state of {spec.encoder_id}; build the store again")
    try:
        vocabularies, arrays = read_json(words), read_arrays(numbers)
        is_same = isinstance(vocabularies, dict) and state_digest(vocabularies, arrays) == spec.state_sha256
    except (ValueError, KeyError) as error:
        raise StoreCorrupt(f"{folder}: the state of {spec.encoder_id} is damaged; build the store again") from error
    if not is_same:
        raise StoreCorrupt(f"{folder}: the state is not that of {spec.encoder_id}; build the store again")
    views = {
        name: View(vocabulary=vocabularies[name], **{field: arrays[f"{name}.{field}"] for field in _FIELDS})
        for name in VIEWS
    }
    return WcpEncoder(spec=spec, views=views, projection=arrays["projection"], neutral=arrays["neutral"])


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
