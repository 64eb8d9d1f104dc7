"""Vectors of genes and their controls: shuffled texts, the full name alone, characters of the symbol, random."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from genekb.core.errors import NotAvailable
from genekb.schema import FloatArray, IntArray, rows_of
from genekb.store.reader import Store

Knowledge = Literal["real", "shuffled", "name", "symbol", "random"]
KNOWLEDGE: Final[tuple[Knowledge, ...]] = get_args(Knowledge)
SYMBOL_DIM: Final = 256  # most dimensions of vectors of symbols
_LEAST_SYMBOLS: Final = 2
_SHUFFLED, _RANDOM = range(2)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnowledgeVectors:
    """Vectors of genes, and which of the genes have none."""

    knowledge: Knowledge
    encoder_id: str
    gene_ids: IntArray  # (gene,) those with a vector, in the order asked
    vectors: FloatArray  # (gene, dim) of unit length, float32
    missing: IntArray  # GeneIDs that were asked for and have no vector


def knowledge_vectors(
    store: Store,
    encoder: str | None = None,
    *,
    knowledge: Knowledge = "real",
    gene_ids: IntArray | Sequence[int] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> KnowledgeVectors:
    """Give the vectors of genes, or those of a control that lacks part of what a text says.

    A control is made for the genes that have a vector by the encoder, so that it is compared on the same genes; what a
    gene gets does not depend on which others are asked for.

    Parameters
    ----------
    store, encoder
        Opened store, and an encoder of it as for :meth:`genekb.store.reader.Store.encoder_id`.
    knowledge
        ``real``: the encoder's vectors. ``shuffled``: each gene has the vector of another gene. ``name``: the full name
        alone, without symbol and summary, read by the same encoder. ``symbol``: characters of the symbol, TF-IDF of
        1- to 3-grams within its bounds and SVD, at most 256 dimensions. ``random``: isotropic directions.
    gene_ids
        Genes to give, repeats allowed; all with a vector, ascending, if left out.
    seed
        Of ``shuffled`` and ``random``.
    progress
        Called with the number of names read, after each batch of ``name``.

    Raises
    ------
    NotAvailable
        If the store has no such encoder, or ``name`` is asked of one that was imported or is not on this machine.
    ValueError
        If ``knowledge`` is none of these; ``none`` has no vectors.

    Examples
    --------
    >>> found = knowledge_vectors(kb, "lsa-32", knowledge="name", gene_ids=[915, 931])
    >>> found.vectors.shape, found.missing
    ((2, 32), array([], dtype=int64))
    """
    if knowledge not in KNOWLEDGE:
        raise ValueError(f"knowledge {knowledge!r} has no gene vectors; use one of {', '.join(KNOWLEDGE)}")
    encoder_id = store.encoder_id(encoder)
    table = store.vector_table(encoder_id)
    having = np.asarray(table.gene_ids[np.linalg.norm(table.vectors, axis=1)[table.rows] > 0])
    wanted = having if gene_ids is None else np.asarray(gene_ids, dtype=np.int64)
    asked = wanted[np.isin(wanted, having)]
    if knowledge == "name":
        asked, vectors = _of_names(store, encoder_id, asked, progress=progress)
    elif knowledge == "symbol":
        vectors = _of_symbols(store, having)[np.searchsorted(having, asked)]
    elif knowledge == "random":
        shape = (len(having), table.vectors.shape[1])
        drawn = np.random.default_rng([seed, _RANDOM]).standard_normal(shape, dtype=np.float32)
        vectors = drawn[np.searchsorted(having, asked)]
    else:
        vectors = _of_encoder(store, encoder_id, asked, having=having, seed=seed if knowledge == "shuffled" else None)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    usable = norms[:, 0] > 0
    return KnowledgeVectors(
        knowledge=knowledge,
        encoder_id=encoder_id,
        gene_ids=asked[usable],
        vectors=np.asarray(vectors[usable] / norms[usable], dtype=np.float32),
        missing=np.unique(wanted[~np.isin(wanted, asked[usable])]),
    )


def why_without_name(store: Store, encoder: str | None = None) -> str:
    """Say why the control ``name`` of an encoder cannot be made; empty where it can."""
    encoder_id = store.encoder_id(encoder)
    if _reader_of_names(store, encoder_id) is not None:
        return ""
    return f"{encoder_id} was imported as vectors of genes and reads no new text, so that it has no control 'name'"


def _reader_of_names(store: Store, encoder_id: str) -> str | None:
    """Find the encoder that reads names for a control: itself, or the first of texts for one made of gene vectors."""
    kind = store.manifest.recipe(encoder_id)["kind"]
    ids = store.encoder_ids if kind in {"terms", "mix"} else (encoder_id,)
    return next((each for each in ids if not store.manifest.kind(each).is_imported), None)


def _of_encoder(store: Store, encoder_id: str, asked: IntArray, *, having: IntArray, seed: int | None) -> FloatArray:
    """Vectors by the encoder, with a seed those of other genes."""
    if seed is None:
        return store.vectors(asked, encoder=encoder_id).vectors
    order = np.random.default_rng([seed, _SHUFFLED]).permutation(len(having))
    partner = np.empty_like(having)
    partner[order] = having[np.roll(order, 1)]  # one cycle: no gene keeps its own
    return store.vectors(partner[np.searchsorted(having, asked)], encoder=encoder_id).vectors


def _of_names(
    store: Store, encoder_id: str, asked: IntArray, *, progress: Callable[[int], None] | None
) -> tuple[IntArray, FloatArray]:
    """Genes that have a full name, and its vectors; names that several genes have are read once."""
    reader = _reader_of_names(store, encoder_id)
    if reader is None:
        raise NotAvailable(
            f"{why_without_name(store, encoder_id)}; choose other knowledge: real, shuffled, symbol or random"
        )
    names = [name or "" for name in rows_of(store.table("genes"), asked)["name"].to_pylist()]
    has_name = np.array([any(char.isalnum() for char in name) for name in names], dtype=bool)
    distinct, rows = np.unique(np.array(names, dtype=np.str_)[has_name], return_inverse=True)
    if not len(distinct):
        return asked[has_name], np.empty((0, 1), dtype=np.float32)
    encoded = store.encoder(reader).encode(distinct.tolist(), progress=progress)
    return asked[has_name], encoded.vectors[rows]


def _of_symbols(store: Store, gene_ids: IntArray) -> FloatArray:
    """Characters of the symbols of genes (gene, dim): TF-IDF of 1- to 3-grams within the symbol's bounds, and SVD."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    symbols = rows_of(store.table("genes"), gene_ids)["symbol"].to_pylist()
    if len(symbols) < _LEAST_SYMBOLS:
        return np.ones((len(symbols), 1), dtype=np.float32)
    weights = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), dtype=np.float32).fit_transform(symbols)
    with threadpool_limits(limits=1):  # rounding depends on the number of threads
        left, values, _ = randomized_svd(weights, min(SYMBOL_DIM, *weights.shape), n_iter=5, random_state=0)
    return np.asarray(left * values, dtype=np.float32)
