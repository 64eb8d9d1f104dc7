"""The commands `cellmodel bench` and `eval`: recipes by one protocol, and scores of clusters."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import genekb
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of, parse_n_clusters, parse_seeds
from genekb_cellmodel_cli.app.output import show, table
from genekb_cellmodel_cli.app.signature import Arguments

if TYPE_CHECKING:
    from cellmodel.bench.runner import BenchResult

CHECK_FAILED = 1


def bench(
    path: Annotated[Path, typer.Argument(help="Folder of labeled .h5ad files, or one file of cells.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results; a run that was cut goes on.")],
    read: options.Reading,
    recipes: Annotated[
        str, typer.Option(help="RECIPE[+HEAD][@KNOWLEDGE] parted by commas, e.g. fused,scrcl+leiden@shuffled.")
    ] = "fused,pca-kmeans,pca-leiden",
    seeds: Annotated[str, typer.Option(help="Seeds: numbers or ranges parted by commas, e.g. 0-4.")] = "0-4",
    kb: Annotated[
        list[str] | None,
        typer.Option("--kb", help="Store; repeatable, the one that knows most genes of a file is taken."),
    ] = None,
    encoder: options.Encoder = None,
    label_key: Annotated[
        str | None,
        typer.Option("--label-key", "--truth", help="Column of obs with labels, for scores; cell_type in a folder."),
    ] = None,
    listing: Annotated[
        Path | None, typer.Option(help="TOML with a table a file: file, label_key, labels (their origin), sha256.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Only these data sets, names parted by commas.")] = None,
    n_clusters: Annotated[
        str | None,
        typer.Option(
            help="given (of the types), estimated, both, or a number; both if left out, of one file given with labels."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=a,b,c: values of a setting, such as n_top_genes; repeatable.")
    ] = None,
    thin: Annotated[str | None, typer.Option(help="Fractions of the counts to keep, e.g. 0.5,0.25,0.1.")] = None,
    drop_cells: Annotated[str | None, typer.Option(help="Fractions of the cells to leave out.")] = None,
    dropout: Annotated[str | None, typer.Option(help="Fractions of the values above zero to set to zero.")] = None,
    off: Annotated[
        bool, typer.Option("--off", help="Leave out each part of a recipe: knowledge, text paths, objectives.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Figure of what changes to write: .svg, .png or .pdf."), options.A_PLOT
    ] = None,
    overwrite: options.Overwrite = False,
    batch_key: Annotated[
        str | None,
        typer.Option(help="Column of obs with the batch of each cell: integrated by recipes, scored by scIB."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes at once, each with one thread.", min=1)] = 1,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Compare recipes on labeled files, or what settings, depth, dropout, cells and parts change in one.

    Example: cellmodel bench DIR --recipes fused,scllm-dsc,pca-leiden --seeds 0-4 --kb human -o results/
    """
    numbers = parse_seeds(seeds)
    if n_clusters not in {None, "given", "estimated", "both"}:
        n_clusters = parse_n_clusters(n_clusters) or "auto"  # type: ignore[assignment]  # a number, or a word
    from cellmodel.bench.api import bench as run_bench
    from cellmodel.bench.changes import default_of, parse_changes
    from cellmodel.pl._benchmarks import check_figure, draw_sweep

    fractions = {"thin": thin, "drop_cells": drop_cells, "dropout": dropout}
    changed = [*(settings or ()), *(f"{name}={text}" for name, text in fractions.items() if text is not None)]
    changes = parse_changes(changed)
    if plot is not None and not changes:
        raise ValueError("--plot shows the curves of what is changed; give --set, --thin, --drop-cells or --dropout")
    if plot is not None:
        check_figure(plot, path, output, overwrite=overwrite)
    found = run_bench(
        path,
        output,
        recipes=recipes,
        seeds=numbers,
        kb=[genekb.open(name, home=home) for name in kb or ()],
        encoder=encoder,
        label_key=label_key,
        listing=listing,
        data=data or (),
        n_clusters=n_clusters,  # type: ignore[arg-type]
        settings=changed,
        off=off,
        batch_key=batch_key,
        jobs=jobs,
        read=read.config(),
    )
    if plot is not None:
        unchanged = {change.setting: default_of(change.setting) for change in changes}
        draw_sweep(found.rows, unchanged, plot, overwrite=overwrite)
    _show_results(found, output, json=json)


def _show_results(found: "BenchResult", output: Path, *, json: bool) -> None:
    """Show the tables, or the rows; something that was not done is exit code 1."""
    failures = [{"data": data, "recipe": recipe, "why": why} for data, recipe, why in found.failures]
    content = {"output": str(output), "n_reused": found.n_reused, "rows": list(found.rows), "failures": failures}
    tables = (output / "results.md").read_text()
    shown = re.sub(r"^### By data set.*?(?=^## |\Z)", "", tables, flags=re.DOTALL | re.MULTILINE).rstrip()
    show(content, [shown, "", f"tables by data set: {output / 'results.md'}"], json=json)
    if found.failures:
        raise typer.Exit(CHECK_FAILED)


def evaluate(
    path: Annotated[Path, typer.Argument(help="Cells with clusters and an annotator's labels.")],
    read: options.Reading,
    arguments: Arguments = arguments_of(
        "cellmodel.bench.eval", "cells", "read", truth={"names": ("--truth", "--labels")}
    ),
    json: options.Json = False,
) -> None:
    """Score clusters against labels, and with a batch key integration. Labels are read here and nowhere else.

    Example: cellmodel eval out.h5ad --labels cell_type --batch-key batch --json
    """
    from dataclasses import asdict

    from cellmodel.bench.integration import BATCH, BIO, IntegrationReport

    found = arguments.call(path, read=read.config())
    if not isinstance(found, IntegrationReport):
        scores = asdict(found)
        show(scores, table(("metric", "value"), scores.items()), json=json)
        return
    clusters = asdict(found.clusters) if found.clusters else {}
    rows = [asdict(each) for each in found.embeddings]
    rows = [row | row.pop("metrics") for row in rows]
    lines = [*table(("metric", "value"), clusters.items()), ""] if clusters else []
    for names in (("overall", "bio", "batch"), BIO, BATCH):
        lines += [*table({name: name for name in ("embedding", *names)}, rows), ""]
    show({**clusters, "integration": rows}, lines[:-1], json=json)
