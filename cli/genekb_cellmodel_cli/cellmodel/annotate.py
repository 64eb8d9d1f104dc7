"""The command `cellmodel annotate`: names for clusters."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.choices import read_config
from genekb_cellmodel_cli.app.output import print_json, print_lines, print_table

if TYPE_CHECKING:
    from cellmodel.annotate.candidates import CellType
    from cellmodel.io.cells import ReadConfig
    from cellmodel.io.outputs import WriteConfig

_SHOWN = 6


def annotate(
    path: Annotated[Path, typer.Argument(help="Cells with clusters, for example of `cellmodel cluster`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Annotated cells to write: .h5ad or .zarr.")],
    kb: options.KbOptional = None,
    encoder: options.Encoder = None,
    candidates: Annotated[
        Path | None,
        typer.Option(
            help="Cell types to choose from: .tsv or .csv with cell_type and, if you like, definition and genes, else "
            "a name a line; the table of the package if left out.",
            show_default=False,
        ),
    ] = None,
    tissue: Annotated[
        str | None,
        typer.Option(
            help="Types of these tissues of the table, with commas between (gut,pancreas), and the immune, stromal, "
            "vascular, neural and blood cells of every tissue.",
            show_default=False,
        ),
    ] = None,
    only_tissue: Annotated[
        str | None,
        typer.Option(help="Types of these tissues of the table and no others: blood,pancreas.", show_default=False),
    ] = None,
    markers: Annotated[
        Path | None,
        typer.Option(
            help="Marker genes: .tsv or .csv with cell_type and gene, or .json of type to genes; without --kb, names "
            "come from their overlap alone.",
            show_default=False,
        ),
    ] = None,
    cluster_key: Annotated[str, typer.Option(help="Column of obs with the clusters.")] = "cellmodel",
    permutations: Annotated[int, typer.Option(help="How often genes are dealt out anew.", min=1)] = 200,
    min_coverage: options.MinCoverage = 0.3,
    orthologs: options.Orthologs = False,
    other_store: options.OtherStore = False,
    layer: options.Layer = None,
    use_raw: options.UseRaw = False,
    gene_key: options.GeneKey = None,
    values: options.Values = "auto",
    key_added: options.KeyAdded = "cellmodel_name",
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    trust_remote_code: options.TrustRemoteCode = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Name clusters by the text of cell types and their marker genes; where the evidence is weak, unassigned.

    Example: cellmodel annotate out.h5ad --kb human -o named.h5ad
    """
    from cellmodel.io.outputs import WriteConfig

    read = read_config(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    write = WriteConfig(output=output, key_added=key_added, overwrite=overwrite)
    if kb is None:
        if markers is None or any(given is not None for given in (candidates, tissue, only_tissue, encoder)):
            raise typer.BadParameter(
                "names come from a store, --kb NAME, or from --markers FILE without any other list"
            )
        _by_overlap(path, markers, cluster_key=cluster_key, read=read, write=write, json=json)
        return
    from cellmodel.annotate.name_cells import TypeChoice
    from cellmodel.annotate.type_names import TypeNaming
    from cellmodel.core.config import RunConfig
    from cellmodel.io.lineage import lineage_record
    from cellmodel.tl._annotate import annotate_types_file
    from genekb import open as open_store

    named = annotate_types_file(
        path,
        open_store(kb, home=home, trust_remote_code=trust_remote_code),
        RunConfig(encoder=encoder, use_orthologs=orthologs, min_coverage=min_coverage, seed=seed),
        choice=TypeChoice(
            cluster_key=cluster_key,
            types=_types(candidates, tissue=tissue, only_tissue=only_tissue, markers=markers),
            naming=TypeNaming(n_permutations=permutations),
            other_store=other_store,
        ),
        read=read,
        write=write,
    )
    _tell_types(
        {
            "input": str(path),
            "output": str(output),
            "store_id": named.store_id,
            "encoder_id": named.encoder_id,
            **lineage_record(named.made_with),
            "n_candidates": named.n_candidates,
            "clusters": named.rows(),
        },
        json=json,
    )


def _types(
    candidates: Path | None, *, tissue: str | None, only_tissue: str | None, markers: Path | None
) -> "tuple[CellType, ...]":
    """Cell types to choose from."""
    from cellmodel.annotate.candidates import (
        IN_EVERY_TISSUE,
        CellType,
        of_tissues,
        read_candidates,
        read_cell_types,
        read_panel,
    )

    if sum(choice is not None for choice in (candidates, tissue, only_tissue, markers)) > 1:
        raise typer.BadParameter(
            "--candidates, --tissue, --only-tissue and --markers each name the types to choose from; give one"
        )
    if candidates is not None:
        return read_candidates(candidates)
    if markers is not None:
        return tuple(CellType(name=name, genes=genes) for name, genes in read_panel(markers).items())
    wanted = tissue if only_tissue is None else only_tissue
    if wanted is None:
        return read_cell_types()
    tissues = [name.strip() for name in wanted.split(",") if name.strip()]
    return of_tissues(read_cell_types(), tissues, in_every=IN_EVERY_TISSUE if only_tissue is None else ())


def _tell_types(content: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(content)
        return
    from cellmodel.annotate.marker_overlap import display_name

    print_table(
        ("cluster", "cells", "name", "score", "text", "markers", "margin", "p", "runner-up", "genes"),
        [
            (
                row["cluster"],
                row["n_cells"],
                display_name(row["name"], best=row["best"], reason=row["reason"]),
                *(f"{row[part]:.1f}" for part in ("score", "text_score", "marker_score", "margin")),
                f"{row['p_value']:.2g}",
                row["runner_up"] or "",
                " ".join(gene["name"] for gene in row["genes"][:_SHOWN]),
            )
            for row in content["clusters"]
        ],
    )
    print_lines(["", f"candidates: {content['n_candidates']} types", f"output: {content['output']}"])


def _by_overlap(
    path: Path, markers: Path, *, cluster_key: str, read: "ReadConfig", write: "WriteConfig", json: bool
) -> None:
    """Name clusters by the overlap of their markers with a user's panel."""
    from cellmodel.annotate.candidates import read_panel
    from cellmodel.annotate.marker_overlap import display_name
    from cellmodel.tl._annotate import annotate_file

    found = annotate_file(path, read_panel(markers), cluster_key=cluster_key, read=read, write=write)
    rows: list[dict[str, Any]] = [
        {"cluster": cluster, "n_cells": n_cells}
        | {name: part for name, part in asdict(one).items() if name != "cluster"}
        for cluster, n_cells, one in zip(found.clusters, found.n_cells, found.names, strict=True)
    ]
    if json:
        print_json({"input": str(path), "output": str(write.output), "clusters": rows})
        return
    print_table(
        ("cluster", "cells", "name", "p adjusted", "shared genes", "runner-up", "its p"),
        [
            (
                row["cluster"],
                row["n_cells"],
                display_name(row["name"], best=row["best"], reason=row["reason"]),
                f"{row['p_adjusted']:.2g}",
                " ".join(row["genes"][:_SHOWN]),
                row["runner_up"] or "",
                f"{row['runner_up_p_adjusted']:.2g}",
            )
            for row in rows
        ],
    )
    print_lines(["", f"output: {write.output}"])


def register(app: typer.Typer) -> None:
    """Add the command of this module to `cellmodel`."""
    app.command()(annotate)
