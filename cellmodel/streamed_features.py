"""The expression side of cells that stay in their file: genes, components and graph, by blocks and by stages."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.config import RunConfig
from cellmodel.ensemble import EnsembleConfig
from cellmodel.features import Features, check_detected, check_spread, least_cells, measured_recall
from cellmodel.graph import knn_graph, smooth, snn_weights
from cellmodel.preprocess import Components, leading_components, variable_by_moments
from cellmodel.stages import Stage, Stages, create_array, save_array
from cellmodel.stored_cells import StoredCells
from cellmodel.types import CellByGene, CellGraph, Embedding

log = logging.getLogger(__name__)
ROWS: Final = 8_192  # cells that are dense at a time: 64 MB for 2,000 genes


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StreamedFeatures:
    """Expression side of cells that stay in their file.

    Parameters
    ----------
    features
        As for cells in memory, but ``expression`` holds the ``top_genes`` alone, memory-mapped.
    wide_pcs
        (cell, dim) more components than ``features.pcs`` has, for heads that look at several numbers of them.
    """

    features: Features
    wide_pcs: Embedding


def stream_features(cells: StoredCells, config: RunConfig, stages: Stages) -> StreamedFeatures:
    """Choose genes, keep their expression on disk, reduce it, and link cells.

    Genes are chosen by the moments of the scan; components are the leading eigenvectors of the genes' covariance, which
    is summed over all cells.

    Raises
    ------
    InputUnusable
        If no gene is seen in enough cells, or the disk refuses.
    """
    settings = config.preprocess
    min_cells = least_cells(settings.min_cells, n_cells=cells.shape[0])
    detected = np.flatnonzero(cells.scan.n_cells >= min_cells)
    check_detected(len(detected), n_genes=len(cells.names), min_cells=min_cells, source=cells.source)
    top = variable_by_moments(cells.scan.mean[detected], cells.scan.variance[detected], n_top=settings.n_top_genes)
    top_genes = detected[top]
    n_wide = max(settings.n_components, *EnsembleConfig().widths(settings.n_components))
    stored = stages.run("expression", lambda folder: _keep_expression(cells, top_genes, n_wide, folder))
    expression = mapped_csr(stored, shape=(cells.matrix.shape[0], len(top_genes)))
    components = Components(mean=np.array(stored.arrays["mean"]), loadings=np.array(stored.arrays["loadings"]))
    reduced = stages.run("components", lambda folder: _reduce(expression, components, folder))
    wide = np.asarray(reduced.arrays["pcs"])
    pcs = wide[:, : min(settings.n_components, wide.shape[1])]
    check_spread(pcs, source=cells.source)
    linked = stages.run("graph", lambda folder: _link(pcs, config, folder))
    return StreamedFeatures(
        features=Features(
            expression=expression,
            detected=detected,
            top_genes=top_genes,
            pcs=pcs,
            smoothed=np.asarray(linked.arrays["smoothed"]),
            knn=_graph(linked, "knn", len(pcs)),
            graph=_graph(linked, "snn", len(pcs)),
            knn_recall=linked.record["recall"],
        ),
        wide_pcs=wide,
    )


def mapped_csr(stage: Stage, *, shape: tuple[int, int]) -> CellByGene:
    """Give a CSR matrix whose arrays stay on disk."""
    arrays = tuple(np.asarray(stage.arrays[name]) for name in ("data", "indices", "indptr"))
    return sp.csr_matrix(arrays, shape=shape, copy=False)


def row_ranges(n_cells: int) -> list[tuple[int, int]]:
    """First and end of the ranges of cells that are dense at a time."""
    return [(start, min(start + ROWS, n_cells)) for start in range(0, n_cells, ROWS)]


def _keep_expression(
    cells: StoredCells, top_genes: Int[np.ndarray, " gene"], n_components: int, folder: Path
) -> Mapping[str, Any]:
    """Write the expression of the chosen genes as CSR, and the components of all cells."""
    n_cells, n_genes = cells.matrix.shape[0], len(top_genes)
    n_entries = int(cells.scan.n_cells[top_genes].sum())
    numbers = np.int32 if n_entries < np.iinfo(np.int32).max else np.int64
    data = create_array(folder, "data", shape=(n_entries,), dtype=np.float32)
    indices = create_array(folder, "indices", shape=(n_entries,), dtype=numbers)
    indptr = np.zeros(n_cells + 1, dtype=numbers)
    mean = cells.scan.log_mean[top_genes]
    covariance = np.zeros((n_genes, n_genes))
    row = at = 0
    for block in cells.expression(top_genes).blocks():
        block.eliminate_zeros()
        end = at + block.nnz
        data[at:end], indices[at:end] = block.data, block.indices
        indptr[row + 1 : row + 1 + block.shape[0]] = at + block.indptr[1:]
        row, at = row + block.shape[0], end
        for start, stop in row_ranges(block.shape[0]):
            dense = block[start:stop].toarray() - mean.astype(np.float32)
            covariance += dense.T @ dense
    data.flush()
    indices.flush()
    save_array(folder, "indptr", indptr)
    save_array(folder, "mean", mean)
    save_array(folder, "loadings", leading_components(covariance, n_components=min(n_components, n_cells - 1)))
    return {"n_entries": at}


def _reduce(expression: CellByGene, components: Components, folder: Path) -> Mapping[str, Any]:
    shape = (expression.shape[0], components.loadings.shape[1])
    pcs = create_array(folder, "pcs", shape=shape, dtype=np.float32)
    loadings = components.loadings.astype(np.float32)
    shift = components.mean @ components.loadings
    for start, end in row_ranges(expression.shape[0]):
        pcs[start:end] = expression[start:end].toarray() @ loadings - shift
    pcs.flush()
    return {}


def _link(pcs: Embedding, config: RunConfig, folder: Path) -> Mapping[str, Any]:
    knn = knn_graph(pcs, config=config.graph)
    _save_graph(folder, "knn", knn)
    graph = snn_weights(knn)
    _save_graph(folder, "snn", graph)
    save_array(folder, "smoothed", smooth(pcs, graph, n_steps=config.preprocess.n_smoothing))
    return {"recall": measured_recall(pcs, knn, config.graph)}


def _save_graph(folder: Path, name: str, graph: CellGraph) -> None:
    values: dict[str, Float[np.ndarray, " entry"]] = {
        "data": graph.data,
        "indices": graph.indices,
        "indptr": graph.indptr,
    }
    for part, array in values.items():
        save_array(folder, f"{name}_{part}", array)


def _graph(stage: Stage, name: str, n_cells: int) -> CellGraph:
    arrays = tuple(np.asarray(stage.arrays[f"{name}_{part}"]) for part in ("data", "indices", "indptr"))
    return sp.csr_matrix(arrays, shape=(n_cells, n_cells), copy=False)
