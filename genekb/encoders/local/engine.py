"""SentenceTransformer as genekb opens one: from local files alone, whole, and precise behind the tokens.

Importing this loads sentence-transformers and PyTorch, which takes seconds; nothing does so before a model is opened.
"""

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float32
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding, Transformer
from transformers.utils import logging as noise

from genekb.core.errors import EncoderFailed
from genekb.encoders.kinds import Pooling as PoolingName
from genekb.encoders.local.files import ModelFolder

_MODES: Final[dict[str, PoolingName]] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_TALKATIVE: Final = ("transformers", "sentence_transformers")  # loggers
_TEXT_ALONE: Final = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}


class WholeTransformer(Transformer):  # type: ignore[misc]  # the library ships no types
    """A transformer all of whose weights come from its file: missing ones would be random numbers."""

    def _load_model(self, *args: Any, trust_remote_code: bool = False, **settings: Any) -> Any:
        settings |= {"output_loading_info": True, "trust_remote_code": trust_remote_code}
        loaded = super()._load_model(*args, **settings)
        if not isinstance(loaded, tuple):
            raise EncoderFailed(
                "does not report which weights are missing (output_loading_info), which could then be random numbers; "
                "it is not supported"
            )
        model, report = loaded
        # Poolers of BERT's kind are not used.
        missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
        if missing:
            raise EncoderFailed(f"lacks {len(missing)} of its weights, the first is {missing[0]}")
        if trust_remote_code:
            _set_buffers(model)
        return model


class LocalModel(SentenceTransformer):  # type: ignore[misc]  # the library ships no types
    """A model whose modules.json names modules, and nothing else that could be imported."""

    def _load_module_class_from_ref(self, class_ref: str, *args: Any, **settings: Any) -> Any:
        found = super()._load_module_class_from_ref(class_ref, *args, **settings)
        if not isinstance(found, type) or not issubclass(found, torch.nn.Module):
            raise EncoderFailed(f"has a module {class_ref!r}, which is none")
        return WholeTransformer if found is Transformer else found


def open_model(folder: ModelFolder, *, pooling: PoolingName, dtype: str, device: str, trust_remote_code: bool) -> Any:
    """Open a model in evaluation mode; ``pooling`` is for a folder that declares none.

    Raises what the libraries raise; ``EncoderFailed`` with the rest of a sentence if weights are missing.
    """
    shared = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    # pytorch_model.bin is a pickle: tensors and nothing else
    model_kwargs = {"dtype": getattr(torch, dtype), "weights_only": True}
    with quiet_libraries():
        if folder.is_bare:
            transformer = WholeTransformer(
                str(folder.path),
                model_kwargs={**shared, **model_kwargs},
                processor_kwargs=dict(shared),
                config_kwargs=dict(shared),
                modality_config=_TEXT_ALONE,
                module_output_name="token_embeddings",
            )
            model = SentenceTransformer(modules=[transformer], device=device, local_files_only=True)
        else:
            model = LocalModel(str(folder.root), device=device, model_kwargs=model_kwargs, **shared)
    if len(model) == 1 and model[0].module_output_name == "token_embeddings":
        mode = next(mode for mode, name in _MODES.items() if name == pooling)
        model.append(Pooling(model[0].get_embedding_dimension(), mode))
    if trust_remote_code and hasattr(model[0], "model_forward_params"):
        # Code of others takes what it names, and not all that models of transformers take.
        declared = inspect.signature(model[0].model.forward).parameters
        model[0].model_forward_params = {*declared, "input_ids", "attention_mask"}
    _stay_precise(model)
    return model.eval()


class FloatTable(StaticEmbedding):  # type: ignore[misc]  # the library ships no types
    """Token vectors in float32, whatever type the file has."""

    def __init__(self, tokenizer: Any, embedding_weights: Any = None, **settings: Any) -> None:
        super().__init__(tokenizer, embedding_weights=torch.as_tensor(embedding_weights).float(), **settings)


def open_table(path: str, *, unknown_id: Callable[[Any], int | None]) -> tuple[Any, Float32[np.ndarray, " dim"]]:
    """Open static token vectors as a model; with them comes the mean of all.

    The vector of the unknown token becomes zero, so that the mean of a text has the direction of its known tokens.
    """
    table = FloatTable.from_model2vec(path)
    with torch.no_grad():
        mean = table.embedding.weight.mean(dim=0).numpy()
        if (unknown := unknown_id(table.tokenizer)) is not None:
            table.embedding.weight[unknown] = 0
    return SentenceTransformer(modules=[table], device="cpu", local_files_only=True).eval(), mean


def pooling_of(model: Any) -> PoolingName:
    """How a model pools its tokens; ``none`` if that has no name here."""
    pooling = next((module for module in model if isinstance(module, Pooling)), None)
    return _MODES.get(str(getattr(pooling, "pooling_mode", "")), "none")


def is_plain(model: Any) -> bool:
    """Whether a model is a transformer and one pooling, so that nothing else decides its vectors."""
    modules: list[Any] = [*model, None]
    transformer, pooling, *others = modules
    return (
        isinstance(transformer, Transformer)
        and isinstance(pooling, Pooling)
        and pooling_of(model) != "none"
        and pooling.include_prompt
        and not transformer.do_lower_case
        and all(module is None or isinstance(module, Normalize) for module in others)
    )


def _stay_precise(model: Any) -> None:
    """Compute in float32 what lies behind the tokens: a sum of many values in bfloat16 loses its last digits."""
    for module in list(model)[1:]:
        module.float()
    model[0].register_forward_hook(_float_tokens)


def _float_tokens(_module: Any, _inputs: Any, features: dict[str, Any]) -> dict[str, Any]:
    tokens = features.get("token_embeddings")
    if tokens is None:
        return features
    if tokens.shape[:2] != features["input_ids"].shape:
        raise EncoderFailed(
            f"the model gives a last_hidden_state of shape {tuple(tokens.shape)} for tokens of shape "
            f"{tuple(features['input_ids'].shape)}, (text, token, dim) is needed; is it a text encoder?"
        )
    return {**features, "token_embeddings": tokens.float()}


def _set_buffers(model: Any) -> None:
    """Set the buffers that no file holds to what the model's code computes for them.

    transformers 5 makes a model without memory and then fills in the weights. What a model computed when it was made,
    such as ALiBi's slopes, is lost by that unless its code knows, and is then whatever the memory held before.
    """
    fresh = dict(type(model)(model.config).named_non_persistent_buffers())
    for name, buffer in model.named_non_persistent_buffers():
        buffer.copy_(fresh[name])


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep loading bars, advice and reports on unused weights off the terminal inside the block."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels, has_bars = [logger.level for logger in loggers], noise.is_progress_bar_enabled()
    noise.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if has_bars:
            noise.enable_progress_bar()
