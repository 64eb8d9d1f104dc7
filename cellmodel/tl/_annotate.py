"""Names of clusters and cells by cell types, and of lists of marker genes as a table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import genekb
from cellmodel.annotate import ontology
from cellmodel.annotate.candidates import Panel, choose_types, panel_of
from cellmodel.annotate.cell_types import CellType
from cellmodel.annotate.levels import Level, mix_text
from cellmodel.annotate.marker_lists import ListChoice, name_lists, overlap_rows
from cellmodel.annotate.marker_overlap import Naming, name_cells
from cellmodel.annotate.name_cells import NamedCells, TypeChoice, TypeNaming, name_groups, name_types
from cellmodel.cluster.structure import group_name
from cellmodel.core.colors import cluster_color
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import AnyStages
from cellmodel.core.tools import Kb, forwards_to, open_kb, path_of, tool
from cellmodel.explain.groups import group_cells, stored_tree
from cellmodel.explain.marker_tables import MarkerLists, lists_of_columns, read_marker_lists, read_universe
from cellmodel.io.cells import Cells
from cellmodel.io.records import lineage_record
from cellmodel.io.writers import check_targets
from cellmodel.tl._cluster import SHARED, cluster, split_settings
from cellmodel.tl._run.files import CellFiles, run_task
from cellmodel.tl._run.slots import level_slots
from cellmodel.tl._run.task import Slot, Task
from genekb.files.replace import Target
from genekb.files.tables import write_table

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@dataclass(frozen=True, kw_only=True)
class OverlapJob(Task[Naming]):
    """Name clusters by the overlap of their markers with a user's lists of marker genes."""

    panel: Panel
    cluster_key: str
    renews: ClassVar[bool] = True

    def slots(self, key_added: str) -> list[Slot]:
        """Names, and the evidence for them."""
        return [("obs", key_added), ("uns", key_added)]

    def compute(self, cells: Cells, stages: AnyStages) -> Naming:
        """Name the clusters."""
        return name_cells(cells, group_cells(cells, self.cluster_key), self.panel)

    def values(self, cells: Cells, result: Naming, key_added: str) -> dict[Slot, Any]:
        """Name of each cell's cluster, and a row a cluster."""
        import pandas as pd

        rows = [row | {"genes": ", ".join(row["genes"])} for row in result.rows()]
        names = [result.names[label].name for label in result.found.labels.tolist()]
        return {
            ("obs", key_added): _categories(cells, result.found.rows, names),
            ("uns", key_added): {"cluster_key": self.cluster_key, "names": pd.DataFrame(rows)},
        }


@dataclass(frozen=True)
class AnnotateJob(Task[NamedCells]):
    """Name clusters and cells by cell types, see :func:`cellmodel.annotate.name_cells.name_types`.

    Cells without a cluster get no name.
    """

    kb: genekb.Store
    config: RunConfig
    _: KW_ONLY
    choice: TypeChoice
    renews: ClassVar[bool] = True

    def slots(self, key_added: str) -> list[Slot]:
        """Names by cluster, by cell and by level, and the evidence for them."""
        columns = [("obs", f"{key_added}{name}") for name in ("", "_cell", "_cell_score")]
        return [*columns, *level_slots(key_added), ("uns", f"{key_added}_colors"), ("uns", key_added)]

    def compute(self, cells: Cells, stages: AnyStages) -> NamedCells:
        """Name the clusters and the cells."""
        return name_types(cells, self.kb, self.config, choice=self.choice)

    def values(self, cells: Cells, result: NamedCells, key_added: str) -> dict[Slot, Any]:
        """Names, scores, and tables of names and levels."""
        import pandas as pd

        of_cluster = [result.names[label].name for label in result.found.labels.tolist()]
        scores = np.full(cells.adata.n_obs, np.nan, dtype=np.float32)
        scores[result.found.rows] = result.cell_scores
        rows = [
            row | {"genes": ", ".join(gene["name"] for gene in row["genes"]), "mix": mix_text(mix)}
            for row, mix in zip(result.rows(), result.mixes, strict=True)
        ]
        groups, columns = _named_levels(cells, result, self.choice.cluster_key)
        record = {
            "cluster_key": self.choice.cluster_key,
            "names": pd.DataFrame(rows),
            **({"levels": pd.DataFrame(groups)} if groups else {}),
            "params": asdict(self.choice.naming),
            "n_candidates": result.n_candidates,
            "seed": self.config.seed,
            **asdict(result.lineage),
            **lineage_record(result.made_with),
        }
        names = {row["cluster"]: row["name"] for row in rows}
        return {
            ("obs", key_added): _categories(cells, result.found.rows, of_cluster),
            ("obs", f"{key_added}_cell"): _categories(cells, result.found.rows, result.cell_names),
            ("obs", f"{key_added}_cell_score"): scores,
            **dict(zip(level_slots(key_added), columns, strict=False)),
            ("uns", f"{key_added}_colors"): _inherited_colors(cells, self.choice.cluster_key, names),
            ("uns", key_added): record,
        }


