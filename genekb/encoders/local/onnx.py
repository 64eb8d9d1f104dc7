"""Transformers in ONNX Runtime: exported once with PyTorch, then run with neither PyTorch nor transformers loaded.

sentence-transformers' own backend ``onnx`` wants optimum-onnx, which holds transformers below version 5.
"""

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
from jaxtyping import Float32

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.encoders.base import EncodedTexts, EncoderSpec
from genekb.encoders.kinds import Pooling
from genekb.encoders.local.cutting import PROBE, SentenceCutter, encode_in_batches
from genekb.encoders.local.files import ModelFacts, ModelFolder, smallest_limit
from genekb.files.atomic import atomic_file, write_json
from genekb.files.limits import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from genekb.encoders.local.encoder import OpenedModel

log = logging.getLogger(__name__)

OPSET: Final = 20
_FORMAT: Final = 2  # of the graph's inputs and output and of its note; another one is exported again
MOST_BYTES: Final = 2_000_000_000  # protobuf holds 2 GiB; weights in files beside the graph are not supported
MIN_AGREEMENT: Final = 0.9999  # cosine of a graph's vectors with those of PyTorch's model
_LIBRARIES: Final = ("torch", "transformers", "sentence-transformers", "onnx", "onnxscript")
_TALKATIVE: Final = ("torch.onnx", "onnxscript", "onnx_ir")  # loggers
_BATCH_SIZE: Final = 8
_COMPARED: Final = (PROBE, "INS: insulin.", "Hormone of beta cells that lowers blood glucose. " * 4, f"{PROBE} " * 30)


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphKey:
    """What decides a graph: digests of the files that it is made from, and the pooling where these declare none."""

    weights_sha256: str
    config_sha256: str
    modules_sha256: str
    pooling: Pooling
    opset: int = OPSET
    format: int = _FORMAT

    @property
    def name(self) -> str:
        """Stem of the graph's files."""
        parts = (self.weights_sha256[:16], self.config_sha256[:16], self.modules_sha256[:16], self.pooling)
        return "-".join(filter(None, parts))


def key_of(folder: ModelFolder, pooling: Pooling) -> GraphKey:
    """Key of a folder's graph; ``pooling`` counts where the folder declares none."""
    return GraphKey(
        weights_sha256=folder.weights_sha256,
        config_sha256=folder.config_sha256,
        modules_sha256=folder.modules_sha256,
        pooling=pooling if folder.is_bare else "none",
    )


