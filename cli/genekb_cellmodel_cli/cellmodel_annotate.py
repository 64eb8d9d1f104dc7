"""The command `cellmodel annotate`: names for clusters."""

from pathlib import Path
from typing import Annotated

import typer

from genekb_cellmodel_cli import options
from genekb_cellmodel_cli.choices import read_config
from genekb_cellmodel_cli.output import print_json, print_lines, print_table


def annotate(
    path: Annotated[Path, typer.Argument(help="Cells with clusters, for example of `cellmodel cluster`.")],
    markers: Annotated[
        Path, typer.Option(help="Marker genes: .tsv or .csv with cell_type and gene, or .json of type to genes.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Annotated cells to write: .h5ad or .zarr.")],
    cluster_key: Annotated[str, typer.Option(help="Column of obs with the clusters.")] = "cellmodel",
    layer: options.Layer = None,
    use_raw: options.UseRaw = False,
    gene_key: options.GeneKey = None,
    values: options.Values = "auto",
    key_added: options.KeyAdded = "cellmodel_name",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Name clusters by the marker genes that they share with each cell type; weak overlap stays unassigned.

    Example: cellmodel annotate out.h5ad --markers markers.tsv -o named.h5ad
    """
    from dataclasses import asdict

    from cellmodel.files import WriteConfig
    from cellmodel.naming import annotate_file, read_panel

    found = annotate_file(
        path,
        read_panel(markers),
        cluster_key=cluster_key,
        read=read_config(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values),
        write=WriteConfig(output=output, key_added=key_added, overwrite=overwrite),
    )
    rows = [
        {
            "cluster": cluster,
            "n_cells": n_cells,
            **{name: part for name, part in asdict(one).items() if name != "cluster"},
        }
        for cluster, n_cells, one in zip(found.clusters, found.n_cells, found.names, strict=True)
    ]
    if json:
        print_json({"input": str(path), "output": str(output), "clusters": rows})
        return
    print_table(
        ("cluster", "cells", "name", "p adjusted", "shared genes", "runner-up", "its p"),
        [
            (
                row["cluster"],
                row["n_cells"],
                row["name"],
                f"{row['p_adjusted']:.2g}",
                " ".join(row["genes"][:6]),
                row["runner_up"] or "",
                f"{row['runner_up_p_adjusted']:.2g}",
            )
            for row in rows
        ],
    )
    print_lines(["", f"output: {output}"])


def register(app: typer.Typer) -> None:
    """Add the command of this module to `cellmodel`."""
    app.command()(annotate)