def _inherited_colors(cells: Cells, cluster_key: str, names: Mapping[str, str]) -> list[str]:
    """Color of each name, in the order of the categories: that of the first cluster that has it."""
    column = cells.adata.obs[cluster_key]
    stored = list(map(str, cells.adata.uns.get(f"{cluster_key}_colors", ())))
    clusters = list(map(str, column.cat.categories)) if hasattr(column, "cat") else []
    if not clusters or len(stored) < len(clusters):
        clusters, stored = list(names), [cluster_color(number) for number in range(len(names))]
    of_cluster = dict(zip(clusters, stored, strict=False))
    first = {name: of_cluster[cluster] for cluster, name in [*names.items()][::-1]}
    return [first[name] for name in sorted(first)]


def _named_levels(cells: Cells, named: NamedCells, key: str) -> tuple[list[dict[str, Any]], list[Any]]:
    """Name the groups of each level of the clusters' tree, and the cells by them; nothing without a tree."""
    stored = stored_tree(cells.adata.uns, key, named.found.names)
    if stored is None:
        return [], []
    rows, columns = [], []
    for level, n_groups in enumerate(stored[1], 1):
        groups, of_cell = stored[0].groups(n_groups), np.array(stored[0].group_of(n_groups))[named.found.labels]
        names = name_groups(groups, named.names)
        columns.append(_categories(cells, named.found.rows, [names[group] for group in of_cell.tolist()]))
        members = (group_name(named.found.names, group) for group in groups)
        rows += [{"level": level, "group": group, "name": name} for group, name in zip(members, names, strict=True)]
    return rows, columns


def _categories(cells: Cells, rows: Any, values: Sequence[str]) -> "pd.Categorical[Any]":
    """Names of the cells of some rows, as a column of obs; none for the others."""
    import pandas as pd

    filled = np.full(cells.adata.n_obs, None, dtype=object)
    filled[rows] = values
    return pd.Categorical(filled)


