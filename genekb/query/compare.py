"""Compare encoders of a store: shared nearest genes, kernel alignment, and tasks on genes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.genes.texts import find_template
from genekb.query.gene_tasks import NAME_FAMILY, GeneTerms, TaskScore, read_gene_terms, score_gene_task
from genekb.query.neighbors import linear_cka, nearest_rows, neighbor_overlap
from genekb.schema import FloatArray, IntArray, rows_of
from genekb.store.reader import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderPair:
    """How far two encoders agree."""

    first: str
    second: str
    neighbor_overlap: float  # mean fraction of a gene's nearest genes that both share
    cka: float  # linear centred kernel alignment, see :func:`genekb.query.neighbors.linear_cka`


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderTask:
    """Score of an encoder on one vocabulary."""

    encoder: str
    vocabulary: str
    # False where the encoded text holds what the vocabulary is made of, so that a high score says little, and for
    # imported vectors, of which this is unknown
    held_out: bool
    score: TaskScore


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Encoders of a store on the genes that all of them have."""

    store_id: str
    encoders: Mapping[str, int]  # number of genes with a vector, by encoder id
    n_genes: int  # compared: shared by all encoders, of genes with equal texts the first, or a sample of them
    n_equal_texts: int  # genes left out because another has the same text, and so the same vector
    n_neighbors: int
    seed: int
    chance_overlap: float  # overlap of neighbours drawn at random
    pairs: tuple[EncoderPair, ...]
    tasks: tuple[EncoderTask, ...]
    skipped: tuple[str, ...]  # vocabularies with too few genes that have a term of 5 to 500 compared genes
    # encoders that were left out because they were not pulled; none where encoders were named
    not_pulled: tuple[str, ...] = ()


def compare_encoders(
    store: Store,
    *,
    encoders: Sequence[str] | None = None,
    n_neighbors: int = 10,
    n_genes: int | None = None,
    seed: int = 0,
    vocabularies: Sequence[str] | None = None,
) -> Comparison:
    """Compare encoders of a store on the genes that all of them have; time grows with the square of their number.

    ``encoders``: as for :meth:`genekb.store.reader.Store.encoder_id`; all that are here if left out, controls too.
    ``n_genes``: size of a sample; all if left out. ``seed``: of sample, controls and intervals. Raises ``NotAvailable``
    if the store has no such encoder; ``SourceUnusable`` if the encoders share too few genes, or the store has no such
    vocabulary; ``ValueError`` if ``n_neighbors`` is below 1, or ``n_genes`` not above it.
    """
    if n_neighbors < 1 or (n_genes is not None and n_genes <= n_neighbors):
        raise ValueError(f"n_neighbors must be >= 1 and < n_genes, got {n_neighbors} and {n_genes}")
    ids = list(dict.fromkeys(map(store.encoder_id, encoders or store.encoder_ids)))
    if not ids:
        if store.not_pulled:
            store.check_whole()
        raise NotAvailable(f"{store.store_id} has no encoder to compare; add one with `genekb encode`")
    terms = read_gene_terms(store, vocabularies)
    gene_ids, n_equal_texts = _shared_genes(store, ids, n_neighbors=n_neighbors)
    if n_genes is not None and n_genes < len(gene_ids):
        gene_ids = np.sort(_stream(seed, 0).choice(gene_ids, size=n_genes, replace=False))
    vectors = {name: store.vectors(gene_ids, encoder=name).vectors for name in ids}
    tasks = tuple(
        task
        for vocabulary in terms
        for name in ids
        if (task := _task(store, vocabulary, (name, gene_ids, vectors[name]), n_neighbors=n_neighbors, seed=seed))
    )
    scored = {task.vocabulary for task in tasks}
    return Comparison(
        store_id=store.store_id,
        encoders={name: len(store.vector_table(name).gene_ids) for name in ids},
        n_genes=len(gene_ids),
        n_equal_texts=n_equal_texts,
        n_neighbors=n_neighbors,
        seed=seed,
        chance_overlap=n_neighbors / (len(gene_ids) - 1),
        pairs=_pairs(vectors, n_neighbors=n_neighbors),
        tasks=tasks,
        skipped=tuple(vocabulary.vocabulary for vocabulary in terms if vocabulary.vocabulary not in scored),
        not_pulled=() if encoders else store.not_pulled,
    )


def _shared_genes(store: Store, ids: Sequence[str], *, n_neighbors: int) -> tuple[IntArray, int]:
    """Genes with a vector by every encoder, one a text, and how many were left out for equal texts."""
    shared = store.vector_table(ids[0]).gene_ids
    for name in ids[1:]:
        shared = np.intersect1d(shared, store.vector_table(name).gene_ids, assume_unique=True)
    texts = store.table("texts")
    text_ids = pc.coalesce(rows_of(texts, shared)["text_id"].combine_chunks(), pc.cast(pa.array(shared), pa.string()))
    _, first = np.unique(text_ids.to_numpy(zero_copy_only=False).astype(np.str_), return_index=True)
    distinct = shared[np.sort(first)]
    if len(distinct) <= n_neighbors:
        raise SourceUnusable(
            f"{len(distinct)} genes of {store.store_id} have a vector by all of {', '.join(ids)}, equal texts counted "
            f"once; more than {n_neighbors} are needed for {n_neighbors} neighbours"
        )
    return distinct, len(shared) - len(distinct)


def _stream(seed: int, purpose: int) -> np.random.Generator:
    """Random stream of a purpose: 0 draws the sample, 1 permutes and resamples."""
    return np.random.default_rng([seed % 2**64, purpose])  # NumPy takes no negative number


def _task(
    store: Store,
    vocabulary: GeneTerms,
    encoded: tuple[str, IntArray, FloatArray],
    *,
    n_neighbors: int,
    seed: int,
) -> EncoderTask | None:
    """Score one encoder on one vocabulary, with the same permutation for every encoder."""
    name, gene_ids, vectors = encoded
    score = score_gene_task(vectors, gene_ids, vocabulary, n_neighbors=n_neighbors, rng=_stream(seed, 1))
    if score is None:
        return None
    held_out = _is_held_out(store, name, vocabulary.vocabulary)
    return EncoderTask(encoder=name, vocabulary=vocabulary.vocabulary, held_out=held_out, score=score)


def _is_held_out(store: Store, encoder_id: str, vocabulary: str) -> bool:
    """Whether the encoded text is known to lack what the vocabulary is made of."""
    if store.manifest.kind(encoder_id).is_imported:
        return False
    template = find_template(str(store.manifest.template["number"]))
    fields = {*template.head, *template.body}
    if vocabulary == NAME_FAMILY:
        return "name" not in fields
    return not (vocabulary.startswith("go_") and "go_terms" in fields)


def _pairs(vectors: Mapping[str, FloatArray], *, n_neighbors: int) -> tuple[EncoderPair, ...]:
    if len(vectors) == 1:
        return ()
    neighbors = {name: nearest_rows(matrix, n_neighbors=n_neighbors) for name, matrix in vectors.items()}
    return tuple(
        EncoderPair(
            first=first,
            second=second,
            neighbor_overlap=neighbor_overlap(neighbors[first], neighbors[second]),
            cka=linear_cka(vectors[first], vectors[second]),
        )
        for first, second in combinations(vectors, 2)
    )
