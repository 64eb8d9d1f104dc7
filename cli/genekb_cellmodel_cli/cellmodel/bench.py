"""The commands `cellmodel bench` and `eval`: recipes by one protocol, and scores of clusters."""

import re
from pathlib import Path
from typing import Annotated

import typer

import genekb
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import show, table
from genekb_cellmodel_cli.app.signature import Arguments

CHECK_FAILED = 1  # exit code where something was not done


def bench(
    path: Annotated[Path, typer.Argument(help="Folder of labeled .h5ad files, or one file of cells.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results; a run that was cut goes on.")],
    read: options.Reading,
    kb: Annotated[
        list[str] | None,
        typer.Option("--kb", help="Store; repeatable, the one that knows most genes of a file is taken."),
    ] = None,
    home: options.Home = None,
    arguments: Arguments = arguments_of(
        "cellmodel.bench.bench",
        *("path", "output", "read"),
        label_key={"names": ("--label-key", "--truth")},
        n_clusters={},
        settings={"names": ("--set",)},
        jobs={"min": 1},
    ),
    json: options.Json = False,
) -> None:
    """Compare recipes on labeled files, or what settings, depth, dropout, cells and parts change in one.

    Example: cellmodel bench DIR --recipes fused,scllm-dsc,pca-leiden --seeds 0-4 --kb human -o results/
    """
    stores = [genekb.open(name, home=home) for name in kb or ()]
    found = arguments.call(path, output, kb=stores, read=read.config())
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
