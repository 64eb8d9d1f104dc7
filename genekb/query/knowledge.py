"""Vectors of genes and their controls: texts shuffled or masked, full names, characters of symbols, random."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import pyarrow.compute as pc

from genekb.core.errors import NotAvailable
from genekb.encoders.imported.terms import mix_vectors
from genekb.schema import FloatArray, IntArray, rows_of, strings
from genekb.store.reader import Store

Knowledge = Literal["real", "shuffled", "masked", "name", "symbol", "random"]
KNOWLEDGE: Final[tuple[Knowledge, ...]] = get_args(Knowledge)
SYMBOL_DIM: Final = 256  # most dimensions of vectors of symbols
_LEAST_SYMBOLS: Final = 2
_SYMBOLS: Final = ("symbol", "alias", "retired_symbol")  # kinds of names
_WORD: Final = re.compile(r"[^\W_][\w-]*")
_NOTHING: Final = "gene"  # a text of which nothing is left
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
    words: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> KnowledgeVectors:
    """Give the vectors of genes, or those of a control that lacks part of what a text says, of the same genes.

    ``real``: the encoder's vectors. ``shuffled``: each gene has the vector of another gene. ``name``: the full name
    alone, read by the same encoder. ``symbol``: characters of the symbol, TF-IDF of 1- to 3-grams within its bounds and
    SVD, at most 256 dimensions. ``random``: isotropic directions. ``masked``: the text without symbols of all genes,
    the words of the gene's own names, and ``words``; annotations in a mix as they are. What a gene gets does not depend
    on which others are asked for. ``NotAvailable`` if the encoder reads no names, or is not on this machine.
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
    elif knowledge == "masked":
        distinct, rows = np.unique(asked, return_inverse=True)
        vectors = _of_masked(store, encoder_id, distinct, words=words, progress=progress)[rows]
    elif knowledge == "symbol":
        vectors = _of_symbols(store, having)[np.searchsorted(having, asked)]
    elif knowledge == "random":
        shape = (len(having), table.vectors.shape[1])
        drawn = np.random.default_rng([seed, _RANDOM]).standard_normal(shape, dtype=np.float32)
        vectors = drawn[np.searchsorted(having, asked)]
    else:
        givers = asked
        if knowledge == "shuffled":
            order = np.random.default_rng([seed, _SHUFFLED]).permutation(len(having))
            partner = np.empty_like(having)
            partner[order] = having[np.roll(order, 1)]  # one cycle: no gene keeps its own
            givers = partner[np.searchsorted(having, asked)]
        vectors = store.vectors(givers, encoder=encoder_id).vectors
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


def _of_masked(
    store: Store, encoder_id: str, gene_ids: IntArray, *, words: Sequence[str], progress: Callable[[int], None] | None
) -> FloatArray:
    """Vectors of masked texts of genes, ascending; of a mix with its other parts as they are."""
    kind = store.manifest.kind(encoder_id)
    if not kind.is_imported:
        distinct, rows = np.unique(masked_texts(store, gene_ids, words=words), return_inverse=True)
        return store.encoder(encoder_id).encode(distinct.tolist(), progress=progress).vectors[rows]
    recipe = store.manifest.recipe(encoder_id)
    if recipe["kind"] != "mix":
        raise NotAvailable(f"{encoder_id} reads no text that could be masked; choose other knowledge")
    parts, weights = [], []
    for part, _, weight in (each.rpartition("=") for each in str(recipe["model_id"]).split(",")):
        own = gene_ids[np.isin(gene_ids, store.vector_table(part).gene_ids)]
        is_read = not store.manifest.kind(part).is_imported
        masked = _of_masked(store, part, own, words=words, progress=progress) if is_read else None
        parts.append((own, store.vectors(own, encoder=part).vectors if masked is None else masked))
        weights.append(float(weight))
    return mix_vectors(parts, weights)[1]


def masked_texts(store: Store, gene_ids: IntArray, *, words: Sequence[str] = ()) -> list[str]:
    """Texts of genes without symbols of any gene, the words of the gene's own names, and ``words``, in any case."""
    names = store.table("names")
    symbols = set(names.filter(pc.is_in(names["kind"], strings(_SYMBOLS)))["name"].to_pylist())
    left_out = {word.casefold() for word in words}
    own_names = zip(rows_of(store.table("genes"), gene_ids)["name"].to_pylist(), store.texts(gene_ids), strict=True)
    masked = []
    for name, text in own_names:
        own = left_out | {word.casefold() for word in _WORD.findall(name or "")}

        def keep(found: re.Match[str], own: set[str] = own) -> str:
            word = found[0]
            return "" if word in symbols or word.casefold() in own or word.casefold().removesuffix("s") in own else word

        masked.append(" ".join(_WORD.sub(keep, text or "").split()))
    return [text if any(map(str.isalnum, text)) else _NOTHING for text in masked]


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
