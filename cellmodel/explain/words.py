"""Words and themes: terms that the texts of upregulated genes share, or their gene sets, with genes and sentences."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.resources import files
from math import ceil
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int

from cellmodel.core.random import generator
from cellmodel.explain.attribution import AttributionTest, theme_weights
from cellmodel.explain.enrichment import GeneSet
from cellmodel.explain.markers import specificity
from cellmodel.explain.terms import SplitTexts, SupportingGene, TermIndex, TermScores, index_terms, score_terms
from cellmodel.pp.moments import GroupMoments, overall_mean_and_deviation
from genekb.genes.texts import uncited
from genekb.genes.words import split_texts

TEXT: Final = "text"
_MIN_CELLS = 3  # that express a gene, for the gene to be used
_MIN_SIDE = 2  # cells inside and outside a cluster, for a standard error
_MIN_GENES = 3  # that hold a term, and that carry it in a group
_MORE_SPECIFIC = 0.8  # fraction of a word's weight that a phrase with it must keep to replace it
_MAX_WEIGHT = 0.7  # standard deviations: no single gene makes a word
_SAME_GENES = 0.5  # weighted Jaccard from which two words say the same
_SAME_WORD = 0.5  # fraction of the lighter term's weight in common, for terms with a word in common
_NESTED = 0.9  # fraction of a term's weight inside the genes of a chosen one from which it adds nothing
_SAME_THEME = 0.5  # fraction of the lighter of two terms in common from which they are one theme
_ALSO_SHOWN = 4
_WORD_GENES, _THEME_GENES = 5, 10  # shown
_LABEL_GENES = 100  # whose texts show what a phrase is a part of
_MIN_STEM = 5  # letters
_SAME_STEM = 0.6  # share of the longer of two words that both begin with, from which they count as one


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NamedTerms:
    """Terms of the texts of some genes, and gene sets."""

    names: tuple[str, ...]  # terms of texts first, then gene sets
    sets: tuple[GeneSet, ...]  # the gene sets, whose names are the last of ``names``
    presence: sp.csr_matrix  # (gene, term) ones
    texts: tuple[str, ...]  # one per gene
    index: TermIndex  # of the texts
    cite: Callable[[str, str], str] = uncited  # adds the source to a sentence of a text
    _labels: dict[int, str] = field(default_factory=dict)  # that were asked for

    def label(self, term: int) -> str:
        """Name of a term, as the whole phrase that it is a part of."""
        if term >= len(self.index.terms):
            return self.names[term]
        if term not in self._labels:
            genes = self.presence[:, [term]].nonzero()[0][:_LABEL_GENES].tolist()
            self._labels[term] = self.index.whole(self.names[term], [self.texts[gene] for gene in genes])
        return self._labels[term]

    def source(self, term: int) -> str:
        """Say where a term comes from."""
        return TEXT if term < len(self.index.terms) else self.sets[term - len(self.index.terms)].source

    def sentence(self, gene: int, term: int) -> str:
        """Give the sentence of a gene's text that holds a term; the identifier and name of a gene set."""
        if term < len(self.index.terms):
            return self.cite(self.texts[gene], self.index.sentence(self.texts[gene], term=self.names[term]))
        gene_set = self.sets[term - len(self.index.terms)]
        return f"{gene_set.set_id} {gene_set.name}"

    def supporting(
        self, term: int, genes: Int[np.ndarray, " _"], parts: Float[np.ndarray, " gene"], *, names: Sequence[str]
    ) -> tuple[SupportingGene, ...]:
        """Give genes of a term with their parts in its score, and their sentences."""
        return tuple(
            SupportingGene(name=names[gene], contribution=float(parts[gene]), sentence=self.sentence(gene, term))
            for gene in genes.tolist()
        )

    def best_term(self, gene: int, score: Float[np.ndarray, " term"]) -> int | None:
        """Find the term with the highest score that the text of a gene holds."""
        held = self.presence[[gene]].indices
        held = np.sort(held[held < len(self.index.terms)])
        return int(held[np.argmax(score[held])]) if len(held) else None


