"""The expression side of the cells, which every recipe shares: choose genes, reduce, and link cells.

Cells are read block by block; those in memory are one block, those of a file are backed.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.arrays import CellByGene, CellGraph, Embedding, Labels, axis_signs, in_order, one_thread, row_blocks
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import AnyStages, Arrays, InputStages, MemoryStages, Stage, Stages
from cellmodel.io.backed import AnyCells, BackedCells, Scan
from cellmodel.io.cells import ObsCategories, obsm_embedding, spatial_coordinates
from cellmodel.io.matrix import ValueKind
from cellmodel.pp.gene_weights import information_weights, own_informativeness
from cellmodel.pp.integrate import Integrated, Mixing, integrate, mix_within, read_batches
from cellmodel.pp.moments import column_moments, scan, variable_by_moments, variable_in_batches
from cellmodel.pp.neighbors import measured_knn_graph, smooth, snn_weights
from cellmodel.pp.normalize import LogExpression
from cellmodel.pp.spatial import likeness, morans_i, spatial_graph
from genekb.core.messages import counted, listed

log = logging.getLogger(__name__)
LOW_DATA_COMPONENTS: Final = 10
BATCH_CELLS: Final = 30  # of a batch; the variance of genes over fewer says little
SAME_PLACE: Final = 1e-3  # rounding alone; cells that differ in anything are further apart
FEW_CELLS: Final = 200  # up to which the low-data mode is proposed
_DENSE_CELLS: Final = 1_024  # made dense at a time: bounds memory
_SPARSE_BELOW: Final = 0.12  # fraction of non-zero values up to which sparse products of genes are the faster ones


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Components:
    """Leading principal components of expression, which new cells can be projected on as well."""

    mean: Float[np.ndarray, " gene"]  # of each gene, over the cells that the components were fitted to
    # (gene, dim) the leading component first: orthonormal columns, times the weights of the genes where these have any
    loadings: Float[np.ndarray, "gene dim"]

    def __call__(self, expression: CellByGene, *, out: Embedding | None = None) -> Embedding:
        """Float32 scores of cells, in ``out`` if it is given; sparse expression is never made dense."""
        shape = (expression.shape[0], self.loadings.shape[1])
        scores = np.empty(shape, dtype=np.float32) if out is None else out
        start, shift = 0, self.mean @ self.loadings
        for found in in_order(lambda block: block.astype(np.float64) @ self.loadings - shift, row_blocks(expression)):
            scores[start : start + len(found)] = found
            start += len(found)
        return scores


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """Expression side of the cells, before any recipe."""

    expression: CellByGene  # (cell, gene) log-normalized, of the ``top_genes`` alone; memory-mapped where it is backed
    # detected, top_genes: columns of the cells' genes that are seen in enough cells, and of these the highly variable,
    # with those that follow the tissue most where coordinates are used
    detected: Int[np.ndarray, " gene"]
    top_genes: Int[np.ndarray, " gene"]
    # expression → ``pcs``, neither integrated nor averaged; None where ``pcs`` are of ``config.use_rep``
    components: Components | None
    # principal components, integrated where there are batches; or the embedding in their place; averaged over the
    # tissue where coordinates are used
    pcs: Embedding
    smoothed: Embedding  # ``pcs`` averaged over the graph
    knn: CellGraph  # knn, graph: distances to the nearest cells, and shared-nearest-neighbor weights
    graph: CellGraph
    # fraction of the true nearest cells that ``knn`` holds: 1 where the search was exact, else measured on some
    knn_recall: float = 1.0
    # coordinates, spatial: coordinates of the cells, and the graph of the nearest by them; None where they are not used
    coordinates: Float[np.ndarray, "cell axis"] | None = None
    spatial: CellGraph | None = None
    gene_weights: Float[np.ndarray, " gene"] | None = None  # of ``top_genes`` in ``pcs``; None where all weigh the same
    batches: ObsCategories | None = None  # of the cells; None where there is no batch key, or one batch alone
    integrated: Integrated | None = None  # how they were, and what was before; None where nothing was asked for

    @property
    def integration(self) -> str:
        """How batches were integrated, ``none`` where the components are as they were."""
        return "none" if self.integrated is None else self.integrated.method


def scan_cells(cells: AnyCells, batches: ObsCategories | None = None) -> Scan:
    """Give what one pass over the cells finds; backed cells were read once already."""
    return cells.scan if isinstance(cells, BackedCells) else scan(cells.matrix, kind=cells.kind, batches=batches)


def make_features(
    cells: AnyCells,
    config: RunConfig,
    *,
    from_text: Float[np.ndarray, " gene"] | None = None,
    stages: AnyStages | None = None,
    batches: ObsCategories | None = None,
    scanned: Scan | None = None,
) -> Features:
    """Choose highly variable genes, keep their expression, reduce it, integrate it, and compute the neighbors graph.

    ``from_text``: how informative each gene of the cells is by its text, for ``config.low_data``. ``stages``: where
    arrays are kept; in memory if None. ``batches``, ``scanned``: what :func:`read_batches` and :func:`scan_cells` gave,
    if that is at hand.
    """
    if scanned is None:
        batches = read_batches(cells, config)
        scanned = scan_cells(cells, batches)
    stages = stages or MemoryStages()
    coordinates = spatial = None
    if config.spatial is not None:
        coordinates = spatial_coordinates(cells.adata, source=cells.source)
        spatial = spatial_graph(coordinates, n_neighbors=config.spatial.n_neighbors)
    detected = _detected(scanned, config, n_genes=len(cells.names), source=cells.source)
    source = LogExpression(matrix=cells.matrix, kind=cells.kind, columns=detected)
    n_top = config.preprocess.n_top_genes
    top_genes = detected[_variable(scanned, detected, batches, n_top=n_top)]
    if spatial is not None and len(detected) > n_top:
        following = morans_i(_kept_values("detected", source, scanned, stages), spatial)
        top_genes = np.union1d(top_genes, detected[np.argsort(-following, kind="stable")[:n_top]])
    expression = _kept_values("expression", replace(source, columns=top_genes), scanned, stages)
    if expression.shape[0] <= FEW_CELLS and not config.low_data:
        log.info("%d cells are few; low_data=True weighs genes by how informative they are", expression.shape[0])
    of_genes = None if from_text is None else from_text[top_genes]
    reduced = stages.run("components", lambda arrays: _reduce(cells, expression, config, arrays, from_text=of_genes))
    pcs = np.asarray(reduced.arrays["pcs"])
    _check_spread(pcs, source=cells.source)
    integrated = None if batches is None else integrate(pcs, batches, config, stages)
    if integrated is not None:
        if integrated.method == "none" and scanned.batch_mean is not None and len(detected) > n_top:
            pooled = replace(scanned, batch_mean=None, batch_variance=None)  # genes of all cells, as without batches
            stages = InputStages(stages=stages, name="pooled") if isinstance(stages, Stages) else stages
            return make_features(cells, config, from_text=from_text, stages=stages, batches=batches, scanned=pooled)
        pcs = integrated.pcs
    linked = stages.run("graph", lambda arrays: _link(pcs, config, arrays, spatial=spatial))
    shape = (len(pcs), len(pcs))
    return Features(
        expression=expression,
        detected=detected,
        top_genes=top_genes,
        components=None
        if config.use_rep is not None
        else Components(mean=np.array(reduced.arrays["mean"]), loadings=np.array(reduced.arrays["loadings"])),
        pcs=pcs if spatial is None else np.asarray(linked.arrays["pcs"]),
        smoothed=np.asarray(linked.arrays["smoothed"]),
        knn=_csr(linked, "knn_", shape=shape),
        graph=_csr(linked, "snn_", shape=shape),
        knn_recall=linked.record["recall"],
        coordinates=coordinates,
        spatial=spatial,
        gene_weights=np.array(reduced.arrays["weights"]) if config.low_data else None,
        batches=batches,
        integrated=integrated,
    )


def batch_mixing(features: Features, clusters: Labels) -> tuple[Mixing, ...]:
    """Same-batch neighbors, see :func:`cellmodel.pp.integrate.mix_within`; none without batches."""
    if features.batches is None:
        return ()
    return mix_within(features.batches, features.knn, clusters, integrated=features.integrated)


def _detected(scanned: Scan, config: RunConfig, *, n_genes: int, source: str) -> Int[np.ndarray, " gene"]:
    """Genes that are seen in enough cells: ``min_cells``, or a tenth of the cells where these are few."""
    n_cells = len(scanned.depth)
    min_cells = min(config.preprocess.min_cells, max(1, n_cells // 10))
    detected = np.flatnonzero(scanned.n_cells >= min_cells)
    if len(detected) < 2:  # noqa: PLR2004 - one gene has no variance to share
        raise InputUnusable(
            f"{len(detected):,} of {n_genes:,} genes are seen in at least {min_cells} cells of {source}, 2 are needed; "
            "is it filtered already, or transposed?"
        )
    return detected


def _variable(
    scanned: Scan, detected: Int[np.ndarray, " gene"], batches: ObsCategories | None, *, n_top: int
) -> Int[np.ndarray, " gene"]:
    """Highly variable ones of the detected genes; within batches that have the cells to say so, where there are any."""
    if batches is None or scanned.batch_mean is None or scanned.batch_variance is None:
        return variable_by_moments(scanned.mean[detected], scanned.variance[detected], n_top=n_top)
    is_small = batches.n_cells < BATCH_CELLS
    if is_small.any() and len(detected) > n_top:
        small = [name for name, is_one in zip(batches.names, is_small.tolist(), strict=True) if is_one]
        taken = "of all cells together" if is_small.all() else "without them"
        log.warning(
            "%s of fewer than %d cells (%s): highly variable genes are chosen %s",
            counted(len(small), "batch", plural="batches"), BATCH_CELLS, listed(small), taken,
        )  # fmt: skip
    if is_small.all():
        return variable_by_moments(scanned.mean[detected], scanned.variance[detected], n_top=n_top)
    mean, variance = (found[~is_small][:, detected] for found in (scanned.batch_mean, scanned.batch_variance))
    return variable_in_batches(mean, variance, n_top=n_top)


def _check_spread(pcs: Embedding, *, source: str) -> None:
    """Refuse cells that all have the same components."""
    if np.ptp(pcs, axis=0).max(initial=0.0) < SAME_PLACE:
        raise InputUnusable(
            f"all {len(pcs):,} cells of {source} are the same after normalizing, so they cannot be "
            "clustered; is it the right layer (`layer`), or one cell written many times?"
        )


def kept_counts(cells: AnyCells, columns: Int[np.ndarray, " gene"], scanned: Scan, stages: AnyStages) -> CellByGene:
    """Raw counts of some genes of all cells, gathered block by block."""
    as_they_are = LogExpression(matrix=cells.matrix, kind=ValueKind.LOG1P, columns=columns)
    return _kept_values("counts", as_they_are, scanned, stages)


def _kept_values(name: str, values: LogExpression, scanned: Scan, stages: AnyStages) -> CellByGene:
    n_entries = int(scanned.n_cells[values.columns].sum())
    stored = stages.run(name, lambda arrays: _keep_blocks(values, n_entries, arrays))
    return _csr(stored, "", shape=values.shape)


def _keep_blocks(expression: LogExpression, n_entries: int, arrays: Arrays) -> Mapping[str, Any]:
    n_cells = expression.shape[0]
    numbers = np.int32 if n_entries < np.iinfo(np.int32).max else np.int64
    data = arrays.create("data", shape=(n_entries,), dtype=np.float32)
    indices = arrays.create("indices", shape=(n_entries,), dtype=numbers)
    indptr = np.zeros(n_cells + 1, dtype=numbers)
    row = at = 0
    for block in expression.blocks():
        block.eliminate_zeros()
        end = at + block.nnz
        data[at:end], indices[at:end] = block.data, block.indices
        indptr[row + 1 : row + 1 + block.shape[0]] = at + block.indptr[1:]
        row, at = row + block.shape[0], end
    arrays.save("indptr", indptr)
    return {}


def _reduce(
    cells: AnyCells,
    expression: CellByGene,
    config: RunConfig,
    arrays: Arrays,
    *,
    from_text: Float[np.ndarray, " gene"] | None,
) -> Mapping[str, Any]:
    """Find principal components, of genes by their weights where data are few; or take the user's embedding."""
    if config.use_rep is not None:
        arrays.save("pcs", principal_axes(obsm_embedding(cells.adata, config.use_rep, source=cells.source)))
        return {}
    n_components, weights = config.preprocess.n_components, None
    if config.low_data:
        plain = fit_components(expression, n_components=n_components)(expression)
        weights = information_weights(own_informativeness(expression, plain), from_text)
        n_components = LOW_DATA_COMPONENTS
        arrays.save("weights", weights)
    components = fit_components(expression, n_components=n_components, weights=weights)
    shape = (expression.shape[0], components.loadings.shape[1])
    components(expression, out=arrays.create("pcs", shape=shape, dtype=np.float32))
    arrays.save("mean", components.mean)
    arrays.save("loadings", components.loadings)
    return {}


