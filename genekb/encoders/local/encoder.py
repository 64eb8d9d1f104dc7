"""Models that sentence-transformers runs on this machine, on CPU or GPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.encoders.base import ComputeDtype, EncoderSpec, TextEncoder, VectorsAndTokens
from genekb.encoders.kinds import Pooling
from genekb.encoders.local.cutting import SentenceCutter
from genekb.encoders.local.files import ModelFolder, smallest_limit
from genekb.encoders.local.remote_code import CODE_FAULTS, OwnCode, first_line
from genekb.schema import FloatArray

if TYPE_CHECKING:
    import torch

_PROBE: Final = "A2M: alpha-2-macroglobulin. The protein inhibits many proteases by a bait and trap mechanism."
_BATCH_SIZES: Final = {"cpu": 8, "cuda": 64}


@dataclass(frozen=True, kw_only=True, slots=True)
class Compute:
    """How to run a model; nothing of it but `dtype` may change a recipe. ``ValueError`` for other values."""

    device: str = "auto"  # ``auto``, ``cpu``, ``cuda`` or ``cuda:N``
    dtype: Literal["auto"] | ComputeDtype = "auto"  # ``auto``: bfloat16 where the hardware has instructions for it
    threads: int | None = None  # CPU threads while encoding; None leaves PyTorch's setting

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda") and not self.device.removeprefix("cuda:").isdecimal():
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {self.device!r}")
        if self.dtype not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"dtype must be auto, float32 or bfloat16, got {self.dtype!r}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be >= 1, got {self.threads}")


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedModel:
    """A model, and what its modules say about its recipe."""

    model: Any  # a SentenceTransformer
    pooling: Pooling
    prompt: str  # declared for documents
    max_tokens: int
    dim: int
    dtype: ComputeDtype
    modules_sha256: str  # of the folder; empty where there is one pooling alone, which ``pooling`` names
    code_sha256: str  # of code of its own that was run


class TransformerEncoder(TextEncoder):
    """A model of sentence-transformers, in evaluation mode on its device; long texts are cut on a sentence's end.

    Raises ``EncoderFailed`` if the tokenizer has no offsets, or prompt and special tokens alone fill `spec.max_tokens`.
    """

    def __init__(self, *, spec: EncoderSpec, model: Any, threads: int | None) -> None:
        if not model.tokenizer.is_fast:
            raise EncoderFailed(
                f"encoder {spec.name!r} has a slow tokenizer, which has no offsets; give tokenizer.json"
            )
        if spec.max_tokens:
            model.max_seq_length = spec.max_tokens  # guards against tokens that merge otherwise behind a prompt
        model.tokenizer.model_input_names = ["input_ids", "attention_mask"]  # a text has no second part
        self.spec = spec
        self._model = model
        self._cutter = SentenceCutter(model.tokenizer.backend_tokenizer, spec=spec)
        self._threads = threads

    def _encode(self, texts: Sequence[str], progress: Callable[[int], None]) -> VectorsAndTokens:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

        cuts = self._cutter.cut(texts)
        kept = [cut.text for cut in cuts]
        vectors = np.empty((len(texts), self.spec.dim), dtype=np.float32)
        with threadpool_limits(self._threads):
            for rows in self._cutter.batches(kept, size=_BATCH_SIZES[self._model.device.type]):
                vectors[rows] = self._forward([kept[row] for row in rows])
                progress(len(rows))
        return vectors, [cut.n_tokens for cut in cuts], [cut.n_tokens_cut for cut in cuts]

    def _forward(self, texts: list[str]) -> FloatArray:
        vectors: FloatArray = self._model.encode(
            texts,
            prompt=self.spec.prompt,
            batch_size=len(texts),
            show_progress_bar=False,
            truncate_dim=self.spec.dim,
            processing_kwargs={"text": {"pad_to_multiple_of": self._cutter.pad_to}},
        )
        if vectors.shape[1] != self.spec.dim:
            raise EncoderFailed(
                f"encoder {self.spec.name!r} gives vectors of {vectors.shape[1]} dims, {self.spec.dim} are expected"
            )
        return vectors


def open_transformer(
    folder: ModelFolder, *, name: str, pooling: Pooling, compute: Compute, code: OwnCode | None = None
) -> OpenedModel:
    """Open a model, without network, and without any code of its own but `code`.

    ``pooling``: for a folder that declares none. Raises ``EncoderFailed`` if sentence-transformers cannot open the
    model, or weights are missing; ``NotAvailable`` if the device, or a library, is missing.
    """
    from safetensors import SafetensorError

    from genekb.encoders.imported.safe_pickle import UnpicklingError
    from genekb.encoders.local.engine import is_plain, open_model, pooling_of

    device = _device(compute.device)
    # Code that others wrote may mix its own float32 values with the weights.
    dtype: ComputeDtype = "float32" if code or not has_bfloat16(device) else "bfloat16"
    if compute.dtype != "auto":
        dtype = compute.dtype
    try:
        model = open_model(
            code.view(folder) if code else folder, pooling=pooling, dtype=dtype, device=str(device),
            trust_remote_code=code is not None,
        )  # fmt: skip
    except UnpicklingError as error:
        raise EncoderFailed(
            f"encoder {name!r} cannot be loaded by sentence-transformers: its weights are a pickle that holds more "
            "than tensors, or a damaged one; take a version of the model with model.safetensors"
        ) from error
    except EncoderFailed as error:
        raise EncoderFailed(f"encoder {name!r} {error}") from error
    except (*CODE_FAULTS, SafetensorError) as error:
        reason = first_line(error) if code else str(error).strip().partition("\n")[0].rstrip(" .")
        by = "with its own code" if code else "by sentence-transformers"
        raise EncoderFailed(f"encoder {name!r} cannot be loaded {by}: {reason}") from error
    return OpenedModel(
        model=model,
        pooling=pooling_of(model),
        prompt=model.prompts.get("document") or model.prompts.get(model.default_prompt_name) or "",
        max_tokens=smallest_limit(model.max_seq_length, folder.max_tokens),
        dim=model.get_embedding_dimension(),
        dtype=dtype,
        modules_sha256="" if is_plain(model) else folder.modules_sha256,
        code_sha256=code.sha256 if code else "",
    )


def start_transformer(opened: OpenedModel, *, spec: EncoderSpec, threads: int | None) -> TransformerEncoder:
    """Make an encoder of an opened model, and try it on one text."""
    encoder = TransformerEncoder(spec=spec, model=opened.model, threads=threads)
    try:
        encoder.encode([_PROBE])
    except CODE_FAULTS as error:
        if not opened.code_sha256:
            raise
        raise EncoderFailed(f"the own code of encoder {spec.name!r} fails on a text: {first_line(error)}") from error
    return encoder


def _device(name: str) -> "torch.device":
    """Device by name; ``auto`` is the GPU if there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NotAvailable(f'device {name!r} is not there ({torch.cuda.device_count()} GPUs found); use device="cpu"')
    return device


def has_bfloat16(device: "torch.device") -> bool:
    """Whether the hardware has instructions for bfloat16; False if PyTorch does not report it.

    With them an encoder was measured at two to three times the speed of float32 at cosine 0.9999, without them below
    it (``benchmarks/speed/encode.py``).
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private, so it may go
    return bool(has_bf16()) if has_bf16 else False
