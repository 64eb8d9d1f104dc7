"""Terms of gene texts: words and two-word phrases that say something about a gene, and the sentences they stand in."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int

from cellmodel.core.random import permutation_p
from genekb.core.words import gene_stop_words, singular, split_clauses, split_sentences, stop_words
from genekb.genes.words import TextWords, split_texts
from genekb.query.gene_theme import strata_of

_MAX_WHOLE = 4  # words of a whole phrase
_MOSTLY = 0.75  # share of the places of a phrase from which a word beside it is part of it
_MIN_PLACES = 3  # of such a phrase
_MIN_WORD = 3  # letters of a word that may stand alone; shorter ones ("T", "II") only inside a phrase

_NUMBER = re.compile(r"\d+([pq]\d+)?")  # or the band of a chromosome
_TOKEN = re.compile(r"[a-z0-9]+")
SplitTexts = Callable[[Sequence[str]], TextWords]


@dataclass(frozen=True, kw_only=True, slots=True)
class SupportingGene:
    """A gene behind a term or a score, and where its text says why."""

    name: str  # its name, as given
    contribution: float  # its part, in the unit of what it supports
    sentence: str  # of its text; identifier and name of a gene set; empty where there is none


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TermIndex:
    """Which texts hold which terms."""

    terms: tuple[str, ...]  # words and two-word phrases in lower case, sorted
    presence: sp.csr_matrix  # (text, term) CSR of ones: how often a term occurs in a text does not count
    boilerplate: frozenset[str]  # sentences left out because many texts share them word for word
    # word to the form under which it is counted, for plurals whose singular occurs in the texts
    singulars: Mapping[str, str]

    def sentence(self, text: str, *, term: str) -> str:
        """First sentence of ``text`` that holds ``term``, boilerplate aside; ``ValueError`` if there is none."""
        stems = [word[:-2] for word in term.split(" ")]  # which a plural has in common with its singular
        for sentence in split_sentences(text):
            may_hold = all(map(sentence.lower().__contains__, stems)) and sentence not in self.boilerplate
            if may_hold and term in _sentence_terms(sentence, singulars=self.singulars):
                return sentence
        raise ValueError(f"no sentence of the text {text[:40]!r}... holds the term {term!r}")

    def whole(self, phrase: str, texts: Sequence[str]) -> str:
        """Extend a phrase by the words that are mostly beside it: "antigen presenting" to "antigen presenting cell".

        ``texts``: those that hold the phrase, or many of them. A word alone stays as it is.
        """
        found = phrase.split(" ")
        if len(found) == 1:
            return phrase
        clauses = [
            [self.singulars.get(word, word) for word in _words(clause)]
            for text in texts
            for clause in split_clauses(self.sentence(text, term=phrase))
        ]
        while len(found) < _MAX_WHOLE and (extended := _extended(found, clauses)):
            found = extended
        return " ".join(found)


def index_terms(texts: Sequence[str], *, min_texts: int, split: SplitTexts = split_texts) -> TermIndex:
    """Find the terms that at least ``min_texts`` of the gene texts hold, in their names and summaries.

    A phrase is two neighboring words of one clause with no stop word between them. A plural is counted as its singular
    if that occurs too: the S-stemmer of :cite:`harman1991suffixing`, kept to attested forms. ``split``: gives the words
    of the texts, such as :meth:`genekb.Store.words`.
    """
    found = split(texts)
    is_read = ~found.shared_sentences()[found.sentence_ids] & found.in_prose(texts)
    is_kept = is_read[found.sentences]
    words = found.words[is_kept]
    forms = _word_forms(found.vocabulary, words)
    terms, at = _occurrences(forms, words, starts_clause=found.starts_clause[is_kept])
    names, presence = _presence(forms, terms, found.texts[found.sentences[is_kept]][at], len(texts), min_texts)
    return TermIndex(terms=names, presence=presence, boilerplate=found.boilerplate(texts), singulars=forms.singulars)


def _distinct(values: Int[np.ndarray, " _"]) -> Int[np.ndarray, " _"]:
    """Distinct values, ascending: by sorting, which is quicker than NumPy's own for as many as these."""
    ordered = np.sort(values)
    is_first = np.ones(len(ordered), dtype=bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_first]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _WordForms:
    """What each word of a vocabulary counts for."""

    vocabulary: Sequence[str]
    singulars: Mapping[str, str]  # plurals whose singular occurs
    counted: Int[np.ndarray, " word"]  # the word that it is counted as
    is_stop: Bool[np.ndarray, " word"]  # whether no term holds it
    half: Int[np.ndarray, " word"]  # kind of the word that it is counted as, see _half_words; else 0
    is_alone: Bool[np.ndarray, " word"]  # whether the word that it is counted as may be a term alone


