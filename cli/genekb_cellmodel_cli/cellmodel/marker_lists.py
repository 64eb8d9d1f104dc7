"""Names of marker lists without cells: a part of `cellmodel annotate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genekb_cellmodel_cli.app.output import Columns, show, table

if TYPE_CHECKING:
    import genekb
    from cellmodel.annotate.candidates import Panel
    from cellmodel.annotate.marker_lists import ListChoice
    from cellmodel.core.config import RunConfig

_SHOWN = 6  # genes of a list that are shown


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Lists of marker genes in place of cells."""

    marker_lists: Annotated[
        Path | None,
        typer.Option(
            help="Name lists of marker genes, no cells: .tsv or .csv with cluster and gene and, if you like, rank or "
            "score; tables of Seurat's FindAllMarkers and scanpy's rank_genes_groups_df as they are."
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


def name_lists(
    lists: Lists,
    kb: "genekb.Store | None",
    config: "RunConfig",
    *,
    choice: "ListChoice",
    panel: "Panel",
    output: Path,
    overwrite: bool,
    json: bool,
) -> None:
    """Name the lists, write and show the names."""
    from cellmodel.explain.marker_tables import read_marker_lists
    from cellmodel.tl._lists import named_rows, write_names
    from genekb.files.replace import Target, check_targets

    path = lists.marker_lists
    assert path is not None
    inputs = [path] if lists.universe is None else [path, lists.universe]
    check_targets([Target(output)], inputs=inputs, overwrite=overwrite)
    content = named_rows(read_marker_lists(path), kb, config, choice=choice, panel=panel)
    write_names(content["clusters"], output, overwrite=overwrite)
    show({"input": str(path), "output": str(output)} | content, _lines(content, output), json=json)


def shown_name(row: dict[str, Any]) -> str:
    """Name of a cluster or list, or why it has none."""
    from cellmodel.annotate.marker_overlap import display_name

    return display_name(row["name"], best=row["best"], reason=row["reason"])


_NAME: Columns = {"cluster": "cluster", "genes": "n_genes", "name": shown_name}
_BY_TYPES: Columns = {
    **_NAME,
    "level": "level",
    "parent": "parent",
    "score": "score:.1f",
    "p": "p_value:.2g",
    "runner-up": "runner_up",
    "responsible": lambda row: row["genes"][:_SHOWN],
}
_BY_OVERLAP: Columns = {
    **_NAME,
    "p adjusted": "p_adjusted:.2g",
    "shared genes": lambda row: row["genes"][:_SHOWN],
    "runner-up": "runner_up",
}


def _lines(content: dict[str, Any], output: Path) -> list[str]:
    rows = content["clusters"]
    lines = [*table(_BY_TYPES if "store_id" in content else _BY_OVERLAP, rows), ""]
    if "store_id" in content:
        lines.append(f"candidates: {content['n_candidates']} types, of {content['n_universe']:,} genes")
    unresolved = list(dict.fromkeys(gene for row in rows for gene in row["unresolved"]))
    if unresolved:
        lines.append(f"not known: {', '.join(unresolved)}")
    left_out = {"repeated": content["n_repeated"], "lower in the cluster or not significant": content["n_lower"]}
    lines += [f"rows left out: {number} {what}" for what, number in left_out.items() if number]
    return [*lines, f"output: {output}"]
