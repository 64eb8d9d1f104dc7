"""The commands `cellmodel plot` and `report`: figures for papers, and the HTML report, from an annotated file."""

from pathlib import Path
from typing import Annotated

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import print_lines
from genekb_cellmodel_cli.app.signature import Arguments


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
    arguments: Arguments = arguments_of("cellmodel.view", "path", port={"min": 0, "max": 65_535}),
) -> None:
    """Show the report in the browser, with every gene of the cells, until Ctrl-C; nothing is written.

    Example: cellmodel view out.h5ad
    """
    import sys
    import webbrowser

    from cellmodel.pl.report.serve import serve_report

    browser = arguments.pop("browser")
    with serve_report(path, read=arguments.read(), **arguments) as (address, server):
        print_lines([address, "Ctrl-C ends it."])
        sys.stdout.flush()  # of what reads the address from a pipe
        if browser:
            webbrowser.open(address)
        server.serve_forever()


def plot(
    path: Annotated[Path, typer.Argument(help="Cells annotated by `cellmodel cluster`, or by `cellmodel attribute`.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Figure to write: .svg, .png or .pdf."), options.A_PLOT
    ],
    arguments: Arguments = arguments_of("cellmodel.pl._file.plot_file", "path", "output"),
) -> None:
    """Draw a figure of an annotated file: text stays text, and the same file gives the same bytes.

    Example: cellmodel plot out.h5ad --kind umap --color cell_type -o umap.svg
    """
    arguments.call(path, output)
    print_lines([f"plot: {output}"])
