"""The commands `cellmodel plot` and `report`: figures for papers, and the HTML report, from an annotated file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import print_lines
from genekb_cellmodel_cli.app.signature import Arguments

Kind = Literal["umap", "embedding", "dotplot", "confusion", "sankey", "heatmap", "composition"]


def report(
    path: Annotated[Path, typer.Argument(help="Cells with clusters, of `cellmodel cluster` or any other program.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write."), options.A_REPORT],
    arguments: Arguments = arguments_of(
        "cellmodel.report",
        "path",
        genes={
            "type": str,
            "default": None,
            "help": "Genes that can color the map, beside markers: names with commas between, a file of them, or all.",
        },
    ),
) -> None:
    """Write the HTML report of the clusters in a file, whoever made them.

    Example: cellmodel report out.h5ad --cluster-key leiden -o report.html
    """
    from cellmodel.pl.report.write import report_file

    given = arguments.pop("genes") or ""
    is_whole = given == "all" or Path(given).is_file()
    genes = given if is_whole else [name.strip() for name in given.split(",") if name.strip()]
    report_file(path, output, genes=genes, read=arguments.read(), **arguments)
    print_lines([f"report: {output}"])


def view(
    path: Annotated[Path, typer.Argument(help="Cells with clusters, of `cellmodel cluster` or any other program.")],
    read: options.Reading,
    cluster_key: Annotated[str, typer.Option(help="Column of obs with the clusters.")] = "cellmodel",
    sample_key: Annotated[str | None, typer.Option(help="Column of obs with the sample of each cell.")] = None,
    port: Annotated[int, typer.Option(help="Port of 127.0.0.1; any that is free if 0.", min=0, max=65_535)] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    other_store: options.OtherStore = False,
) -> None:
    """Show the report in the browser, with every gene of the cells, until Ctrl-C; nothing is written.

    Example: cellmodel view out.h5ad
    """
    import sys
    import webbrowser

    from cellmodel.pl.report.serve import serve_report

    with serve_report(
        path, cluster_key=cluster_key, sample_key=sample_key, read=read.config(), port=port, other_store=other_store
    ) as (address, server):
        print_lines([address, "Ctrl-C ends it."])
        sys.stdout.flush()  # of what reads the address from a pipe
        if browser:
            webbrowser.open(address)
        server.serve_forever()


def plot(
    path: Annotated[Path, typer.Argument(help="Cells annotated by `cellmodel cluster`, or by `cellmodel attribute`.")],
    kind: Annotated[Kind, typer.Option(help="What is drawn.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Figure to write: .svg, .png or .pdf."), options.A_PLOT
    ],
    key_added: Annotated[str, typer.Option(help="Name under which results are stored.")] = "cellmodel",
    color: Annotated[
        str | None, typer.Option(help="umap, embedding: column of obs or gene; the clusters if left out.")
    ] = None,
    basis: Annotated[str, typer.Option(help="embedding: slot of obsm.")] = "X_cellmodel_expr",
    split_by: Annotated[
        str | None, typer.Option(help="umap, embedding: column of obs; a small map for each of its values.")
    ] = None,
    rows: Annotated[
        str | None, typer.Option(help="confusion, sankey, dotplot: column of obs; the clusters if left out.")
    ] = None,
    columns: Annotated[str | None, typer.Option(help="confusion, sankey: the other column of obs.")] = None,
    genes: Annotated[
        str, typer.Option(help="dotplot, heatmap: genes of each cluster; dotplot: or their names, with commas between.")
    ] = "3",
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Draw a figure of an annotated file: text stays text, and the same file gives the same bytes.

    Example: cellmodel plot out.h5ad --kind umap --color cell_type -o umap.svg
    """
    from cellmodel.pl._file import PlotChoice, plot_file

    if kind in {"confusion", "sankey"} and columns is None:
        raise typer.BadParameter(f"--kind {kind} needs --columns, the column of obs to hold the clusters against")
    if split_by is not None and kind not in {"umap", "embedding"}:
        raise typer.BadParameter(f"--kind {kind} draws no map; --split-by goes with --kind umap or embedding")
    n_genes = int(genes) if genes.isdecimal() else 0
    names = () if n_genes else tuple(name.strip() for name in genes.split(",") if name.strip())
    if not n_genes and (kind != "dotplot" or genes.isdecimal()):
        raise typer.BadParameter("--genes is a number >= 1; --kind dotplot takes names of genes, too")
    choice = PlotChoice(
        kind=kind, key=key_added, color=color, basis=basis, split_by=split_by, rows=rows, columns=columns,
        n_genes=n_genes, genes=names, seed=seed,
    )  # fmt: skip
    plot_file(path, output, choice, overwrite=overwrite)
    print_lines([f"plot: {output}"])
