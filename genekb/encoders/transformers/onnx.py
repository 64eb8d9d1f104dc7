"""Transformers in ONNX Runtime: exported once with PyTorch, then run with neither PyTorch nor transformers loaded."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float32, Int64

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.encoders.base import EncodedTexts, EncoderSpec
from genekb.encoders.transformers.batches import PROBE, TokenReader, encode_in_batches
from genekb.encoders.transformers.folder import ModelFolder
from genekb.encoders.transformers.onnx_export import GraphKey, export_graph, read_graph, write_graph
from genekb.files.limits import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

MIN_AGREEMENT: Final = 0.9999  # cosine of a graph's vectors with those of PyTorch's model
_BATCH_SIZE: Final = 8
_COMPARED: Final = (PROBE, "INS: insulin.", "Hormone of beta cells that lowers blood glucose. " * 4, f"{PROBE} " * 30)


class OnnxEncoder:
    """A graph with its tokenizer.

    ``threads``: CPU threads; None takes all cores. Raises ``NotAvailable`` if onnxruntime is not installed;
    ``EncoderFailed`` if it cannot load the graph, or prompt and special tokens alone fill `spec.max_tokens`.
    """

    def __init__(
        self, *, spec: EncoderSpec, graph: bytes, tokenizer: "Tokenizer", pad_id: int, threads: int | None
    ) -> None:
        self.spec = spec
        self._reader = TokenReader(tokenizer, spec=spec, pad_id=pad_id)
        self._session = _session(graph, name=spec.name, threads=threads)

    def encode(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> EncodedTexts:
        """Encode texts as ``Encoder.encode`` says; long ones are cut on the end of a sentence."""
        return encode_in_batches(texts, reader=self._reader, forward=self._forward, size=_BATCH_SIZE, progress=progress)

    def save(self, folder: Path) -> None:
        """Write nothing: the graph can be exported again from the model, which stays where it is."""

    def _forward(
        self, ids: Int64[np.ndarray, "text token"], mask: Int64[np.ndarray, "text token"]
    ) -> Float32[np.ndarray, "text dim"]:
        """Give unit vectors of one batch."""
        return self._session.run(["vectors"], {"input_ids": ids, "attention_mask": mask})[0]


def load_onnx(folder: ModelFolder, *, recipe: EncoderSpec, threads: int | None, cache: Path) -> OnnxEncoder:
    """Load a model's graph, exported first where the cache lacks it, and try it on one text.

    ``recipe``: of kind ``onnx``, in float32. ``threads``: None takes all cores. ``cache``: folder of graphs, one for
    each set of weights, configuration and pooling. Raises ``NotAvailable`` if tokenizer.json or a library is missing;
    ``EncoderFailed`` if the model cannot be exported, or the graph's vectors are not those of the model.
    """
    if recipe.kind != "onnx" or recipe.dtype != "float32":
        raise ValueError(f"recipe {recipe.name!r} must be onnx in float32, got {recipe.kind} in {recipe.dtype}")
    key = GraphKey(weights_sha256=folder.weights_sha256, config_sha256=folder.config_sha256, pooling=recipe.pooling)
    _open_tokenizer(folder, name=recipe.name)  # report what is missing before the export
    graph = read_graph(key, cache)
    if graph is None:
        graph = _export(folder, recipe=recipe, threads=threads, key=key, cache=cache)
    encoder = _assemble(graph, folder, recipe=recipe, threads=threads)
    encoder.encode([PROBE])
    return encoder


def _export(folder: ModelFolder, *, recipe: EncoderSpec, threads: int | None, key: GraphKey, cache: Path) -> bytes:
    """Export the graph, or wait for another process that does so; keep it only if it agrees with the model."""
    from filelock import FileLock

    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{key.name}.lock"):
        if (kept := read_graph(key, cache)) is not None:
            return kept
        log.info("exporting %s to ONNX, once for this machine", recipe.name)
        exported = export_graph(folder, recipe=recipe, texts=_COMPARED, threads=threads)
        ours = _assemble(exported.graph, folder, recipe=recipe, threads=threads).encode(_COMPARED).vectors
        agreement = float((ours * exported.expected).sum(axis=1).min())
        if not agreement >= MIN_AGREEMENT:
            raise EncoderFailed(
                f"the ONNX graph of {recipe.name!r} agrees with the model at cosine {agreement:.5f}, "
                f"{MIN_AGREEMENT} is needed; use it without onnx:"
            )
        write_graph(exported.graph, key, cache)
    return exported.graph


def _assemble(graph: bytes, folder: ModelFolder, *, recipe: EncoderSpec, threads: int | None) -> OnnxEncoder:
    tokenizer = _open_tokenizer(folder, name=recipe.name)
    return OnnxEncoder(spec=recipe, graph=graph, tokenizer=tokenizer, pad_id=_pad_id(folder), threads=threads)


def _open_tokenizer(folder: ModelFolder, *, name: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    file = folder.path / "tokenizer.json"
    if not file.is_file():
        raise NotAvailable(
            f"encoder {name!r} has no tokenizer.json, which ONNX needs; save its tokenizer with transformers' "
            "AutoTokenizer.save_pretrained, or use it without onnx:"
        )
    return Tokenizer.from_file(str(file))


def _pad_id(folder: ModelFolder) -> int:
    """Find the number of the padding token in config.json; any other would be masked as well."""
    config = read_json(folder.path / "config.json")
    stated = config.get("pad_token_id")
    return stated if isinstance(stated, int) and stated >= 0 else 0


def _session(graph: bytes, *, name: str, threads: int | None) -> Any:
    """Session of ONNX Runtime on the CPU."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as errors
    except ImportError as error:
        raise NotAvailable(
            f"encoder {name!r} needs onnxruntime, which is not installed; pip install 'genekb-cellmodel[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves idle cores to other programs
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except (errors.Fail, errors.InvalidGraph, errors.InvalidProtobuf, errors.NotImplemented) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise EncoderFailed(f"onnxruntime cannot load the graph of {name!r}: {reason}") from error
