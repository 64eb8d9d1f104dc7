"""Themes: upregulated genes of a group whose texts, or gene sets, share a term, with what they contribute."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float

from cellmodel.explain.attribution import Judged, theme_weights
from cellmodel.explain.enrichment import GeneSet
from cellmodel.explain.terms import ScoredTerms, TermIndex, choose_terms, index_terms

TEXT: Final = "text"
_MIN_GENES = 3  # that hold a term, and that carry it in a group
_SAME_GENES = 0.5  # fraction of the lighter of two terms in common from which they are one theme
_ALSO_SHOWN = 4
_GENES_SHOWN = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ThemeGene:
    """A gene of a theme."""

    name: str  # its name, as given
    contribution: float  # part of the distance of the group, in its units
    sentence: str  # where the term stands in the text of the gene; for a gene set its identifier and name


@dataclass(frozen=True, kw_only=True, slots=True)
class Theme:
    """Upregulated genes of a group that share a term."""

    term: str  # the term that names the theme
    source: str  # ``text``, or the vocabulary of the gene set
    also: tuple[str, ...]  # other terms that mostly the same genes hold, best first
    # contributions of its genes over the distance of the group. Shares of themes overlap, and may exceed 1 where other
    # genes pull the other way
    share: float
    score: float  # normal score of the square roots of the contributions, against permuted texts
    # p_value, p_adjusted: permutation p value of the term alone, and of the highest score of any term: the one to judge
    # by
    p_value: float
    p_adjusted: float
    n_genes: int  # genes that carry the theme
    genes: tuple[ThemeGene, ...]  # the strongest of them


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ThemeTerms:
    """Terms by which themes may be named."""

    names: tuple[str, ...]  # of texts first, then of gene sets
    sets: tuple[GeneSet, ...]  # the gene sets, whose names are the last of ``names``
    presence: sp.csr_matrix  # (gene, term) ones
    texts: tuple[str, ...]  # one per gene
    index: TermIndex  # of the texts

    def source(self, term: int) -> str:
        """Say where a term comes from."""
        return TEXT if term < len(self.index.terms) else self.sets[term - len(self.index.terms)].source

    def sentence(self, gene: int, term: int) -> str:
        """Give the sentence of a gene's text that holds a term; the identifier and name of a gene set."""
        if term < len(self.index.terms):
            return self.index.sentence(self.texts[gene], term=self.names[term])
        gene_set = self.sets[term - len(self.index.terms)]
        return f"{gene_set.set_id} {gene_set.name}"

    def best_term(self, gene: int, score: Float[np.ndarray, " term"]) -> int | None:
        """Find the term with the highest score that the text of a gene holds."""
        held = self.presence[[gene]].indices
        held = np.sort(held[held < len(self.index.terms)])
        return int(held[np.argmax(score[held])]) if len(held) else None


def theme_terms(texts: Sequence[str], *, gene_ids: Sequence[int], gene_sets: Sequence[GeneSet]) -> ThemeTerms:
    """Collect the terms of gene texts, and of gene sets that hold at least three of the genes."""
    index = index_terms(texts, min_texts=_MIN_GENES)
    rows: dict[int, list[int]] = {}
    for row, gene_id in enumerate(gene_ids):
        rows.setdefault(gene_id, []).append(row)
    members = [sorted(row for gene in one.gene_ids & rows.keys() for row in rows[gene]) for one in gene_sets]
    kept = [number for number, genes in enumerate(members) if len(genes) >= _MIN_GENES]
    genes = np.array([row for number in kept for row in members[number]], dtype=np.int64)
    columns = np.repeat(np.arange(len(kept)), [len(members[number]) for number in kept])
    of_sets = sp.csr_matrix((np.ones(len(genes)), (genes, columns)), shape=(len(texts), len(kept)))
    sets = tuple(gene_sets[number] for number in kept)
    return ThemeTerms(
        names=(*index.terms, *(one.name for one in sets)),
        sets=sets,
        presence=sp.hstack([index.presence, of_sets], format="csr"),
        texts=tuple(texts),
        index=index,
    )


def choose_themes(
    judged: Judged,
    differences: Float[np.ndarray, "gene group"],
    *,
    terms: ThemeTerms,
    gene_names: Sequence[str],
    n_themes: int,
) -> tuple[tuple[Theme, ...], ...]:
    """Choose the best terms of each group that say different things; terms of mostly the same genes are one theme.

    ``judged``, ``differences``: of :func:`cellmodel.explain.attribution.judge`. Returns themes, highest score first.
    """
    weights = theme_weights(differences, judged.attribution)
    carriers = terms.presence.T.tocsr()
    chosen = []
    for group in range(differences.shape[1]):
        scored = ScoredTerms(
            names=terms.names, carriers=carriers, weights=weights[:, group], score=judged.score[:, group]
        )
        themes = [
            _theme(term, also, group=group, judged=judged, terms=terms, scored=scored, gene_names=gene_names)
            for term, also in choose_terms(scored, is_same=partial(_is_same, scored), n_terms=n_themes)
        ]
        chosen.append(tuple(sorted(themes, key=lambda theme: (-theme.score, theme.term))))
    return tuple(chosen)


def _is_same(scored: ScoredTerms, term: int) -> Bool[np.ndarray, " term"]:
    """Terms that mostly the same genes hold."""
    total = scored.total()
    return np.asarray(scored.common(term) >= _SAME_GENES * np.minimum(total, total[term]))


def _theme(
    term: int,
    also: Sequence[int],
    *,
    group: int,
    judged: Judged,
    terms: ThemeTerms,
    scored: ScoredTerms,
    gene_names: Sequence[str],
) -> Theme:
    """One theme of one group with its genes."""
    holding = np.sort(scored.carriers[[term]].indices)
    holding = holding[scored.weights[holding] > 0]
    genes = holding[np.argsort(-scored.weights[holding], kind="stable")]
    parts = judged.attribution.contributions[genes, group]
    return Theme(
        term=terms.names[term],
        source=terms.source(term),
        also=tuple(terms.names[other] for other in also[:_ALSO_SHOWN]),
        share=float(parts.sum() / judged.attribution.distances[group]),
        score=float(judged.score[term, group]),
        p_value=float(judged.p_value[term, group]),
        p_adjusted=float(judged.p_adjusted[term, group]),
        n_genes=len(genes),
        genes=tuple(
            ThemeGene(name=gene_names[gene], contribution=part, sentence=terms.sentence(gene, term))
            for gene, part in zip(genes[:_GENES_SHOWN].tolist(), parts.tolist(), strict=False)
        ),
    )