def _word_forms(vocabulary: Sequence[str], words: Int[np.ndarray, " _"]) -> _WordForms:
    """Look at the words that occur."""
    present = np.flatnonzero(np.bincount(words, minlength=len(vocabulary)))
    number = {vocabulary[word]: word for word in present.tolist()}
    singulars = {word: one for word in number if (one := singular(word)) != word and one in number}
    stop_words, half_words = _stop_words(), _half_words()
    counted = np.arange(len(vocabulary))
    half = np.zeros(len(vocabulary), dtype=np.int64)
    is_stop, is_alone = np.zeros((2, len(vocabulary)), dtype=bool)
    for written, at in number.items():
        word = singulars.get(written, written)
        counted[at] = number[word]
        is_stop[at] = _NUMBER.fullmatch(word) is not None or written in stop_words or word in stop_words
        half[at] = half_words.get(word, 0)
        is_alone[at] = not half[at] and len(word) >= _MIN_WORD
    return _WordForms(
        vocabulary=vocabulary, singulars=singulars, counted=counted, is_stop=is_stop, half=half,
        is_alone=is_alone,
    )  # fmt: skip


def _occurrences(
    forms: _WordForms, words: Int[np.ndarray, " word"], *, starts_clause: Bool[np.ndarray, " word"]
) -> tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]:
    """Terms in the words, and the words at which they stand: a word as its number, a phrase beyond those of words."""
    is_stop, half, counted = forms.is_stop[words], forms.half[words], forms.counted[words]
    alone = np.flatnonzero(forms.is_alone[words] & ~is_stop)
    follows = ~(is_stop | starts_clause)
    follows[:1] = False
    follows[1:] &= ~is_stop[:-1] & ~((half[1:] == half[:-1]) & (half[1:] > 0))
    second = np.flatnonzero(follows)
    phrases = (counted[second - 1] + 1) * len(forms.vocabulary) + counted[second]
    return np.concatenate([counted[alone], phrases]), np.concatenate([alone, second])


def _presence(
    forms: _WordForms, terms: Int[np.ndarray, " _"], texts: Int[np.ndarray, " _"], n_texts: int, min_texts: int
) -> tuple[tuple[str, ...], sp.csr_matrix]:
    """Names of the terms that enough texts hold, sorted, and which texts hold them."""
    distinct, number, n_times = np.unique(terms, return_inverse=True, return_counts=True)
    may_be = n_times[number] >= min_texts
    once = _distinct(number[may_be] * n_texts + texts[may_be])
    number, texts = np.divmod(once, n_texts)
    is_common = np.bincount(number, minlength=len(distinct)) >= min_texts
    first, second = np.divmod(distinct[is_common], max(len(forms.vocabulary), 1))
    names = [
        f"{forms.vocabulary[one - 1]} {forms.vocabulary[other]}" if one else forms.vocabulary[other]
        for one, other in zip(first.tolist(), second.tolist(), strict=True)
    ]
    order = sorted(range(len(names)), key=names.__getitem__)
    column = np.full(len(distinct), -1)
    column[np.flatnonzero(is_common)[order]] = np.arange(len(order))
    held = column[number] >= 0
    presence = sp.csr_matrix(
        (np.ones(int(held.sum())), (texts[held], column[number[held]])), shape=(n_texts, len(order))
    )
    presence.sort_indices()
    return tuple(names[place] for place in order), presence


