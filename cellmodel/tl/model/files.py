"""Models on disk: arrays as safetensors, all else as JSON; nothing in a model is ever executed."""

from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from cellmodel.core.config import GraphConfig, PreprocessConfig, RunConfig, SemanticsConfig
from cellmodel.core.errors import InputUnusable, LineageMismatch
from cellmodel.io.writers import DESCRIPTION, model_target, output
from cellmodel.text.paths import TextMap
from cellmodel.tl.model.fitted import FittedModel
from genekb.core.plugins import installed_version
from genekb.files import atomic as files
from genekb.files.limits import read_json

FORMAT: Final = 1
ARRAYS: Final = "arrays.safetensors"
_BY_MODEL: Final = ("gene_ids", "mean", "components", "pcs", "features", "labels")
_BY_TEXT: Final = tuple(field.name for field in fields(TextMap))


def save_model(model: FittedModel, folder: Path, *, overwrite: bool = False) -> None:
    """Write a model to a folder of two files; it takes its name when it is complete.

    Raises ``InputUnusable`` if the folder may not be replaced, or the disk refuses.
    """
    with output(model_target(folder), overwrite=overwrite) as part:
        part.mkdir(parents=True)
        files.write_arrays(_arrays(model), part / ARRAYS)
        promised = {"sha256": files.sha256_file(part / ARRAYS), "n_bytes": (part / ARRAYS).stat().st_size}
        files.write_json(_description(model) | promised, part / DESCRIPTION)


def _arrays(model: FittedModel) -> dict[str, np.ndarray]:
    arrays = {name: getattr(model, name) for name in _BY_MODEL}
    if model.text is not None:
        arrays |= {f"text.{name}": getattr(model.text, name) for name in _BY_TEXT}
    arrays |= {f"state.{name}": values for name, values in model.state.items()}
    return {name: np.ascontiguousarray(values) for name, values in arrays.items()}


def _description(model: FittedModel) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "config": model.config.to_dict(),
        "names": list(model.names),
        "store_id": model.store_id,
        "encoder_id": model.encoder_id,
        "content_id": model.content_id,
        "version": installed_version(),
    }


def load_model(folder: Path, *, address: str = "") -> FittedModel:
    """Read a model.

    ``address``: where it was pulled from, which errors then name in place of the folder. Raises ``InputUnusable`` if
    the folder holds no model, or one of a later format; ``LineageMismatch`` if its bytes are not those that were
    written.
    """
    if not (folder / DESCRIPTION).is_file():
        raise InputUnusable(f"{folder} holds no {DESCRIPTION}; is it a folder that --save-model wrote?")
    where, hint = (address, "ask its owner to push it again") if address else (str(folder), "fit the model again")
    try:
        content = read_json(folder / DESCRIPTION)
        expected, found_format = content["sha256"], content["format"]
        has_arrays = (folder / ARRAYS).is_file()
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(where, hint, error) from error
    if found_format != FORMAT:
        raise InputUnusable(f"{where} is a model of format {found_format}, {FORMAT} is read here; update the package")
    if not has_arrays or files.sha256_file(folder / ARRAYS) != expected:
        raise LineageMismatch(f"{where}/{ARRAYS} is missing or not the file that was written; {hint}")
    try:
        return _model(content, folder / ARRAYS)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(where, hint, error) from error


def _damaged(where: str, hint: str, error: Exception) -> LineageMismatch:
    reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)[:100]
    return LineageMismatch(f"{where}/{DESCRIPTION} is damaged ({reason}); {hint}")


def _model(content: dict[str, Any], path: Path) -> FittedModel:
    arrays = files.read_arrays(path)
    text = {name: arrays[f"text.{name}"] for name in _BY_TEXT if f"text.{name}" in arrays}
    model = FittedModel(
        config=_config(content["config"]),
        names=tuple(content["names"]),
        store_id=content["store_id"],
        encoder_id=content["encoder_id"],
        content_id=content.get("content_id", ""),  # models of earlier versions have none
        text=TextMap(**text) if text else None,
        state={name.removeprefix("state."): values for name, values in arrays.items() if name.startswith("state.")},
        **{name: arrays[name] for name in _BY_MODEL},
    )
    _check_axes(model)
    return model


def _check_axes(model: FittedModel) -> None:
    """Refuse arrays that disagree on how many genes, cells or components there are."""
    texts = [model.store_id, model.encoder_id, model.content_id, *model.names]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name is no text")
    genes = {len(model.names), *map(len, (model.gene_ids, model.mean, model.components))}
    if model.text is not None:
        genes |= {len(getattr(model.text, name)) for name in _BY_TEXT if name != "centre"}
    cells = {len(model.pcs), len(model.features), len(model.labels)}
    components = {model.components.shape[1:], model.pcs.shape[1:]}
    for axis, found in (("genes", genes), ("cells", cells), ("components", components)):
        if len(found) > 1:
            raise ValueError(f"its parts disagree on the number of {axis}: {sorted(found)}")


def _config(content: dict[str, Any]) -> RunConfig:
    nested = {"preprocess": PreprocessConfig, "graph": GraphConfig, "semantics": SemanticsConfig}
    return RunConfig(**content | {name: kind(**content[name]) for name, kind in nested.items()})
