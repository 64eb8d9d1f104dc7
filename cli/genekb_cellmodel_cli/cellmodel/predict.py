"""The command `cellmodel predict`: a fitted model on new cells."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.output import print_json, print_lines, print_table
from genekb_cellmodel_cli.cellmodel.cluster import count_clusters

if TYPE_CHECKING:
    from cellmodel.tl.model.predict import Prediction


def predict(
    path: Annotated[Path, typer.Argument(help="New cells: .h5ad, .zarr, 10x .h5 or mtx folder, .csv, .tsv.")],
    model: Annotated[Path, typer.Option(help="Folder that `cellmodel cluster --save-model` wrote.")],
    output: options.CellOutput,
    store: options.MaybeStore,
    read: options.TableReading,
    slots: options.Slots,
    json: options.Json = False,
) -> None:
    """Embed new cells with a fitted model and give each the cluster of the fitted cells around it.

    A model refuses a store with other texts or vectors than those it was fitted with, and cells of another species.

    Example: cellmodel predict new.h5ad --model model --kb human -o out.h5ad
    """
    from cellmodel.tl.model.predict import predict_file

    outcome = predict_file(path, model, store.open(), read=read.config(), write=slots.write(output))
    content = _summary(outcome) | {"output": str(output)}
    print_json(content) if json else _print(content)


def _summary(outcome: "Prediction") -> dict[str, Any]:
    found, model = outcome.found, outcome.model
    n_clusters = int(model.labels.max()) + 1
    clusters = count_clusters(found.labels, found.confidence, n_clusters=n_clusters)
    for cluster, row in enumerate(clusters):
        row["n_fitted"] = int((model.labels == cluster).sum())
    return {
        "input": outcome.cells.source,
        "recipe": model.config.recipe_name,
        "store": model.store_id,
        "encoder": model.encoder_id,
        "n_cells": len(found.labels),
        "share_genes": round(found.share_genes, 4),
        "clusters": clusters,
    }


def _print(content: dict[str, Any]) -> None:
    print_lines(f"{key}: {content[key]}" for key in ("input", "recipe", "store", "encoder") if content[key])
    print_lines([f"{content['share_genes']:.1%} of the model's genes are in the file", ""])
    print_table(
        {
            "cluster": "cluster",
            "cells it was fitted to": "n_fitted",
            "new cells": "n_cells",
            "confidence": "confidence",
        },
        content["clusters"],
    )
    print_lines(["", f"output: {content['output']}"])
