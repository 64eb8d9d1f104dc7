"""Fit the views of texts: TF-IDF and SVD of words and of pieces, and vectors of words by what they stand beside."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Float32, Int32

from genekb.core.words import content_words
from genekb.encoders.base import EncoderSpec, check_texts, unit_or_zero
from genekb.encoders.wcp.encoder import (
    REVISION,
    View,
    WcpEncoder,
    choose_terms,
    columns_of,
    count_terms,
    count_views,
    make_view,
    piece_counts,
    pieces,
    state_arrays,
    state_digest,
    with_pairs,
)
from genekb.encoders.wcp.svd import leading_directions, right_vectors

DIM: Final = 768
WEIGHTS: Final = {"words": 0.35, "characters": 0.25, "contexts": 0.4}  # of the cosines of the views
_DIMS: Final = {"words": 512, "characters": 384, "contexts": 300}
MAX_TERMS: Final = {"words": 30_000, "characters": 20_000}
MIN_TEXTS_FOR_RARE: Final = 50  # from here on a term must stand in two texts, a piece in three
_WINDOW: Final = 16  # words on either side that are a word's context
_SMOOTHED: Final = 0.75  # power of the frequency of a context
_RARE: Final = 3e-5  # share of all words at which a word counts half
_BATCH: Final = 1024


def fit_wcp(corpus: Sequence[str], *, name: str, dim: int = DIM) -> WcpEncoder:
    """Fit the encoder on a store's texts in any order; fewer dimensions than ``dim`` where the corpus spans fewer."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    texts = sorted(set(corpus))
    check_texts(texts)
    if not texts:
        raise ValueError("a wcp encoder is fitted on the store's texts, and there is none")
    documents = [content_words(text) for text in texts]
    with threadpool_limits(limits=1):  # rounding depends on the number of threads, and the recipe on rounding
        views = {
            "words": _fit_words(documents, dim=_DIMS["words"]),
            "characters": _fit_characters(documents, dim=_DIMS["characters"]),
            "contexts": _fit_contexts(documents, dim=_DIMS["contexts"]),
        }
        joined = _embed_all(documents, views)
        weights = np.concatenate([np.full(view.codes.shape[1], WEIGHTS[key] ** 0.5) for key, view in views.items()])
        directions, _ = leading_directions(joined * weights.astype(np.float32), dim)
        projection = np.ascontiguousarray(weights[:, None] * directions, dtype=np.float16)
        neutral = _neutral(unit_or_zero(joined @ projection.astype(np.float32)))
    arrays = state_arrays(views, projection, neutral)
    spec = EncoderSpec(
        name=name,
        kind="wcp",
        model_id="genekb/wcp",
        revision=REVISION,
        dim=projection.shape[1],
        state_sha256=state_digest({key: view.vocabulary for key, view in views.items()}, arrays),
    )
    return WcpEncoder(spec=spec, views=views, projection=projection, neutral=neutral)


def _neutral(vectors: Float32[np.ndarray, "text dim"]) -> Float32[np.ndarray, " dim"]:
    """Mean direction of the texts; the first axis where there is none."""
    mean = vectors.mean(axis=0)
    if not mean.any():
        mean[0] = 1
    return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


def _embed_all(documents: Sequence[Sequence[str]], views: dict[str, View]) -> Float32[np.ndarray, "text dim"]:
    """Embed texts by all views, side by side."""
    blocks = []
    for start in range(0, len(documents), _BATCH):
        counts = count_views(documents[start : start + _BATCH], views)
        blocks.append(np.hstack([view.embed(counts[key]) for key, view in views.items()]))
    return np.concatenate(blocks)


def _fit_words(documents: Sequence[Sequence[str]], *, dim: int) -> View:
    """LSA of words and pairs of words."""
    vocabulary = choose_terms(map(with_pairs, documents), min_texts=_least(documents, 2), max_terms=MAX_TERMS["words"])
    counts = count_terms(map(with_pairs, documents), columns_of(vocabulary))
    containing = np.bincount(counts.indices, minlength=counts.shape[1])
    weights = _inverse_frequency(containing, n_texts=len(documents))
    weighted = sp.csr_matrix(counts @ sp.diags(weights))
    weighted = sp.csr_matrix(sp.diags(_unit_scale(weighted)) @ weighted)
    return make_view(vocabulary, weights, right_vectors([weighted], dim)[0])


