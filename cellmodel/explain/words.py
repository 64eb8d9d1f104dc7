"""Words that describe a cluster: terms of the texts of the genes in which it leads, each with genes and sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float

from cellmodel.core.random import generator
from cellmodel.core.types import CellByGene, Labels
from cellmodel.explain.terms import TermIndex, TermScores, index_terms, score_terms
from cellmodel.pp.moments import GroupMoments, cluster_moments

_MIN_CELLS = 3  # that express a gene, for the gene to be used
_MIN_SIDE = 2  # cells inside and outside a cluster, for a standard error
_MIN_GENES = 3  # that hold a term, and that carry it in a cluster
_MAX_WEIGHT = 2.0  # standard deviations: no single gene makes a word
_SAME_GENES = 0.5  # weighted Jaccard from which two terms say the same
_SAME_WORD = 0.5  # share of the lighter term's weight in common, for terms with a word in common
_NESTED = 0.9  # share of a term's weight inside the genes of a chosen one from which it adds nothing
_MORE_SPECIFIC = 0.8  # share of a term's weight that a phrase must keep to stand for one of its words
_GENES_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class WordGene:
    """A gene behind a word."""

    name: str  # its name, as given
    weight: float  # its contrast in the cluster, in standard deviations; the score counts at most 2 of it
    sentence: str  # where the term stands in the text of the gene


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A term that leading genes of a cluster share."""

    term: str  # one word or two, in lower case
    score: float  # normal score of the summed contrast of its genes, against texts dealt out at random
    p_value: float  # permutation p value of this term looked at alone
    # permutation p value of the highest score of any term in the cluster: the one to judge by, since words are found by
    # searching all terms
    p_adjusted: float
    n_genes: int  # genes with a positive contrast whose text holds the term
    genes: tuple[WordGene, ...]  # the strongest of them, highest contrast first


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterWords:
    """Words of one cluster, highest score first; empty where nothing can be contrasted."""

    cluster: int
    n_cells: int
    words: tuple[Word, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Genes:
    """The genes with a text that are expressed."""

    names: list[str]
    texts: list[str]
    contrast: Float[np.ndarray, "gene cluster"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Terms:
    """The terms as the choice among them sees them."""

    carriers: sp.csr_matrix  # (term, gene)
    parts: np.ndarray  # (term, 2) first and last word: twice the same for a single word


def cluster_words(
    expression: CellByGene,
    clusters: Labels,
    *,
    texts: Sequence[str | None],
    gene_names: Sequence[str],
    n_words: int = 10,
    n_permutations: int = 200,
    seed: int,
) -> tuple[ClusterWords, ...]:
    """Describe each cluster by terms of the texts of the genes in which it leads.

    The contrast of a gene is its mean in the cluster, less its mean in the rest, less one standard error of that
    difference, in standard deviations over all cells. A term adds up the contrasts, between 0 and 2, of the genes whose
    text holds it, however often, and is scored against texts dealt out at random (``term_scores.score_terms``); it
    needs three such genes. Of terms carried by the same genes one is shown: the one with the higher score, or a phrase
    in place of one of its words. Words tell what the leading genes do, not the name of the cell: resting T cells, rich
    in ribosomal transcripts, read "ribosomal".

    ``expression``: (cell, gene) log1p of normalised counts; genes seen in fewer than three cells are not used.
    ``clusters``: one label per cell, 0 .. k-1, each used at least once. ``texts``: text of each gene; None or blank if
    it has none. ``gene_names``: one per gene. ``n_words``: most words per cluster. ``n_permutations``: shuffles of the
    texts; the least p value is 1 / (1 + n). ``seed``: of the shuffles, which serve all clusters alike. Returns one
    entry per cluster, in the order of the labels. A cluster of one cell, or without a rest, has no words. Raises
    ``ValueError`` if lengths differ, a number is not positive, or labels or values are unusable (see
    ``cluster_moments``).
    """
    n_genes = expression.shape[1]
    if not len(texts) == len(gene_names) == n_genes:
        raise ValueError(
            f"{len(texts)} texts and {len(gene_names)} gene names for {n_genes} genes: give one per column"
        )
    return words_by_moments(
        *cluster_moments(expression, clusters),
        texts=texts,
        gene_names=gene_names,
        n_words=n_words,
        n_permutations=n_permutations,
        seed=seed,
    )


def words_by_moments(
    inside: GroupMoments,
    rest: GroupMoments,
    *,
    texts: Sequence[str | None],
    gene_names: Sequence[str],
    n_words: int = 10,
    n_permutations: int = 200,
    seed: int,
) -> tuple[ClusterWords, ...]:
    """Describe clusters as :func:`cluster_words`, from moments that are at hand.

    Raises ``ValueError`` if a number is not positive.
    """
    if min(n_words, n_permutations) < 1:
        raise ValueError(f"n_words and n_permutations must be >= 1, got {n_words} and {n_permutations}")
    contrast, is_expressed = _contrast(inside, rest)
    texted = [(gene, text) for gene, text in enumerate(texts) if text and text.strip() and is_expressed[gene]]
    rows = [gene for gene, _ in texted]
    genes = _Genes(names=[gene_names[gene] for gene in rows], texts=[t for _, t in texted], contrast=contrast[rows])
    index = index_terms(genes.texts, min_texts=_MIN_GENES)
    weights = np.clip(genes.contrast, 0.0, _MAX_WEIGHT)
    scores = score_terms(weights, index.presence, n_permutations=n_permutations, rng=generator(seed, "words"))
    parts = np.array([(term.split()[0], term.split()[-1]) for term in index.terms]).reshape(-1, 2)
    terms = _Terms(carriers=index.presence.T.tocsr(), parts=parts)
    return tuple(
        ClusterWords(
            cluster=cluster,
            n_cells=n_cells,
            words=tuple(
                _word(term, cluster, index=index, genes=genes, scores=scores)
                for term in _choose(weights[:, cluster], scores.score[:, cluster], terms=terms, n_words=n_words)
            ),
        )
        for cluster, n_cells in enumerate(inside.n_cells.tolist())
    )


def _contrast(
    inside: GroupMoments, rest: GroupMoments
) -> tuple[Float[np.ndarray, "gene cluster"], Bool[np.ndarray, " gene"]]:
    """Contrast of each gene in each cluster, 0 where a side is too small; and which genes enough cells express."""
    n_in, n_out = np.maximum(inside.n_cells, 1)[:, None], np.maximum(rest.n_cells, 1)[:, None]
    error = np.sqrt(inside.variance / n_in + rest.variance / n_out)
    mean = inside.n_cells @ inside.mean / inside.n_cells.sum()
    within = (inside.n_cells - 1) @ inside.variance
    between = inside.n_cells @ (inside.mean - mean) ** 2
    deviation = np.sqrt((within + between) / inside.n_cells.sum())[None, :]
    is_usable = (deviation > 0) & (np.minimum(inside.n_cells, rest.n_cells) >= _MIN_SIDE)[:, None]
    lead = inside.mean - rest.mean - error
    contrast = np.divide(lead, deviation, out=np.zeros_like(lead), where=is_usable)
    n_expressing = np.rint(inside.n_cells @ inside.fraction)
    return contrast.T.copy(), n_expressing >= _MIN_CELLS


def _choose(
    weights: Float[np.ndarray, " gene"], score: Float[np.ndarray, " term"], *, terms: _Terms, n_words: int
) -> list[int]:
    """Best terms of one cluster that say different things, highest score first."""
    total = terms.carriers @ weights
    is_open = (terms.carriers @ (weights > 0) >= _MIN_GENES) & (score > 0)
    chosen: list[int] = []
    while is_open.any() and len(chosen) < n_words:
        best = int(np.argmax(np.where(is_open, score, -np.inf)))
        best = _more_specific(best, weights=weights, terms=terms, is_open=is_open)
        common = _common_weight(best, weights=weights, terms=terms)
        has_same_word = np.isin(terms.parts, terms.parts[best]).any(axis=1)
        is_open &= (
            (common < _SAME_GENES * (total + total[best] - common))
            & (common < _NESTED * total)
            & ~(has_same_word & (common >= _SAME_WORD * np.minimum(total, total[best])))
        )
        chosen.append(best)
    return sorted(chosen, key=lambda term: (-score[term], term))


def _common_weight(term: int, *, weights: Float[np.ndarray, " gene"], terms: _Terms) -> Float[np.ndarray, " term"]:
    """Weight of the genes that each term shares with one term."""
    genes = terms.carriers[term].indices
    own = np.zeros_like(weights)
    own[genes] = weights[genes]
    common: Float[np.ndarray, " term"] = terms.carriers @ own
    return common


def _more_specific(
    term: int, *, weights: Float[np.ndarray, " gene"], terms: _Terms, is_open: Bool[np.ndarray, " term"]
) -> int:
    """Phrase with the word ``term`` that keeps most of its weight, or the term itself."""
    first, last = terms.parts.T
    if first[term] != last[term]:
        return term
    common = _common_weight(term, weights=weights, terms=terms)
    is_phrase = ((first == first[term]) | (last == first[term])) & (first != last) & is_open
    kept = np.where(is_phrase, common, 0.0)
    best = int(np.argmax(kept))
    return best if kept[best] >= _MORE_SPECIFIC * common[term] else term


def _word(term: int, cluster: int, *, index: TermIndex, genes: _Genes, scores: TermScores) -> Word:
    """One word of one cluster with its genes."""
    name = index.terms[term]
    holds = index.presence[:, [term]].nonzero()[0]
    contrast = genes.contrast[holds, cluster]
    carrying = holds[contrast > 0]
    strongest = carrying[np.argsort(-genes.contrast[carrying, cluster], kind="stable")][:_GENES_SHOWN]
    return Word(
        term=name,
        score=float(scores.score[term, cluster]),
        p_value=float(scores.p_value[term, cluster]),
        p_adjusted=float(scores.p_adjusted[term, cluster]),
        n_genes=len(carrying),
        genes=tuple(
            WordGene(
                name=genes.names[gene],
                weight=float(genes.contrast[gene, cluster]),
                sentence=index.sentence(genes.texts[gene], term=name),
            )
            for gene in strongest.tolist()
        ),
    )
