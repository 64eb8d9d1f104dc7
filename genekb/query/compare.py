"""Compare encoders of a store: shared nearest genes, kernel alignment, and whether nearest genes share terms."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, product
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from jaxtyping import Float, Float32, Int
from numpy.typing import NDArray

from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.core.messages import Names, several
from genekb.core.python import for_python
from genekb.encoders.base import unit_or_zero
from genekb.genes.texts import find_template
from genekb.query.gene_sets import VOCABULARIES
from genekb.schema import FloatArray, IntArray, rows_of
from genekb.share.open import open
from genekb.store.reader import Store

BLOCK: Final = 1 << 23  # cosines held at once; 32 MiB


def nearest_rows(vectors: Float32[np.ndarray, "gene dim"], *, n_neighbors: int) -> Int[np.ndarray, "gene neighbor"]:
    """Find the rows with the largest cosine to each row, without the row itself, unordered."""
    n_rows = len(vectors)
    if not 1 <= n_neighbors < n_rows:
        raise ValueError(f"n_neighbors must be >= 1 and < {n_rows}, the number of genes, got {n_neighbors}")
    unit = unit_or_zero(vectors)
    found = np.empty((n_rows, n_neighbors), dtype=np.int64)
    for block in blocks(n_rows, width=n_rows):
        cosines = unit[block] @ unit.T  # (block, gene)
        rows = np.arange(block.start, block.stop)
        cosines[rows - block.start, rows] = -np.inf
        found[block] = np.argpartition(cosines, -n_neighbors, axis=1)[:, -n_neighbors:]
    return found


def neighbor_overlap(first: Int[np.ndarray, "gene neighbor"], second: Int[np.ndarray, "gene neighbor"]) -> float:
    """Mean fraction of a gene's neighbors that two encoders share, in [0, 1]."""
    n_genes, n_neighbors = first.shape
    both = np.sort(np.hstack([first, second]), axis=1)
    return float((both[:, 1:] == both[:, :-1]).sum() / (n_genes * n_neighbors))


def linear_cka(first: Float32[np.ndarray, "gene dim"], second: Float32[np.ndarray, "gene dim2"]) -> float:
    r"""Linear centered kernel alignment of two sets of vectors of the same genes :cite:`kornblith2019cka` (eq. 3).

    .. math:: \frac{\|Y^\top X\|_F^2}{\|X^\top X\|_F \, \|Y^\top Y\|_F}

    0: nothing agrees; 1: equal but for rotation and scale; NaN if all vectors of one are equal.
    """
    cross = _cross_products(first, second)
    own = np.linalg.norm(_cross_products(first, first)) * np.linalg.norm(_cross_products(second, second))
    return float(np.linalg.norm(cross) ** 2 / own) if own > 0 else float("nan")


def _cross_products(
    first: Float32[np.ndarray, "gene dim"], second: Float32[np.ndarray, "gene dim2"]
) -> Float32[np.ndarray, "dim dim2"]:
    """Product of the centered columns, in double precision."""
    means = first.mean(axis=0, dtype=np.float64), second.mean(axis=0, dtype=np.float64)
    total = np.zeros((first.shape[1], second.shape[1]))
    for block in blocks(len(first), width=max(total.shape)):
        total += (first[block] - means[0]).T @ (second[block] - means[1])
    return total


