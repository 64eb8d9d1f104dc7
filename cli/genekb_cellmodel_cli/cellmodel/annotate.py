"""The commands `cellmodel annotate`, `map-labels` and `search`: names, terms of labels, and cells by free text."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genekb.core.messages import p_text
from genekb.files.endings import CELLS, TABLE, check_ending
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of, wrong_usage
from genekb_cellmodel_cli.app.output import Columns, show, table
from genekb_cellmodel_cli.app.signature import Arguments
from genekb_cellmodel_cli.cellmodel.samples import Out

if TYPE_CHECKING:
    import genekb
    from cellmodel.annotate.candidates import Panel
    from cellmodel.annotate.cell_types import CellType
    from cellmodel.annotate.marker_lists import ListChoice
    from cellmodel.annotate.marker_overlap import Naming
    from cellmodel.annotate.name_cells import NamedCells
    from cellmodel.annotate.search.cells import Found
    from cellmodel.core.config import RunConfig
    from cellmodel.explain.terms import SupportingGene

_SHOWN = 6  # genes of a cluster that are shown
_LISTED = 3  # clusters whose genes are shown with a sentence


OnlyTissue = Annotated[
    str | None, typer.Option(help="Types of these tissues of the table and no others: blood,pancreas.")
]
Markers = Annotated[
    Path | None,
    typer.Option(
        help="Marker genes: .tsv or .csv with cell_type and gene, or .json of type to genes; without --kb, names come "
        "from their overlap alone."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The cell types to choose from."""

    candidates: Path | None = None
    tissue: str | None = None
    only_tissue: str | None = None
    markers: Path | None = None

    def read(self) -> "tuple[CellType, ...]":
        """Read the cell types to choose from."""
        from dataclasses import asdict

        from cellmodel.annotate.candidates import choose_types

        with wrong_usage():
            return choose_types(**asdict(self))


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

    def are_given(self, path: Path | None) -> bool:
        """Whether there are lists to name; wrong usage if there are neither lists nor cells, or both."""
        if (path is None) == (self.marker_lists is None):
            raise typer.BadParameter("give cells with clusters, or --marker-lists FILE: one of the two")
        if self.marker_lists is None and self.universe is not None:
            raise typer.BadParameter("--universe goes with --marker-lists: of cells, the measured genes are known")
        return self.marker_lists is not None

    def choice(self, **more: Any) -> "ListChoice":
        """Say how they are named."""
        from cellmodel.annotate.marker_lists import ListChoice
        from cellmodel.explain.marker_tables import read_universe

        universe = None if self.universe is None else read_universe(self.universe)
        return ListChoice(universe=universe, n_top=self.top, **more)


