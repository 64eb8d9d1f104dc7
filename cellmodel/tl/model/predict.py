"""A fitted model on a new file: clusters and embeddings written beside the cells."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import genekb
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import Cells, ReadConfig, claim_slots, read_cells
from cellmodel.io.outputs import WriteConfig, check_outputs
from cellmodel.io.writers import h5ad_safe, write_cells
from cellmodel.tl.model.files import load_model
from cellmodel.tl.model.fitted import FittedModel, Predicted, check_store, predict


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What was read and what was found."""

    model: FittedModel
    cells: Cells
    found: Predicted


def prediction_slots(key_added: str) -> list[tuple[str, str]]:
    """List the slots that a prediction writes."""
    in_obsm = [("obsm", f"X_{key_added}"), ("obsm", f"X_{key_added}_expr"), ("obsm", f"X_{key_added}_text")]
    return [("obs", key_added), ("obs", f"{key_added}_confidence"), *in_obsm, ("uns", key_added)]


def predict_file(
    path: Path, model_folder: Path, kb: genekb.Store | None, *, read: ReadConfig, write: WriteConfig
) -> Prediction:
    """Read a model and new cells, embed them, give each a cluster, and write them.

    Raises ``InputUnusable``, ``LineageMismatch``, ``AlignmentTooLow``: see :mod:`cellmodel.core.errors`; what can be
    checked is checked before any work.
    """
    model = load_model(model_folder)
    check_store(model, kb)
    check_outputs(write, inputs=(path, model_folder))
    cells = read_cells(path, read)
    claim_slots(cells.adata, prediction_slots(write.key_added), overwrite=write.overwrite)
    if cells.matrix.shape[0] == 0:
        raise InputUnusable(f"{path} has no cells")
    found = predict(model, cells, kb)
    write_prediction(cells, model, found, key_added=write.key_added)
    write_cells(cells.adata, write.output, source=path, overwrite=write.overwrite)
    return Prediction(model=model, cells=cells, found=found)


def write_prediction(cells: Cells, model: FittedModel, found: Predicted, *, key_added: str) -> None:
    """Write a prediction into the AnnData of the cells."""
    import pandas as pd

    adata = cells.adata
    categories = [str(cluster) for cluster in range(int(model.labels.max()) + 1)]
    adata.obs[key_added] = pd.Categorical(found.labels.astype(str), categories=categories)
    adata.obs[f"{key_added}_confidence"] = found.confidence.astype(np.float32)
    adata.obsm[f"X_{key_added}"] = found.representation.z
    adata.obsm[f"X_{key_added}_expr"] = found.representation.z_expr
    if found.representation.z_text is not None:
        adata.obsm[f"X_{key_added}_text"] = found.representation.z_text
    record: dict[str, Any] = {
        "params": model.config.to_dict(),
        "recipe": model.config.recipe_name,
        "seed": model.config.seed,
        "store_id": model.store_id,
        "encoder_id": model.encoder_id,
        "content_id": model.content_id,
        "share_genes": found.share_genes,
        "n_fitted_cells": len(model.labels),
        "input": {"source": cells.source.rsplit("/", 1)[-1], "value_kind": str(cells.kind), "notes": list(cells.notes)},
    }
    adata.uns[key_added] = h5ad_safe(record)
