"""What an encoder is: its recipe, the identity that follows from it, and the methods that a store calls."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final, Literal, Protocol, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genekb.core.errors import EncoderFailed, SchemaMismatch
from genekb.core.messages import check_choice
from genekb.encoders.kinds import KINDS, EncoderKind, Kind, Pooling
from genekb.schema import EncoderID, FloatArray, IntArray

VectorsAndTokens = tuple[np.ndarray, ArrayLike, ArrayLike]  # of each text: vector of any length, tokens, tokens cut off
ComputeDtype = Literal["float32", "bfloat16"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")  # the id names a folder of the store, so nothing that leaves it
_CHOICES = {"kind": get_args(Kind), "pooling": get_args(Pooling), "dtype": get_args(ComputeDtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSpec:
    """The recipe of an encoder: everything that decides its vectors; not batch size, device or threads."""

    name: str  # of lower-case letters, digits, ``.``, ``_`` and ``-``
    kind: Kind
    # Hugging Face id, ``folder:`` and the name of a local folder, a vendor's name for its model, the algorithm of a
    # built-in encoder, the encoder_id that was shuffled, the file that vectors came from, or a plug-in's package
    model_id: str = ""
    # commit of the hub; ``config-`` and a hash of config.json for a local folder; version of a built-in algorithm or a
    # plug-in's
    revision: str = ""
    weights_sha256: str = ""  # weights_sha256, tokenizer_sha256: hex digests of the files; empty for built-in encoders
    tokenizer_sha256: str = ""
    pooling: Pooling = "none"  # how token vectors become one; ``none`` without such, or where the modules say it
    prompt: str = ""  # put in front of every text
    max_tokens: int = 0  # longest input in tokens, special tokens and prompt included; 0 is no limit
    normalise: bool = True  # whether vectors have unit length
    dim: int  # length of a vector; of a model's first values where it gives more
    dtype: ComputeDtype = "float32"  # type that the model computes in; vectors are float32 in any case
    # digests of the fitted or generated state, of the model's own Python code where that was run, and of modules behind
    # the transformer that are more than one pooling; else empty
    state_sha256: str = ""
    code_sha256: str = ""
    modules_sha256: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"encoder name {self.name!r} must be lower-case letters, digits, '.', '_', '-' (at most 80)"
            )
        for field, allowed in _CHOICES.items():
            check_choice(field, getattr(self, field), allowed)
        if self.dim < 1:
            raise ValueError(f"dim must be >= 1, got {self.dim}")
        if self.max_tokens < 0:
            raise ValueError(f"max_tokens must be >= 0 (0: no limit), got {self.max_tokens}")

    @property
    def family(self) -> EncoderKind:
        """What follows from the kind."""
        return KINDS[self.kind]

    @property
    def encoder_id(self) -> EncoderID:
        """Name and the first 12 hex digits of the recipe's sha256; a local folder counts by its name alone."""
        hashed = replace(self, model_id=folder_name(self.model_id)) if is_folder_path(self.model_id) else self
        canonical = json.dumps(hashed.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return EncoderID(f"{self.name}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}")

    def to_dict(self) -> dict[str, str | int | bool]:
        """Return the fields as JSON types, in the order of declaration; digests of code and modules where they are."""
        later = ("code_sha256", "modules_sha256")  # recipes keep the identity that they had before there were these
        return {field: value for field, value in asdict(self).items() if value or field not in later}

    @classmethod
    def from_dict(cls, recipe: Mapping[str, object]) -> Self:
        """Read what `to_dict` wrote; ``SchemaMismatch`` if keys or values are not those of a recipe."""
        unknown = sorted(set(recipe) - {field.name for field in fields(cls)})
        if unknown:
            raise SchemaMismatch(
                f"encoder recipe has unknown keys {', '.join(unknown)}; a newer genekb may have made it"
            )
        try:
            return cls(**recipe)  # type: ignore[arg-type]  # JSON values, checked by __post_init__
        except (TypeError, ValueError) as error:
            raise SchemaMismatch(f"encoder recipe of {recipe.get('name')!r} is not valid: {error}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedTexts:
    """Vectors of texts in the order of the input, and how much of each text was encoded."""

    vectors: FloatArray  # (text, dim) finite, of unit length
    # (text,) of the whole text in the encoder's vocabulary, without prompt and special tokens; of ``wcp`` and ``hash``
    # distinct words and word pairs, of ``wcp`` known ones: 0 marks a text without any
    n_tokens: NDArray[np.int32]
    n_tokens_cut: NDArray[np.int32]  # (text,) truncated tokens at the end of the text


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneVectors:
    """Vectors of genes that were made elsewhere, or of their annotations."""

    spec: EncoderSpec  # their provenance
    gene_ids: IntArray  # (gene,) distinct, ascending
    vectors: FloatArray  # (gene, dim) float32


class Encoder(Protocol):
    """Anything that turns texts into vectors by a recipe."""

    @property
    def spec(self) -> EncoderSpec:
        """The recipe."""

    def encode(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> EncodedTexts:
        """Encode texts; row *i* belongs to text *i*, and the same list gives the same bytes.

        Parameters
        ----------
        texts
            Each with at least one letter or digit.
        progress
            Called after each batch with the number of texts that the batch held.

        Raises
        ------
        ValueError
            If a text holds no letter or digit.
        EncoderFailed
            If a vector is not finite or has no length.
        """

    def save(self, folder: Path) -> None:
        """Write the fitted state into `folder`; encoders without one write nothing."""


class TextEncoder:
    """An encoder without a fitted state; subclasses make vectors and counts of tokens of texts that are checked."""

    spec: EncoderSpec

    def encode(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> EncodedTexts:
        """Encode texts as `Encoder.encode` says."""
        check_texts(texts)
        vectors, n_tokens, n_tokens_cut = self._encode(texts, progress or (lambda _: None))
        return EncodedTexts(
            vectors=unit_rows(vectors, encoder=self.spec.name),
            n_tokens=np.asarray(n_tokens, dtype=np.int32),
            n_tokens_cut=np.full(len(texts), n_tokens_cut, dtype=np.int32),
        )

    def _encode(self, texts: Sequence[str], progress: Callable[[int], None]) -> VectorsAndTokens:
        """Encode texts; :data:`VectorsAndTokens` says what is given."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write nothing: there is no state, and a model's files stay where they are."""


FOLDER_PREFIX: Final = "folder:"  # of the model id of a model that came from a local folder


def is_folder_path(model_id: str) -> bool:
    """Whether a recipe's model is a local folder; stores of schema version 1 kept its absolute path."""
    is_path = PurePosixPath(model_id).is_absolute() or PureWindowsPath(model_id).is_absolute()
    return is_path or model_id.startswith(FOLDER_PREFIX)


def folder_name(model_id: str) -> str:
    """Last part of a model id or of a path with either kind of slash."""
    return PureWindowsPath(model_id.removeprefix(FOLDER_PREFIX)).name


def check_texts(texts: Sequence[str]) -> None:
    """Refuse a lone string (``TypeError``) and texts without a letter or digit (``ValueError``)."""
    if isinstance(texts, str):
        raise TypeError("texts must be a sequence of strings, got one string; put it in a list")
    for position, text in enumerate(texts):
        if not re.search(r"[^\W_]", text):
            raise ValueError(f"text {position} ({text[:20]!r}) holds no letter or digit; leave it out before encoding")


def unit_rows(vectors: FloatArray, *, encoder: str) -> FloatArray:
    """Scale rows (text, dim) to unit length; ``EncoderFailed`` if a row is not finite or all zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)  # (text, 1)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if bad.size:
        row = int(bad[0])
        raise EncoderFailed(f"encoder {encoder!r} gave text {row} a vector of length {norms[row, 0]}, it must be > 0")
    return np.asarray(vectors / norms, dtype=np.float32)


def unit_or_zero(vectors: FloatArray) -> FloatArray:
    """Scale rows (row, dim) to unit length; rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0), dtype=np.float32)