def blocks(n_rows: int, *, width: int) -> Iterator[slice]:
    """Split rows into blocks of at most :data:`BLOCK` values, ``width`` a row."""
    step = max(1, BLOCK // max(width, 1))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


NAME_FAMILY: Final = "name_family"
N_GENES_OF_TERM: Final = (5, 500)  # terms of other sizes are uninformative
N_RESAMPLED: Final = 1000
_GREEK: Final = "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|sigma|tau|omega"
_MEMBER: Final = re.compile(
    r"[\s,]+(?:(?:member|subunit|chain|type|group|isoform|polypeptide|component)\s+)?"
    rf"(?:[A-Z]{{0,2}}\d+[A-Za-z]{{0,2}}|[A-Z]|{_GREEK})(?:\s*\([^()]*\))?$"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneTerms:
    """Which genes have which terms of a vocabulary."""

    vocabulary: str
    gene_ids: IntArray  # gene_ids, terms: (pair,) a gene and one of its terms; a pair may occur more than once
    terms: NDArray[np.str_]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskScore:
    """How often nearest genes share terms, and the same for permuted vectors."""

    n_genes: int  # n_genes, n_terms: genes with a term, and terms of 5 to 500 of the compared genes
    n_terms: int
    n_neighbors: int
    # mean fraction of a gene's nearest labeled genes that share a term with it, in [0, 1]; at most 4 of 10 neighbors
    # for a term of 5 genes
    knn_share: float
    shuffled: float  # the same for permuted vectors
    chance: float  # the same for random neighbors, exactly
    # ``knn_share`` minus ``shuffled``, with a 95 % bootstrap interval over genes
    gain: float
    gain_low: float
    gain_high: float
    # fraction of genes that have the most frequent term of their neighbors (leave one out)
    knn_accuracy: float
    knn_accuracy_shuffled: float


def read_gene_terms(store: Store, vocabularies: Sequence[str] | None = None) -> tuple[GeneTerms, ...]:
    """Read vocabularies of a store and :data:`NAME_FAMILY`; all if left out; ``SourceUnusable`` for others."""
    found = {NAME_FAMILY: name_families(store.table("genes"))}
    table = store.table("annotations")
    for name in VOCABULARIES:
        rows = table.filter(pc.equal(table["vocabulary"], name))
        if rows.num_rows:
            terms = np.array(rows["term_id"].to_pylist(), dtype=np.str_)
            found[name] = GeneTerms(vocabulary=name, gene_ids=rows["gene_id"].to_numpy(), terms=terms)
    unknown = sorted(set(vocabularies or ()) - set(found))
    if unknown:
        raise SourceUnusable(f"{store.store_id} has no vocabulary {unknown[0]!r}; it has {', '.join(found)}")
    return tuple(terms for name, terms in found.items() if vocabularies is None or name in vocabularies)


def name_families(genes: pa.Table) -> GeneTerms:
    """Group genes by their full name without the number or letter of the member: ``zinc finger protein [12]``."""
    named = genes.select(["gene_id", "name"]).drop_null()
    names = named["name"].to_pylist()
    stems = np.array([re.sub(_MEMBER, "", name) for name in names], dtype=np.str_)
    is_member = (stems != "") & (stems != np.array(names, dtype=np.str_))
    gene_ids = named["gene_id"].to_numpy()[is_member]
    return GeneTerms(vocabulary=NAME_FAMILY, gene_ids=gene_ids, terms=stems[is_member])


def score_gene_task(
    vectors: Float32[np.ndarray, "gene dim"],
    gene_ids: Int[np.ndarray, " gene"],
    terms: GeneTerms,
    *,
    n_neighbors: int,
    rng: np.random.Generator,
) -> TaskScore | None:
    """Score vectors of genes, ascending, on one vocabulary; None where too few of the genes have a term."""
    labeled, has_term = _label(gene_ids, terms)
    if len(labeled) <= n_neighbors:
        return None
    neighbors = nearest_rows(vectors[labeled], n_neighbors=n_neighbors)
    permuted = rng.permutation(len(labeled))  # gene i gets the vector of gene permuted[i]
    shuffled = np.argsort(permuted)[neighbors[permuted]]
    fractions, fractions_shuffled = _fractions(has_term, neighbors), _fractions(has_term, shuffled)
    n_genes = len(labeled)
    n_sharing = sum((has_term[block] @ has_term.T).nnz for block in blocks(n_genes, width=n_genes)) - n_genes
    low, high = resampled_interval(fractions - fractions_shuffled, rng, n_resampled=N_RESAMPLED)
    return TaskScore(
        n_genes=n_genes,
        n_terms=has_term.shape[1],
        n_neighbors=n_neighbors,
        knn_share=float(fractions.mean()),
        shuffled=float(fractions_shuffled.mean()),
        chance=float(n_sharing / (n_genes * (n_genes - 1))),
        gain=float((fractions - fractions_shuffled).mean()),
        gain_low=low,
        gain_high=high,
        knn_accuracy=_accuracy(has_term, neighbors),
        knn_accuracy_shuffled=_accuracy(has_term, shuffled),
    )


def _label(gene_ids: IntArray, terms: GeneTerms) -> tuple[IntArray, sp.csr_matrix]:
    """Rows of the genes that have a term of usable size, and their terms as 0 and 1."""
    known = np.isin(terms.gene_ids, gene_ids)
    rows = np.searchsorted(gene_ids, terms.gene_ids[known])
    names, columns = np.unique(terms.terms[known], return_inverse=True)
    table = sp.csr_matrix((np.ones(len(rows), np.int32), (rows, columns)), shape=(len(gene_ids), len(names)))
    table.data[:] = 1
    sizes = np.asarray(table.sum(axis=0)).ravel()
    table = table[:, (sizes >= N_GENES_OF_TERM[0]) & (sizes <= N_GENES_OF_TERM[1])]
    labeled = np.flatnonzero(np.diff(table.indptr))
    return labeled, sp.csr_matrix(table[labeled])


def _fractions(has_term: sp.csr_matrix, neighbors: Int[np.ndarray, "gene neighbor"]) -> Float[np.ndarray, " gene"]:
    """Fraction of each gene's neighbors that share a term with it."""
    shared = [np.asarray(has_term.multiply(has_term[column]).sum(axis=1)).ravel() > 0 for column in neighbors.T]
    return np.asarray(np.mean(shared, axis=0), dtype=np.float64)


def _accuracy(has_term: sp.csr_matrix, neighbors: Int[np.ndarray, "gene neighbor"]) -> float:
    """Fraction of genes that have the most frequent term of their neighbors; of ties the first by name."""
    votes = sum((has_term[column] for column in neighbors.T[1:]), start=has_term[neighbors[:, 0]])
    chosen = np.asarray(votes.argmax(axis=1)).ravel()
    return float(np.asarray(has_term[np.arange(len(chosen)), chosen]).mean())


def resampled_interval(
    figures: Float[np.ndarray, " _"], rng: np.random.Generator, *, n_resampled: int
) -> tuple[float, float]:
    """Bootstrap: 2.5th and 97.5th percentile of the mean over figures drawn with replacement."""
    means = [figures[rng.integers(len(figures), size=len(figures))].mean() for _ in range(n_resampled)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderPair:
    """How far two encoders agree."""

    first: str
    second: str
    neighbor_overlap: float  # mean fraction of a gene's nearest genes that both share
    cka: float  # linear centered kernel alignment, see :func:`linear_cka`


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
    chance_overlap: float  # overlap of neighbors drawn at random
    pairs: tuple[EncoderPair, ...]
    tasks: tuple[EncoderTask, ...]
    skipped: tuple[str, ...]  # vocabularies with too few genes that have a term of 5 to 500 compared genes
    # encoders that were left out because they were not pulled; none where encoders were named
    not_pulled: tuple[str, ...] = ()


@for_python
def compare(
    kb: str | Store,
    *,
    encoder: Names | None = None,
    neighbors: int = 10,
    genes: int = 10_000,
    vocabulary: Names | None = None,
    random_state: int = 0,
) -> Comparison:
    """Compare encoders of a store, as `genekb compare` does, on the genes that all of them have.

    Time grows with the square of their number.

    Parameters
    ----------
    kb
        Name, digest, path, or opened.
    encoder
        Encoder of the store; all that are here if None; one or several.
    neighbors
        Nearest genes looked at.
    genes
        Compare a sample of so many genes; 0 takes all.
    vocabulary
        go_process, go_function, go_component, gene_group, name_family; all if None; one or several.
    random_state
        Seed of sample, controls and intervals.

    Raises
    ------
    NotAvailable
        If the store has no such encoder.
    SourceUnusable
        If the encoders share too few genes, or the store has no such vocabulary.

    Examples
    --------
    >>> import genekb as gk
    >>> kb = gk.build(name="pair", model="wcp-32")
    >>> found = gk.compare(gk.encode("pair", "hash-8"), neighbors=5)
    >>> len(found.pairs), found.pairs[0].neighbor_overlap > found.chance_overlap
    (1, True)
    """
    if neighbors < 1 or 0 < genes <= neighbors:
        raise ValueError(f"neighbors must be >= 1 and < genes, got {neighbors} and {genes}")
    store, seed = open(kb), random_state
    ids = chosen_encoders(store, several(encoder), to="compare")
    terms = read_gene_terms(store, several(vocabulary) or None)
    gene_ids, n_equal_texts = _shared_genes(store, ids, n_neighbors=neighbors)
    if 0 < genes < len(gene_ids):
        gene_ids = np.sort(_stream(seed, 0).choice(gene_ids, size=genes, replace=False))
    vectors = {name: store.vectors(gene_ids, encoder=name).vectors for name in ids}
    tasks = []
    for of_terms, name in product(terms, ids):  # the same permutation for every encoder
        score = score_gene_task(vectors[name], gene_ids, of_terms, n_neighbors=neighbors, rng=_stream(seed, 1))
        if score is not None:
            held_out = _is_held_out(store, name, of_terms.vocabulary)
            tasks.append(EncoderTask(encoder=name, vocabulary=of_terms.vocabulary, held_out=held_out, score=score))
    scored = {task.vocabulary for task in tasks}
    return Comparison(
        store_id=store.store_id,
        encoders={name: len(store.vector_table(name).gene_ids) for name in ids},
        n_genes=len(gene_ids),
        n_equal_texts=n_equal_texts,
        n_neighbors=neighbors,
        seed=seed,
        chance_overlap=neighbors / (len(gene_ids) - 1),
        pairs=_pairs(vectors, n_neighbors=neighbors),
        tasks=tuple(tasks),
        skipped=tuple(each.vocabulary for each in terms if each.vocabulary not in scored),
        not_pulled=() if encoder else store.not_pulled,
    )


def chosen_encoders(store: Store, encoders: Sequence[str] | None, *, to: str) -> list[str]:
    """Ids of encoders, each once, all that are here if left out; ``NotAvailable`` if there is none ``to`` use so."""
    ids = list(dict.fromkeys(map(store.encoder_id, encoders or store.encoder_ids)))
    if not ids:
        if store.not_pulled:
            store.check_whole()
        raise NotAvailable(f"{store.store_id} has no encoder to {to}; add one with `genekb encode`")
    return ids


def _shared_genes(store: Store, ids: Sequence[str], *, n_neighbors: int) -> tuple[IntArray, int]:
    """Genes with a vector by every encoder, one a text, and how many were left out for equal texts."""
    shared = reduce(np.intersect1d, [store.vector_table(name).gene_ids for name in ids])
    texts = store.table("texts")
    text_ids = pc.coalesce(rows_of(texts, shared)["text_id"].combine_chunks(), pc.cast(pa.array(shared), pa.string()))
    _, first = np.unique(text_ids.to_numpy(zero_copy_only=False).astype(np.str_), return_index=True)
    distinct = shared[np.sort(first)]
    if len(distinct) <= n_neighbors:
        raise SourceUnusable(
            f"{len(distinct)} genes of {store.store_id} have a vector by all of {', '.join(ids)}, equal texts counted "
            f"once; more than {n_neighbors} are needed for {n_neighbors} neighbors"
        )
    return distinct, len(shared) - len(distinct)


def _stream(seed: int, purpose: int) -> np.random.Generator:
    """Random stream of a purpose: 0 draws the sample, 1 permutes and resamples."""
    return np.random.default_rng([seed % 2**64, purpose])  # NumPy takes no negative number


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
