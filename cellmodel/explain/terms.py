"""Terms of gene texts: words and two-word phrases that say something about a gene, and the sentences they stand in."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from genekb.core.words import singular

_MIN_BOILERPLATE_TEXTS = 20  # a sentence word for word in so many texts describes the format, not the gene
_MIN_WORD = 3  # letters of a word that may stand alone; shorter ones ("T", "II") only inside a phrase

# Words of every gene text. They end a phrase and are never a term.
_GENE_TEXT = """
ability able abundance abundant act actively acts addition additional additionally adjacent affect affects al allow
allows amino approved approximately associate associated associates association base based believed belong belongs
bind binds bring broad categorized cause caused causes cellular certain characterised characterize characterized
chromosome cluster clustered clusters coding common compared compose composed consist consisting consists constant
contain containing contains contribute contributes contribution correlation critical crucial daltons describe
described designated determined different distinct domain domains drosophila effect effects encode encoded encodes
encoding end ends essential et evidence exist exon exons express expressed expresses expression families family
feature features form former formerly forms found frame full function functional functions gene generate generated
generates genes genome group groups helping high highly homolog homologous homologs homologue human identical
identified important include included includes including instead interact interacting interaction interacts intron
introns isoform isoforms kda key known large lead leading leads length level levels like likely located locus lost low
main mainly major mammal mammalian matched mediate mediated mediates member members minor mostly motif mouse multiple
mutant mutated mutation mutations named nature nearly necessary need needed new non noncoding normal normally number
numerous observed occur occurs omim open organism organisms ortholog orthologous orthologs overlap overlaps paralog
paralogous paralogs part particularly perform performs play plays pmid polymorphism polymorphisms portion position
possible potentially precursor predicted preproprotein presence present presumably previously primarily probable
process processed processes produce produced produces product products property proprotein protein proteins provided
pseudogene pseudogenes pubmed putative range read reading reason reasonably recently referred refseq region regions
regulate regulated regulates related report reported represent representing represents required residue residues
respectively responsible result resulting results rich rodent rodents role roles same sequence sequences several share
shares short show shown shows similar similarity single site sites size small specific splice spliced splicing
structure studies study subfamilies subfamily suggest suggested suggests superfamily supplied tail target terminal
terminus thought transcribed transcript transcripts typical typically uncharacterized unique unknown use used uses
utilized utilizes utilizing variable variant variants variety various vary vertebrate wide widely yeast yet
"""

# Words too broad to be a term alone; they may be one half of a phrase ("T cell", "nervous system", "growth factor").
_BROAD_TEXT = """
acid activity alpha beta binding cancer cell chain class complex component delta development differentiation disease
disorder factor formation gamma induced molecule response signal signaling structural subunit syndrome system tissue
tumor type
"""

_GENE_TEXT_WORDS = frozenset(_GENE_TEXT.split())
_BROAD_WORDS = frozenset(_BROAD_TEXT.split())

_BRACKETS = re.compile(r"\[[^\]]*\]")  # "[provided by RefSeq, Jul 2008]"
_SENTENCE_END = re.compile(r"(?<=[.;])\s+(?=[A-Z0-9])")
_CLAUSE_END = re.compile(r"[,:;()!?]+|\.(?=\s|$)|\s-\s")
_TOKEN = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TermIndex:
    """Which texts hold which terms."""

    terms: tuple[str, ...]  # words and two-word phrases in lower case, sorted
    presence: sp.csr_matrix  # (text, term) CSR of ones: how often a term occurs in a text does not count
    boilerplate: frozenset[str]  # sentences left out because many texts share them word for word
    # word to the form under which it is counted, for plurals whose singular occurs in the texts
    singulars: Mapping[str, str]

    def sentence(self, text: str, *, term: str) -> str:
        """First sentence of ``text`` that holds ``term``.

        Raises ``ValueError`` if no sentence of the text, boilerplate aside, holds the term.
        """
        stop_words = _stop_words()
        for sentence in _sentences(text):
            if sentence not in self.boilerplate and term in _sentence_terms(
                sentence, singulars=self.singulars, stop_words=stop_words
            ):
                return sentence
        raise ValueError(f"no sentence of the text {text[:40]!r}... holds the term {term!r}")


def index_terms(texts: Sequence[str], *, min_texts: int) -> TermIndex:
    """Find the terms of a set of gene texts.

    A phrase is two neighbouring words of one clause with no stop word between them. Bracketed provenance, numbers,
    English stop words, the stock vocabulary of gene records and sentences that many texts share are left out. A plural
    is counted as its singular if that occurs too: the S-stemmer of :cite:`harman1991suffixing`, kept to attested forms.

    ``texts``: one per gene. ``min_texts``: least number of texts that hold a term. Returns the index; without terms if
    no term is frequent enough.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    split = [_sentences(text) for text in texts]
    shared = Counter(sentence for sentences in split for sentence in set(sentences))
    boilerplate = frozenset(sentence for sentence, count in shared.items() if count >= _MIN_BOILERPLATE_TEXTS)
    kept = [[sentence for sentence in sentences if sentence not in boilerplate] for sentences in split]
    singulars = _singulars({word for sentences in kept for sentence in sentences for word in _words(sentence)})
    stop_words = _stop_words()
    documents = [
        {t for s in sentences for t in _sentence_terms(s, singulars=singulars, stop_words=stop_words)}
        for sentences in kept
    ]
    counts = Counter(term for document in documents for term in document)
    terms = tuple(sorted(term for term, count in counts.items() if count >= min_texts))
    if terms:
        vectorizer = CountVectorizer(analyzer=list, vocabulary=terms, binary=True, dtype=np.float64)
        presence = sp.csr_matrix(vectorizer.transform(documents))
    else:
        presence = sp.csr_matrix((len(texts), 0))
    return TermIndex(terms=terms, presence=presence, boilerplate=boilerplate, singulars=singulars)


