"""Static word vectors of model2vec's kind: a text is the mean of its tokens' vectors, and no network is run over it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.core.plugins import require
from genekb.core.resources import raise_resource_fault
from genekb.encoders.base import EncoderSpec, TextEncoder, VectorsAndTokens
from genekb.encoders.local.files import static_folder
from genekb.files.atomic import sha256_file
from genekb.schema import FloatArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH_SIZE: Final = 1024
_WEIGHTS: Final = "model.safetensors"
_TOKENIZER: Final = "tokenizer.json"


class StaticEncoder(TextEncoder):
    """A table of token vectors with its tokenizer.

    Texts are not truncated. `n_tokens` counts the known tokens; a text without any gets the neutral vector, the
    direction of the mean of the whole table.
    """

    def __init__(self, *, spec: EncoderSpec, model: Any, neutral: FloatArray) -> None:
        self.spec = spec
        self._model = model
        self._neutral = neutral
        self._unknown = unknown_token(model.tokenizer)
        model.tokenizer.no_truncation()

    def _encode(self, texts: Sequence[str], progress: Callable[[int], None]) -> VectorsAndTokens:
        vectors = np.empty((len(texts), self.spec.dim), dtype=np.float32)
        n_tokens = np.empty(len(texts), dtype=np.int32)
        for start in range(0, len(texts), _BATCH_SIZE):
            batch = list(texts[start : start + _BATCH_SIZE])
            rows = slice(start, start + len(batch))
            vectors[rows] = self._model.encode(
                batch, prompt=self.spec.prompt, batch_size=_BATCH_SIZE, show_progress_bar=False,
                truncate_dim=self.spec.dim,
            )  # fmt: skip
            found = self._model.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            n_tokens[rows] = [sum(token != self._unknown for token in encoding.ids) for encoding in found]
            progress(len(batch))
        blank = (n_tokens == 0) | (np.linalg.norm(vectors, axis=1) == 0)
        vectors[blank] = self._neutral[: self.spec.dim]
        n_tokens[blank] = 0
        return vectors, n_tokens, 0


def unknown_token(tokenizer: "Tokenizer") -> int | None:
    """Id of the token for all unknown ones; None if there is none."""
    model = json.loads(tokenizer.to_str())["model"]
    token = model.get("unk_token")
    return model.get("unk_id") if token is None else tokenizer.token_to_id(token)


def load_static(
    path: Path, *, name: str, model_id: str, revision: str = "", prompt: str = "", dim: int = 0
) -> StaticEncoder:
    """Load static word vectors from a folder that model2vec or sentence-transformers wrote.

    ``dim``: the first values of a vector that are kept; 0 keeps all. Raises ``NotAvailable`` if model2vec, the table or
    the tokenizer is missing; ``EncoderFailed`` if model2vec cannot load them; ``StoreCorrupt`` for invalid JSON.
    """
    from safetensors import SafetensorError

    from genekb.encoders.local.engine import open_table

    folder = static_folder(path) or path
    for file in (_WEIGHTS, _TOKENIZER):
        if not (folder / file).is_file():
            raise NotAvailable(f"{folder} has no {file}; give a folder that model2vec's save_pretrained wrote")
    require("model2vec", needed_by=f"encoder {name!r} needs")
    try:
        model, neutral = open_table(str(path), unknown_id=unknown_token)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise_resource_fault(error)
        reason = str(error).strip().partition("\n")[0]
        raise EncoderFailed(f"encoder {name!r} cannot be loaded by model2vec: {reason}; fetch it again") from error
    if dim > neutral.size:
        raise EncoderFailed(f"encoder {name!r} has {neutral.size} dims, {dim} cannot be kept")
    spec = EncoderSpec(
        name=name,
        kind="static",
        model_id=model_id,
        revision=revision,
        weights_sha256=sha256_file(folder / _WEIGHTS),
        tokenizer_sha256=sha256_file(folder / _TOKENIZER),
        prompt=prompt,
        dim=dim or neutral.size,
    )
    return StaticEncoder(spec=spec, model=model, neutral=neutral)
