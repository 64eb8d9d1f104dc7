"""A transformer in ONNX Runtime, in PyTorch's place inside sentence-transformers; exported once on a machine.

sentence-transformers' own backend ``onnx`` wants optimum-onnx, which holds transformers below version 5.
"""

import hashlib
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers.modeling_outputs import BaseModelOutput

from genekb.core.errors import EncoderFailed
from genekb.core.plugins import require
from genekb.encoders.local.files import ModelFolder
from genekb.files.atomic import atomic_file

log = logging.getLogger(__name__)

OPSET: Final = 20
_FORMAT: Final = 3  # of the graph's inputs and output; another one is exported again
MOST_BYTES: Final = 2_000_000_000  # protobuf holds 2 GiB; weights in files beside the graph are not supported
MIN_AGREEMENT: Final = 0.9999  # cosine of a graph's token vectors with those of PyTorch's model
_SHIPPED: Final = "onnx/model.onnx"  # where sentence-transformers keeps the graph of a model
_NEEDED_BY: Final = "a model in ONNX needs"
_WITHOUT: Final = "use it without onnx:"
_HIDDEN: Final = "last_hidden_state"


class GraphModel(torch.nn.Module):
    """A graph from token ids and mask to the last hidden state, which stands in for a model of transformers."""

    def __init__(self, graph: bytes, *, config: Any, threads: int | None) -> None:
        super().__init__()
        self.config = config
        self._session = _session(graph, threads=threads)
        self._inputs = {each.name for each in self._session.get_inputs()}
        outputs = {each.name for each in self._session.get_outputs()}
        if self._inputs - {"token_type_ids"} != {"input_ids", "attention_mask"} or _HIDDEN not in outputs:
            raise EncoderFailed(
                f"has an ONNX graph from {', '.join(sorted(self._inputs))} to {', '.join(sorted(outputs))}; input_ids "
                f"and attention_mask to {_HIDDEN} are needed; {_WITHOUT}"
            )

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_settings: Any) -> BaseModelOutput:
        """Token vectors of a batch of texts, (text, token, dim)."""
        given = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        if "token_type_ids" in self._inputs:  # of graphs that a model brings; a text has no second part
            given["token_type_ids"] = torch.zeros_like(input_ids).numpy()
        return BaseModelOutput(last_hidden_state=torch.from_numpy(self._session.run([_HIDDEN], given)[0]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Graphs:
    """Folder of graphs, one for each set of weights and configuration.

    Raises ``NotAvailable`` if a library is missing; ``EncoderFailed``, with the rest of a sentence, if a model cannot
    be exported, or its graph's vectors are not those of the model.
    """

    cache: Path
    folder: ModelFolder
    threads: int | None  # of ONNX Runtime; None takes all cores

    @property
    def stem(self) -> str:
        """Beginning of the name of the model's graph; the digest of its bytes follows."""
        return f"{self.folder.weights_sha256[:16]}-{self.folder.config_sha256[:16]}-{OPSET}-{_FORMAT}"

    def open(self, config: Any, *, load: Callable[[], Any]) -> GraphModel:
        """Open the kept graph of a model, exported first where there is none; ``load`` gives PyTorch's model."""
        from filelock import FileLock

        graph = self.read()
        if graph is None:
            self.cache.mkdir(parents=True, exist_ok=True)
            with FileLock(self.cache / f"{self.stem}.lock"):
                graph = self.read() or self._make(load())
        return GraphModel(graph, config=config, threads=self.threads)

    def read(self) -> bytes | None:
        """Read the kept graph; None where there is none, or where it is damaged, which is logged."""
        for path in self.cache.glob(f"{self.stem}-*.onnx"):
            graph = path.read_bytes()
            if path == self._path(graph):
                return graph
            log.warning("%s is damaged; it is exported again", path)
            path.unlink(missing_ok=True)
        return None

    def _path(self, graph: bytes) -> Path:
        return self.cache / f"{self.stem}-{hashlib.sha256(graph).hexdigest()[:16]}.onnx"

    def _make(self, model: Any) -> bytes:
        """Take the graph that a model brings, or export it; keep it only if it agrees with the model."""
        shipped = self.folder.path / _SHIPPED
        log.info("making the ONNX graph of %s, once for this machine", self.folder.path.name)
        graph = shipped.read_bytes() if shipped.is_file() else export_graph(model)
        made = GraphModel(graph, config=model.config, threads=self.threads)
        agreement = _agreement(model.eval(), made, longest=self.folder.max_tokens)
        if not agreement >= MIN_AGREEMENT:
            raise EncoderFailed(
                f"has an ONNX graph that agrees with the model at cosine {agreement:.5f}, {MIN_AGREEMENT} is needed; "
                f"{_WITHOUT}"
            )
        with atomic_file(self._path(graph)) as part:
            part.write_bytes(graph)
        return graph


def export_graph(model: Any) -> bytes:
    """Graph of a model of transformers, for any number of texts and tokens, in one piece."""
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    if n_bytes > MOST_BYTES:
        raise EncoderFailed(
            f"has {n_bytes / 1e9:.1f} GB of weights in float32, an ONNX graph holds {MOST_BYTES / 1e9:g} GB; {_WITHOUT}"
        )
    require("onnxscript", needed_by=_NEEDED_BY)  # by PyTorch's exporter
    # Attention written out leaves the fused forms to ONNX Runtime, and no guard against NaN that could hide one.
    model.set_attn_implementation("eager")
    ids = torch.ones((2, 16), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec", category=FutureWarning)
        try:
            program = torch.onnx.export(
                _Hidden(model).eval(), (ids, mask), input_names=["input_ids", "attention_mask"], output_names=[_HIDDEN],
                dynamic_shapes={"input_ids": axes, "attention_mask": axes}, opset_version=OPSET, dynamo=True,
                verbose=False,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            raise EncoderFailed(f"cannot be exported to ONNX by PyTorch ({_first_line(error)}); {_WITHOUT}") from error
    graph: bytes = program.model_proto.SerializeToString(deterministic=True)  # type: ignore[union-attr]
    return graph


class _Hidden(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden


@torch.inference_mode()
def _agreement(model: Any, graph: GraphModel, *, longest: int) -> float:
    """Lowest cosine between two models' vectors of random tokens, of texts of several lengths."""
    random, lowest = torch.Generator().manual_seed(0), 1.0
    for n_tokens in (8, min(longest or 512, 512)):
        ids = torch.randint(model.config.vocab_size, (2, n_tokens), generator=random)
        mask = torch.ones_like(ids)
        mask[1, n_tokens // 2 :] = 0
        ours, theirs = (each(input_ids=ids, attention_mask=mask).last_hidden_state[mask > 0] for each in (graph, model))
        if ours.shape != theirs.shape:
            return 0.0
        lowest = min(lowest, float(torch.nn.functional.cosine_similarity(ours, theirs).min()))
    return lowest


def _session(graph: bytes, *, threads: int | None) -> Any:
    """Session of ONNX Runtime on the CPU."""
    require("onnxruntime", needed_by=_NEEDED_BY)
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves idle cores to other programs
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except (errors.Fail, errors.InvalidGraph, errors.InvalidProtobuf, errors.NotImplemented) as error:
        raise EncoderFailed(f"has a graph that onnxruntime cannot load: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