def _link(pcs: Embedding, config: RunConfig, arrays: Arrays, *, spatial: CellGraph | None) -> Mapping[str, Any]:
    """Link cells with the nearest, and average their components over the links; first over the tissue, where given."""
    knn, recall = measured_knn_graph(pcs, config=config.graph)
    graph = snn_weights(knn)
    smoothed = smooth(pcs, graph, n_steps=config.preprocess.n_smoothing)
    if spatial is not None:
        averaged = smooth(pcs, spatial * likeness(smoothed, spatial), n_steps=1)
        arrays.save("pcs", averaged)
        return _link(averaged, config, arrays, spatial=None)
    _save_csr(arrays, "knn_", knn)
    _save_csr(arrays, "snn_", graph)
    arrays.save("smoothed", smoothed)
    return {"recall": recall}


def _save_csr(arrays: Arrays, prefix: str, matrix: CellGraph) -> None:
    for part in ("data", "indices", "indptr"):
        arrays.save(f"{prefix}{part}", getattr(matrix, part))


def _csr(stage: Stage, prefix: str, *, shape: tuple[int, int]) -> sp.csr_matrix:
    """Give a CSR matrix over arrays of a stage, which are not copied."""
    parts = tuple(np.asarray(stage.arrays[f"{prefix}{part}"]) for part in ("data", "indices", "indptr"))
    return sp.csr_matrix(parts, shape=shape, copy=False)