@tool
@forwards_to(cluster, only=SHARED)
def annotate(
    adata: "AnnData | CellFiles",
    kb: Kb | None = None,
    *,
    cluster_key: str = "cellmodel",
    candidates: str | Path | Sequence[str | CellType] | None = None,
    tissue: str | Sequence[str] | None = None,
    only_tissue: str | Sequence[str] | None = None,
    markers: str | Path | Mapping[str, Sequence[str]] | None = None,
    permutations: int = 200,
    level: Level = "auto",
    key_added: str = "cellmodel_name",
    other_store: bool = False,
    **settings: Any,
) -> "AnnData | NamedCells | Naming | None":
    """Name clusters, and cells, by the text of cell types and their marker genes.

    Adds ``obs["<key>"]``, the name of each cell's cluster, ``obs["<key>_cell"]`` and ``obs["<key>_cell_score"]``, the
    best type of each cell by scores averaged over its neighbors, and ``uns["<key>"]``, whose table ``names`` holds the
    evidence for each name. Where fewer than 60 % of the named cells of a cluster have its name, it takes that of the
    nearest group that holds as many, such as ``T cell``, and ``mix`` lists them. Where the clusters have a tree,
    ``obs["<key>_level_1"]`` and so on name its levels, coarsest first, by the group that the names of the clusters
    share.

    From the shell: ``cellmodel annotate``.

    Parameters
    ----------
    adata
        Counts or log-normalized expression; genes by any of their names; in memory, backed, or `CellFiles`.
    kb
        Store: its name, its folder, or opened; without one, names come from the overlap with ``markers`` alone.
    cluster_key
        Column of obs with the clusters.
    candidates
        Types to choose from, or a file of them; those of the package's table if None.
    tissue
        Types of these tissues of the table, such as ``gut``, and the cells that every tissue has.
    only_tissue
        Types of these tissues and no others.
    markers
        Marker genes by type, or a file of them, in place of the table.
    permutations
        How often genes are permuted.
    level
        ``fine``: a type; ``broad``: its everyday group; ``auto``: a type, or the group of types that disagree.
    key_added
        Name of the slots.
    other_store
        Whether the clusters or labels may be of another store or encoder; both are recorded then.
    settings
        Arguments of :func:`cluster`: encoder, where the values are, and the like.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, LineageMismatch, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> cm.tl.annotate(adata, "demo", candidates=["T cell", "B cell", "monocyte"])
    >>> set(cm.get.names(adata)["best"]) <= {"T cell", "B cell", "monocyte"}
    True
    """
    config, read, slots = split_settings(settings | {"key_added": key_added})
    if kb is None:
        panel = panel_alone(markers, level, candidates, tissue, only_tissue, config.encoder)
        task: Task[Any] = OverlapJob(panel=panel, cluster_key=cluster_key)
    else:
        types = choose_types(candidates, tissue=tissue, only_tissue=only_tissue, markers=markers)
        naming = TypeNaming(level=level, n_permutations=permutations)
        choice = TypeChoice(cluster_key=cluster_key, types=types, naming=naming, other_store=other_store)
        task = AnnotateJob(open_kb(kb), config, choice=choice)
    return run_task(adata, task, read, **slots)


def panel_alone(markers: str | Path | Mapping[str, Sequence[str]] | None, level: Level, *others: object) -> Panel:
    """Read marker genes by type, where names come from them alone and from none of the ``others``."""
    if markers is None or any(given is not None for given in others):
        raise ValueError("names come from a store, `kb`, or from `markers` without any other list")
    if level != "auto":
        raise ValueError("`level` needs a store, `kb`: groups are of the table of types")
    return panel_of(markers)


