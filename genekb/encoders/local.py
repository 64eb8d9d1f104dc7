"""Transformers that run on this machine: plain AutoModel, pooling and unit length, on CPU or GPU."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from jaxtyping import Float32

from genekb.encoders.base import ComputeDtype, EncodedTexts, EncoderSpec, check_texts, unit_rows
from genekb.encoders.folder import ModelFolder
from genekb.encoders.precision import bfloat16_pays, to_bfloat16
from genekb.encoders.truncation import Cut, cut_to_tokens
from genekb.errors import EncoderFailed, NotAvailable

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# Padding goes up to a multiple of this, by the text's own length alone: what shares its batch leaves no trace.
_PAD_TO = 16
_BATCH_SIZES = {"cpu": 8, "cuda": 64}
_PROBE = "A2M: alpha-2-macroglobulin. The protein inhibits many proteases by a bait and trap mechanism."


@dataclass(frozen=True, kw_only=True, slots=True)
class Compute:
    """How to run a model; nothing of it but `dtype` may change a recipe.

    Parameters
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    dtype
        ``auto`` measures whether bfloat16 is worth it, if the hardware has it.
    threads
        CPU threads while encoding; None leaves PyTorch's setting.

    Raises
    ------
    ValueError
        If a value is not one of these.
    """

    device: str = "auto"
    dtype: Literal["auto"] | ComputeDtype = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda") and not self.device.removeprefix("cuda:").isdecimal():
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {self.device!r}")
        if self.dtype not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"dtype must be auto, float32 or bfloat16, got {self.dtype!r}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be >= 1, got {self.threads}")


class _Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    pad_token_id: int | None
    is_fast: bool

    def __call__(self, text: list[str], **settings: bool | int) -> dict[str, list[list[int]]]: ...

    def num_special_tokens_to_add(self, *, pair: bool) -> int: ...


class TransformerEncoder:
    """A transformer with its tokenizer, ready to encode.

    Parameters
    ----------
    spec
        The recipe, with the dtype that the model has.
    model, tokenizer
        As transformers loads them; the model in evaluation mode, on its device.
    threads
        CPU threads while encoding; None leaves PyTorch's setting.

    Raises
    ------
    EncoderFailed
        If the tokenizer tells no positions, or prompt and special tokens alone fill `spec.max_tokens`.
    """

    def __init__(
        self, *, spec: EncoderSpec, model: "torch.nn.Module", tokenizer: _Tokenizer, threads: int | None
    ) -> None:
        if not tokenizer.is_fast:
            raise EncoderFailed(
                f"encoder {spec.name!r} has a slow tokenizer, which tells no positions; give tokenizer.json"
            )
        self.spec = spec
        self._model = model
        self._tokenizer = tokenizer
        self._threads = threads
        self._budget = self._text_budget()

    def encode(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> EncodedTexts:
        """Encode texts as `Encoder.encode` says; long ones are cut on the end of a sentence."""
        check_texts(texts)
        cuts = self._cut(texts)
        vectors = np.empty((len(texts), self.spec.dim), dtype=np.float32)
        tokens = self._tokens([cut.text for cut in cuts])
        with _torch_threads(self._threads):
            for rows in self._batches(texts, tokens=tokens):
                vectors[rows] = self._forward([tokens[row] for row in rows])
                if progress:
                    progress(len(rows))
        return EncodedTexts(
            vectors=unit_rows(vectors, encoder=self.spec.name),
            n_tokens=np.array([cut.n_tokens for cut in cuts], dtype=np.int32),
            n_tokens_cut=np.array([cut.n_tokens_cut for cut in cuts], dtype=np.int32),
        )

    def save(self, folder: Path) -> None:
        """Write nothing: a transformer has no state of its own, and its weights stay where they are."""

    def _text_budget(self) -> int:
        """Tokens left for the text when prompt and special tokens are in; 0 is no limit."""
        if not self.spec.max_tokens:
            return 0
        prompt = len(self._tokenizer([self.spec.prompt], add_special_tokens=False)["input_ids"][0])
        used = prompt + self._tokenizer.num_special_tokens_to_add(pair=False)
        if used >= self.spec.max_tokens:
            raise EncoderFailed(
                f"encoder {self.spec.name!r} reads {self.spec.max_tokens} tokens, its prompt alone takes {used}"
            )
        return self.spec.max_tokens - used

    def _cut(self, texts: Sequence[str]) -> list[Cut]:
        """Cut each text to the budget."""
        if not texts:
            return []
        found = self._tokenizer(
            list(texts), add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        offsets: Any = found["offset_mapping"]  # for each text, a (start, end) pair a token
        ends = ([end for _, end in pairs] for pairs in offsets)
        return [cut_to_tokens(t, token_ends=e, limit=self._budget) for t, e in zip(texts, ends, strict=True)]

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        """Token numbers with prompt and special tokens; the hard limit guards against tokens that merge otherwise."""
        if not texts:
            return []
        limit = {"truncation": True, "max_length": self.spec.max_tokens} if self.spec.max_tokens else {}
        return self._tokenizer([self.spec.prompt + text for text in texts], **limit)["input_ids"]

    def _batches(self, texts: Sequence[str], *, tokens: list[list[int]]) -> Iterator[list[int]]:
        """Rows of equal padded length, the longest first, in an order that does not depend on the input's."""
        size = _BATCH_SIZES[self._device.type]
        order = sorted(range(len(texts)), key=lambda row: (-self._padded(tokens[row]), texts[row]))
        for _, same_length in groupby(order, key=lambda row: self._padded(tokens[row])):
            rows = list(same_length)
            yield from (rows[start : start + size] for start in range(0, len(rows), size))

    def _padded(self, tokens: list[int]) -> int:
        """Length to which a text is padded."""
        length = _PAD_TO * math.ceil(len(tokens) / _PAD_TO)
        return min(length, self.spec.max_tokens) if self.spec.max_tokens else length

    @property
    def _device(self) -> "torch.device":
        return next(self._model.parameters()).device

    def _forward(self, tokens: list[list[int]]) -> Float32[np.ndarray, "text dim"]:
        """Pooled vectors of one batch, not yet of unit length."""
        import torch

        ids = torch.full((len(tokens), self._padded(tokens[0])), self._tokenizer.pad_token_id or 0)  # (text, token)
        mask = torch.zeros_like(ids)
        for row, numbers in enumerate(tokens):
            ids[row, : len(numbers)] = torch.tensor(numbers)
            mask[row, : len(numbers)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        with torch.inference_mode():
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (text, token, dim)
            pooled = _pool(hidden, mask, pooling=self.spec.pooling)
        if pooled.shape[1] != self.spec.dim:
            raise EncoderFailed(
                f"encoder {self.spec.name!r} gives vectors of {pooled.shape[1]} dims, {self.spec.dim} are expected"
            )
        return np.asarray(pooled.cpu().numpy(), dtype=np.float32)


def load_transformer(folder: ModelFolder, *, recipe: EncoderSpec, compute: Compute) -> TransformerEncoder:
    """Load a model and try it on one text.

    Parameters
    ----------
    folder
        The model's files.
    recipe
        What to make of them; its dtype is replaced by the one chosen.
    compute
        How to run it.

    Raises
    ------
    EncoderFailed
        If transformers cannot load the model, weights are missing in it, or the vectors are not as promised.
    NotAvailable
        If the device is not there.
    """
    device = _device(compute.device)
    model, tokenizer = _open(folder, name=recipe.name)
    model = model.to(device)
    encoder = TransformerEncoder(
        spec=replace(recipe, dtype="float32"), model=model, tokenizer=tokenizer, threads=compute.threads
    )
    with _torch_threads(compute.threads):
        dtype = compute.dtype if compute.dtype != "auto" else _measured_dtype(model, tokenizer, name=recipe.name)
    if dtype == "bfloat16":
        encoder = TransformerEncoder(
            spec=replace(recipe, dtype=dtype),
            model=to_bfloat16(model),
            tokenizer=tokenizer,
            threads=compute.threads,
        )
    encoder.encode([_PROBE])
    return encoder


def _open(folder: ModelFolder, *, name: str) -> "tuple[torch.nn.Module, _Tokenizer]":
    """Model in float32 and evaluation mode, and its tokenizer; no network, no code from the model's folder."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    with _quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
            model, report = AutoModel.from_pretrained(
                folder.path,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise EncoderFailed(f"encoder {name!r} cannot be loaded by transformers: {reason}") from error
    # Poolers of BERT's kind are not used; anything else that is missing would be random numbers.
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise EncoderFailed(f"encoder {name!r} lacks {len(missing)} of its weights, the first is {missing[0]}")
    return model.eval(), tokenizer


def _pool(hidden: "torch.Tensor", mask: "torch.Tensor", *, pooling: str) -> "torch.Tensor":
    """Pool token vectors (text, token, dim) under a mask (text, token), padded on the right."""
    import torch

    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]
    weights = mask.unsqueeze(-1).float()  # (text, token, 1)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def _device(name: str) -> "torch.device":
    """Device by name; ``auto`` is the GPU if there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NotAvailable(f"device {name!r} is not there ({torch.cuda.device_count()} GPUs found); use --device cpu")
    return device


def _measured_dtype(model: "torch.nn.Module", tokenizer: _Tokenizer, *, name: str) -> ComputeDtype:
    """Type to compute in, by measurement on this machine."""
    ids = tokenizer([_PROBE])["input_ids"] * _BATCH_SIZES["cpu"]
    dtype: ComputeDtype = "bfloat16" if bfloat16_pays(model, ids=ids) else "float32"
    logger.info("encoder %s computes in %s", name, dtype)
    return dtype


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """Set PyTorch's number of CPU threads inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep loading bars and reports on unused weights off the terminal inside the block."""
    from transformers.utils import logging as noise

    level, has_bars = noise.get_verbosity(), noise.is_progress_bar_enabled()
    noise.set_verbosity_error()
    noise.disable_progress_bar()
    try:
        yield
    finally:
        noise.set_verbosity(level)
        if has_bars:
            noise.enable_progress_bar()