def _fit_characters(documents: Sequence[Sequence[str]], *, dim: int) -> View:
    """LSA of pieces of words; a text has the sum of those of its words, and that large product is never kept."""
    words = sorted({word for document in documents for word in document})
    of_words = count_terms(documents, columns_of(words))
    every = sorted({piece for word in words for piece in pieces(word)})
    of_pieces = piece_counts(words, columns_of(every))
    blocks = _product_blocks(of_words, of_pieces)
    containing = sum((np.bincount(block.indices, minlength=len(every)) for block in blocks), np.zeros(len(every)))
    frequent = np.flatnonzero(containing >= _least(documents, 3))
    kept = np.sort(frequent[np.argsort(-containing[frequent], kind="stable")][: MAX_TERMS["characters"]])
    weights = _inverse_frequency(containing[kept], n_texts=len(documents))
    weighted = sp.csr_matrix(of_pieces[:, kept] @ sp.diags(weights))
    scale = np.concatenate([_unit_scale(block) for block in _product_blocks(of_words, weighted)])
    of_words = sp.csr_matrix(sp.diags(scale) @ of_words)
    vectors = right_vectors([of_words, weighted], dim)[0]
    return make_view([every[column] for column in kept], weights, vectors)


def _product_blocks(left: sp.csr_matrix, right: sp.csr_matrix) -> Iterator[sp.csr_matrix]:
    """Yield a product of sparse matrices by blocks of rows: the whole would be large."""
    for start in range(0, left.shape[0], _BATCH):
        yield sp.csr_matrix(left[start : start + _BATCH] @ right)


def _fit_contexts(documents: Sequence[Sequence[str]], *, dim: int) -> View:
    """Vectors of words by PPMI and SVD :cite:`levy2015embeddings`; a text has their SIF mean :cite:`arora2017sif`."""
    vocabulary = choose_terms(documents, min_texts=_least(documents, 2), max_terms=MAX_TERMS["words"])
    columns = columns_of(vocabulary)
    associations = _associations(documents, columns)
    vectors, values = right_vectors([associations], dim)
    vectors = (associations @ vectors) / np.sqrt(values).astype(np.float32)
    known = [columns[word] for document in documents for word in document if word in columns]
    totals = np.bincount(known, minlength=len(columns))
    weights = (_RARE / (_RARE + totals / max(1, len(known)))).astype(np.float32)
    view = make_view(vocabulary, weights, vectors)
    embedded = view.embed(count_terms(documents, columns))
    n_known = max(1, int(embedded.any(axis=1).sum()))
    return replace(view, mean=embedded.sum(axis=0) / np.float32(n_known))


def _associations(documents: Sequence[Sequence[str]], columns: dict[str, int]) -> sp.csr_matrix:
    """(word, context) positive pointwise mutual information of words within a window."""
    sequence = _sequence(documents, columns)
    shape = (len(columns), len(columns))
    after = sp.csr_matrix(shape, dtype=np.float32)
    for distance in range(1, _WINDOW + 1):
        first, second = sequence[:-distance], sequence[distance:]
        both = (first >= 0) & (second >= 0)
        near = np.ones(int(both.sum()), dtype=np.float32)
        after = after + sp.csr_matrix((near, (first[both], second[both])), shape=shape)
    together = sp.csr_matrix(after + after.T)
    totals = np.asarray(together.sum(axis=1)).ravel()
    contexts = totals**_SMOOTHED
    expected = np.divide(contexts.sum(), contexts, out=np.zeros_like(contexts), where=contexts > 0)
    together.data *= np.repeat(1 / np.maximum(totals, 1), np.diff(together.indptr)).astype(np.float32)
    together.data *= expected[together.indices].astype(np.float32)
    together.data = np.maximum(np.log(together.data), 0)
    together.eliminate_zeros()
    return together


def _sequence(documents: Sequence[Sequence[str]], columns: dict[str, int]) -> Int32[np.ndarray, " place"]:
    """Rows of the known words of all texts, with a gap of -1 between texts that no window crosses."""
    gap = [-1] * _WINDOW
    parts = ([*(columns[word] for word in document if word in columns), *gap] for document in documents)
    return np.fromiter(chain.from_iterable(parts), dtype=np.int32)


def _least(documents: Sequence[Sequence[str]], n_texts: int) -> int:
    return n_texts if len(documents) >= MIN_TEXTS_FOR_RARE else 1


def _inverse_frequency(containing: Float[np.ndarray, " term"], *, n_texts: int) -> Float32[np.ndarray, " term"]:
    return (np.log((1 + n_texts) / (1 + containing)) + 1).astype(np.float32)


def _unit_scale(matrix: sp.csr_matrix) -> Float32[np.ndarray, " row"]:
    """Factor that brings each row to unit length; 0 for an empty one."""
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return np.asarray(np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0), dtype=np.float32)
