"""Words that describe a cluster: terms of the texts of its upregulated genes, each with genes and sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cellmodel.core.random import generator
from cellmodel.explain.attribution import overall_mean_and_deviation
from cellmodel.explain.terms import ScoredTerms, TermIndex, TermScores, choose_terms, index_terms, score_terms
from cellmodel.pp.moments import GroupMoments

_MIN_CELLS = 3  # that express a gene, for the gene to be used
_MIN_SIDE = 2  # cells inside and outside a cluster, for a standard error
_MIN_GENES = 3  # that hold a term, and that carry it in a cluster
_MAX_WEIGHT = 2.0  # standard deviations: no single gene makes a word
_SAME_GENES = 0.5  # weighted Jaccard from which two terms say the same
_SAME_WORD = 0.5  # fraction of the lighter term's weight in common, for terms with a word in common
_NESTED = 0.9  # fraction of a term's weight inside the genes of a chosen one from which it adds nothing
_GENES_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class WordGene:
    """A gene behind a word."""

    name: str  # its name, as given
    weight: float  # its contrast in the cluster, in standard deviations; the score counts at most 2 of it
    sentence: str  # where the term stands in the text of the gene


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A term that upregulated genes of a cluster share."""

    term: str  # one word or two, in lower case
    score: float  # normal score of the summed contrast of its genes, against permuted texts
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
    """Describe each cluster by terms of the texts of its upregulated genes.

    The contrast of a gene is its mean in the cluster, less its mean in the rest, less one standard error of that
    difference, in standard deviations over all cells. A term adds up the contrasts, between 0 and 2, of the genes whose
    text holds it, however often, and is scored against permuted texts (:func:`cellmodel.explain.terms.score_terms`). Of
    terms carried by the same genes one is shown: the one with the higher score, or a phrase in place of one of its
    words. Words describe what upregulated genes do and do not name the cell: resting T cells, rich in ribosomal
    transcripts, read "ribosomal".

    ``inside``, ``rest``: of :func:`cellmodel.pp.moments.cluster_moments`; genes seen in fewer than three cells are not
    used. Returns one entry per cluster; a cluster of one cell, or without a rest, has no words.
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
    carriers = index.presence.T.tocsr()
    clusters = []
    for cluster, n_cells in enumerate(inside.n_cells.tolist()):
        scored = ScoredTerms(
            names=index.terms, carriers=carriers, weights=weights[:, cluster], score=scores.score[:, cluster]
        )
        words = tuple(
            _word(term, cluster, index=index, genes=genes, scores=scores) for term in _choose(scored, n_words=n_words)
        )
        clusters.append(ClusterWords(cluster=cluster, n_cells=n_cells, words=words))
    return tuple(clusters)


def _contrast(
    inside: GroupMoments, rest: GroupMoments
) -> tuple[Float[np.ndarray, "gene cluster"], Bool[np.ndarray, " gene"]]:
    """Contrast of each gene in each cluster, 0 where a side is too small; and which genes enough cells express."""
    n_in, n_out = np.maximum(inside.n_cells, 1)[:, None], np.maximum(rest.n_cells, 1)[:, None]
    error = np.sqrt(inside.variance / n_in + rest.variance / n_out)
    deviation = overall_mean_and_deviation(inside)[1][None, :]
    is_usable = (deviation > 0) & (np.minimum(inside.n_cells, rest.n_cells) >= _MIN_SIDE)[:, None]
    difference = inside.mean - rest.mean - error
    contrast = np.divide(difference, deviation, out=np.zeros_like(difference), where=is_usable)
    n_expressing = np.rint(inside.n_cells @ inside.fraction)
    return contrast.T.copy(), n_expressing >= _MIN_CELLS


def _choose(scored: ScoredTerms, *, n_words: int) -> list[int]:
    """Best terms of one cluster that say different things, highest score first."""
    total = scored.total()
    parts = np.array([(name.split()[0], name.split()[-1]) for name in scored.names]).reshape(-1, 2)

    def is_same(term: int) -> Bool[np.ndarray, " term"]:
        common = scored.common(term)
        has_same_word = np.isin(parts, parts[term]).any(axis=1)
        return np.asarray(
            (common >= _SAME_GENES * (total + total[term] - common))
            | (common >= _NESTED * total)
            | (has_same_word & (common >= _SAME_WORD * np.minimum(total, total[term])))
        )

    chosen = [term for term, _ in choose_terms(scored, is_same=is_same, n_terms=n_words)]
    return sorted(chosen, key=lambda term: (-scored.score[term], term))


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
