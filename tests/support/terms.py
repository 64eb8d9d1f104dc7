"""Terms of gene texts, text by text: what :func:`cellmodel.explain.terms.index_terms` says, with sets of strings."""

from collections import Counter

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import CountVectorizer

from cellmodel.explain.terms import TermIndex, _sentence_terms, _words
from genekb.core.words import singular, split_sentences


def index_terms(texts, *, min_texts):
    """Find the terms that at least ``min_texts`` of the gene texts hold."""
    split = [split_sentences(text) for text in texts]
    held = Counter(sentence for sentences in split for sentence in set(sentences))
    left_out = frozenset(sentence for sentence, count in held.items() if count >= 20)
    kept = [[sentence for sentence in sentences if sentence not in left_out] for sentences in split]
    words = {word for sentences in kept for sentence in sentences for word in _words(sentence)}
    singulars = {word: one for word in words if (one := singular(word)) != word and one in words}
    documents = [
        {term for one in sentences for term in _sentence_terms(one, singulars=singulars)} for sentences in kept
    ]
    counts = Counter(term for document in documents for term in document)
    terms = tuple(sorted(term for term, count in counts.items() if count >= min_texts))
    if terms:
        vectorizer = CountVectorizer(analyzer=list, vocabulary=terms, binary=True, dtype=np.float64)
        presence = sp.csr_matrix(vectorizer.transform(documents))
    else:
        presence = sp.csr_matrix((len(texts), 0))
    return TermIndex(terms=terms, presence=presence, boilerplate=left_out, singulars=singulars)
