"""Score gene vectors by whether nearest genes share terms of a vocabulary."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from jaxtyping import Bool, Float, Float32, Int
from numpy.typing import NDArray

from genekb.core.errors import SourceUnusable
from genekb.query.neighbors import blocks, nearest_rows
from genekb.schema import IntArray
from genekb.store.reader import Store

NAME_FAMILY: Final = "name_family"
ANNOTATED: Final = ("go_process", "go_function", "go_component", "gene_group")
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
    # mean fraction of a gene's nearest labelled genes that share a term with it, in [0, 1]; at most 4 of 10 neighbours
    # for a term of 5 genes
    knn_share: float
    shuffled: float  # the same for permuted vectors
    chance: float  # the same for random neighbours, exactly
    # ``knn_share`` minus ``shuffled``, with a 95 % bootstrap interval over genes
    gain: float
    gain_low: float
    gain_high: float
    # fraction of genes that have the most frequent term of their neighbours (leave one out)
    knn_accuracy: float
    knn_accuracy_shuffled: float


def read_gene_terms(store: Store, vocabularies: Sequence[str] | None = None) -> tuple[GeneTerms, ...]:
    """Read the vocabularies of a store (:data:`ANNOTATED`, :data:`NAME_FAMILY`); all that it has if left out.

    Raises ``SourceUnusable`` if the store has no such vocabulary.
    """
    found = {NAME_FAMILY: name_families(store.table("genes"))}
    if (store.folder / "annotations.parquet").is_file():
        found |= _annotated(store.table("annotations"))
    unknown = sorted(set(vocabularies or ()) - set(found))
    if unknown:
        raise SourceUnusable(f"{store.store_id} has no vocabulary {unknown[0]!r}; it has {', '.join(found)}")
    return tuple(terms for name, terms in found.items() if vocabularies is None or name in vocabularies)


def _annotated(table: pa.Table) -> dict[str, GeneTerms]:
    found = {}
    for name in ANNOTATED:
        rows = table.filter(pc.equal(table["vocabulary"], name))
        if rows.num_rows:
            terms = np.array(rows["term_id"].to_pylist(), dtype=np.str_)
            found[name] = GeneTerms(vocabulary=name, gene_ids=rows["gene_id"].to_numpy(), terms=terms)
    return found


def name_families(genes: pa.Table) -> GeneTerms:
    """Group genes by their full name without the number or letter of the member: ``zinc finger protein [12]``."""
    ids, names = genes["gene_id"].to_pylist(), genes["name"].to_pylist()
    stems = [_MEMBER.sub("", name) if name else "" for name in names]
    pairs = [(gene_id, stem) for gene_id, name, stem in zip(ids, names, stems, strict=True) if stem and stem != name]
    return GeneTerms(
        vocabulary=NAME_FAMILY,
        gene_ids=np.array([gene_id for gene_id, _ in pairs], dtype=np.int64),
        terms=np.array([stem for _, stem in pairs], dtype=np.str_),
    )


def score_gene_task(
    vectors: Float32[np.ndarray, "gene dim"],
    gene_ids: Int[np.ndarray, " gene"],
    terms: GeneTerms,
    *,
    n_neighbors: int,
    rng: np.random.Generator,
) -> TaskScore | None:
    """Score vectors on one vocabulary; None where too few of the genes have a term.

    ``gene_ids``: ascending; row *i* of ``vectors`` is gene *i*. ``rng``: permutes the vectors and resamples genes.
    """
    labelled, has_term = _label(gene_ids, terms)
    if len(labelled) <= n_neighbors:
        return None
    neighbors = nearest_rows(vectors[labelled], n_neighbors=n_neighbors)
    permuted = rng.permutation(len(labelled))  # gene i gets the vector of gene permuted[i]
    shuffled = np.argsort(permuted)[neighbors[permuted]]
    fractions, fractions_shuffled = _fractions(has_term, neighbors), _fractions(has_term, shuffled)
    low, high = _interval(fractions - fractions_shuffled, rng)
    return TaskScore(
        n_genes=len(labelled),
        n_terms=has_term.shape[1],
        n_neighbors=n_neighbors,
        knn_share=float(fractions.mean()),
        shuffled=float(fractions_shuffled.mean()),
        chance=_chance(has_term),
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
    labelled = np.flatnonzero(np.diff(table.indptr))
    return labelled, sp.csr_matrix(table[labelled])


def _fractions(has_term: sp.csr_matrix, neighbors: Int[np.ndarray, "gene neighbor"]) -> Float[np.ndarray, " gene"]:
    """Fraction of each gene's neighbours that share a term with it."""
    shared = [_any_common(has_term, has_term[column]) for column in neighbors.T]
    return np.asarray(np.mean(shared, axis=0), dtype=np.float64)


def _any_common(first: sp.csr_matrix, second: sp.csr_matrix) -> Bool[np.ndarray, " gene"]:
    return np.asarray(first.multiply(second).sum(axis=1)).ravel() > 0


def _chance(has_term: sp.csr_matrix) -> float:
    """Mean fraction of all other genes that share a term with a gene."""
    n_genes = has_term.shape[0]
    n_sharing = sum((has_term[block] @ has_term.T).nnz for block in blocks(n_genes, width=n_genes)) - n_genes
    return float(n_sharing / (n_genes * (n_genes - 1)))


def _accuracy(has_term: sp.csr_matrix, neighbors: Int[np.ndarray, "gene neighbor"]) -> float:
    """Fraction of genes that have the most frequent term of their neighbours; of ties the first by name."""
    votes = sum((has_term[column] for column in neighbors.T[1:]), start=has_term[neighbors[:, 0]])
    chosen = np.asarray(votes.argmax(axis=1)).ravel()
    return float(np.asarray(has_term[np.arange(len(chosen)), chosen]).mean())


def _interval(differences: Float[np.ndarray, " gene"], rng: np.random.Generator) -> tuple[float, float]:
    """Bootstrap: 2.5th and 97.5th percentile of the mean over genes drawn with replacement."""
    n_genes = len(differences)
    means = [differences[rng.integers(n_genes, size=n_genes)].mean() for _ in range(N_RESAMPLED)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
