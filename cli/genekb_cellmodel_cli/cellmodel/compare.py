"""The command `cellmodel compare`: clusters of one file against clusters of another."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.choices import read_config
from genekb_cellmodel_cli.app.output import print_json, print_lines, print_table

if TYPE_CHECKING:
    from cellmodel.annotate.compare import CellComparison

Cells = Annotated[Path, typer.Argument(help="Cells with clusters, for example of `cellmodel cluster`.")]
ClusterKey = Annotated[str, typer.Option(help="Column of obs with the clusters.")]
GenesBy = Annotated[
    Literal["ids", "orthologs", "text"] | None,
    typer.Option(
        help="How genes of the two files meet; ids within a species and orthologs across two if left out. With text "
        "no gene has to meet, and meaning decides alone.",
        show_default=False,
    ),
]
_SHOWN = ("cluster", "n_cells", "match", "is_reciprocal", "by_meaning", "by_markers", "n_shared", "shared_markers")


def compare(
    a: Cells,
    b: Cells,
    kb: options.Kb,
    kb_b: Annotated[
        str | None,
        typer.Option("--kb-b", help="Store of the second file, if that is of another species.", show_default=False),
    ] = None,
    cluster_key: ClusterKey = "cellmodel",
    cluster_key_b: Annotated[
        str | None, typer.Option(help="The same in the second file, if it is another there.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Table of the matches to write: .tsv or .csv.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Sankey diagram of the matches to write: .svg, .png or .pdf.")
    ] = None,
    genes_by: GenesBy = None,
    encoder: options.Encoder = None,
    permutations: Annotated[int, typer.Option(help="Deals of the genes, for the p values.", min=1)] = 200,
    min_coverage: options.MinCoverage = 0.3,
    layer: options.Layer = None,
    use_raw: options.UseRaw = False,
    gene_key: options.GeneKey = None,
    values: options.Values = "auto",
    other_store: options.OtherStore = False,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    trust_remote_code: options.TrustRemoteCode = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Match the clusters of two files, of one species or of two, by shared markers and by the meaning of their genes.

    Example: cellmodel compare a.h5ad b.h5ad --kb human --kb-b mouse -o compare.tsv --plot sankey.svg
    """
    from cellmodel.annotate.match_clusters import CompareConfig
    from cellmodel.core.config import RunConfig
    from cellmodel.tl._compare import CompareOutputs, SideFile, compare_files
    from genekb import open as open_store

    read = read_config(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    store = open_store(kb, home=home, trust_remote_code=trust_remote_code)
    other = store if kb_b is None else open_store(kb_b, home=home, trust_remote_code=trust_remote_code)
    found = compare_files(
        SideFile(path=a, kb=store, cluster_key=cluster_key, read=read, other_store=other_store),
        SideFile(path=b, kb=other, cluster_key=cluster_key_b or cluster_key, read=read, other_store=other_store),
        RunConfig(encoder=encoder, min_coverage=min_coverage, seed=seed),
        compare=CompareConfig(n_permutations=permutations),
        meeting=genes_by,
        outputs=CompareOutputs(table=output, plot=plot, overwrite=overwrite),
    )
    written = {name: str(path) for name, path in (("table", output), ("plot", plot)) if path is not None}
    if json:
        print_json({"a": str(a), "b": str(b), **_content(found), **written})
        return
    _print_matches(found, (a, b))
    print_lines(["", *(f"{name}: {path}" for name, path in written.items())])


def _content(found: "CellComparison") -> dict[str, Any]:
    from dataclasses import asdict

    from cellmodel.io.lineage import lineage_record
    from cellmodel.tl._compare import match_row

    return {
        "genes_by": found.meeting,
        "n_genes": list(found.n_genes),
        "n_shared_genes": found.n_shared,
        "encoder": found.encoder_id,
        "store_ids": list(found.store_ids),
        "clusters_from": [lineage_record(made).get("clusters_from") for made in found.made_with],
        "note": found.note,
        "matches": [match_row(match) for match in found.matches],
        "pairs": [asdict(pair) for pair in found.pairs],
    }


def _print_matches(found: "CellComparison", paths: tuple[Path, Path]) -> None:
    from cellmodel.tl._compare import match_row

    print_lines([found.note])
    for source, store_id, made in zip(paths, found.store_ids, found.made_with, strict=True):
        if made is not None:
            print_lines([f"clusters of {source} were made with {made.store_id}, and read with {store_id}"])
    for side, path, other in (("a", *paths), ("b", *reversed(paths))):
        print_lines(["", f"clusters of {path} in {other}:"])
        rows = [match_row(match) for match in found.matches if match.side == side]
        print_table(
            ("cluster", "cells", "match", "both ways", "by meaning", "by markers", "shared", "markers"),
            [
                tuple(
                    ("yes" if value else "no")
                    if isinstance(value, bool)
                    else " ".join(str(value).split()[:5])
                    if name == "shared_markers"
                    else value
                    for name, value in ((name, row[name]) for name in _SHOWN)
                )
                for row in rows
            ],
        )


def register(app: typer.Typer) -> None:
    """Add the command of this module to `cellmodel`."""
    app.command()(compare)