def _stop_words() -> frozenset[str]:
    """English stop words and those of gene texts."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return (frozenset(ENGLISH_STOP_WORDS) | _GENE_TEXT_WORDS) - _BROAD_WORDS


def _sentences(text: str) -> list[str]:
    """Sentences of a text, without bracketed provenance."""
    return [sentence.strip() for sentence in _SENTENCE_END.split(_BRACKETS.sub("", text)) if sentence.strip()]


def _words(text: str) -> list[str]:
    """Split into runs of letters and digits, in lower case: a hyphen separates words."""
    return _TOKEN.findall(text.lower())


def _singulars(words: set[str]) -> dict[str, str]:
    """Plurals among the words whose singular is among them too."""
    return {word: one for word in words if (one := singular(word)) != word and one in words}


def _sentence_terms(sentence: str, *, singulars: Mapping[str, str], stop_words: frozenset[str]) -> Iterator[str]:
    """Terms of one sentence, in reading order."""
    for clause in _CLAUSE_END.split(sentence):
        previous = None
        for written in _words(clause):
            word = singulars.get(written, written)
            if word.isdigit() or written in stop_words or word in stop_words:
                previous = None
                continue
            if len(word) >= _MIN_WORD and word not in _BROAD_WORDS:
                yield word
            if previous is not None and not (word in _BROAD_WORDS and previous in _BROAD_WORDS):
                yield f"{previous} {word}"
            previous = word


_MAX_STRATA, _STRATUM_GENES = 10, 50  # strata of text length: at most so many, of so many genes or more on average
_NO_DEVIATION = 1e-9  # weights are of order one: a smaller deviation is rounding
_MIN_SKEWNESS = 1e-3  # below it the correction is smaller than its rounding error
_TIE = 1e-9  # scores closer than this are equal: their sums were taken in another order


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TermScores:
    """Scores of all terms in all clusters."""

    score: Float[np.ndarray, "term cluster"]  # standard normal under the null hypothesis, to good approximation
    p_value: Float[np.ndarray, "term cluster"]  # permutation p value of each term alone
    p_adjusted: Float[np.ndarray, "term cluster"]  # permutation p value of the highest score of any term in the cluster


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SumMoments:
    """Moments of each term's sum over shuffles of the texts."""

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
class TermDeal:
    """Texts to be dealt out anew among genes whose texts hold about as many terms."""

    carriers: sp.csr_matrix  # (term, gene) ones where the text of a gene holds a term
    strata: tuple[Int[np.ndarray, " _"], ...]  # genes among which texts are dealt out
    # by which the mean, second and third central moment of a stratum's weights add to those of a term's sum
    factors: Float[np.ndarray, "3 term stratum"]

    def deal(self, rng: np.random.Generator) -> Int[np.ndarray, " gene"]:
        """Deal the texts out: the gene that each text falls to."""
        order = np.arange(self.carriers.shape[1])
        for genes in self.strata:
            order[genes] = rng.permutation(genes)
        return order

    def moments(self, weights: Float[np.ndarray, "gene cluster"]) -> SumMoments:
        """Moments of the sum of a term over all deals."""
        per_stratum = [_central_moments(weights[genes]) for genes in self.strata]
        stacked = np.array(per_stratum).reshape(len(self.strata), 3, weights.shape[1])
        mean, variance, third = (factor @ stacked[:, which] for which, factor in enumerate(self.factors))
        deviation = np.sqrt(variance)
        skewness = np.divide(third, deviation**3, out=np.zeros_like(third), where=deviation > _NO_DEVIATION)
        return SumMoments(mean=mean, deviation=deviation, skewness=skewness)


