"""The command `cellmodel predict`: a fitted model on new cells."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.choices import read_config
from genekb_cellmodel_cli.app.output import print_json, print_lines, print_table

if TYPE_CHECKING:
    from cellmodel.tl.model.predict import Prediction


def predict(
    path: Annotated[Path, typer.Argument(help="New cells: .h5ad, .zarr, 10x .h5 or mtx folder, .csv, .tsv.")],
    model: Annotated[Path, typer.Option(help="Folder that `cellmodel cluster --save-model` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Annotated cells to write: .h5ad or .zarr.")],
    kb: options.KbOptional = None,
    layer: options.Layer = None,
    use_raw: options.UseRaw = False,
    gene_key: options.GeneKey = None,
    values: options.Values = "auto",
    transpose: options.Transpose = False,
    key_added: options.KeyAdded = "cellmodel",
    overwrite: options.Overwrite = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Embed new cells with a fitted model and give each the cluster of the fitted cells around it.

    A model refuses a store with other texts or vectors than those it was fitted with, and cells of another species.

    Example: cellmodel predict new.h5ad --model model --kb human -o out.h5ad
    """
    from cellmodel.io.outputs import WriteConfig
    from cellmodel.tl.model.predict import predict_file
    from genekb import open as open_store

    outcome = predict_file(
        path,
        model,
        open_store(kb, home=home) if kb else None,
        read=read_config(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values, transpose=transpose),
        write=WriteConfig(output=output, key_added=key_added, overwrite=overwrite),
    )
    content = _summary(outcome, output)
    print_json(content) if json else _print(content)


def _summary(outcome: "Prediction", output: Path) -> dict[str, Any]:
    found, model = outcome.found, outcome.model
    clusters = []
    for cluster in range(int(model.labels.max()) + 1):
        inside = found.labels == cluster
        confidence = round(float(found.confidence[inside].mean()), 3) if inside.any() else None
        fitted = int((model.labels == cluster).sum())
        clusters.append(
            {"cluster": str(cluster), "n_fitted": fitted, "n_cells": int(inside.sum()), "confidence": confidence}
        )
    return {
        "input": outcome.cells.source,
        "recipe": model.config.recipe_name,
        "store": model.store_id,
        "encoder": model.encoder_id,
        "n_cells": len(found.labels),
        "share_genes": round(found.share_genes, 4),
        "clusters": clusters,
        "output": str(output),
    }


def _print(content: dict[str, Any]) -> None:
    print_lines(f"{key}: {content[key]}" for key in ("input", "recipe", "store", "encoder") if content[key])
    print_lines([f"{content['share_genes']:.1%} of the model's genes are in the file", ""])
    print_table(
        ("cluster", "cells it was fitted to", "new cells", "confidence"),
        [(row["cluster"], row["n_fitted"], row["n_cells"], row["confidence"] or "") for row in content["clusters"]],
    )
    print_lines(["", f"output: {content['output']}"])


def register(app: typer.Typer) -> None:
    """Add the command of this module to `cellmodel`."""
    app.command()(predict)
