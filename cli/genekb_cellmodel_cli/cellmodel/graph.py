"""The command `cellmodel graph export`: cells and genes as a graph that other programs learn on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.output import show, table
from genekb_cellmodel_cli.cellmodel.cluster import RunStore, Views


def export(
    path: options.CellFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write: safetensors and JSON.")],
    store: RunStore,
    views: Views,
    read: options.TableReading,
    label_key: Annotated[
        str | None, typer.Option(help="Column of obs to write as labels of the cells; nothing is computed from it.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing graph.")] = False,
    json: options.Json = False,
) -> None:
    """Write the cell graph, and the cell–gene graph with text vectors of the genes, for PyTorch Geometric.

    The cells are prepared as `cluster` and `embed` do; `cellmodel.io.read_graph` opens the folder as a HeteroData.
    Without a store (--knowledge none) genes have names and expression, but no features.

    Example: cellmodel graph export cells.h5ad --kb human -o graph
    """
    from cellmodel.io.graph import IDS
    from cellmodel.tl._graph import export_file

    config, reading = views.config(), read.config()
    kb = store.open_for(views.knowledge)
    graph = export_file(path, output, kb, config, read=reading, label_key=label_key, overwrite=overwrite)
    ids = {name: graph.record[name] for name in IDS if name in graph.record}
    nodes = {kind: {name: list(values.shape) for name, values in held.items()} for kind, held in graph.nodes.items()}
    content = {
        "input": str(path),
        **ids,
        "sizes": graph.sizes,
        "features": nodes,
        "classes": graph.classes,
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
