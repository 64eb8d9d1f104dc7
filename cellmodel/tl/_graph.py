"""The cell graph, and the cell–gene graph with text vectors as gene features, for programs that learn on graphs."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

import genekb
from cellmodel.core.config import Knowledge, RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.tools import Kb, open_kb, tool
from cellmodel.io.cells import Cells, ReadConfig, cells_from_anndata, obs_columns, read_cells
from cellmodel.io.graph import GRAPH, TypedGraph, write_graph
from cellmodel.io.records import input_record
from cellmodel.io.writers import check_targets
from cellmodel.tl._run import Prepared, prepare

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)


@tool
def export_graph(
    adata: "AnnData",
    kb: Kb | None = None,
    *,
    folder: str | Path,
    label_key: str | None = None,
    knowledge: Knowledge = "real",
    encoder: str | None = None,
    config: RunConfig | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    overwrite: bool = False,
    random_state: int = 0,
) -> None:
    """Write the cell graph, and the cell–gene graph with text vectors of the genes, for PyTorch Geometric.

    The folder has safetensors and JSON; :func:`cellmodel.io.read_graph` opens it, and says what is in it. The cells are
    prepared as for :func:`cluster`. ``adata`` is left as it is::

        cm.tl.export_graph(adata, gk.open("human"), folder="graph", label_key="cell_type")
        graph = cm.io.read_graph("graph")

    Parameters
    ----------
    kb
        Opened store; None only with ``knowledge="none"``, and then genes have no features.
    folder
        Folder to write.
    label_key
        Column of obs to write as ``y`` of the cells; nothing is computed from it.
    config
        All further settings; the named arguments above win over it.
    overwrite
        Whether a graph in that folder may be replaced.
    """
    chosen = replace(config or RunConfig(), knowledge=knowledge, encoder=encoder, seed=random_state)
    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key)
    cells = cells_from_anndata(adata, read, source="AnnData in memory")
    export_cells(cells, Path(folder), open_kb(kb), chosen, label_key=label_key, overwrite=overwrite)


def export_file(
    path: Path,
    folder: Path,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    read: ReadConfig,
    overwrite: bool = False,
    **settings: Any,
) -> TypedGraph:
    """Export the graph of the cells of a file, see :func:`export_cells`."""
    check_targets([GRAPH.target(folder)], inputs=[path], overwrite=overwrite)
    return export_cells(read_cells(path, read), folder, kb, config, overwrite=overwrite, **settings)


def export_cells(
    cells: Cells,
    folder: Path,
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    label_key: str | None = None,
    overwrite: bool = False,
) -> TypedGraph:
    """Prepare cells as every recipe finds them, and write their graph to a folder.

    ``label_key``: column of obs whose values are written as labels; nothing is computed from them. Raises
    ``InputUnusable`` if the folder may not be replaced, found before any work, or there is no such column; else as
    :func:`cellmodel.tl._run.prepare`.
    """
    check_targets([GRAPH.target(folder)], overwrite=overwrite)
    for note in cells.notes:
        log.info("%s", note)
    labels, classes = _labels(cells, label_key)
    prepared = prepare(cells, kb, config)
    genes, symbols = _genes(prepared, kb)
    graph = TypedGraph(
        nodes={"cell": _cells(prepared) | labels, "gene": genes},
        edges=_edges(prepared),
        names={
            "cell": cells.adata.obs_names.astype(str).tolist(),
            "gene": [cells.names[column] for column in prepared.features.top_genes],
        },
        record=_record(cells, prepared, config),
        classes=classes,
        symbols=symbols,
    )
    write_graph(graph, folder, overwrite=overwrite)
    return graph


def _labels(cells: Cells, label_key: str | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """Give the place of each cell's label among the classes, -1 where it has none, and the classes."""
    if label_key is None:
        return {}, []
    hint = "name another with --label-key"
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


def _edges(prepared: Prepared) -> dict[tuple[str, str, str], sp.csr_matrix]:
    views = prepared.views
    edges = {("cell", "near", "cell"): views.graph, ("cell", "expresses", "gene"): views.expression}
    if views.spatial is not None:
        edges["cell", "beside", "cell"] = views.spatial
    return edges


def _record(cells: Cells, prepared: Prepared, config: RunConfig) -> dict[str, Any]:
    record: dict[str, Any] = {"params": config.to_dict(), "seed": config.seed, **input_record(cells)}
    if prepared.alignment is not None:
        record |= asdict(prepared.alignment.lineage)
    return record
