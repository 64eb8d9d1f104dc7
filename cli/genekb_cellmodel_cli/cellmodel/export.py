"""The commands `cellmodel export`: cells for programs that learn on graphs, and for atlases."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import show, table
from genekb_cellmodel_cli.app.signature import Arguments
from genekb_cellmodel_cli.cellmodel.cluster import RunStore


def graph(
    path: options.CellFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write: safetensors and JSON.")],
    store: RunStore,
    arguments: Arguments = arguments_of(
        "cellmodel.tl.embed", "recipe", "head", "smooth_labels", "device", "key_added", "overwrite"
    ),
    transpose: options.Transpose = False,
    label_key: Annotated[
        str | None, typer.Option(help="Column of obs to write as labels of the cells; nothing is computed from it.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing graph.")] = False,
    json: options.Json = False,
) -> None:
    """Write the cell graph, and the cell–gene graph with text vectors of the genes, for PyTorch Geometric.

    The cells are prepared as `cluster` and `embed` do; `cellmodel.io.read_graph` opens the folder as a HeteroData.
    Without a store (--knowledge none) genes have names and expression, but no features.

    Example: cellmodel export graph cells.h5ad --kb human -o graph
    """
    from cellmodel.io.graph import IDS
    from cellmodel.tl._export import export_file

    with options.wrong_usage():
        reading, config = arguments.read(transpose=transpose), arguments.config()
    kb = store.open_for(config.knowledge)
    found = export_file(path, output, kb, config, read=reading, label_key=label_key, overwrite=overwrite)
    ids = {name: found.record[name] for name in IDS if name in found.record}
    nodes = {kind: {name: list(values.shape) for name, values in held.items()} for kind, held in found.nodes.items()}
    content = {
        "input": str(path),
        **ids,
        "sizes": found.sizes,
        "features": nodes,
        "classes": found.classes,
        "output": str(output),
    }
    show(content, _lines(content), json=json)


def _lines(content: dict[str, Any]) -> Iterator[str]:
    yield from (f"{key}: {content[key]}" for key in ("input", "store_id", "encoder_id") if key in content)
    features = {
        kind: ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in sorted(held.items()))
        for kind, held in content["features"].items()
    }
    rows = [(kind, size, features.get(kind, "edge_weight") or "none") for kind, size in content["sizes"].items()]
    yield from ("", *table(("nodes and edges", "number", "features"), rows), "", f"output: {content['output']}")


def cellxgene(
    path: Annotated[Path, typer.Argument(help="Cells with names, of `cellmodel annotate`: .h5ad or .zarr.")],
    out: options.CellsOut,
    read: options.Reading,
    name_key: Annotated[
        str, typer.Option(help="Column of obs with the names: of clusters, cells (cellmodel_name_cell) or a level.")
    ] = "cellmodel_name",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Write the column cell_type_ontology_term_id of CELLxGENE's schema from names; unknown where unsure.

    Example: cellmodel export cellxgene named.h5ad -o submission.h5ad
    """
    from cellmodel.tl._export import TermsJob
    from cellmodel.tl._run.task import run_on_file

    write = options.Slots(overwrite=overwrite).write_or_print(out, path, json=json)
    found = run_on_file(path, TermsJob(name_key), read=read.config(), write=write)
    rows = found.rows()
    content = {"input": str(path), "output": str(write.output if write else ""), "names": rows}
    written = ["", f"output: {write.output}"] if write else []
    show(content, [*table({"name": "name", "term": "term", "cells": "n_cells"}, rows), *written], json=json)
