"""The command `cellmodel search`: free text against the clusters and cells of a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.output import print_json, print_lines, print_table

if TYPE_CHECKING:
    from cellmodel.annotate.search import Found, FoundGene

_SHOWN = 3  # clusters whose genes are shown with a sentence


def search(
    path: Annotated[Path, typer.Argument(help="Cells, with clusters or without.")],
    query: Annotated[str, typer.Argument(help="Free text.")],
    store: options.Store,
    genes: options.GeneMatching,
    read: options.Reading,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Cells with their scores, .h5ad or .zarr.")
    ] = None,
    cluster_key: Annotated[
        str | None, typer.Option(help="Column of obs with the clusters; cellmodel if it is there.")
    ] = None,
    no_types: Annotated[
        bool, typer.Option("--no-types", help="Do not bring in the markers of cell types that the query names.")
    ] = False,
    other_store: options.OtherStore = False,
    slots: options.Slots = options.Slots(key_added="cellmodel_search"),
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Rank clusters and score cells by free text, with the genes responsible and what their texts say.

    Example: cellmodel search out.h5ad "cytotoxic T lymphocytes" --kb human
    """
    from cellmodel.annotate.search import SearchConfig
    from cellmodel.tl._task import run_on_file, search_task

    wanted = SearchConfig(query=query, cluster_key=cluster_key, use_types=not no_types, other_store=other_store)
    task = search_task(store.open(trust_remote_code=trust_remote_code), genes.config(), search=wanted)
    found = run_on_file(path, task, read=read.config(), write=slots.write(output) if output else None)
    if json:
        print_json({"input": str(path), "query": query, "output": str(output or ""), **found.to_dict()})
        return
    _print(found)
    if output is not None:
        print_lines(["", f"output: {output}"])


def _print(found: "Found") -> None:
    if found.types:
        print_lines([f"meant: {', '.join(f'{name} {nearness:.2f}' for name, nearness in found.types[:_SHOWN])}", ""])
    if found.clusters:
        print_table(
            {
                "cluster": "cluster",
                "cells": "n_cells",
                "score": "score:.1f",
                "p": "p_value:.2g",
                "genes": lambda one: [gene.name for gene in one.genes],
            },
            found.clusters,
        )
    for one in found.clusters[:_SHOWN]:
        print_lines(["", f"cluster {one.cluster}:", *_lines(one.genes)])
    if not found.clusters:
        print_lines(["the 5 % of cells with the highest scores:", *_lines(found.genes)])


def _lines(genes: "tuple[FoundGene, ...]") -> list[str]:
    return [f"  {gene.name} (+{gene.contribution:.1f}): {gene.sentence or 'no text'}" for gene in genes]
