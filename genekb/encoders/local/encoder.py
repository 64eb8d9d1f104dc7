"""Transformers that run on this machine: plain AutoModel, pooling and unit length, on CPU or GPU."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from jaxtyping import Float32, Int64

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.encoders.base import ComputeDtype, EncodedTexts, EncoderSpec
from genekb.encoders.local.batches import PROBE, TokenReader, encode_in_batches
from genekb.encoders.local.files import ModelFolder
from genekb.encoders.local.remote_code import CODE_FAULTS, OwnCode, first_line

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
    """A transformer with its tokenizer, in evaluation mode on its device.

    ``threads``: CPU threads while encoding; None leaves PyTorch's setting. Raises ``EncoderFailed`` if the tokenizer
    has no offsets, or prompt and special tokens alone fill `spec.max_tokens`.
    """

    def __init__(
        self, *, spec: EncoderSpec, model: "torch.nn.Module", tokenizer: _Tokenizer, threads: int | None
    ) -> None:
        if not tokenizer.is_fast:
            raise EncoderFailed(
                f"encoder {spec.name!r} has a slow tokenizer, which has no offsets; give tokenizer.json"
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
            output = self._model(input_ids=here, attention_mask=shown)
            hidden = _token_vectors(output, (*ids.shape, self.spec.dim), name=self.spec.name)
            pooled = pool(hidden.float(), shown, pooling=self.spec.pooling)
        return np.asarray(pooled.cpu().numpy(), dtype=np.float32)


def _token_vectors(output: object, shape: tuple[int, int, int], *, name: str) -> "torch.Tensor":
    """Last hidden state (text, token, dim) of a model's output, which code of its own may make as it likes."""
    hidden: torch.Tensor | None = getattr(output, "last_hidden_state", None)
    found = "none" if hidden is None else tuple(getattr(hidden, "shape", ()))
    if hidden is None or found != shape:
        raise EncoderFailed(
            f"encoder {name!r} gives {type(output).__name__} with a last_hidden_state of shape {found}, "
            f"{shape} (text, token, dim) is needed; is it a text encoder?"
        )
    return hidden


def load_transformer(
    folder: ModelFolder, *, recipe: EncoderSpec, compute: Compute, code: OwnCode | None = None
) -> TransformerEncoder:
    """Load a model and try it on one text.

    ``recipe``: its dtype is replaced by the one chosen. ``code``: code of the model that may be run; its digest becomes
    part of the recipe. Raises ``EncoderFailed`` if transformers cannot load the model, weights are missing, or vectors
    are not as declared; ``NotAvailable`` if the device is missing.
    """
    device = _device(compute.device)
    model, tokenizer = open_model(folder, name=recipe.name, code=code)
    model = model.to(device)
    # Code that others wrote may mix its own float32 values with the weights.
    dtype: ComputeDtype = "bfloat16" if code is None and has_bfloat16(device) else "float32"
    if compute.dtype != "auto":
        dtype = compute.dtype
    encoder = TransformerEncoder(
        spec=replace(recipe, dtype=dtype, code_sha256=code.sha256 if code else ""),
        model=to_bfloat16(model) if dtype == "bfloat16" else model,
        tokenizer=tokenizer,
        threads=compute.threads,
    )
    try:
        encoder.encode([PROBE])
    except CODE_FAULTS as error:
        if code is None:
            raise
        raise EncoderFailed(f"the own code of encoder {recipe.name!r} fails on a text: {first_line(error)}") from error
    return encoder


def open_model(folder: ModelFolder, *, name: str, code: OwnCode | None = None) -> "tuple[torch.nn.Module, _Tokenizer]":
    """Model in float32 and evaluation mode, and its tokenizer; no network, and no code of the model but `code`.

    Raises ``EncoderFailed`` if transformers cannot load the model, or weights are missing in it.
    """
    from safetensors import SafetensorError

    from genekb.encoders.imported.safe_pickle import UnpicklingError

    with _quiet_transformers():
        try:
            tokenizer, loaded = _load_parts(folder.path, code)
        except UnpicklingError as error:
            raise EncoderFailed(
                f"encoder {name!r} cannot be loaded by transformers: its weights are a pickle that holds more than "
                "tensors, or a damaged one; take a version of the model with model.safetensors"
            ) from error
        except (*CODE_FAULTS, SafetensorError) as error:
            reason = first_line(error) if code else str(error).strip().partition("\n")[0].rstrip(" .")
            by = "with its own code" if code else "by transformers"
            raise EncoderFailed(f"encoder {name!r} cannot be loaded {by}: {reason}") from error
    if not isinstance(loaded, tuple):
        raise EncoderFailed(
            f"the own code of encoder {name!r} does not report which weights are missing (output_loading_info), which "
            "could then be random numbers; it is not supported"
        )
    model, report = loaded
    # Poolers of BERT's kind are not used; anything else that is missing would be random numbers.
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise EncoderFailed(f"encoder {name!r} lacks {len(missing)} of its weights, the first is {missing[0]}")
    return model.eval(), tokenizer


def _load_parts(path: Path, code: OwnCode | None) -> tuple[Any, Any]:
    """Tokenizer, and model with a report on its weights; of classes of transformers, or those of the model's code.

    Transformers itself is never let run code: it would run what it finds, which need not be what was hashed.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    own: dict[str, Any] = {part: code.open_class(part) for part in code.classes} if code else {}
    tokenizer_class, model_class = own.get("AutoTokenizer", AutoTokenizer), own.get("AutoModel", AutoModel)
    tokenizer = tokenizer_class.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    settings = {}
    if "AutoConfig" in own:
        settings["config"] = own["AutoConfig"].from_pretrained(path, local_files_only=True, trust_remote_code=False)
    loaded = model_class.from_pretrained(
        path,
        **settings,
        local_files_only=True,
        trust_remote_code=False,
        weights_only=True,  # of pytorch_model.bin, which is a pickle, tensors and nothing else
        dtype=torch.float32,
        output_loading_info=True,
    )
    if "AutoModel" in own and isinstance(loaded, tuple):
        _set_buffers(loaded[0])
    return tokenizer, loaded


def _set_buffers(model: Any) -> None:
    """Set the buffers that no file holds to what the model's code computes for them.

    transformers 5 makes a model without memory and then fills in the weights. What a model computed when it was made,
    such as ALiBi's slopes, is lost by that unless its code knows, and is then whatever the memory held before.
    """
    fresh = type(model)(model.config)
    kept = set(fresh.state_dict())
    values = {name: buffer for name, buffer in fresh.named_buffers() if name not in kept}
    for name, buffer in model.named_buffers():
        if name in values:
            buffer.copy_(values[name])


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


def has_bfloat16(device: "torch.device") -> bool:
    """Whether the hardware has instructions for bfloat16; False if PyTorch does not report it.

    With them an encoder was measured at two to three times the speed of float32 at cosine 0.9999, without them below
    it (``benchmarks/bench_encode.py``).
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private, so it may go
    return bool(has_bf16()) if has_bf16 else False


def to_bfloat16(model: "torch.nn.Module") -> "torch.nn.Module":
    """Convert the parameters in place and return the model; buffers, such as rotary frequencies, stay precise."""
    import torch

    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    return model
