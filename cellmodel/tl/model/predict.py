"""A fitted model on a new file: clusters and embeddings written beside the cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import genekb
from cellmodel.io.cells import Cells, ReadConfig
from cellmodel.io.records import input_record
from cellmodel.io.writers import WriteConfig
from cellmodel.tl._task import Task, run_on_file
from cellmodel.tl.model.files import load_model
from cellmodel.tl.model.fitted import FittedModel, Predicted, check_store, predict


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What was read and what was found."""

    model: FittedModel
    cells: Cells
    found: Predicted


def predict_file(
    path: Path, model_folder: Path, kb: genekb.Store | None, *, read: ReadConfig, write: WriteConfig
) -> Prediction:
    """Read a model and new cells, embed them, give each a cluster, and write them.

    Raises ``InputUnusable``, ``LineageMismatch``, ``AlignmentTooLow``: see :mod:`cellmodel.core.errors`; what can be
    checked is checked before any work.
    """
    model = load_model(model_folder)
    check_store(model, kb)
    in_obsm = (("obsm", "X_{}"), ("obsm", "X_{}_expr"), ("obsm", "X_{}_text"))
    task = Task(
        slots=(("obs", "{}"), ("obs", "{}_confidence"), *in_obsm, ("uns", "{}")),
        find=lambda cells: Prediction(model=model, cells=cells, found=predict(model, cells, kb)),
        values=lambda _, prediction: _values(prediction),
        inputs=(model_folder,),
    )
    return run_on_file(path, task, read=read, write=write)


def _values(prediction: Prediction) -> Sequence[Any]:
    import pandas as pd

    model, cells, found = prediction.model, prediction.cells, prediction.found
    categories = [str(cluster) for cluster in range(int(model.labels.max()) + 1)]
    record = {
        "params": model.config.to_dict(),
        "recipe": model.config.recipe_name,
        "seed": model.config.seed,
        "store_id": model.store_id,
        "encoder_id": model.encoder_id,
        "content_id": model.content_id,
        "share_genes": found.share_genes,
        "n_fitted_cells": len(model.labels),
        "input": input_record(cells)["input"],
    }
    return (
        pd.Categorical(found.labels.astype(str), categories=categories),
        found.confidence.astype(np.float32),
        found.representation.z,
        found.representation.z_expr,
        found.representation.z_text,
        record,
    )
