"""The command `cellmodel search`: free text against the clusters and cells of a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.choices import read_config
from genekb_cellmodel_cli.app.output import print_json, print_lines, print_table

if TYPE_CHECKING:
    from cellmodel.annotate.search import Found, FoundGene

_TOLD = 3  # clusters whose genes are told with a sentence


def search(
    path: Annotated[Path, typer.Argument(help="Cells, with clusters or without.")],
    query: Annotated[str, typer.Argument(help="Free text.")],
    kb: options.Kb,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Cells with their scores, .h5ad or .zarr.", show_default=False),
    ] = None,
    cluster_key: Annotated[
        str | None,
        typer.Option(help="Column of obs with the clusters; cellmodel if it is there.", show_default=False),
    ] = None,
    no_types: Annotated[
        bool, typer.Option("--no-types", help="Do not bring in the markers of cell types that the query names.")
    ] = False,
    encoder: options.Encoder = None,
    min_coverage: options.MinCoverage = 0.3,
    orthologs: options.Orthologs = False,
    other_store: options.OtherStore = False,
    layer: options.Layer = None,
    use_raw: options.UseRaw = False,
    gene_key: options.GeneKey = None,
    values: options.Values = "auto",
    key_added: options.KeyAdded = "cellmodel_search",
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    trust_remote_code: options.TrustRemoteCode = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Rank clusters and score cells by free text, with the genes responsible and what is said of them.

    Example: cellmodel search out.h5ad "cytotoxic T lymphocytes" --kb human
    """
    from cellmodel.annotate.search import SearchConfig
    from cellmodel.core.config import RunConfig
    from cellmodel.io.outputs import WriteConfig
    from cellmodel.tl._search import search_file
    from genekb import open as open_store

    write = None if output is None else WriteConfig(output=output, key_added=key_added, overwrite=overwrite)
    found = search_file(
        path,
        open_store(kb, home=home, trust_remote_code=trust_remote_code),
        RunConfig(encoder=encoder, use_orthologs=orthologs, min_coverage=min_coverage, seed=seed),
        search=SearchConfig(query=query, cluster_key=cluster_key, use_types=not no_types, other_store=other_store),
        read=read_config(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values),
        write=write,
    )
    if json:
        print_json({"input": str(path), "query": query, "output": str(output or ""), **found.to_dict()})
        return
    _tell(found)
    if output is not None:
        print_lines(["", f"output: {output}"])


def _tell(found: "Found") -> None:
    if found.types:
        print_lines([f"meant: {', '.join(f'{name} {nearness:.2f}' for name, nearness in found.types[:_TOLD])}", ""])
    if found.clusters:
        print_table(
            ("cluster", "cells", "score", "p", "genes"),
            [
                (
                    one.cluster,
                    one.n_cells,
                    f"{one.score:.1f}",
                    f"{one.p_value:.2g}",
                    " ".join(gene.name for gene in one.genes),
                )
                for one in found.clusters
            ],
        )
    for one in found.clusters[:_TOLD]:
        print_lines(["", f"cluster {one.cluster}:", *_lines(one.genes)])
    if not found.clusters:
        print_lines(["the 5 % of cells with the highest scores:", *_lines(found.genes)])


def _lines(genes: "tuple[FoundGene, ...]") -> list[str]:
    return [f"  {gene.name} (+{gene.contribution:.1f}): {gene.sentence or 'no text'}" for gene in genes]


def register(app: typer.Typer) -> None:
    """Add the command of this module to `cellmodel`."""
    app.command()(search)