def fit_components(
    expression: CellByGene, *, n_components: int = 30, weights: Float[np.ndarray, " gene"] | None = None
) -> Components:
    """Leading principal components of gene-centered, not z-scored, expression.

    Eigenvectors of the covariance of the genes, which is summed in one pass over blocks of cells: expression may be
    mapped from a file, and memory is O(genes squared). Signs are fixed by making the largest loading of each component
    positive. There are fewer components than asked for where there are fewer genes, or cells less one.
    """
    from scipy.linalg import eigh

    n_cells, n_genes = expression.shape
    n_kept = min(n_components, n_genes, max(n_cells - 1, 1))
    mean = column_moments(expression)[0]
    scale = np.ones(n_genes) if weights is None else weights
    with one_thread():
        scatter = (_summed_products(expression) - n_cells * np.outer(mean, mean)) * np.outer(scale, scale)
        loadings = eigh(scatter, subset_by_index=(n_genes - n_kept, n_genes - 1), overwrite_a=True)[1][:, ::-1]
    return Components(mean=mean, loadings=scale[:, None] * loadings * axis_signs(loadings))


def _summed_products(expression: CellByGene) -> Float[np.ndarray, "gene gene"]:
    """Sum the products of all pairs of genes over the cells, block by block."""

    def of_block(block: CellByGene) -> Float[np.ndarray, "gene gene"]:
        if block.nnz < _SPARSE_BELOW * np.prod(block.shape):
            values = block.astype(np.float64)
            return (values.T @ values).toarray()
        total = np.zeros((block.shape[1], block.shape[1]))
        for start in range(0, block.shape[0], _DENSE_CELLS):
            dense = block[start : start + _DENSE_CELLS].toarray().astype(np.float64)
            total += dense.T @ dense
        return total

    products = np.zeros((expression.shape[1], expression.shape[1]))
    for of_genes in in_order(of_block, row_blocks(expression)):
        products += of_genes
    return products


def principal_components(expression: CellByGene, *, n_components: int = 30) -> Embedding:
    """Scores of cells on their own leading components; see :func:`fit_components`."""
    return fit_components(expression, n_components=n_components)(expression)


def principal_axes(embedding: Embedding) -> Embedding:
    """Center and rotate an embedding: uncorrelated axes by falling variance, signs as in :func:`fit_components`."""
    points = embedding.astype(np.float64)
    points -= points.mean(axis=0)
    axes = np.linalg.eigh(points.T @ points)[1][:, ::-1]
    return np.asarray(points @ (axes * axis_signs(axes)), dtype=np.float32)
