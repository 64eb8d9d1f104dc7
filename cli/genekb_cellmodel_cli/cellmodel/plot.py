"""The command `cellmodel plot`: figures for papers from an annotated file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.output import print_lines

Kind = Annotated[
    Literal["umap", "embedding", "dotplot", "k-curve", "confusion", "sankey", "heatmap"],
    typer.Option(help="What is drawn."),
]


def plot(
    path: Annotated[Path, typer.Argument(help="Cells annotated by `cellmodel cluster`, or by `cellmodel attribute`.")],
    kind: Kind,
    output: Annotated[Path, typer.Option("--output", "-o", help="Figure to write: .svg, .png or .pdf.")],
    color: Annotated[
        str | None, typer.Option(help="umap, embedding: column of obs or gene; the clusters if left out.")
    ] = None,
    basis: Annotated[str, typer.Option(help="embedding: slot of obsm.")] = "X_cellmodel_expr",
    rows: Annotated[
        str | None, typer.Option(help="confusion, sankey: column of obs; the clusters if left out.", show_default=False)
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="confusion, sankey: the other column of obs.", show_default=False)
    ] = None,
    genes: Annotated[int, typer.Option(help="dotplot, heatmap: genes of each cluster.", min=1)] = 3,
    key_added: options.KeyAdded = "cellmodel",
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
) -> None:
    """Draw a figure of an annotated file: text stays text, and the same file gives the same bytes.

    Example: cellmodel plot out.h5ad --kind umap --color cell_type -o umap.svg
    """
    from cellmodel.pl._file import PlotChoice, plot_file

    if kind in {"confusion", "sankey"} and columns is None:
        raise typer.BadParameter(f"--kind {kind} needs --columns, the column of obs to hold the clusters against")
    choice = PlotChoice(
        kind=kind, key=key_added, color=color, basis=basis, rows=rows, columns=columns, n_genes=genes, seed=seed
    )
    plot_file(path, output, choice, overwrite=overwrite)
    print_lines([f"plot: {output}"])


def register(app: typer.Typer) -> None:
    """Add the command of this module to `cellmodel`."""
    app.command()(plot)
