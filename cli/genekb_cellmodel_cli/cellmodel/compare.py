"""The command `cellmodel compare`: clusters of one file against clusters of another."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import Columns, show, table
from genekb_cellmodel_cli.app.signature import Arguments

_COLUMNS: Columns = {
    "cluster": "cluster",
    "cells": "n_cells",
    "match": "match",
    "both ways": "is_reciprocal",
    "by meaning": "by_meaning",
    "by markers": "by_markers",
    "shared": "n_shared",
    "markers": lambda row: row["shared_markers"].split()[:5],
}


def compare(
    a: options.ClusteredFile,
    b: options.ClusteredFile,
    store: options.Store,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Table of the matches to write: .tsv or .csv."),
        options.A_TABLE,
    ] = None,
    arguments: Arguments = arguments_of(
        "cellmodel.tl.compare", "a", "b", "output", kb_b={"type": str}, plot={"written": options.A_PLOT}
    ),
    json: options.Json = False,
) -> None:
    """Match the clusters of two files, of one species or of two, by shared markers and by the meaning of their genes.

    Example: cellmodel compare a.h5ad b.h5ad --kb human --kb-b mouse -o compare.tsv --plot sankey.svg
    """
    kb, kb_b = store.open(), arguments.pop("kb_b")
    found = arguments.call(a, b, kb, kb_b=None if kb_b is None else store.open(kb_b), output=output)
    rows, record = found.to_dict("records"), dict(found.attrs)
    pairs = record.pop("pairs")
    written = {name: str(path) for name, path in (("table", output), ("plot", arguments["plot"])) if path is not None}
    content = {"a": str(a), "b": str(b), **record, "matches": rows, "pairs": pairs, **written}
    lines = [*_match_lines(content), "", *(f"{name}: {path}" for name, path in written.items())]
    show(content, lines, json=json)


def _match_lines(content: dict[str, Any]) -> Iterator[str]:
    yield content["note"]
    for side, other, store_id, made in zip(
        ("a", "b"), ("b", "a"), content["store_ids"], content["clusters_from"], strict=True
    ):
        if made is not None:
            yield f"clusters of {content[side]} were made with {made['store_id']}, and read with {store_id}"
        rows = [row for row in content["matches"] if row["side"] == side]
        yield from ("", f"clusters of {content[side]} in {content[other]}:", *table(_COLUMNS, rows))
