"""Terms of gene texts: words and two-word phrases that say something about a gene, and the sentences they stand in."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from genekb.words import singular

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
    """Which texts hold which terms.

    Parameters
    ----------
    terms
        Words and two-word phrases in lower case, sorted.
    presence
        (text, term) CSR of ones: how often a term occurs in a text does not count.
    boilerplate
        Sentences left out because many texts share them word for word.
    singulars
        Word to the form under which it is counted, for plurals whose singular occurs in the texts.
    """

    terms: tuple[str, ...]
    presence: sp.csr_matrix
    boilerplate: frozenset[str]
    singulars: Mapping[str, str]

    def sentence(self, text: str, *, term: str) -> str:
        """First sentence of ``text`` that holds ``term``.

        Raises
        ------
        ValueError
            If no sentence of the text, boilerplate aside, holds the term.
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

    Parameters
    ----------
    texts
        One per gene.
    min_texts
        Least number of texts that hold a term.

    Returns
    -------
    The index; without terms if no term is frequent enough.
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
