"""The command `cellmodel attribute`: what sets clusters apart, from which genes, and why to believe it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from genekb.core.messages import p_text
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import Columns, show, table
from genekb_cellmodel_cli.app.signature import Arguments

if TYPE_CHECKING:
    from cellmodel.explain.evidence import Evidence, GroupEvidence

_LISTED = 20  # genes of a group in --json; the tables and the slot have all
_SHOWN = 5
_MAX_P = 0.05


def attribute(
    path: options.ClusteredFile,
    store: options.Store,
    out: options.CellsOut,
    arguments: Arguments = arguments_of(
        "cellmodel.tl.attribute", between={"type": tuple[str, str]}, min_cells={"min": 1}
    ),
    json: options.Json = False,
) -> None:
    """Explain what sets clusters apart: markers, contributions of genes, themes and enriched gene sets, with evidence.

    Example: cellmodel attribute out.h5ad --kb human -o attributed.h5ad --tables tables
    """
    from cellmodel.io.records import lineage_record

    files, tables = out.files(path, is_needed=not json and arguments["tables"] is None), arguments["tables"]
    found = arguments.call(files, store.open())
    content = {
        "input": str(path),
        "output": files.written,
        "tables": str(tables or ""),
        "store": found.lineage.store_id,
        "encoder": found.lineage.encoder_id,
        **lineage_record(found.made_with),
        "gene_sets": found.sources,
        "notes": list(found.notes),
        "groups": [_group(group, found) for group in found.groups],
    }
    notes = ["", *found.notes] if found.notes else []
    enriched = [
        (
            _title(group),
            one.gene_set.name,
            p_text(one.p_adjusted),
            [found.symbols[gene] for gene in one.gene_ids[:_SHOWN]],
        )
        for group in found.groups
        for one in group.enriched[:_SHOWN]
    ]
    sets = ["", *table(("cluster", "gene set", "p adjusted", "genes"), enriched)] if found.sources else []
    written = ["", f"output: {files.written}", *([f"tables: {tables}"] if tables else [])]
    show(content, [*table(_COLUMNS, found.groups), *sets, *notes, *written], json=json)


def _title(group: "GroupEvidence") -> str:
    contrast = group.contrast
    name = f"{contrast.cluster}: {contrast.condition}" if contrast.condition else contrast.cluster
    return name if contrast.against == "rest" else f"{name} against {contrast.against}"


def shown_themes(group: "GroupEvidence") -> str:
    """Significant themes of a group, with their p values."""
    themes = [f"{theme.term} (p {p_text(theme.p_adjusted)})" for theme in group.themes if theme.p_adjusted <= _MAX_P]
    return ", ".join(themes[:_SHOWN]) or "none"


def shown_set_name(group: "GroupEvidence") -> str:
    """Name of the markers of a group as a gene set."""
    if group.named is None:
        return ""
    p_value = group.named.p_value
    return f"{group.named.name} (p {p_text(p_value)})" if group.named.name and p_value is not None else "none"


_COLUMNS: Columns = {
    "cluster": _title,
    "cells": lambda group: group.contrast.n_cells,
    "distance p": "distance_p",
    "markers": lambda group: [marker.name for marker in group.markers[:_SHOWN]],
    "contributions": lambda group: [gene.name for gene in group.contributions[:_SHOWN]],
    "words": lambda group: ", ".join(word.term for word in group.words),
    "themes": shown_themes,
    "name of the markers": shown_set_name,
}


def _group(group: "GroupEvidence", found: "Evidence") -> dict[str, Any]:
    contrast, markers = asdict(group.contrast), [asdict(marker) for marker in group.markers[:_LISTED]]
    for row, index in ((contrast, "group"), *((marker, "gene") for marker in markers)):
        del row[index]  # numbers of rows in our own arrays
    for marker in markers:
        marker |= {key: None for key, value in marker.items() if value != value}  # noqa: PLR0124 - no p value
    return contrast | {
        "distance": group.distance,
        "distance_p": group.distance_p,
        "n_genes": len(group.contributions),
        "markers": markers,
        "contributions": [asdict(gene) for gene in group.contributions[:_LISTED]],
        "words": [asdict(word) for word in group.words],
        "themes": [asdict(theme) for theme in group.themes],
        "name": asdict(group.named) if group.named else None,
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