def score_terms(
    weights: Float[np.ndarray, "gene cluster"],
    presence: sp.csr_matrix,
    *,
    n_permutations: int,
    rng: np.random.Generator,
) -> TermScores:
    r"""Score every term in every cluster by the summed weight of the genes whose text holds it.

    Under the null hypothesis the texts are dealt out anew among genes whose texts hold about as many terms, since long
    texts hold more of every term and belong to well-studied genes. Within such a stratum of *N* genes, the sum over a
    term in *n* texts is a sample without replacement of the *N* weights. It has mean :math:`n\mu`, variance
    :math:`\sigma^2 n (N-n)/(N-1)` :cite:`cochran1977sampling` and third central moment
    :math:`\mu_3 n (N-n)(N-2n) / ((N-1)(N-2))`, with the moments of the weights over the stratum; strata add up. The
    standardised sum is corrected for skewness by the cube root of :cite:`wilson1931chisquare`, so that rare and common
    terms compare. P values are :math:`(1 + \text{hits}) / (1 + n)` :cite:`phipson2010permutation` over shuffles that
    serve all clusters alike; a hit of the adjusted one is a shuffle in which any term of the cluster scores as high
    :cite:`westfall1993resampling`.

    ``weights``: not negative, of order one. ``presence``: (gene, term) ones where the text of a gene holds a term.
    ``n_permutations``: number of shuffles. ``rng``: draws the shuffles. Returns scores and p values.
    """
    texts = term_deal(presence)
    null = texts.moments(weights)
    score = null.score(texts.carriers @ weights)
    hits, family_hits = np.zeros(score.shape, np.int64), np.zeros(score.shape, np.int64)
    for _ in range(n_permutations if len(score) else 0):
        shuffled = null.score(texts.carriers @ weights[texts.deal(rng)]) + _TIE
        hits += shuffled >= score
        family_hits += shuffled.max(axis=0) >= score
    return TermScores(
        score=score, p_value=(1 + hits) / (1 + n_permutations), p_adjusted=(1 + family_hits) / (1 + n_permutations)
    )


def term_deal(presence: sp.csr_matrix) -> TermDeal:
    """Prepare the deals of :func:`score_terms`, which depend on the texts alone.

    ``presence``: (gene, term) ones where the text of a gene holds a term.
    """
    strata = _length_strata(presence)
    carriers = presence.T.tocsr()
    counts = [np.asarray(carriers[:, genes].sum(axis=1)).ravel() for genes in strata]
    held = np.array(counts).reshape(len(strata), carriers.shape[0]).T  # (term, stratum)
    size = np.array([len(genes) for genes in strata])
    free = held * (size - held) / np.maximum(size - 1, 1)
    factors = np.stack([held, free, free * (size - 2 * held) / np.maximum(size - 2, 1)])
    return TermDeal(carriers=carriers, strata=strata, factors=factors)


def _length_strata(presence: sp.csr_matrix) -> tuple[Int[np.ndarray, " _"], ...]:
    """Genes grouped by the number of terms in their text; equal numbers stay together."""
    n_terms = np.diff(presence.indptr)
    n_strata = min(_MAX_STRATA, max(1, len(n_terms) // _STRATUM_GENES))
    edges = np.quantile(n_terms, np.arange(1, n_strata) / n_strata) if n_strata > 1 else np.empty(0)
    stratum = np.searchsorted(edges, n_terms, side="right")
    return tuple(np.flatnonzero(stratum == which) for which in np.unique(stratum))


def _central_moments(weights: Float[np.ndarray, "gene cluster"]) -> Float[np.ndarray, "3 cluster"]:
    """Mean, and second and third central moments."""
    mean = weights.mean(axis=0)
    spread = weights - mean
    return np.stack([mean, (spread**2).mean(axis=0), (spread**3).mean(axis=0)])