@cache
def _half_words() -> Mapping[str, int]:
    """Words that are a term only as one half of a phrase, broad ones 1 and generic ones 2; no two of a kind are one."""
    folder = files("cellmodel.explain").joinpath("data")
    kinds: dict[str, int] = {}
    for kind, name in enumerate(("broad_words.txt", "generic_words.txt"), start=1):
        lines = folder.joinpath(name).read_text(encoding="utf-8").splitlines()
        kinds |= {word: kind for line in lines if not line.startswith("#") for word in line.split()}
    return kinds


@cache
def _stop_words() -> frozenset[str]:
    """English stop words and those of gene texts."""
    return (stop_words() | gene_stop_words()) - _half_words().keys()


def _words(text: str) -> list[str]:
    """Split into runs of letters and digits, in lower case: a hyphen separates words."""
    return _TOKEN.findall(text.lower())


def _sentence_terms(sentence: str, *, singulars: Mapping[str, str]) -> Iterator[str]:
    """Terms of one sentence, in reading order."""
    stop_words, half_words = _stop_words(), _half_words()
    for clause in split_clauses(sentence):
        previous = None
        for written in _words(clause):
            word = singulars.get(written, written)
            if _NUMBER.fullmatch(word) or written in stop_words or word in stop_words:
                previous = None
                continue
            if len(word) >= _MIN_WORD and word not in half_words:
                yield word
            if previous is not None and not (word in half_words and half_words[word] == half_words.get(previous)):
                yield f"{previous} {word}"
            previous = word


def _extended(phrase: list[str], clauses: Sequence[Sequence[str]]) -> list[str]:
    """Add the word that mostly stands behind or before a phrase; empty where there is none."""
    size = len(phrase)
    places = [
        (clause, at)
        for clause in clauses
        for at in range(len(clause) - size + 1)
        if list(clause[at : at + size]) == phrase
    ]
    behind = Counter(clause[at + size] for clause, at in places if at + size < len(clause))
    before = Counter(clause[at - 1] for clause, at in places if at)
    for counts, is_behind in ((behind, True), (before, False)):
        word, times = counts.most_common(1)[0] if counts else ("", 0)
        is_part = not _NUMBER.fullmatch(word) and word not in _stop_words()
        if is_part and times >= max(_MIN_PLACES, _MOSTLY * len(places)):
            return [*phrase, word] if is_behind else [word, *phrase]
    return []


