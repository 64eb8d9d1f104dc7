"""A transformer as one ONNX graph, token numbers to unit vectors, and the folder that keeps such graphs."""

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float32, Int64

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.encoders.base import EncodedTexts, EncoderSpec
from genekb.encoders.kinds import Pooling
from genekb.encoders.local.batches import PROBE, TokenReader, encode_in_batches
from genekb.encoders.local.encoder import TransformerEncoder, open_model, pool
from genekb.encoders.local.files import ModelFolder
from genekb.files.atomic import atomic_file, write_json
from genekb.files.limits import read_json

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

OPSET: Final = 20
_FORMAT: Final = 1  # of the graph's inputs and output; another one is exported again
MOST_BYTES: Final = 2_000_000_000  # protobuf holds 2 GiB; weights in files beside the graph are not supported
_TALKATIVE: Final = ("torch.onnx", "onnxscript", "onnx_ir")  # loggers
_LIBRARIES: Final = ("torch", "transformers", "onnx", "onnxscript")


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphKey:
    """What decides a graph."""

    weights_sha256: str  # weights_sha256, config_sha256: hex digests of the files that it is made from
    config_sha256: str
    pooling: Pooling  # how token vectors become one vector
    opset: int = OPSET
    format: int = _FORMAT

    @property
    def name(self) -> str:
        """Stem of the graph's files."""
        return f"{self.weights_sha256[:16]}-{self.config_sha256[:16]}-{self.pooling}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedGraph:
    """A graph, and what PyTorch's model gave for the texts that it is to be compared on."""

    graph: bytes  # serialised ONNX model: ``input_ids`` and ``attention_mask`` to ``vectors`` of unit length
    expected: Float32[np.ndarray, "text dim"]  # vectors of the texts


def read_graph(key: GraphKey, cache: Path) -> bytes | None:
    """Read a kept graph; None where there is none, or where it is damaged, which is logged."""
    path = cache / f"{key.name}.onnx"
    if not path.is_file():
        return None
    try:
        noted = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        noted = None
    graph = path.read_bytes()
    wanted = {**asdict(key), "onnx_sha256": hashlib.sha256(graph).hexdigest()}
    if not isinstance(noted, dict) or any(noted.get(name) != value for name, value in wanted.items()):
        log.warning("%s is damaged, half written, or of another version; it is exported again", path)
        return None
    return graph


def write_graph(graph: bytes, key: GraphKey, cache: Path) -> None:
    """Keep a graph; the note with its digest comes last, so that a graph without one is known to be half written."""
    path = cache / f"{key.name}.onnx"
    with atomic_file(path) as part:
        part.write_bytes(graph)
    digest = hashlib.sha256(graph).hexdigest()
    versions = {library: version(library) for library in _LIBRARIES}
    write_json({**asdict(key), "onnx_sha256": digest, "versions": versions}, path.with_suffix(".json"))


def export_graph(
    folder: "ModelFolder", *, recipe: EncoderSpec, texts: Sequence[str], threads: int | None
) -> ExportedGraph:
    """Export a model with pooling and scaling to unit length, in float32 and in one piece.

    ``texts``: encoded by PyTorch's model for comparison. Raises ``NotAvailable`` if onnx or onnxscript is not
    installed; ``EncoderFailed`` if the model cannot be loaded or exported, or is too large for one piece.
    """
    onnx = _import_onnx(recipe.name)
    model, tokenizer = open_model(folder, name=recipe.name)
    _check_size(model, name=recipe.name)
    # Attention written out leaves the fused forms to ONNX Runtime, and no guard against NaN that could hide one.
    model.set_attn_implementation("eager")  # type: ignore[operator]  # a method of transformers' models
    reference = TransformerEncoder(
        spec=replace(recipe, kind="transformer"), model=model, tokenizer=tokenizer, threads=threads
    )
    expected = reference.encode(texts).vectors
    program = _program(model, recipe=recipe)
    try:
        onnx.checker.check_model(program, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EncoderFailed(f"the ONNX graph of {recipe.name!r} is not valid: {_first_line(error)}") from error
    return ExportedGraph(graph=program.SerializeToString(deterministic=True), expected=expected)


def _program(model: "torch.nn.Module", *, recipe: EncoderSpec) -> Any:
    """ONNX model of any number of texts and tokens."""
    import torch

    ids = torch.ones((2, 16), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with _quiet_export():
        try:
            program = torch.onnx.export(
                _pooled(model, pooling=recipe.pooling).eval(),
                (ids, mask),
                input_names=["input_ids", "attention_mask"],
                output_names=["vectors"],
                dynamic_shapes={"input_ids": axes, "attention_mask": axes},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise EncoderFailed(
                f"PyTorch cannot export {recipe.name!r} to ONNX ({_first_line(error)}); use it without onnx:"
            ) from error
    if program is None:  # pragma: no cover - only without dynamo
        raise EncoderFailed(f"PyTorch gave no ONNX graph of {recipe.name!r}; use it without onnx:")
    return program.model_proto


def _pooled(model: "torch.nn.Module", *, pooling: str) -> "torch.nn.Module":
    """Model, pooling and unit length as one module."""
    import torch

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
            return torch.nn.functional.normalize(pool(hidden, attention_mask, pooling=pooling), dim=1)

    return Pooled()


def _check_size(model: "torch.nn.Module", *, name: str) -> None:
    """Refuse a model whose weights do not fit into one file of protobuf."""
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    if n_bytes > MOST_BYTES:
        raise EncoderFailed(
            f"encoder {name!r} has {n_bytes / 1e9:.1f} GB of weights in float32, "
            f"an ONNX graph holds {MOST_BYTES / 1e9:g} GB; use it without onnx:"
        )


def _import_onnx(name: str) -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.shape_inference
        import onnxscript  # noqa: F401  # PyTorch's exporter needs it
    except ImportError as error:
        raise NotAvailable(
            f"encoder {name!r} needs onnx and onnxscript to be exported; pip install 'genekb-cellmodel[onnx]'"
        ) from error
    return onnx


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Keep what PyTorch says about operators of packages that are not installed, and about itself, off the terminal."""
    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec", category=FutureWarning)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


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
