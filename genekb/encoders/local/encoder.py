"""Models that sentence-transformers runs on this machine, and texts cut to what they read."""

import json
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.core.plugins import require
from genekb.core.resources import raise_resource_fault
from genekb.encoders.base import ComputeDtype, EncoderSpec, TextEncoder, VectorsAndTokens
from genekb.encoders.kinds import Pooling
from genekb.encoders.local.files import CODE_FAULTS, ModelFolder, OwnCode, first_line, smallest_limit, static_folder
from genekb.files.atomic import sha256_file
from genekb.schema import FloatArray

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

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


_PAD_TO: Final = 16

_ABBREVIATIONS = ("e.g", "i.e", "al", "vs", "cf", "ca", "approx", "fig", "no", "sp", "spp", "resp", "dr", "st")
_NOT_ABBREVIATED = "".join(rf"(?<!\b(?i:{re.escape(word)}))" for word in _ABBREVIATIONS)
# A stop, closing brackets or quotes, then blank space before a capital or digit: "S. cerevisiae" is no end.
_SENTENCE_END = re.compile(rf"{_NOT_ABBREVIATED}[.!?]+[\"')\]]*(?=\s+[\"'(\[]*[^\W_a-z])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A text as an encoder may read it."""

    text: str  # the text, or its beginning
    n_tokens: int  # tokens of the whole text
    n_tokens_cut: int  # how many of them lie behind the cut


def sentence_ends(text: str) -> list[int]:
    """Positions just behind each sentence of `text`, in characters; the last is the end without blank space."""
    return [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text.rstrip())]


def cut_to_tokens(text: str, *, token_ends: Sequence[int], limit: int) -> Cut:
    """Keep the whole sentences that fit into `limit` tokens, of a longer first sentence the whole words.

    ``token_ends``: position in characters behind each token, never falling. ``limit``: 0 keeps all.
    """
    if limit < 0:
        raise ValueError(f"limit must be >= 0 (0: none), got {limit}")
    n_tokens = len(token_ends)
    if limit == 0 or n_tokens <= limit:
        return Cut(text=text, n_tokens=n_tokens, n_tokens_cut=0)
    reach = _reach(token_ends, limit=limit)
    ends = sentence_ends(text)
    n_whole = bisect_right(ends, reach)
    end = ends[n_whole - 1] if n_whole else _word_end(text, reach=reach, first=token_ends[0])
    return Cut(text=text[:end], n_tokens=n_tokens, n_tokens_cut=n_tokens - bisect_right(token_ends, end))


def _reach(token_ends: Sequence[int], *, limit: int) -> int:
    """Furthest position behind which no more than `limit` tokens end; a character of several tokens stays whole."""
    if token_ends[limit] > token_ends[limit - 1]:
        return token_ends[limit - 1]
    n_before = bisect_left(token_ends, token_ends[limit])
    return token_ends[max(n_before - 1, 0)]


def _word_end(text: str, *, reach: int, first: int) -> int:
    """End of the last whole word of ``text[:reach]``, or `reach` itself if that would lose the first token."""
    if text[reach : reach + 1].isspace():
        return reach
    head = re.match(r".*\S(?=\s)", text[:reach], re.DOTALL)
    return head.end() if head and head.end() >= first else reach


class SentenceCutter:
    """Truncates texts to what a recipe allows, and orders them by length.

    Raises ``EncoderFailed`` if prompt and special tokens alone fill `spec.max_tokens`.
    """

    def __init__(self, tokenizer: "Tokenizer", *, spec: EncoderSpec) -> None:
        self.spec = spec
        # Padding goes up to a multiple of this, by the text's own length alone: what shares its batch leaves no trace.
        self.pad_to = math.gcd(_PAD_TO, spec.max_tokens)
        self._tokenizer = tokenizer
        self._budget = self._text_budget()

    def cut(self, texts: Sequence[str]) -> list[Cut]:
        """Truncate each text, on the end of a sentence, to the tokens that prompt and special tokens leave."""
        self._keep_whole()
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ends = ([end for _, end in encoding.offsets] for encoding in found)
        return [cut_to_tokens(text, token_ends=e, limit=self._budget) for text, e in zip(texts, ends, strict=True)]

    def batches(self, texts: Sequence[str], *, size: int) -> Iterator[list[int]]:
        """Rows of texts of equal padded length, the longest first, in an order that does not depend on the input's."""
        self._keep_whole()
        found = self._tokenizer.encode_batch_fast([self.spec.prompt + text for text in texts])
        lengths = [math.ceil(len(encoding.ids) / self.pad_to) for encoding in found]
        order = sorted(range(len(texts)), key=lambda row: (-lengths[row], texts[row]))
        for _, same_length in groupby(order, key=lengths.__getitem__):
            rows = list(same_length)
            yield from (rows[start : start + size] for start in range(0, len(rows), size))

    def _keep_whole(self) -> None:
        """Switch off the padding and truncation that a tokenizer has from its file, or from its last use."""
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def _text_budget(self) -> int:
        """Tokens left for the text when prompt and special tokens are in; 0 is no limit."""
        if not self.spec.max_tokens:
            return 0
        self._keep_whole()
        used = len(self._tokenizer.encode(self.spec.prompt).ids)
        if used >= self.spec.max_tokens:
            raise EncoderFailed(
                f"encoder {self.spec.name!r} reads {self.spec.max_tokens} tokens, its prompt alone takes {used}"
            )
        return self.spec.max_tokens - used


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