def annotate(
    out: Out,
    store: options.MaybeStore,
    lists: Lists,
    path: Annotated[
        Path | None, typer.Argument(help="Cells with clusters; left out with --marker-lists.", show_default=False)
    ] = None,
    arguments: Arguments = arguments_of("cellmodel.tl.annotate"),
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Name clusters by the text of cell types and their marker genes; where the evidence is weak, unassigned.

    Example: cellmodel annotate out.h5ad --kb human -o named.h5ad
    """
    if out.output is not None:
        check_ending(out.output, CELLS if path else TABLE, error=typer.BadParameter)
    candidates = Candidates(**arguments.take("candidates", "tissue", "only_tissue", "markers"))
    slots, level = options.Slots(**arguments.take("key_added", "overwrite")), arguments.pop("level")
    kb = store.open(trust_remote_code=trust_remote_code)
    panel = read_panel_alone(candidates, encoder=arguments["encoder"], level=level) if kb is None else {}
    naming = {"n_permutations": arguments.pop("permutations"), "level": level}
    chosen = {**arguments.take("cluster_key", "other_store"), "types": candidates.read() if kb else ()}
    with wrong_usage():
        reading, config = arguments.read(), arguments.config()
    if lists.are_given(path) or path is None:
        choice = lists.choice(types=chosen["types"] or None, **naming)
        _name_lists(
            lists, kb, config, choice=choice, panel=panel, output=out.output, overwrite=slots.overwrite, json=out.json
        )
        return
    from cellmodel.annotate.name_cells import TypeChoice, TypeNaming
    from cellmodel.tl._annotate import AnnotateJob, OverlapJob
    from cellmodel.tl._run.task import run_on_file

    write = slots.write_or_print(out, path, json=out.json)
    given = {"input": str(path), "output": str(write.output if write else "")}
    if kb is None:
        by_overlap = run_on_file(
            path, OverlapJob(panel=panel, cluster_key=chosen["cluster_key"]), read=reading, write=write
        )
        _print_names(given | names_content(by_overlap), _BY_OVERLAP, json=out.json)
        return
    choice_of_types = TypeChoice(naming=TypeNaming(**naming), **chosen)
    named = run_on_file(path, AnnotateJob(kb, config, choice=choice_of_types), read=reading, write=write)
    _print_names(given | names_content(named), _BY_TYPES, json=out.json)


def names_content(found: "NamedCells | Naming") -> dict[str, Any]:
    """Report the names of clusters, by types or by overlap."""
    from cellmodel.annotate.name_cells import NamedCells
    from cellmodel.io.records import lineage_record

    if not isinstance(found, NamedCells):
        return {"clusters": found.rows()}
    return {
        "store_id": found.lineage.store_id,
        "encoder_id": found.lineage.encoder_id,
        **lineage_record(found.made_with),
        "n_candidates": found.n_candidates,
        "clusters": found.rows(),
    }


def read_panel_alone(candidates: Candidates, *, encoder: str | None, level: str) -> "Panel":
    """Read the marker genes by type, where names come from them alone."""
    from cellmodel.annotate.candidates import read_panel

    others = (candidates.candidates, candidates.tissue, candidates.only_tissue, encoder)
    if candidates.markers is None or any(given is not None for given in others):
        raise typer.BadParameter("names come from a store, --kb NAME, or from --markers FILE without any other list")
    panel = read_panel(candidates.markers)
    if level != "auto":
        raise typer.BadParameter("--level needs a store, --kb NAME: groups are of the table of types")
    return panel


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


def _print_names(content: dict[str, Any], columns: Columns, *, json: bool) -> None:
    candidates = [f"candidates: {content['n_candidates']} types"] if "n_candidates" in content else []
    lines = [*table(columns, content["clusters"]), "", *candidates, f"output: {content['output']}"]
    show(content, lines, json=json)


def _name_lists(
    lists: Lists,
    kb: "genekb.Store | None",
    config: "RunConfig",
    *,
    choice: "ListChoice",
    panel: "Panel",
    output: Path | None,
    overwrite: bool,
    json: bool,
) -> None:
    """Name the lists, write the names where there is an output, and show them."""
    from cellmodel.explain.marker_tables import read_marker_lists
    from cellmodel.tl._annotate import named_rows, write_names
    from genekb.files.replace import Target, check_targets

    path = lists.marker_lists
    assert path is not None
    inputs = [path] if lists.universe is None else [path, lists.universe]
    check_targets([Target(output)] if output else [], inputs=inputs, overwrite=overwrite)
    content = named_rows(read_marker_lists(path), kb, config, choice=choice, panel=panel)
    if output:
        write_names(content["clusters"], output, overwrite=overwrite)
    show({"input": str(path), "output": str(output or "")} | content, _list_lines(content, output), json=json)


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
    from cellmodel.annotate.ontology.labels import map_labels, read_labels
    from genekb.files.replace import Target, check_targets
    from genekb.files.tables import write_table

    check_targets([Target(output, makes_parents=True)] if output else [], inputs=[path], overwrite=overwrite)
    rows = [one._asdict() for one in map_labels(read_labels(path, column))]
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
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Rank clusters and score cells by free text, with the genes responsible and what their texts say.

    Example: cellmodel search out.h5ad "cytotoxic T lymphocytes" --kb human
    """
    from cellmodel.annotate.search.cells import SearchConfig
    from cellmodel.tl._run.task import run_on_file
    from cellmodel.tl._search import SearchJob

    slots = options.Slots(**arguments.take("key_added", "overwrite"))
    with wrong_usage():
        wanted = SearchConfig(query=query, **arguments.take("use_types", "cluster_key", "other_store"))
        reading, config = arguments.read(), arguments.config()
    task = SearchJob(store.open(trust_remote_code=trust_remote_code), config, search=wanted)
    write = slots.write_cells(out, path) if out.is_given else None
    found = run_on_file(path, task, read=reading, write=write)
    content = {"input": str(path), "query": query, "output": str(write.output if write else ""), **found.to_dict()}
    written = ["", f"output: {write.output}"] if write else []
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
