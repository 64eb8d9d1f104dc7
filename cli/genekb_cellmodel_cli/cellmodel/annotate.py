"""The commands `cellmodel annotate`, `map-labels` and `search`: names, terms of labels, and cells by free text."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genekb.core.messages import p_text
from genekb.files.endings import CELLS, TABLE, check_ending
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import Columns, show, table
from genekb_cellmodel_cli.app.signature import Arguments

if TYPE_CHECKING:
    from cellmodel.annotate.search.cells import Found
    from cellmodel.explain.terms import SupportingGene

_SHOWN = 6  # genes of a cluster that are shown
_LISTED = 3  # clusters whose genes are shown with a sentence


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Lists of marker genes in place of cells."""

    marker_lists: Annotated[
        Path | None,
        typer.Option(
            help="Name lists of marker genes, no cells: a table with cluster and gene and, if you like, rank or score, "
            "such as those of Seurat's FindAllMarkers and scanpy's rank_genes_groups_df; .gmt; or a list a line, its "
            "name first."
        ),
    ] = None
    universe: Annotated[
        Path | None,
        typer.Option(help="Genes that a list could hold, one a line; all of the store with a text if left out."),
    ] = None
    top: Annotated[int, typer.Option(help="Genes of a list that count.", min=1)] = 50


def annotate(
    out: options.TableOrCellsOut,
    store: options.MaybeStore,
    lists: Lists,
    path: Annotated[
        Path | None, typer.Argument(help="Cells with clusters; left out with --marker-lists.", show_default=False)
    ] = None,
    arguments: Arguments = arguments_of("cellmodel.tl.annotate"),
    json: options.Json = False,
) -> None:
    """Name clusters by the text of cell types and their marker genes; where the evidence is weak, unassigned.

    Example: cellmodel annotate out.h5ad --kb human -o named.h5ad
    """
    from cellmodel.annotate.name_cells import NamedCells
    from cellmodel.io.records import lineage_record

    if (path is None) == (lists.marker_lists is None):
        raise typer.BadParameter("give cells with clusters, or --marker-lists FILE: one of the two")
    if out.output is not None:
        check_ending(out.output, CELLS if path else TABLE, error=typer.BadParameter)
    if path is None:
        _annotate_lists(lists, store, arguments, output=out.output, json=json)
        return
    if lists.universe is not None:
        raise typer.BadParameter("--universe goes with --marker-lists: of cells, the measured genes are known")
    files = out.files(path, is_needed=not json)
    found = arguments.call(files, store.open())
    content: dict[str, Any] = {"input": str(path), "output": files.written}
    columns, candidates = _BY_OVERLAP, list[str]()
    if isinstance(found, NamedCells):
        content |= {"store_id": found.lineage.store_id, "encoder_id": found.lineage.encoder_id}
        content |= lineage_record(found.made_with) | {"n_candidates": found.n_candidates}
        columns, candidates = _BY_TYPES, [f"candidates: {found.n_candidates} types"]
    content["clusters"] = found.rows()
    lines = [*table(columns, content["clusters"]), "", *candidates, f"output: {files.written}"]
    show(content, lines, json=json)


def shown_name(row: dict[str, Any]) -> str:
    """Name of a cluster or list, or why it has none."""
    from cellmodel.annotate.levels import NameFraction, mix_text
    from cellmodel.annotate.marker_overlap import display_name

    mix = [NameFraction(**one) for one in row["mix"]] if row.get("is_mixed") else ()
    return display_name(row["name"], best=row["best"], reason=row["reason"], mix=mix_text(mix))


_NAME: Columns = {"cluster": "cluster", "cells": "n_cells", "name": shown_name}
_BY_TYPES: Columns = {
    **_NAME,
    "confidence": "confidence",
    "level": "level",
    "parent": "parent",
    "score": "score:.1f",
    "text": "text_score:.1f",
    "markers": "marker_score:.1f",
    "margin": "margin:.1f",
    "p": "p_value:p",
    "runner-up": "runner_up",
    "genes": lambda row: [gene["name"] for gene in row["genes"][:_SHOWN]],
}
_OVERLAP: Columns = {
    "p adjusted": "p_adjusted:p",
    "shared genes": lambda row: row["genes"][:_SHOWN],
    "runner-up": "runner_up",
}
_BY_OVERLAP: Columns = {**_NAME, **_OVERLAP, "its p": "runner_up_p_adjusted:p"}
_LIST: Columns = {"cluster": "cluster", "genes": "n_genes", "name": shown_name}
_LISTS_BY_TYPES: Columns = {
    **_LIST,
    "confidence": "confidence",
    "level": "level",
    "parent": "parent",
    "score": "score:.1f",
    "p": "p_value:p",
    "runner-up": "runner_up",
    "responsible": lambda row: row["genes"][:_SHOWN],
}
_LISTS_BY_OVERLAP: Columns = {**_LIST, **_OVERLAP}


