"""Encoders that need no weights: hashed words, and the controls random and shuffled, without knowledge of the text.

Neither control alone is enough: random vectors are isotropic, those of texts are not.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from genekb.core.errors import NotAvailable, StoreCorrupt
from genekb.encoders.base import EncodedTexts, Encoder, EncoderSpec, TextEncoder, VectorsAndTokens, check_texts
from genekb.encoders.kinds import KINDS
from genekb.files.atomic import write_json
from genekb.files.limits import read_json
from genekb.genes.texts import text_id
from genekb.schema import FloatArray

if TYPE_CHECKING:
    import scipy.sparse as sp

REVISION: Final = "1"
N_BUCKETS: Final = 1 << 15
BASE_RECIPE: Final = "base-recipe.json"
BASE_STATE: Final = "base"
_PERMUTATION: Final = b"shuffled-1"
_LONGEST_NAME: Final = 80


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


class ShuffledEncoder:
    """An encoder that gives every text of a corpus the vector of another text of it; other texts keep their own.

    ``state_sha256``: digest of a permutation whose corpus is not at hand, see `reopen_shuffled`. Raises ``ValueError``
    if `base` is itself shuffled.
    """

    def __init__(self, base: Encoder, *, corpus: Sequence[str], state_sha256: str = "") -> None:
        if base.spec.family.is_permuted:
            raise ValueError(f"{base.spec.encoder_id} is shuffled already; shuffle the encoder below it")
        texts: dict[str, str] = {text_id(text): text for text in corpus}
        self.base = base
        self._partners = _partners(texts)
        self.spec = replace(
            base.spec,
            name=KINDS["shuffled"].stored_as.format(base.spec.name)[:_LONGEST_NAME],
            kind="shuffled",
            model_id=str(base.spec.encoder_id),
            state_sha256=state_sha256 or _digest(texts),
        )

    def partner(self, text: str) -> str:
        """Text whose vector `text` gets: another one of the corpus, or itself if it is not in there."""
        return self._partners.get(text, text)

    def encode(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> EncodedTexts:
        """Encode texts as ``Encoder.encode`` says; tokens are those of the texts that were encoded."""
        check_texts(texts)
        return self.base.encode([self.partner(text) for text in texts], progress=progress)

    def save(self, folder: Path) -> None:
        """Write the recipe of the base and its state; the corpus is not needed to encode queries."""
        write_json(self.base.spec.to_dict(), folder / BASE_RECIPE)
        self.base.save(folder / BASE_STATE)


def reopen_shuffled(
    spec: EncoderSpec, folder: Path, *, reopen: Callable[[EncoderSpec, Path], Encoder]
) -> ShuffledEncoder:
    """Open a shuffled encoder for queries; without its corpus every text gets its own vector.

    ``reopen``: opens the base by its recipe and the folder of its state. Raises ``NotAvailable`` or ``StoreCorrupt`` if
    the recipe of the base is missing, damaged or another.
    """
    path = folder / BASE_RECIPE
    if not path.is_file():
        raise NotAvailable(f"{path} is missing, so the encoder below {spec.encoder_id} is not known; encode again")
    try:
        recipe = read_json(path)
    except ValueError as error:
        raise StoreCorrupt(f"{path} is damaged; encode again") from error
    base_spec = EncoderSpec.from_dict(recipe if isinstance(recipe, dict) else {})
    if base_spec.encoder_id != spec.model_id:
        raise StoreCorrupt(f"{path} is the recipe of {base_spec.encoder_id}, not of {spec.model_id}; encode again")
    base = reopen(base_spec, folder / BASE_STATE)
    return ShuffledEncoder(base, corpus=(), state_sha256=spec.state_sha256)


def _partners(texts: dict[str, str]) -> dict[str, str]:
    """Order texts by their ids alone, and pair each with the next."""
    order = sorted(texts, key=lambda key: hashlib.sha256(_PERMUTATION + key.encode()).digest())
    return {texts[key]: texts[after] for key, after in zip(order, order[1:] + order[:1], strict=True)}


def _digest(keys: Iterable[str]) -> str:
    return hashlib.sha256(b"\n".join([_PERMUTATION, *(key.encode() for key in sorted(keys))])).hexdigest()
