"""Transformers that run on this machine: plain AutoModel, pooling and unit length, on CPU or GPU."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from jaxtyping import Float32, Int64

from genekb.encoders.base import ComputeDtype, EncodedTexts, EncoderSpec
from genekb.encoders.batches import PROBE, TokenReader, encode_in_batches
from genekb.encoders.folder import ModelFolder
from genekb.encoders.precision import has_bfloat16, to_bfloat16
from genekb.errors import EncoderFailed, NotAvailable

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer


_BATCH_SIZES = {"cpu": 8, "cuda": 64}


@dataclass(frozen=True, kw_only=True, slots=True)
class Compute:
    """How to run a model; nothing of it but `dtype` may change a recipe.

    Parameters
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    dtype
        ``auto`` takes bfloat16 where the hardware has instructions for it.
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

    @property
    def backend_tokenizer(self) -> "Tokenizer": ...


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
        self._reader = TokenReader(tokenizer.backend_tokenizer, spec=spec, pad_id=tokenizer.pad_token_id or 0)
        self._threads = threads

    def encode(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> EncodedTexts:
        """Encode texts as `Encoder.encode` says; long ones are cut on the end of a sentence."""
        size = _BATCH_SIZES[self._device.type]
        with _torch_threads(self._threads):
            return encode_in_batches(texts, reader=self._reader, forward=self._forward, size=size, progress=progress)

    def save(self, folder: Path) -> None:
        """Write nothing: a transformer has no state of its own, and its weights stay where they are."""

    @property
    def _device(self) -> "torch.device":
        return next(self._model.parameters()).device

    def _forward(
        self, ids: Int64[np.ndarray, "text token"], mask: Int64[np.ndarray, "text token"]
    ) -> Float32[np.ndarray, "text dim"]:
        """Pooled vectors of one batch, not yet of unit length."""
        import torch

        here, shown = torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device)
        with torch.inference_mode():
            hidden = self._model(input_ids=here, attention_mask=shown).last_hidden_state.float()  # (text, token, dim)
            pooled = pool(hidden, shown, pooling=self.spec.pooling)
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
    model, tokenizer = open_model(folder, name=recipe.name)
    model = model.to(device)
    dtype: ComputeDtype = "bfloat16" if has_bfloat16(device) else "float32"
    if compute.dtype != "auto":
        dtype = compute.dtype
    encoder = TransformerEncoder(
        spec=replace(recipe, dtype=dtype),
        model=to_bfloat16(model) if dtype == "bfloat16" else model,
        tokenizer=tokenizer,
        threads=compute.threads,
    )
    encoder.encode([PROBE])
    return encoder


def open_model(folder: ModelFolder, *, name: str) -> "tuple[torch.nn.Module, _Tokenizer]":
    """Model in float32 and evaluation mode, and its tokenizer; no network, no code from the model's folder.

    Raises
    ------
    EncoderFailed
        If transformers cannot load the model, or weights are missing in it.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    from genekb.encoders.restricted_pickle import UnpicklingError

    with _quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
            model, report = AutoModel.from_pretrained(
                folder.path,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,  # of pytorch_model.bin, which is a pickle, tensors and nothing else
                dtype=torch.float32,
                output_loading_info=True,
            )
        except UnpicklingError as error:
            raise EncoderFailed(
                f"encoder {name!r} cannot be loaded by transformers: its weights are a pickle that holds more than "
                "tensors, or a damaged one; take a version of the model with model.safetensors"
            ) from error
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, EOFError, SafetensorError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise EncoderFailed(f"encoder {name!r} cannot be loaded by transformers: {reason}") from error
    # Poolers of BERT's kind are not used; anything else that is missing would be random numbers.
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise EncoderFailed(f"encoder {name!r} lacks {len(missing)} of its weights, the first is {missing[0]}")
    return model.eval(), tokenizer


def pool(hidden: "torch.Tensor", mask: "torch.Tensor", *, pooling: str) -> "torch.Tensor":
    """Pool token vectors (text, token, dim) under a mask (text, token), padded on the right."""
    import torch

    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), mask.sum(dim=1) - 1]
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