_MAX_STRATA = 10  # of text length
_NO_DEVIATION = 1e-9  # weights are of order one: a smaller deviation is rounding
_MIN_SKEWNESS = 1e-3  # below it the correction is smaller than its rounding error


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TermScores:
    """Scores of all terms in all clusters."""

    score: Float[np.ndarray, "term cluster"]  # standard normal under the null hypothesis, to good approximation
    p_value: Float[np.ndarray, "term cluster"]  # permutation p value of each term alone
    p_adjusted: Float[np.ndarray, "term cluster"]  # permutation p value of the highest score of any term in the cluster

    def of(self, term: int, cluster: int) -> dict[str, float]:
        """Score and p values of one term in one cluster."""
        return {each.name: float(getattr(self, each.name)[term, cluster]) for each in fields(self)}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SumMoments:
    """Moments of each term's sum over permutations of the texts."""

    mean: Float[np.ndarray, "term cluster"]
    deviation: Float[np.ndarray, "term cluster"]
    skewness: Float[np.ndarray, "term cluster"]

    def score(self, sums: Float[np.ndarray, "term cluster"]) -> Float[np.ndarray, "term cluster"]:
        """Put sums on the normal scale, as a gamma variable with these moments; 0 where nothing can vary."""
        varies = self.deviation > _NO_DEVIATION
        standard = np.divide(sums - self.mean, self.deviation, out=np.zeros_like(sums), where=varies)
        skewness = np.maximum(self.skewness, _MIN_SKEWNESS)
        root = np.cbrt(np.maximum(1 + standard * skewness / 2, 0.0))
        return np.where(varies, (root - 1 + skewness**2 / 36) * 6 / skewness, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextPermutation:
    """Permutations of texts among genes whose texts hold about as many terms."""

    carriers: sp.csr_matrix  # (term, gene) ones where the text of a gene holds a term
    strata: tuple[Int[np.ndarray, " _"], ...]  # genes among which texts are permuted
    # by which the mean, second and third central moment of a stratum's weights add to those of a term's sum
    factors: Float[np.ndarray, "3 term stratum"]

    def draw(self, rng: np.random.Generator) -> Int[np.ndarray, " gene"]:
        """Permute the texts: the gene that each text is given to."""
        order = np.arange(self.carriers.shape[1])
        for genes in self.strata:
            order[genes] = rng.permutation(genes)
        return order

    def moments(self, weights: Float[np.ndarray, "gene cluster"]) -> SumMoments:
        """Moments of the sum of a term over all permutations."""
        per_stratum = [_central_moments(weights[genes]) for genes in self.strata]
        stacked = np.array(per_stratum).reshape(len(self.strata), 3, weights.shape[1])
        mean, variance, third = (factor @ stacked[:, which] for which, factor in enumerate(self.factors))
        deviation = np.sqrt(variance)
        skewness = np.divide(third, variance * deviation, out=np.zeros_like(third), where=deviation > _NO_DEVIATION)
        return SumMoments(mean=mean, deviation=deviation, skewness=skewness)


def score_terms(
    weights: Float[np.ndarray, "gene cluster"],
    presence: sp.csr_matrix,
    *,
    n_permutations: int,
    rng: np.random.Generator,
) -> TermScores:
    r"""Score every term in every cluster by the summed weight of the genes whose text holds it.

    Under the null hypothesis the texts are permuted among genes whose texts hold about as many terms, since long
    texts hold more of every term and belong to well-studied genes. Within such a stratum of *N* genes, the sum over a
    term in *n* texts is a sample without replacement of the *N* weights. It has mean :math:`n\mu`, variance
    :math:`\sigma^2 n (N-n)/(N-1)` :cite:`cochran1977sampling` and third central moment
    :math:`\mu_3 n (N-n)(N-2n) / ((N-1)(N-2))`, with the moments of the weights over the stratum; strata add up. The
    standardized sum is corrected for skewness by the cube root of :cite:`wilson1931chisquare`, so that rare and common
    terms compare. The permutations serve all clusters alike; adjusted p values are those of the highest score of any
    term :cite:`westfall1993resampling`.

    ``weights``: not negative, of order one. ``presence``: (gene, term) ones where the text of a gene holds a term.
    """
    texts = permutation_of_texts(presence)
    null = texts.moments(weights)
    score = null.score(texts.carriers @ weights)

    def after(order: Int[np.ndarray, " gene"]) -> tuple[np.ndarray, np.ndarray]:
        permuted = null.score(texts.carriers @ weights[order])
        return permuted, permuted.max(axis=0, initial=-np.inf)

    p_value, p_adjusted = permutation_p(
        (score, score), after, draw=lambda: texts.draw(rng), n_permutations=n_permutations
    )
    return TermScores(score=score, p_value=p_value, p_adjusted=p_adjusted)


def permutation_of_texts(presence: sp.csr_matrix) -> TextPermutation:
    """Prepare the permutations of :func:`score_terms` for ``presence`` (gene, term)."""
    stratum = strata_of(np.diff(presence.indptr), at_most=_MAX_STRATA)  # equal numbers of terms stay together
    strata = tuple(np.flatnonzero(stratum == which) for which in np.unique(stratum))
    carriers = presence.T.tocsr()
    counts = [np.asarray(carriers[:, genes].sum(axis=1)).ravel() for genes in strata]
    held = np.array(counts).reshape(len(strata), carriers.shape[0]).T  # (term, stratum)
    size = np.array([len(genes) for genes in strata])
    free = held * (size - held) / np.maximum(size - 1, 1)
    factors = np.stack([held, free, free * (size - 2 * held) / np.maximum(size - 2, 1)])
    return TextPermutation(carriers=carriers, strata=strata, factors=factors)


def _central_moments(weights: Float[np.ndarray, "gene cluster"]) -> Float[np.ndarray, "3 cluster"]:
    """Mean, and second and third central moments."""
    mean = weights.mean(axis=0)
    spread = weights - mean
    square = spread * spread  # a cube by ``**`` takes five times as long
    return np.stack([mean, square.mean(axis=0), (square * spread).mean(axis=0)])
