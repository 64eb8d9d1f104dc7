"""Cells for other programs: graphs with text vectors, terms for CELLxGENE."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

import genekb
from cellmodel.annotate.cell_types import UNASSIGNED, read_cell_types
from cellmodel.annotate.levels import read_cell_groups
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import AnyStages
from cellmodel.core.tools import Kb, forwards_to, open_kb, tool
from cellmodel.io.cells import Cells, ReadConfig, cells_from_anndata, obs_columns, read_cells
from cellmodel.io.graph import GRAPH, TypedGraph, write_graph
from cellmodel.io.records import input_record
from cellmodel.io.writers import check_targets
from cellmodel.tl._cluster import cluster, split_settings
from cellmodel.tl._run.files import CellFiles, run_task
from cellmodel.tl._run.pipeline import Prepared, prepare
from cellmodel.tl._run.task import Slot, Task

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)
TERMS: Final = "cell_type_ontology_term_id"  # column of CELLxGENE's schema
UNKNOWN: Final = "unknown"  # as that schema has it
_LABELS: Final = "cell_type"  # column that it fills by the terms, and where nobody else may


@tool
@forwards_to(
    cluster, "n_clusters", "resolution", "within", "recipe", "head", "smooth_labels", "device", "save_model", "report",
    "key_added", "copy",
)  # fmt: skip
def export_graph(
    adata: "AnnData | CellFiles",
    kb: Kb | None = None,
    *,
    folder: str | Path,
    label_key: str | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> TypedGraph:
    """Write the cell graph, and the cell–gene graph with text vectors of the genes, for PyTorch Geometric.

    The folder has safetensors and JSON; :func:`cellmodel.io.read_graph` opens it, and says what is in it. The cells are
    prepared as for :func:`cluster`, and left as they are. What was written is given.

    From the shell: ``cellmodel export --to graph``.

    Parameters
    ----------
    adata
        Counts or log-normalized expression; genes by any of their names; in memory or backed.
    kb
        Opened store; None only with ``knowledge="none"``, and then genes have no features.
    folder
        Folder to write.
    label_key
        Column of obs to write as ``y`` of the cells; nothing is computed from it.
    overwrite
        Whether a graph in that folder may be replaced.
    settings
        Arguments of :func:`cluster` but those of recipes and clusters.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import os, anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("cells.h5ad")
    >>> graph = cm.tl.export_graph(adata, "demo", folder="graph", label_key="label")
    >>> sorted(os.listdir("graph"))
    ['arrays.safetensors', 'graph.json']
    """
    config, read, _ = split_settings(settings)
    if kb is None and config.knowledge != "none":
        raise ValueError(f'knowledge="{config.knowledge}" needs a store; give `kb`, or knowledge="none"')
    target, store = GRAPH.target(Path(folder)), open_kb(kb)
    inputs = adata.paths if isinstance(adata, CellFiles) else ()
    check_targets([target], inputs=inputs, overwrite=overwrite)
    if isinstance(adata, CellFiles):
        cells = read_cells(adata.paths[0], replace(read, transpose=adata.transpose))
    else:
        cells = cells_from_anndata(adata, read, source="AnnData in memory")
    for note in cells.notes:
        log.info("%s", note)
    labels, classes = _labels(cells, label_key)
    prepared = prepare(cells, store, config)
    genes, symbols = _genes(prepared, store)
    views = prepared.views
    edges = {("cell", "near", "cell"): views.graph, ("cell", "expresses", "gene"): views.expression}
    if views.spatial is not None:
        edges["cell", "beside", "cell"] = views.spatial
    graph = TypedGraph(
        nodes={"cell": _cells(prepared) | labels, "gene": genes},
        edges=edges,
        names={
            "cell": cells.adata.obs_names.astype(str).tolist(),
            "gene": [cells.names[column] for column in prepared.features.top_genes],
        },
        record=_record(cells, prepared, config),
        classes=classes,
        symbols=symbols,
    )
    write_graph(graph, target.path, overwrite=overwrite)
    return graph


def _labels(cells: Cells, label_key: str | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """Give the place of each cell's label among the classes, -1 where it has none, and the classes."""
    if label_key is None:
        return {}, []
    hint = "name another with `label_key`"
    found = np.array(obs_columns(cells.adata, [label_key], source=cells.source, hint=hint)[label_key], dtype=np.str_)
    classes, places = np.unique(found, return_inverse=True)
    n_missing = int((classes == "").sum())  # text without a letter comes first
    if len(classes) == n_missing:
        raise InputUnusable(f"column {label_key!r} of {cells.source} holds no label: all are missing; {hint}")
    return {"y": places.astype(np.int64) - n_missing}, classes[n_missing:].tolist()


