"""Hashed words and word pairs under a fixed random projection: nothing is fitted and nothing is loaded."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import scipy.sparse as sp

from genekb.encoders.base import EncodedTexts, EncoderSpec, check_texts, unit_rows

REVISION: Final = "1"
N_BUCKETS: Final = 1 << 15
TOKEN: Final = r"(?u)\w+"


class HashEncoder:
    """A bag of hashed words and word pairs, projected to ``dim`` dimensions by fixed random signs."""

    def __init__(self, *, name: str, dim: int) -> None:
        self.spec = EncoderSpec(name=name, kind="hash", model_id="genekb/hash", revision=REVISION, dim=dim)

    def encode(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> EncodedTexts:
        """Encode texts as ``Encoder.encode`` says."""
        from sklearn.feature_extraction.text import HashingVectorizer

        check_texts(texts)
        hasher = HashingVectorizer(n_features=N_BUCKETS, ngram_range=(1, 2), token_pattern=TOKEN)
        counts = hasher.transform(texts)
        vectors = np.asarray((counts @ _projection(self.spec.dim)).todense(), dtype=np.float32)
        if progress:
            progress(len(texts))
        return EncodedTexts(
            vectors=unit_rows(vectors, encoder=self.spec.name),
            n_tokens=np.asarray(np.diff(counts.indptr), dtype=np.int32),
            n_tokens_cut=np.zeros(len(texts), dtype=np.int32),
        )

    def save(self, folder: Path) -> None:
        """Write nothing: there is no state."""


@cache
def _projection(dim: int) -> sp.csr_matrix:
    """(bucket, dim) of -1, 0 and 1, a third of them not zero :cite:`achlioptas2003projections`."""
    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, 6, size=(N_BUCKETS, dim), dtype=np.int8)
    return sp.csr_matrix((drawn == 0).astype(np.float32) - (drawn == 1).astype(np.float32))
