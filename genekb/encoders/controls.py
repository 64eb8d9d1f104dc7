"""Encoders that need no weights: hashed words, and random vectors, a control without knowledge of the text."""

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from genekb.encoders.base import EncoderSpec, TextEncoder, VectorsAndTokens
from genekb.schema import FloatArray

if TYPE_CHECKING:
    import scipy.sparse as sp

REVISION: Final = "1"
N_BUCKETS: Final = 1 << 15


class BuiltInEncoder(TextEncoder):
    """An encoder without weights and state, the same on every machine.

    ``random``: an isotropic random vector for each text. ``hash``: a bag of hashed words and word pairs, projected to
    ``dim`` dimensions by fixed random signs. A token is a word, of ``hash`` a distinct word or word pair.
    """

    def __init__(self, kind: Literal["random", "hash"], *, name: str, dim: int) -> None:
        self.spec = EncoderSpec(name=name, kind=kind, model_id=f"genekb/{kind}", revision=REVISION, dim=dim)

    def _encode(self, texts: Sequence[str], progress: Callable[[int], None]) -> VectorsAndTokens:
        vectors, n_tokens = (_draw if self.spec.kind == "random" else _hash)(texts, dim=self.spec.dim)
        progress(len(texts))
        return vectors, n_tokens, 0


def _draw(texts: Sequence[str], *, dim: int) -> tuple[FloatArray, list[int]]:
    """Draw a vector for each text, seeded by its digest."""
    vectors = np.empty((len(texts), dim), dtype=np.float32)
    for row, text in enumerate(texts):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
        vectors[row] = np.random.Generator(np.random.PCG64(seed)).standard_normal(dim)
    return vectors, [len(re.findall(r"\w+", text)) for text in texts]


def _hash(texts: Sequence[str], *, dim: int) -> tuple[FloatArray, np.ndarray]:
    from sklearn.feature_extraction.text import HashingVectorizer

    counts = HashingVectorizer(n_features=N_BUCKETS, ngram_range=(1, 2), token_pattern=r"(?u)\w+").transform(texts)
    return np.asarray((counts @ _projection(dim)).todense(), dtype=np.float32), np.diff(counts.indptr)


@cache
def _projection(dim: int) -> "sp.csr_matrix":
    """(bucket, dim) of -1, 0 and 1, a third of them not zero :cite:`achlioptas2003projections`."""
    import scipy.sparse as sp

    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, 6, size=(N_BUCKETS, dim), dtype=np.int8)
    return sp.csr_matrix((drawn == 0).astype(np.float32) - (drawn == 1).astype(np.float32))
