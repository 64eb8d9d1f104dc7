"""The command `cellmodel export`: cells for programs that learn on graphs, and for atlases."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from genekb.files.endings import CELLS, check_ending
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import show, table
from genekb_cellmodel_cli.app.signature import Arguments

if TYPE_CHECKING:
    from cellmodel.io.graph import TypedGraph


def export(
    path: Annotated[Path, typer.Argument(help="Cells; for CELLxGENE with names, of `cellmodel annotate`.")],
    to: Annotated[Literal["cellxgene", "graph"], typer.Option(help="What is written.")],
    out: options.CellsOrFolderOut,
    store: options.MaybeStore,
    arguments: Arguments = arguments_of("cellmodel.tl.export_graph", "folder"),
    transpose: options.Transpose = False,
    name_key: Annotated[
        str,
        typer.Option(
            help="cellxgene: column of obs with the names: of clusters, cells (cellmodel_name_cell) or a level."
        ),
    ] = "cellmodel_name",
    json: options.Json = False,
) -> None:
    """Write annotated cells for CELLxGENE, or their graphs for PyTorch Geometric.

    cellxgene: cells with the column cell_type_ontology_term_id of its schema from names; unknown where unsure.

    graph: a folder of safetensors and JSON with the cell graph, and the cell–gene graph with text vectors of the genes;
    the cells are prepared as `cluster` does; `cellmodel.io.read_graph` opens it as a HeteroData. Without a store
    (--knowledge none) genes have names and expression, but no features.

    Example: cellmodel export named.h5ad --to cellxgene -o submission.h5ad

    Example: cellmodel export cells.h5ad --to graph --kb human -o graph
    """
    files = out.files(path, is_needed=to == "graph" or not json, transpose=transpose)
    if to == "graph":
        found = arguments.call(files, store.open(), folder=files.written)
        content = {"input": str(path), **_graph_content(found), "output": files.written}
        show(content, _graph_lines(content), json=json)
        return
    import cellmodel as cm

    if files.written:
        check_ending(Path(files.written), CELLS, error=typer.BadParameter)
    terms = cm.tl.cell_type_terms(files, name_key=name_key, overwrite=arguments["overwrite"])
    rows = terms.rows()  # type: ignore[union-attr]  # of files
    written = ["", f"output: {files.written}"] if files.written else []
    lines = [*table({"name": "name", "term": "term", "cells": "n_cells"}, rows), *written]
    show({"input": str(path), "output": files.written, "names": rows}, lines, json=json)


def _graph_content(found: "TypedGraph") -> dict[str, Any]:
    from cellmodel.io.graph import IDS

    nodes = {kind: {name: list(values.shape) for name, values in held.items()} for kind, held in found.nodes.items()}
    ids = {name: found.record[name] for name in IDS if name in found.record}
    return {**ids, "sizes": found.sizes, "features": nodes, "classes": found.classes}


def _graph_lines(content: dict[str, Any]) -> Iterator[str]:
    yield from (f"{key}: {content[key]}" for key in ("input", "store_id", "encoder_id") if key in content)
    features = {
        kind: ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in sorted(held.items()))
        for kind, held in content["features"].items()
    }
    rows = [(kind, size, features.get(kind, "edge_weight") or "none") for kind, size in content["sizes"].items()]
    yield from ("", *table(("nodes and edges", "number", "features"), rows), "", f"output: {content['output']}")
