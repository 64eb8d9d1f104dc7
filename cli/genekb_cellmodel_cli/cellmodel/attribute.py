"""The command `cellmodel attribute`: what sets clusters apart, from which genes, and why to believe it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.choices import read_config
from genekb_cellmodel_cli.app.output import print_json, print_lines, print_table

if TYPE_CHECKING:
    from cellmodel.explain.evidence import AttributeConfig, Evidence, GroupEvidence

_TOLD = 20  # genes of a group in --json; the tables and the slot have all
_SHOWN = 5
_MAX_P = 0.05


def attribute(
    path: Annotated[Path, typer.Argument(help="Cells with clusters, for example of `cellmodel cluster`.")],
    kb: options.Kb,
    output: Annotated[Path, typer.Option("--output", "-o", help="Annotated cells to write: .h5ad or .zarr.")],
    cluster_key: Annotated[str, typer.Option(help="Column of obs with the clusters.")] = "cellmodel",
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Two clusters to compare with one another, not each with the rest.", show_default=False),
    ] = None,
    condition_key: Annotated[
        str | None,
        typer.Option(help="Column of obs with conditions to compare inside each cluster.", show_default=False),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="With --condition-key: this cluster alone.", show_default=False)
    ] = None,
    gmt: Annotated[list[Path] | None, typer.Option(help="Gene sets, .gmt; repeatable.", show_default=False)] = None,
    tables: Annotated[Path | None, typer.Option(help="Folder for the tables as .tsv.", show_default=False)] = None,
    permutations: Annotated[int, typer.Option(help="How often texts are dealt out anew.", min=1)] = 200,
    encoder: options.Encoder = None,
    min_coverage: options.MinCoverage = 0.3,
    orthologs: options.Orthologs = False,
    other_store: options.OtherStore = False,
    layer: options.Layer = None,
    use_raw: options.UseRaw = False,
    gene_key: options.GeneKey = None,
    values: options.Values = "auto",
    key_added: options.KeyAdded = "cellmodel_attribution",
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Tell what sets clusters apart: markers, contributions of genes, themes and enriched gene sets, with evidence.

    Example: cellmodel attribute out.h5ad --kb human -o attributed.h5ad --tables tables
    """
    from cellmodel.core.config import RunConfig
    from cellmodel.io.outputs import WriteConfig
    from cellmodel.tl._attribute import attribute_file
    from genekb import open as open_store

    choice = _choice(
        cluster_key=cluster_key,
        between=between or None,
        condition_key=condition_key,
        cluster=cluster,
        gmt=tuple(gmt or ()),
        n_permutations=permutations,
        other_store=other_store,
    )
    found = attribute_file(
        path,
        open_store(kb, home=home),
        config=RunConfig(encoder=encoder, use_orthologs=orthologs, min_coverage=min_coverage, seed=seed),
        choice=choice,
        read=read_config(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values),
        write=WriteConfig(output=output, key_added=key_added, overwrite=overwrite),
        tables=tables,
    )
    if json:
        print_json({"input": str(path), "output": str(output), "tables": str(tables or ""), **_content(found)})
        return
    print_table(("cluster", "cells", "distance p", "markers", "contributions", "themes"), map(_row, found.groups))
    if found.sources:
        print_lines([""])
        print_table(("cluster", "gene set", "p adjusted", "genes"), _set_rows(found))
    print_lines(["", f"output: {output}", *([f"tables: {tables}"] if tables else [])])


def _choice(**choices: Any) -> "AttributeConfig":
    from cellmodel.explain.evidence import AttributeConfig

    try:
        return AttributeConfig(**choices)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _title(group: "GroupEvidence") -> str:
    contrast = group.contrast
    name = f"{contrast.cluster}: {contrast.condition}" if contrast.condition else contrast.cluster
    return name if contrast.against == "rest" else f"{name} against {contrast.against}"


def _row(group: "GroupEvidence") -> tuple[Any, ...]:
    themes = [f"{theme.term} (p {theme.p_adjusted:.2g})" for theme in group.themes if theme.p_adjusted <= _MAX_P]
    return (
        _title(group),
        group.contrast.n_cells,
        group.distance_p,
        " ".join(marker.name for marker in group.markers[:_SHOWN]),
        " ".join(gene.name for gene in group.contributions[:_SHOWN]),
        ", ".join(themes[:_SHOWN]) or "none",
    )


def _set_rows(found: "Evidence") -> list[tuple[str, ...]]:
    return [
        (
            _title(group),
            one.gene_set.name,
            f"{one.p_adjusted:.2g}",
            " ".join(found.symbols[gene] for gene in one.gene_ids[:_SHOWN]),
        )
        for group in found.groups
        for one in group.enriched[:_SHOWN]
    ]


def _content(found: "Evidence") -> dict[str, Any]:
    from cellmodel.io.lineage import lineage_record

    return {
        "store": found.store_id,
        "encoder": found.encoder_id,
        **lineage_record(found.made_with),
        "gene_sets": found.sources,
        "groups": [_group(group, found) for group in found.groups],
    }


def _group(group: "GroupEvidence", found: "Evidence") -> dict[str, Any]:
    from dataclasses import asdict

    contrast, markers = asdict(group.contrast), [asdict(marker) for marker in group.markers[:_TOLD]]
    for row, place in ((contrast, "group"), *((marker, "gene") for marker in markers)):
        del row[place]  # numbers of rows in our own arrays
    return contrast | {
        "distance": group.distance,
        "distance_p": group.distance_p,
        "n_genes": len(group.contributions),
        "markers": markers,
        "contributions": [asdict(gene) for gene in group.contributions[:_TOLD]],
        "themes": [asdict(theme) for theme in group.themes],
        "enrichment": [
            {
                "set": one.gene_set.name,
                "set_id": one.gene_set.set_id,
                "source": one.gene_set.source,
                "p_value": one.p_value,
                "p_adjusted": one.p_adjusted,
                "fold": one.fold,
                "genes": [found.symbols[gene] for gene in one.gene_ids],
            }
            for one in group.enriched
        ],
    }


def register(app: typer.Typer) -> None:
    """Add the command of this module to `cellmodel`."""
    app.command()(attribute)
