"""The expression side of the cells, which every recipe shares: normalise, choose genes, reduce, and link cells."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.config import EnsembleConfig, GraphConfig, RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import Stage, Stages, create_array, save_array
from cellmodel.core.types import CellByGene, CellGraph, Embedding
from cellmodel.io.cells import Cells, spatial_coordinates
from cellmodel.pp.backed_cells import StoredCells
from cellmodel.pp.gene_weights import information_weights, own_informativeness
from cellmodel.pp.graph import knn_graph, smooth, snn_weights, spatial_graph
from cellmodel.pp.neighbors import knn_recall
from cellmodel.pp.normalize import (
    Components,
    detected_genes,
    highly_variable,
    leading_components,
    log_expression,
    principal_components,
    variable_by_moments,
)

log = logging.getLogger(__name__)
LOW_DATA_COMPONENTS: Final = 10
SAME_PLACE: Final = 1e-3  # rounding alone; cells that differ in anything are further apart
FEW_CELLS: Final = 200  # up to which the low-data mode is proposed


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """Expression side of the cells, before any recipe."""

    expression: CellByGene  # (cell, gene) log-normalised, genes in the order of the cells' names
    detected: Int[np.ndarray, " gene"]  # columns of ``expression`` that are seen in enough cells
    top_genes: Int[np.ndarray, " gene"]  # columns that are highly variable
    pcs: Embedding  # pcs, smoothed: principal components, and their mean over the graph
    smoothed: Embedding
    knn: CellGraph  # knn, graph: distances to the nearest cells, and shared-nearest-neighbour weights
    graph: CellGraph
    # share of the true nearest cells that ``knn`` holds: 1 where the search was exact, else measured on some
    knn_recall: float = 1.0
    # coordinates, spatial: places of the cells, and the graph of the nearest by place; None where they are not used
    coordinates: Float[np.ndarray, "cell axis"] | None = None
    spatial: CellGraph | None = None
    gene_weights: Float[np.ndarray, " gene"] | None = None  # of ``top_genes`` in ``pcs``; None where all weigh the same


def make_features(cells: Cells, config: RunConfig, *, from_text: Float[np.ndarray, " gene"] | None = None) -> Features:
    """Normalise, choose genes, reduce, and link cells: the expression side, which every recipe shares.

    ``from_text``: how informative each gene of the cells is by its text, for ``config.low_data``; None to leave the
    text out. Raises ``InputUnusable`` if no gene is seen in enough cells.
    """
    coordinates = spatial_coordinates(cells) if config.spatial is not None else None
    settings = config.preprocess
    expression = log_expression(cells)
    min_cells = least_cells(settings.min_cells, n_cells=expression.shape[0])
    detected = np.flatnonzero(detected_genes(cells.matrix, min_cells=min_cells))
    check_detected(len(detected), n_genes=len(cells.names), min_cells=min_cells, source=cells.source)
    top_genes = detected[highly_variable(expression[:, detected], n_top=settings.n_top_genes)]
    pcs = principal_components(expression[:, top_genes], n_components=settings.n_components, seed=config.seed)
    check_spread(pcs, source=cells.source)
    weights = None
    if config.low_data:
        own = own_informativeness(expression[:, top_genes], pcs)
        weights = information_weights(own, None if from_text is None else from_text[top_genes])
        weighted = (expression[:, top_genes] @ sp.diags(weights)).tocsr()
        pcs = principal_components(weighted, n_components=LOW_DATA_COMPONENTS, seed=config.seed)
    elif expression.shape[0] <= FEW_CELLS:
        log.info("%d cells are few; --low-data weighs genes by how much they tell", expression.shape[0])
    knn = knn_graph(pcs, config=config.graph)
    graph = snn_weights(knn)
    spatial = None
    if coordinates is not None and config.spatial is not None:
        near = config.spatial.limited_to(n_cells=len(coordinates))
        if near != config.spatial:
            log.info(
                "%d spots are few: %d neighbours of each by coordinates, %d voters where labels are smoothed",
                len(coordinates), near.n_neighbors, near.n_voters,
            )  # fmt: skip
        spatial = spatial_graph(coordinates, n_neighbors=near.n_neighbors)
    return Features(
        expression=expression,
        detected=detected,
        top_genes=top_genes,
        pcs=pcs,
        smoothed=smooth(pcs, graph if spatial is None else graph + spatial, n_steps=settings.n_smoothing),
        knn=knn,
        graph=graph,
        knn_recall=measured_recall(pcs, knn, config.graph),
        coordinates=coordinates,
        spatial=spatial,
        gene_weights=weights,
    )


def least_cells(min_cells: int, *, n_cells: int) -> int:
    """Give the number of cells in which a gene must be seen: a tenth of them where there are few."""
    return min(min_cells, max(1, n_cells // 10))


def check_detected(n_detected: int, *, n_genes: int, min_cells: int, source: str) -> None:
    """Check that there are genes to tell cells apart by.

    Raises ``InputUnusable`` if there are fewer than two.
    """
    if n_detected < 2:  # noqa: PLR2004 - one gene has no variance to share
        raise InputUnusable(
            f"{n_detected:,} of {n_genes:,} genes are seen in at least {min_cells} cells of {source}, 2 are needed; is "
            "it filtered already, or transposed?"
        )


def check_spread(pcs: Embedding, *, source: str) -> None:
    """Check that cells differ.

    Raises ``InputUnusable`` if all lie at one place.
    """
    if np.ptp(pcs, axis=0).max(initial=0.0) < SAME_PLACE:
        raise InputUnusable(
            f"all {len(pcs):,} cells of {source} are the same after normalising, so nothing tells them apart; is it "
            "the right layer (--layer), or one cell written many times?"
        )


def measured_recall(pcs: Embedding, knn: CellGraph, config: GraphConfig) -> float:
    """Recall of the nearest cells; 1 where the search was exact."""
    return 1.0 if len(pcs) <= config.exact_up_to else knn_recall(pcs, knn, metric=config.metric)


ROWS: Final = 8_192  # cells that are dense at a time: 64 MB for 2,000 genes


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StreamedFeatures:
    """Expression side of cells that stay in their file."""

    features: Features  # as for cells in memory, but ``expression`` holds the ``top_genes`` alone, memory-mapped
    # (cell, dim) more components than ``features.pcs`` has, for heads that look at several numbers of them
    wide_pcs: Embedding


def stream_features(cells: StoredCells, config: RunConfig, stages: Stages) -> StreamedFeatures:
    """Choose genes, keep their expression on disk, reduce it, and link cells.

    Genes are chosen by the moments of the scan; components are the leading eigenvectors of the genes' covariance, which
    is summed over all cells.

    Raises ``InputUnusable`` if no gene is seen in enough cells, or the disk refuses.
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
