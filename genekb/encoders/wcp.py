"""A fitted encoder of three views of a text: its words, their pieces, and what the words stand beside.

The fitted state is part of the recipe and is saved with the vectors.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from itertools import chain, pairwise
from pathlib import Path
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Float32, Int32
from numpy.typing import NDArray

from genekb.core.errors import NotAvailable, StoreCorrupt
from genekb.core.words import content_words
from genekb.encoders.base import EncoderSpec, TextEncoder, VectorsAndTokens, check_texts, unit_or_zero
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
    known = [[column for column in map(columns.get, terms) if column is not None] for terms in documents]
    shape = (len(known), len(columns))
    rows = np.repeat(np.arange(len(known)), list(map(len, known)))
    places = rows * shape[1] + np.fromiter(chain.from_iterable(known), dtype=np.int64, count=len(rows))
    distinct, counts = np.unique(places, return_counts=True)
    rows, indices = np.divmod(distinct, max(shape[1], 1))
    data = (1 + np.log(counts) if log else counts).astype(np.float32)
    ends = np.searchsorted(rows, np.arange(len(known) + 1))
    return sp.csr_matrix((data, indices.astype(np.int32), ends), shape=shape)


def columns_of(vocabulary: Iterable[str]) -> dict[str, int]:
    """Column of each term."""
    return {term: column for column, term in enumerate(vocabulary)}


def piece_counts(words: Sequence[str], columns: Mapping[str, int]) -> sp.csr_matrix:
    """(word, piece) how often each known piece stands in a word."""
    return count_terms(map(pieces, words), columns, log=False)


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
    from threadpoolctl import threadpool_limits

    texts = sorted(set(corpus))
    check_texts(texts)
    if not texts:
        raise ValueError("a wcp encoder is fitted on the store's texts, and there is none")
    documents = [content_words(text) for text in texts]
    with threadpool_limits(limits=1):  # rounding depends on the number of threads, and the recipe on rounding
        with ThreadPoolExecutor(2) as pool:  # most of the work is done outside Python; the largest in memory comes last
            fits = {"words": _fit_words, "contexts": _fit_contexts, "characters": _fit_characters}
            fitting = {view: pool.submit(fit, documents, dim=_DIMS[view]) for view, fit in fits.items()}
            views = {view: fitting[view].result() for view in VIEWS}
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


EXTRA: Final = 24  # columns beyond those that are kept, which the iteration needs to settle
ROUNDS: Final = 3
_TINY: Final = 1e-3  # of the largest singular value: a direction below it is rounding


def right_vectors(
    factors: Sequence[sp.csr_matrix], dim: int
) -> tuple[Float32[np.ndarray, "column kept"], Float[np.ndarray, " kept"]]:
    """Right singular vectors of a product that is never formed, and their values, the largest first.

    There are fewer than ``dim`` where the rank is lower; of a matrix without any value, one vector of zeros. Subspace
    iteration :cite:`halko2011randomized` needs orthogonal columns on the side of the rows alone, the shorter one.
    """
    shape = factors[0].shape[0], factors[-1].shape[1]
    if not all(factor.nnz for factor in factors):
        return np.zeros((shape[1], 1), dtype=np.float32), np.ones(1)
    n_kept = max(1, min(dim, *shape))
    n_used = min(n_kept + EXTRA, *shape)

    def transposed_times(dense: Float32[np.ndarray, "row n"]) -> Float32[np.ndarray, "column n"]:
        return reduce(lambda product, factor: factor.T @ product, factors, dense)

    start = np.random.default_rng(0).standard_normal((shape[0], n_used), dtype=np.float32)
    basis = np.linalg.qr(start)[0]
    for _ in range(ROUNDS):
        product = reduce(lambda product, factor: factor @ product, reversed(factors), transposed_times(basis))
        basis = np.linalg.qr(product)[0]
    projected = transposed_times(basis)
    turn, values = leading_directions(projected, n_kept)
    return projected @ (turn / values).astype(np.float32), values


def leading_directions(
    rows: Float32[np.ndarray, "row dim"], n: int
) -> tuple[Float[np.ndarray, "dim kept"], Float[np.ndarray, " kept"]]:
    """Right singular vectors of a dense matrix with few columns, and their values, the largest first."""
    squares, vectors = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    order = np.argsort(-squares, kind="stable")[:n]
    values = np.sqrt(np.maximum(squares[order], 0))
    kept = order[: max(1, np.count_nonzero(values > _TINY * values[0]))]
    signs = np.where(vectors[np.abs(vectors[:, kept]).argmax(axis=0), kept] < 0, -1, 1)
    return vectors[:, kept] * signs, values[: len(kept)]