@tool
@forwards_to(cluster, "min_coverage", "layer", "use_raw", "gene_key", "values", "copy", only=SHARED)
def annotate_markers(
    markers: "pd.DataFrame | Mapping[str, Sequence[str]] | str | Path",
    kb: Kb | None = None,
    *,
    candidates: str | Path | Sequence[str | CellType] | None = None,
    tissue: str | Sequence[str] | None = None,
    only_tissue: str | Sequence[str] | None = None,
    panel: str | Path | Mapping[str, Sequence[str]] | None = None,
    level: Level = "auto",
    universe: str | Path | Sequence[str] | None = None,
    n_top: int = 50,
    n_permutations: int = 200,
    output: str | Path | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> "pd.DataFrame":
    """Name clusters from lists of their marker genes alone, without cells.

    From the shell: ``cellmodel annotate --marker-lists``.

    Parameters
    ----------
    markers
        Table with the columns ``cluster`` and ``gene``, and if there are, ``rank`` (1 is best) and ``score``; that of
        Seurat's ``FindAllMarkers`` or scanpy's ``rank_genes_groups_df`` as it is; a .csv or .tsv of one; or genes by
        cluster, best first. Ten genes a cluster are enough.
    kb
        Store, by name, folder or opened; without one, names come from the overlap with ``panel`` alone.
    candidates
        Types to choose from, or a file of them; those of the package's table if None.
    tissue
        Types of these tissues of the table, such as ``gut``, and the cells that every tissue has.
    only_tissue
        Types of these tissues and no others.
    panel
        Marker genes by type, or a file of them, in place of the table.
    level
        ``fine``: a type; ``broad``: its everyday group, such as T cell; ``auto``: a type, or the group that the best
        types share where they disagree.
    universe
        Genes that a list could hold, or a file of them, which random lists are drawn from; all of the store with a
        text if None.
    n_top
        Genes of a list that count.
    n_permutations
        Random lists of each size, for the p values.
    output
        Table to write, .tsv or .csv.
    overwrite
        Whether that file may be replaced.
    settings
        Arguments of :func:`cluster`: encoder, orthologs, seed.

    Returns
    -------
    pandas.DataFrame
        One row a cluster: ``cluster``, ``name`` (or ``unassigned``), ``confidence``, ``level``, ``parent``,
        ``ontology_id``, ``best``, ``score`` (standard deviations of permuted genes), ``p_value``, ``p_adjusted``,
        ``runner_up``, ``runner_up_score``, ``genes`` responsible, ``n_genes``, ``unresolved`` and ``reason``. Its
        ``attrs`` have store, encoder and counts.

    Raises
    ------
    InputUnusable, AlignmentTooLow
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import cellmodel as cm
    >>> lists = {"0": ["CD3D", "CD3E", "CD3G", "CD2", "IL7R"], "1": ["MS4A1", "CD79A", "CD79B", "CD19"]}
    >>> cm.tl.annotate_markers(lists, "demo", candidates=["T cell", "B cell"])["best"].tolist()
    ['T cell', 'B cell']
    """
    import pandas as pd

    config, _, _ = split_settings(settings)
    store, path = open_kb(kb), path_of(output)
    inputs = [Path(each) for each in (markers, universe) if isinstance(each, str | Path)]
    check_targets([None if path is None else Target(path)], inputs=inputs, overwrite=overwrite)
    by_overlap = panel_alone(panel, level, candidates, tissue, only_tissue, config.encoder) if store is None else None
    types = None
    if store is not None and any(given is not None for given in (candidates, tissue, only_tissue, panel)):
        types = choose_types(candidates, tissue=tissue, only_tissue=only_tissue, markers=panel)
    known = read_universe(Path(universe)) if isinstance(universe, str | Path) else universe
    choice = ListChoice(types=types, level=level, universe=known, n_top=n_top, n_permutations=n_permutations)
    lists = _lists_of(markers)
    record: dict[str, Any] = {}
    if store is None:
        rows = overlap_rows(lists, by_overlap or {}, choice=choice)
    else:
        named = name_lists(lists, store, config, choice=choice)
        rows, record = named.rows(), asdict(named.lineage)
        record |= {name: getattr(named, name) for name in ("n_candidates", "n_universe", "n_orthologs")}
    frame = pd.DataFrame([row | {name: " ".join(row[name]) for name in ("genes", "unresolved")} for row in rows])
    frame.attrs |= {"n_repeated": lists.n_repeated, "n_lower": lists.n_lower, **record, "clusters": rows}
    if path is not None:
        write_table(path, list(frame.columns), frame.itertuples(index=False), overwrite=overwrite)
    return frame


@tool
def map_labels(labels: Iterable[object] | Path, *, column: str | None = None) -> "pd.DataFrame":
    """Map free labels of cell types, such as ``CD14+ Mono``, to terms of the Cell Ontology.

    From the shell: ``cellmodel map-labels``.

    Parameters
    ----------
    labels
        Labels, such as ``adata.obs["cell_type"]``, or a file of them: one a line, a table, or cells.
    column
        Column of the table, or of obs, with the labels.

    Returns
    -------
    pandas.DataFrame
        One row a label, each once: ``label``, ``id`` (empty where no term fits), ``name``, ``confidence`` (``high``,
        ``medium``, ``low`` or ``none``), ``score`` (1: all words agree) and ``alternatives``, the next best terms.

    Raises
    ------
    InputUnusable
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import cellmodel as cm
    >>> cm.tl.map_labels(["CD14+ Mono", "0_Tregs", "doublet"])["name"].tolist()
    ['CD14-positive monocyte', 'regulatory T cell', '']
    """
    import pandas as pd

    given = ontology.read_labels(labels, column) if isinstance(labels, Path) else labels
    return pd.DataFrame(ontology.map_labels(given))


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
