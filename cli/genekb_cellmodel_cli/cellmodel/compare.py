"""The command `cellmodel compare`: clusters of one file against clusters of another."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of, wrong_usage
from genekb_cellmodel_cli.app.output import Columns, show, table
from genekb_cellmodel_cli.app.signature import Arguments

if TYPE_CHECKING:
    from cellmodel.annotate.match_clusters import CellComparison

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
        "cellmodel.tl.compare", "a", "b", kb_b={"type": str}, plot={"written": options.A_PLOT}
    ),
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Match the clusters of two files, of one species or of two, by shared markers and by the meaning of their genes.

    Example: cellmodel compare a.h5ad b.h5ad --kb human --kb-b mouse -o compare.tsv --plot sankey.svg
    """
    from cellmodel.annotate.match_clusters import CompareConfig
    from cellmodel.tl._compare import CompareOutputs, SideFile, compare_files

    plot, kb_b, cluster_key_b = arguments.pop("plot"), arguments.pop("kb_b"), arguments.pop("cluster_key_b")
    outputs = CompareOutputs(table=output, plot=plot, **arguments.take("overwrite"))
    how, genes_by = CompareConfig(n_permutations=arguments.pop("permutations")), arguments.pop("genes_by")
    side = arguments.take("cluster_key", "other_store")
    with wrong_usage():
        read, config = arguments.read(), arguments.config()
    first = SideFile(path=a, kb=store.open(trust_remote_code=trust_remote_code), read=read, **side)
    other = first.kb if kb_b is None else store.open(kb_b, trust_remote_code=trust_remote_code)
    second = replace(first, path=b, kb=other, cluster_key=cluster_key_b or first.cluster_key)
    found = compare_files(first, second, config, compare=how, genes_by=genes_by, outputs=outputs)
    written = {name: str(path) for name, path in (("table", output), ("plot", plot)) if path is not None}
    content = {"a": str(a), "b": str(b), **_content(found), **written}
    lines = [*_match_lines(found, (a, b)), "", *(f"{name}: {path}" for name, path in written.items())]
    show(content, lines, json=json)


def _content(found: "CellComparison") -> dict[str, Any]:
    from dataclasses import asdict

    from cellmodel.io.records import lineage_record
    from cellmodel.tl._compare import match_row

    return {
        "genes_by": found.genes_by,
        "n_genes": list(found.n_genes),
        "n_shared_genes": found.n_shared,
        "encoder": found.encoder_id,
        "store_ids": list(found.store_ids),
        "clusters_from": [lineage_record(made).get("clusters_from") for made in found.made_with],
        "note": found.note,
        "matches": [match_row(match) for match in found.matches],
        "pairs": [asdict(pair) for pair in found.pairs],
    }


def _match_lines(found: "CellComparison", paths: tuple[Path, Path]) -> Iterator[str]:
    from cellmodel.tl._compare import match_row

    yield found.note
    for source, store_id, made in zip(paths, found.store_ids, found.made_with, strict=True):
        if made is not None:
            yield f"clusters of {source} were made with {made.store_id}, and read with {store_id}"
    for side, path, other in (("a", *paths), ("b", *reversed(paths))):
        rows = [match_row(match) for match in found.matches if match.side == side]
        yield from ("", f"clusters of {path} in {other}:", *table(_COLUMNS, rows))
