"""Latent semantic analysis: TF-IDF of words and word pairs, reduced by SVD; fitted on a store's own texts.

The fitted state is part of the recipe and is saved with the vectors.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from genekb.core.words import split_words
from genekb.encoders.base import EncoderSpec, TextEncoder, VectorsAndTokens, check_texts, unit_rows
from genekb.encoders.state import Arrays, read_state, write_state
from genekb.schema import FloatArray, IntArray

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import CountVectorizer

REVISION: Final = "2"
MAX_TERMS: Final = 30_000
MIN_TEXTS_FOR_RARE: Final = 50  # from here on a term must stand in two texts
# How a text is split, by revision: stores keep the vectors of the revision that fitted them, and queries follow it
_SPLITTING: Final[Mapping[str, Mapping[str, Any]]] = {
    "1": {"token_pattern": r"(?u)\w+"},
    REVISION: {"tokenizer": split_words, "token_pattern": None, "lowercase": False},
}
_ARRAYS: Final = ("idf", "components", "neutral")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LsaEncoder(TextEncoder):
    """A fitted LSA; a text without any known term gets the neutral vector."""

    spec: EncoderSpec
    vocabulary: Sequence[str]  # terms, in the order of the columns
    idf: FloatArray  # (term,)
    components: np.ndarray  # (dim, term), in float16 so that a reopened encoder gives the same bytes
    neutral: FloatArray  # (dim,) unit vector of a text without a known term: the mean of the fitted texts

    def _encode(self, texts: Sequence[str], progress: Callable[[int], None]) -> VectorsAndTokens:
        counts, columns, starts = _count_terms(texts, self.vocabulary, revision=self.spec.revision)
        weights = _weigh(counts, columns, starts, idf=self.idf)
        used, rows = np.unique(columns, return_inverse=True)
        terms = np.ascontiguousarray(self.components[:, used].T, dtype=np.float32)
        vectors = np.empty((len(texts), len(self.components)), dtype=np.float32)
        for text, (start, end) in enumerate(pairwise(starts.tolist())):  # scipy.sparse takes longer to import
            vectors[text] = (terms[rows[start:end]] * weights[start:end, None]).sum(axis=0)
        vectors[~(np.linalg.norm(vectors, axis=1) > 0)] = self.neutral
        progress(len(texts))
        return vectors, np.diff(starts), 0

    def save(self, folder: Path) -> None:
        """Write vocabulary and matrices."""
        write_state(folder, "lsa", self.vocabulary, {name: getattr(self, name) for name in _ARRAYS})


def fit_lsa(corpus: Sequence[str], *, name: str, dim: int) -> LsaEncoder:
    """Fit an LSA on a store's texts in any order; fewer dimensions than ``dim`` where the corpus spans fewer."""
    import scipy.sparse as sp
    from sklearn.utils.extmath import randomized_svd, svd_flip
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    texts = sorted(set(corpus))
    check_texts(texts)
    if not texts:
        raise ValueError("an lsa encoder is fitted on the store's texts, and there is none")
    min_texts = 2 if len(texts) >= MIN_TEXTS_FOR_RARE else 1
    counter = _counter(REVISION, min_df=min_texts, max_features=MAX_TERMS)
    counts = counter.fit_transform(texts)
    vocabulary = counter.get_feature_names_out().tolist()
    containing = np.diff(counts.tocsc().indptr)
    idf = (np.log((1 + len(texts)) / (1 + containing)) + 1).astype(np.float32)
    weighted = sp.csr_matrix(counts, dtype=np.float32)
    weighted.sort_indices()
    weighted.data = _weigh(weighted.data, weighted.indices, weighted.indptr, idf=idf)
    kept = max(1, min(dim, len(vocabulary), len(texts)))
    with threadpool_limits(limits=1):  # rounding depends on the number of threads, and the recipe on rounding
        directions = randomized_svd(weighted, kept, n_iter=5, random_state=0)[2]
    components = np.ascontiguousarray(svd_flip(None, directions, u_based_decision=False)[1], dtype=np.float16)
    mean = np.asarray(weighted.mean(axis=0), dtype=np.float32) @ components.T.astype(np.float32)
    arrays = {"idf": idf, "components": components, "neutral": unit_rows(mean.reshape(1, -1), encoder=name)[0]}
    spec = EncoderSpec(
        name=name,
        kind="lsa",
        model_id="genekb/lsa",
        revision=REVISION,
        dim=kept,
        state_sha256=_digest(vocabulary, arrays),
    )
    return LsaEncoder(spec=spec, vocabulary=vocabulary, **arrays)


def reopen_lsa(spec: EncoderSpec, folder: Path) -> LsaEncoder:
    """Open the encoder of a fitted state, see :func:`genekb.encoders.state.read_state`."""
    vocabulary, arrays = read_state(spec, folder, revisions=_SPLITTING, form=list, digest=_digest)
    return LsaEncoder(spec=spec, vocabulary=vocabulary, **{name: arrays[name] for name in _ARRAYS})


def _counter(revision: str, **settings: Any) -> "CountVectorizer":
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(ngram_range=(1, 2), **_SPLITTING[revision], **settings)


def _count_terms(
    texts: Sequence[str], vocabulary: Sequence[str], *, revision: str
) -> tuple[FloatArray, IntArray, IntArray]:
    """Count the terms of a vocabulary as :func:`_counter` does, without its library, which a query would wait for.

    Returns counts and columns, ascending in each text, and where the texts start; behind them the end of the last.
    """
    known = {term: column for column, term in enumerate(vocabulary)}
    split = split_words if revision == REVISION else _split_by_case
    documents = [(*words, *map(" ".join, pairwise(words))) for words in map(split, texts)]
    found = [[column for term in terms if (column := known.get(term)) is not None] for terms in documents]
    texts_first = np.repeat(np.arange(len(texts)), list(map(len, found))) * len(known)
    places, counts = np.unique(texts_first + np.fromiter(chain(*found), dtype=np.int64), return_counts=True)
    starts = np.searchsorted(places, np.arange(len(texts) + 1) * len(known))
    return counts.astype(np.float32), places % max(len(known), 1), starts


def _split_by_case(text: str) -> list[str]:
    """Words of the first revision."""
    return re.findall(r"\w+", text.lower())


def _weigh(counts: FloatArray, columns: IntArray, starts: IntArray, *, idf: FloatArray) -> FloatArray:
    """Weigh counts as (1 + log count) x idf, those of each text at unit length; see :func:`_count_terms`."""
    weights = (1 + np.log(counts)) * idf[columns]
    lengths = np.diff(starts)
    squares = np.add.reduceat(weights * weights, starts[:-1][lengths > 0]) if len(weights) else weights
    return np.asarray(weights * np.repeat(1 / np.sqrt(squares), lengths[lengths > 0]), dtype=np.float32)


def _digest(vocabulary: Sequence[str], arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps(list(vocabulary), ensure_ascii=False).encode())
    for array in (arrays[name] for name in _ARRAYS):
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).ravel().data)
    return digest.hexdigest()