def named_terms(
    texts: Sequence[str],
    *,
    gene_ids: Sequence[int] = (),
    gene_sets: Sequence[GeneSet] = (),
    split: SplitTexts = split_texts,
    cite: Callable[[str, str], str] = uncited,
) -> NamedTerms:
    """Collect the terms of gene texts, and of gene sets that hold at least three of the genes.

    ``split``: gives the words of the texts; ``cite``: adds the source to a sentence.
    """
    index = index_terms(texts, min_texts=_MIN_GENES, split=split)
    rows: dict[int, list[int]] = {}
    for row, gene_id in enumerate(gene_ids):
        rows.setdefault(gene_id, []).append(row)
    members = [sorted(row for gene in one.gene_ids & rows.keys() for row in rows[gene]) for one in gene_sets]
    kept = [number for number, genes in enumerate(members) if len(genes) >= _MIN_GENES]
    genes = np.array([row for number in kept for row in members[number]], dtype=np.int64)
    columns = np.repeat(np.arange(len(kept)), [len(members[number]) for number in kept])
    of_sets = sp.csr_matrix((np.ones(len(genes)), (genes, columns)), shape=(len(texts), len(kept)))
    sets = tuple(gene_sets[number] for number in kept)
    return NamedTerms(
        names=(*index.terms, *(one.name for one in sets)),
        sets=sets,
        presence=sp.hstack([index.presence, of_sets], format="csr"),
        texts=tuple(texts),
        index=index,
        cite=cite,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ScoredTerms:
    """The terms of one group, with what a choice among them needs."""

    names: Sequence[str]
    carriers: sp.csr_matrix  # (term, gene) ones where the text of a gene holds a term
    weights: Float[np.ndarray, " gene"]  # not negative
    score: Float[np.ndarray, " term"]

    def total(self) -> Float[np.ndarray, " term"]:
        """Weight of the genes of each term."""
        return np.asarray(self.carriers @ self.weights)

    def common(self, term: int) -> Float[np.ndarray, " term"]:
        """Weight of the genes that each term shares with one term."""
        own = np.zeros_like(self.weights)
        genes = self.carriers[[term]].indices
        own[genes] = self.weights[genes]
        return np.asarray(self.carriers @ own)


def _scored_terms(
    terms: NamedTerms, weights: Float[np.ndarray, "gene group"], scores: TermScores
) -> Iterator[_ScoredTerms]:
    """Terms of each group."""
    carriers = terms.presence.T.tocsr()
    for of_genes, of_terms in zip(weights.T, scores.score.T, strict=True):
        yield _ScoredTerms(names=terms.names, carriers=carriers, weights=of_genes, score=of_terms)


Choice = tuple[int, list[int]]  # a term, and those that say the same, best first


def _choose(scored: _ScoredTerms, *, is_same: Callable[[int], Bool[np.ndarray, " term"]], n_terms: int) -> list[Choice]:
    """Choose the best terms of a group that say different things, greedily; highest score first.

    ``is_same``: which terms say the same as a chosen one.
    """
    is_open = (scored.carriers @ (scored.weights > 0) >= _MIN_GENES) & (scored.score > 0)
    chosen: list[Choice] = []
    while is_open.any() and len(chosen) < n_terms:
        best = int(np.argmax(np.where(is_open, scored.score, -np.inf)))
        best = _more_specific(best, scored, is_open=is_open)
        others = np.flatnonzero(is_open & is_same(best))
        others = others[np.lexsort((others, -scored.score[others]))]
        chosen.append((best, [term for term in others.tolist() if term != best]))
        is_open[[best, *others]] = False
    return sorted(chosen, key=lambda choice: (-scored.score[choice[0]], scored.names[choice[0]]))


def _more_specific(term: int, scored: _ScoredTerms, *, is_open: Bool[np.ndarray, " term"]) -> int:
    """Phrase with the word ``term`` that most of its genes hold, or the term: "natural killer", not "natural"."""
    names = scored.names
    if " " in names[term]:
        return term
    common = scored.common(term)
    phrases = [
        other
        for other in np.flatnonzero(is_open & (common >= _MORE_SPECIFIC * common[term])).tolist()
        if other != term and names[term] in names[other].split(" ")
    ]
    return max(phrases, key=lambda other: (common[other], -other), default=term)


def _genes_of(term: int, scored: _ScoredTerms, weights: Float[np.ndarray, " gene"]) -> Int[np.ndarray, " _"]:
    """Genes that carry a term, strongest first."""
    genes = np.sort(scored.carriers[[term]].indices)
    genes = genes[weights[genes] > 0]
    return np.asarray(genes[np.argsort(-weights[genes], kind="stable")])


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A term that upregulated genes of a cluster share."""

    term: str  # a word or a phrase, in lower case
    score: float  # normal score of its genes' contrasts times specificity, against permuted texts
    p_value: float  # permutation p value of this term looked at alone
    # permutation p value of the highest score of any term in the cluster: the one to judge by, since words are found by
    # searching all terms
    p_adjusted: float
    n_genes: int  # genes with a positive contrast whose text holds the term
    # the strongest of them, with their contrasts in standard deviations; the score counts at most 0.7 of each
    genes: tuple[SupportingGene, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterWords:
    """Words of one cluster, highest score first; empty where nothing can be contrasted."""

    cluster: int
    n_cells: int
    words: tuple[Word, ...]


def words_by_moments(
    inside: GroupMoments,
    rest: GroupMoments,
    *,
    texts: Sequence[str | None],
    gene_names: Sequence[str],
    n_words: int = 10,
    n_permutations: int = 200,
    seed: int,
    split: SplitTexts = split_texts,
    cite: Callable[[str, str], str] = uncited,
) -> tuple[ClusterWords, ...]:
    """Describe each cluster by terms of the texts of its upregulated genes.

    The contrast of a gene is its mean in the cluster, less its mean in the rest, less one standard error of that
    difference, in standard deviations over all cells. A term adds up the contrasts, between 0 and 0.7, of the genes
    whose text holds it, each times the specificity of the gene (:func:`cellmodel.explain.markers.specificity`), and is
    scored against permuted texts (:func:`cellmodel.explain.terms.score_terms`). Words describe what upregulated genes
    do and do not name the cell.
    ``split``: gives the words of the texts, such as :meth:`genekb.Store.words`; ``cite``: adds the source to a
    sentence, such as :meth:`genekb.Store.cite`.
    """
    if min(n_words, n_permutations) < 1:
        raise ValueError(f"n_words and n_permutations must be >= 1, got {n_words} and {n_permutations}")
    contrast, is_expressed = _contrast(inside, rest)
    rows = [gene for gene, text in enumerate(texts) if text and text.strip() and is_expressed[gene]]
    terms, names = (
        named_terms([texts[row] or "" for row in rows], split=split, cite=cite),
        [gene_names[row] for row in rows],
    )
    contrast = contrast[rows]
    weights = np.clip(contrast, 0.0, _MAX_WEIGHT) * specificity(inside).T[rows]
    scores = score_terms(weights, terms.presence, n_permutations=n_permutations, rng=generator(seed, "words"))
    clusters = []
    for cluster, scored in enumerate(_scored_terms(terms, weights, scores)):
        words = []
        for term, _ in _choose(scored, is_same=_same_words(scored), n_terms=n_words):
            genes = _genes_of(term, scored, contrast[:, cluster])
            words.append(
                Word(
                    term=terms.label(term),
                    n_genes=len(genes),
                    genes=terms.supporting(term, genes[:_WORD_GENES], contrast[:, cluster], names=names),
                    **scores.of(term, cluster),
                )
            )
        clusters.append(ClusterWords(cluster=cluster, n_cells=int(inside.n_cells[cluster]), words=tuple(words)))
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


def _same_words(scored: _ScoredTerms) -> Callable[[int], Bool[np.ndarray, " term"]]:
    """Which terms say the same as one of them: they share genes, or a word and genes, or are near-synonyms."""
    total = scored.total()
    ends = np.array([(name.split()[0], name.split()[-1]) for name in scored.names]).reshape(-1, 2)
    words, parts = np.unique(ends, return_inverse=True)  # by number
    by_start: dict[str, list[int]] = {}
    for number, word in enumerate(words.tolist()):
        by_start.setdefault(word[:_MIN_STEM], []).append(number)
    near, names = _near_synonyms(), np.array(scored.names)

    def is_same(term: int) -> Bool[np.ndarray, " term"]:
        common = scored.common(term)
        is_same_word, synonyms = np.zeros(len(words), dtype=bool), near.get(scored.names[term], ())
        for word in ends[term].tolist():
            is_same_word[[each for each in by_start[word[:_MIN_STEM]] if _is_same_stem(word, words[each])]] = True
        has_same_word = is_same_word[parts].any(axis=1)
        return np.asarray(
            (common >= _SAME_GENES * (total + total[term] - common))
            | (common >= _NESTED * total)
            | (has_same_word & (common >= _SAME_WORD * np.minimum(total, total[term])))
            | (np.isin(names, synonyms) if synonyms else False)
        )

    return is_same


@cache
def _near_synonyms() -> dict[str, tuple[str, ...]]:
    """Terms that say nearly the same as each term that has such."""
    lines = files("cellmodel.explain").joinpath("data", "near_synonyms.txt").read_text(encoding="utf-8").splitlines()
    near: dict[str, tuple[str, ...]] = {}
    for group in (line.split(", ") for line in lines if not line.startswith("#")):
        for term in group:
            near[term] = (*near.get(term, ()), *group)
    return near


def _is_same_stem(word: str, other: str) -> bool:
    """Whether two words are one, or begin alike: "ribosome" and "ribosomal"."""
    n_letters = max(_MIN_STEM, ceil(_SAME_STEM * max(len(word), len(other))))
    return word == other or (min(len(word), len(other)) >= n_letters and word[:n_letters] == other[:n_letters])


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
    genes: tuple[SupportingGene, ...]  # the strongest of them; their parts of the distance


def choose_themes(
    tested: AttributionTest,
    differences: Float[np.ndarray, "gene group"],
    *,
    terms: NamedTerms,
    gene_names: Sequence[str],
    n_themes: int,
) -> tuple[tuple[Theme, ...], ...]:
    """Choose the best terms of each group; terms of mostly the same genes are one theme. Highest score first."""
    weights, contributions = theme_weights(differences, tested), tested.contributions
    every = []
    for group, scored in enumerate(_scored_terms(terms, weights, tested.terms)):
        themes = []
        for term, also in _choose(scored, is_same=partial(_is_same_theme, scored), n_terms=n_themes):
            genes = _genes_of(term, scored, scored.weights)
            themes.append(
                Theme(
                    term=terms.label(term),
                    source=terms.source(term),
                    also=tuple(terms.label(other) for other in also[:_ALSO_SHOWN]),
                    share=float(contributions[genes, group].sum() / tested.distances[group]),
                    n_genes=len(genes),
                    genes=terms.supporting(term, genes[:_THEME_GENES], contributions[:, group], names=gene_names),
                    **tested.terms.of(term, group),
                )
            )
        every.append(tuple(themes))
    return tuple(every)


def _is_same_theme(scored: _ScoredTerms, term: int) -> Bool[np.ndarray, " term"]:
    """Terms that mostly the same genes hold."""
    total = scored.total()
    return np.asarray(scored.common(term) >= _SAME_THEME * np.minimum(total, total[term]))