class OnnxEncoder:
    """A graph with its tokenizer.

    ``threads``: CPU threads; None takes all cores. Raises ``NotAvailable`` if onnxruntime is not installed;
    ``EncoderFailed`` if it cannot load the graph, or prompt and special tokens alone fill `spec.max_tokens`.
    """

    def __init__(
        self, *, spec: EncoderSpec, graph: bytes, tokenizer: "Tokenizer", pad_id: int, threads: int | None
    ) -> None:
        self.spec = spec
        self._cutter = SentenceCutter(tokenizer, spec=spec)
        self._tokenizer, self._pad_id = tokenizer, pad_id
        self._session = _session(graph, name=spec.name, threads=threads)

    def encode(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> EncodedTexts:
        """Encode texts as ``Encoder.encode`` says; long ones are cut on the end of a sentence."""
        return encode_in_batches(texts, cutter=self._cutter, forward=self._forward, size=_BATCH_SIZE, progress=progress)

    def save(self, folder: Path) -> None:
        """Write nothing: the graph can be exported again from the model, which stays where it is."""

    def _forward(self, texts: list[str]) -> Float32[np.ndarray, "text dim"]:
        if self.spec.max_tokens:
            self._tokenizer.enable_truncation(self.spec.max_tokens)
        self._tokenizer.enable_padding(pad_id=self._pad_id, pad_to_multiple_of=self._cutter.pad_to)
        found = self._tokenizer.encode_batch([self.spec.prompt + text for text in texts])
        ids = np.array([encoding.ids for encoding in found], dtype=np.int64)  # (text, token)
        mask = np.array([encoding.attention_mask for encoding in found], dtype=np.int64)
        vectors = self._session.run(["vectors"], {"input_ids": ids, "attention_mask": mask})[0]
        return vectors[:, : self.spec.dim]


def read_facts(folder: ModelFolder, *, pooling: Pooling, name: str, cache: Path) -> ModelFacts:
    """Read what the modules of a model say from the note beside its graph, else from the loaded model."""
    noted = _read_note(key_of(folder, pooling), cache).get("facts")
    if isinstance(noted, dict) and noted.keys() == ModelFacts.__dataclass_fields__.keys():
        facts = ModelFacts(**noted)
        return replace(facts, max_tokens=smallest_limit(facts.max_tokens, folder.max_tokens))
    return _open(folder, name=name, pooling=pooling, threads=None).facts


def load_onnx(folder: ModelFolder, *, recipe: EncoderSpec, threads: int | None, cache: Path) -> OnnxEncoder:
    """Load a model's graph, exported first where the cache lacks it, and try it on one text.

    ``recipe``: of kind ``onnx``, in float32. ``threads``: None takes all cores. ``cache``: folder of graphs, one for
    each set of weights, configuration and pooling. Raises ``NotAvailable`` if tokenizer.json or a library is missing;
    ``EncoderFailed`` if the model cannot be exported, or the graph's vectors are not those of the model.
    """
    if recipe.kind != "onnx" or recipe.dtype != "float32":
        raise ValueError(f"recipe {recipe.name!r} must be onnx in float32, got {recipe.kind} in {recipe.dtype}")
    key = key_of(folder, recipe.pooling)
    _open_tokenizer(folder, name=recipe.name)  # report what is missing before the export
    graph = read_graph(key, cache)
    if graph is None:
        graph = _export(folder, recipe=recipe, threads=threads, key=key, cache=cache)
    encoder = _assemble(graph, folder, recipe=recipe, threads=threads)
    encoder.encode([PROBE])
    return encoder


def read_graph(key: GraphKey, cache: Path) -> bytes | None:
    """Read a kept graph; None where there is none, or where it is damaged, which is logged."""
    path = cache / f"{key.name}.onnx"
    if not path.is_file():
        return None
    graph = path.read_bytes()
    if _read_note(key, cache).get("onnx_sha256") != hashlib.sha256(graph).hexdigest():
        log.warning("%s is damaged, half written, or of another version; it is exported again", path)
        return None
    return graph


def _read_note(key: GraphKey, cache: Path) -> dict[str, Any]:
    """Note beside a graph; empty where there is none, or one of another key."""
    try:
        noted = json.loads((cache / f"{key.name}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    fits = isinstance(noted, dict) and all(noted.get(name) == value for name, value in asdict(key).items())
    return noted if fits else {}


def _export(folder: ModelFolder, *, recipe: EncoderSpec, threads: int | None, key: GraphKey, cache: Path) -> bytes:
    """Export the graph, or wait for another process that does so; keep it only if it agrees with the model."""
    from filelock import FileLock

    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{key.name}.lock"):
        if (kept := read_graph(key, cache)) is not None:
            return kept
        log.info("exporting %s to ONNX, once for this machine", recipe.name)
        onnx = _import_onnx(recipe.name)
        opened = _open(folder, name=recipe.name, pooling=recipe.pooling, threads=threads)
        graph, expected = _export_model(opened, recipe=recipe, threads=threads, onnx=onnx)
        ours = _assemble(graph, folder, recipe=recipe, threads=threads).encode(_COMPARED).vectors
        agreement = float((ours * expected).sum(axis=1).min())
        if not agreement >= MIN_AGREEMENT:
            raise EncoderFailed(
                f"the ONNX graph of {recipe.name!r} agrees with the model at cosine {agreement:.5f}, "
                f"{MIN_AGREEMENT} is needed; use it without onnx:"
            )
        with atomic_file(cache / f"{key.name}.onnx") as part:
            part.write_bytes(graph)
        note = {
            **asdict(key),
            "facts": asdict(opened.facts),
            "onnx_sha256": hashlib.sha256(graph).hexdigest(),
            "versions": {library: version(library) for library in _LIBRARIES},
        }
        write_json(note, cache / f"{key.name}.json")  # comes last: a graph without its note is half written
    return graph


def _open(folder: ModelFolder, *, name: str, pooling: Pooling, threads: int | None) -> "OpenedModel":
    from genekb.encoders.local.encoder import Compute, open_transformer

    compute = Compute(device="cpu", dtype="float32", threads=threads)
    return open_transformer(folder, name=name, pooling=pooling, compute=compute)


def _export_model(
    opened: "OpenedModel", *, recipe: EncoderSpec, threads: int | None, onnx: Any
) -> tuple[bytes, Float32[np.ndarray, "text dim"]]:
    """Graph of a model with all its modules, in float32 and in one piece, and the vectors that the model gives.

    Raises ``EncoderFailed`` if it cannot be exported, or is too large for one piece.
    """
    from genekb.encoders.local.encoder import TransformerEncoder

    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in opened.model.parameters())
    if n_bytes > MOST_BYTES:
        raise EncoderFailed(
            f"encoder {recipe.name!r} has {n_bytes / 1e9:.1f} GB of weights in float32, "
            f"an ONNX graph holds {MOST_BYTES / 1e9:g} GB; use it without onnx:"
        )
    # Attention written out leaves the fused forms to ONNX Runtime, and no guard against NaN that could hide one.
    opened.model.transformers_model.set_attn_implementation("eager")
    reference = TransformerEncoder(spec=replace(recipe, kind="transformer"), model=opened.model, threads=threads)
    expected = reference.encode(_COMPARED).vectors
    program = _program(opened.model, name=recipe.name)
    try:
        onnx.checker.check_model(program, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EncoderFailed(f"the ONNX graph of {recipe.name!r} is not valid: {_first_line(error)}") from error
    return program.SerializeToString(deterministic=True), expected


def _program(model: Any, *, name: str) -> Any:
    """ONNX model of any number of texts and tokens: ``input_ids`` and ``attention_mask`` to ``vectors``."""
    import torch

    class Vectors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            vectors: torch.Tensor = self.model(features)["sentence_embedding"]
            return vectors

    ids = torch.ones((2, 16), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with _quiet_export():
        try:
            program = torch.onnx.export(
                Vectors().eval(),
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
                f"PyTorch cannot export {name!r} to ONNX ({_first_line(error)}); use it without onnx:"
            ) from error
    if program is None:  # pragma: no cover - only without dynamo
        raise EncoderFailed(f"PyTorch gave no ONNX graph of {name!r}; use it without onnx:")
    return program.model_proto


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
