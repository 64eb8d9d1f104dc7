"""Names of marker lists as a table: what `cm.tl.annotate_markers` and `cellmodel annotate --marker-lists` give."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import genekb
from cellmodel.annotate.cell_types import CellType
from cellmodel.annotate.levels import Level
from cellmodel.annotate.marker_lists import ListChoice, name_lists, overlap_rows
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.marker_tables import MarkerLists, lists_of_columns, read_marker_lists
from genekb.files.tables import write_table

if TYPE_CHECKING:
    import pandas as pd

_JOINED: Final = ("genes", "unresolved")


def annotate_markers(
    markers: "pd.DataFrame | Mapping[str, Sequence[str]] | str | Path",
    kb: genekb.Store | None = None,
    *,
    candidates: Sequence[CellType] | None = None,
    panel: Mapping[str, Sequence[str]] | None = None,
    level: Level = "auto",
    universe: Sequence[str] | None = None,
    n_top: int = 50,
    n_permutations: int = 200,
    config: RunConfig | None = None,
) -> "pd.DataFrame":
    """Name clusters from lists of their marker genes alone, without cells.

    Parameters
    ----------
    markers
        Table with the columns ``cluster`` and ``gene``, and if there are, ``rank`` (1 is best) and ``score``; that of
        Seurat's ``FindAllMarkers`` or scanpy's ``rank_genes_groups_df`` as it is; a .csv or .tsv of one; or genes by
        cluster, best first. Ten genes a cluster are enough.
    kb
        Opened store; without one, names come from the overlap with ``panel`` alone.
    candidates
        Types to choose from; those of the package's table if None.
    panel
        Marker genes by type, without a store.
    level
        ``fine``: a type; ``broad``: its everyday group, such as T cell; ``auto``: a type, or the group that the best
        types share where they disagree.
    universe
        Genes that a list could hold, which random lists are drawn from; all of the store with a text if None.
    n_top
        Genes of a list that count.
    n_permutations
        Random lists of each size, for the p values.
    config
        Encoder, seed, and whether symbols of an orthologue may map to a gene.

    Returns
    -------
    pandas.DataFrame
        One row a cluster: ``cluster``, ``name`` (or ``unassigned``), ``level``, ``parent``, ``ontology_id``, ``best``,
        ``score`` (standard deviations of permuted genes), ``p_value``, ``runner_up``, ``runner_up_score``, ``genes``
        responsible, ``n_genes``, ``unresolved`` and ``reason``.

    Raises
    ------
    InputUnusable, AlignmentTooLow
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> table = cm.tl.annotate_markers({"0": ["CD3D", "CD3E", "CD2"]}, kb)  # doctest: +SKIP
    """
    import pandas as pd

    choice = ListChoice(types=candidates, level=level, universe=universe, n_top=n_top, n_permutations=n_permutations)
    named = named_rows(_lists_of(markers), kb, config or RunConfig(), choice=choice, panel=panel)
    return pd.DataFrame(joined(named["clusters"]))


def _lists_of(markers: Any) -> MarkerLists:
    """Take lists from what a user gives."""
    if isinstance(markers, str | Path):
        return read_marker_lists(Path(markers))
    if isinstance(markers, Mapping):
        genes = {str(cluster): tuple(dict.fromkeys(map(str, each))) for cluster, each in markers.items()}
        if not any(genes.values()):
            raise InputUnusable("markers names no gene; give genes by cluster, best first")
        return MarkerLists(genes=genes, n_repeated=sum(map(len, markers.values())) - sum(map(len, genes.values())))
    columns: dict[str, Sequence[Any]] = {str(name): markers[name].tolist() for name in markers.columns}
    return lists_of_columns(columns, source="markers")


def named_rows(
    lists: MarkerLists,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    choice: ListChoice,
    panel: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Name lists: one row each, and what the names were made with."""
    counts = {"n_repeated": lists.n_repeated, "n_lower": lists.n_lower}
    if kb is None:
        if panel is None:
            raise InputUnusable("names come from a store (kb), or from marker genes by type (panel); give one")
        return counts | {"clusters": overlap_rows(lists, panel, choice=choice)}
    named = name_lists(lists, kb, config, choice=choice)
    return counts | {
        **asdict(named.lineage),
        "n_candidates": named.n_candidates,
        "n_universe": named.n_universe,
        "clusters": named.rows(),
    }


def joined(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their genes as one text."""
    return [{key: " ".join(value) if key in _JOINED else value for key, value in row.items()} for row in rows]


def write_names(rows: Sequence[Mapping[str, Any]], path: Path, *, overwrite: bool) -> None:
    """Write rows as .csv, else as a table with tabs."""
    flat = joined(rows)
    write_table(path, list(flat[0]), map(dict.values, flat), overwrite=overwrite)