def _cells(prepared: Prepared) -> dict[str, np.ndarray]:
    views, coordinates = prepared.views, prepared.features.coordinates
    found = {"x": views.pcs, "text": views.text, "pos": coordinates}
    return {name: np.asarray(values, dtype=np.float32) for name, values in found.items() if values is not None}


def _genes(prepared: Prepared, kb: genekb.Store | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """Give what is known of the highly variable genes: vectors with knowledge, ids and symbols with a store."""
    if prepared.alignment is None or kb is None:
        return {}, []
    gene_ids = prepared.alignment.gene_ids[prepared.features.top_genes]
    table = kb.table("genes")
    known = dict(zip(table["gene_id"].to_pylist(), table["symbol"].to_pylist(), strict=True))
    genes: dict[str, np.ndarray] = {"gene_id": gene_ids.astype(np.int64)}
    if prepared.text is not None:
        text_map = prepared.text.text_map
        genes |= {"x": text_map.raw_gene_vectors.astype(np.float32), "has_text": text_map.has_vector}
    return genes, [known.get(gene_id, "") for gene_id in gene_ids.tolist()]


def _record(cells: Cells, prepared: Prepared, config: RunConfig) -> dict[str, Any]:
    record: dict[str, Any] = {"params": config.to_dict(), "seed": config.seed, **input_record(cells)}
    if prepared.alignment is not None:
        record |= asdict(prepared.alignment.lineage)
    return record


@tool
def cell_type_terms(
    adata: "AnnData | CellFiles", *, name_key: str = "cellmodel_name", overwrite: bool = False, copy: bool = False
) -> "AnnData | CellTerms | None":
    """Give cells the terms of the Cell Ontology for their names, as CELLxGENE's schema has them.

    Adds ``obs["cell_type_ontology_term_id"]``: ``unknown`` where a cell has no name, is unassigned, or no term fits.

    From the shell: ``cellmodel export --to cellxgene``.

    Parameters
    ----------
    adata
        Cells with names, or `CellFiles`; their values are not looked at.
    name_key
        Column of obs with names of :func:`annotate`: of clusters, of cells, or of a level.
    overwrite
        Whether a column of terms may be replaced.
    copy
        Return a copy with the result instead of changing ``adata``.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> adata.obs["mine"] = ["T cell", "unassigned"] * (adata.n_obs // 2)
    >>> cm.tl.cell_type_terms(adata, name_key="mine")
    >>> adata.obs["cell_type_ontology_term_id"].unique().tolist()
    ['CL:0000084', 'unknown']
    """
    return run_task(adata, TermsJob(name_key), ReadConfig(), key_added=TERMS, overwrite=overwrite, copy=copy)


@dataclass(frozen=True, kw_only=True, slots=True)
class CellTerms:
    """Terms of the Cell Ontology for the names of cells."""

    names: Sequence[str]  # (cell,) empty where a cell has none
    terms: Mapping[str, str]  # of each name; UNKNOWN where it has none

    def rows(self) -> list[dict[str, Any]]:
        """Names with their terms and numbers of cells, the most frequent first."""
        counts = Counter(self.names).most_common()
        return [{"name": name, "term": self.terms[name], "n_cells": number} for name, number in counts]


@dataclass(frozen=True)
class TermsJob(Task[CellTerms]):
    """Give the cells the terms of their names in a column of obs, which are those of the package's table."""

    name_key: str
    reads_values: ClassVar[bool] = False

    def slots(self, key_added: str) -> list[Slot]:
        """Column of terms, whose name CELLxGENE's schema gives."""
        return [("obs", TERMS)]

    def compute(self, cells: Cells, stages: AnyStages) -> CellTerms:
        """Look the names up."""
        key = self.name_key
        hint = "name cells with `cellmodel annotate` first, or give a column of names with `name_key`"
        names = obs_columns(cells.adata, [key], source=cells.source, hint=hint)[key]
        known = {one.name: one.ontology_id for one in (*read_cell_groups(), *read_cell_types())}
        if not {*known, UNASSIGNED} & {*names}:
            raise InputUnusable(f"column {key!r} of {cells.source} holds no name of `cellmodel annotate`; {hint}")
        if _LABELS in cells.adata.obs:
            log.warning("obs has %r, which CELLxGENE's own program fills: rename it before you submit", _LABELS)
        return CellTerms(names=names, terms={name: known.get(name) or UNKNOWN for name in set(names)})

    def values(self, cells: Cells, result: CellTerms, key_added: str) -> dict[Slot, Any]:
        """Term of each cell."""
        import pandas as pd

        return {("obs", TERMS): pd.Categorical([result.terms[name] for name in result.names])}