def _annotate_lists(
    lists: Lists, store: options.MaybeStore, arguments: Arguments, *, output: Path | None, json: bool
) -> None:
    """Name lists, write the names where there is an output, and show them."""
    import cellmodel as cm

    same = ("candidates", "tissue", "only_tissue", "level", "encoder", "orthologs", "overwrite", "random_state")
    assert lists.marker_lists is not None
    named = cm.tl.annotate_markers(
        lists.marker_lists, store.open(), panel=arguments["markers"], universe=lists.universe, n_top=lists.top,
        n_permutations=arguments["permutations"], output=output, **arguments.take(*same),
    )  # fmt: skip
    content: dict[str, Any] = {"input": str(lists.marker_lists), "output": str(output or "")}
    content |= {str(key): value for key, value in named.attrs.items()}
    show(content, _list_lines(content, output), json=json)


def _list_lines(content: dict[str, Any], output: Path | None) -> list[str]:
    rows = content["clusters"]
    lines = [*table(_LISTS_BY_TYPES if "store_id" in content else _LISTS_BY_OVERLAP, rows), ""]
    if "store_id" in content:
        lines.append(f"candidates: {content['n_candidates']} types, of {content['n_universe']:,} genes")
        if content["n_orthologs"]:
            lines.append(f"read as orthologues: {content['n_orthologs']} genes")
    unresolved = list(dict.fromkeys(gene for row in rows for gene in row["unresolved"]))
    if unresolved:
        lines.append(f"not known: {', '.join(unresolved)}")
    left_out = {"repeated": content["n_repeated"], "lower in the cluster or not significant": content["n_lower"]}
    lines += [f"rows left out: {number} {what}" for what, number in left_out.items() if number]
    return [*lines, *([f"output: {output}"] if output else [])]


def map_labels(
    path: Annotated[Path, typer.Argument(help="Labels, one a line; or a .tsv, .csv or cells, with --column.")],
    column: Annotated[
        str | None, typer.Option("--column", "--key", help="Column of the table, or of obs, with the labels.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Table to write, .tsv or .csv."), options.A_TABLE
    ] = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Map free labels of cell types to terms of the Cell Ontology, each with how sure that is.

    Example: cellmodel map-labels labels.txt -o mapped.tsv
    """
    from cellmodel.tl import map_labels
    from genekb.files.replace import Target, check_targets
    from genekb.files.tables import write_table

    check_targets([Target(output, makes_parents=True)] if output else [], inputs=[path], overwrite=overwrite)
    rows: list[dict[str, Any]] = map_labels(path, column=column).to_dict("records")  # type: ignore[assignment]  # text
    if output:
        write_table(output, list(rows[0]), map(dict.values, rows), overwrite=overwrite)
    lines = [f"output: {output}"] if output else table({key: key for key in rows[0]}, rows)
    show({"input": str(path), "labels": rows, "output": str(output or "")}, lines, json=json)


def search(
    path: Annotated[Path, typer.Argument(help="Cells, with clusters or without.")],
    query: Annotated[str, typer.Argument(help="Free text.")],
    store: options.Store,
    out: options.CellsOut,
    arguments: Arguments = arguments_of(
        "cellmodel.tl.search",
        "query",
        use_types={"names": ("--types/--no-types",)},
    ),
    json: options.Json = False,
) -> None:
    """Rank clusters and score cells by free text, with the genes responsible and what their texts say.

    Example: cellmodel search out.h5ad "cytotoxic T lymphocytes" --kb human
    """
    files = out.files(path, is_needed=False)
    found = arguments.call(files, store.open(), query)
    content = {"input": str(path), "query": query, "output": files.written, **found.to_dict()}
    written = ["", f"output: {files.written}"] if files.written else []
    show(content, [*_found_lines(found), *written], json=json)


def _found_lines(found: "Found") -> Iterator[str]:
    from genekb.core.words import list_unknown

    if found.unknown_words:
        yield f"in no gene text and no cell type: {list_unknown(found.unknown_words)}"
    if not found.stands_out:
        yield from (f"no cells stand out for this query (p {p_text(found.p_value)} among random queries)", "")
    if found.types:
        yield from (f"meant: {', '.join(f'{name} {nearness:.2f}' for name, nearness in found.types[:_LISTED])}", "")
    if found.clusters:
        columns: Columns = {
            "cluster": "cluster",
            "cells": "n_cells",
            "score": "score:.1f",
            "p": "p_value:p",
            "genes": lambda one: [gene.name for gene in one.genes],
        }
        yield from table(columns, found.clusters)
    for one in found.clusters[:_LISTED]:
        yield from ("", f"cluster {one.cluster}:", *_gene_lines(one.genes))
    if not found.clusters:
        yield from ("the 5 % of cells with the highest scores:", *_gene_lines(found.genes))


def _gene_lines(genes: "tuple[SupportingGene, ...]") -> list[str]:
    return [f"  {gene.name} (+{gene.contribution:.1f}): {gene.sentence or 'no text'}" for gene in genes]
