"""The expression side of the cells, which every recipe shares: normalise, choose genes, reduce, and link cells."""

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.config import RunConfig
from cellmodel.errors import InputUnusable
from cellmodel.graph import GraphConfig, knn_graph, smooth, snn_weights, spatial_graph
from cellmodel.informativeness import information_weights, own_informativeness
from cellmodel.io import Cells, spatial_coordinates
from cellmodel.nearest import knn_recall
from cellmodel.preprocess import detected_genes, highly_variable, normalise_log1p, principal_components
from cellmodel.types import CellByGene, CellGraph, Embedding
from cellmodel.values import ValueKind

log = logging.getLogger(__name__)
LOW_DATA_COMPONENTS: Final = 10
SAME_PLACE: Final = 1e-3  # rounding alone; cells that differ in anything are further apart
FEW_CELLS: Final = 200  # up to which the low-data mode is proposed


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """Expression side of the cells, before any recipe.

    Parameters
    ----------
    expression
        (cell, gene) log-normalised, genes in the order of the cells' names.
    detected
        Columns of ``expression`` that are seen in enough cells.
    top_genes
        Columns that are highly variable.
    pcs, smoothed
        Principal components, and their mean over the graph.
    knn, graph
        Distances to the nearest cells, and shared-nearest-neighbour weights.
    gene_weights
        Of ``top_genes`` in ``pcs``; None where all weigh the same.
    knn_recall
        Share of the true nearest cells that ``knn`` holds: 1 where the search was exact, else measured on some.
    coordinates, spatial
        Places of the cells, and the graph of the nearest by place; None where they are not used.
    """

    expression: CellByGene
    detected: Int[np.ndarray, " gene"]
    top_genes: Int[np.ndarray, " gene"]
    pcs: Embedding
    smoothed: Embedding
    knn: CellGraph
    graph: CellGraph
    knn_recall: float = 1.0
    coordinates: Float[np.ndarray, "cell axis"] | None = None
    spatial: CellGraph | None = None
    gene_weights: Float[np.ndarray, " gene"] | None = None


def log_expression(cells: Cells) -> CellByGene:
    """Take log-normalised values as they are, and normalise counts."""
    return log_values(cells.matrix, cells.kind)


def log_values(values: CellByGene, kind: ValueKind) -> CellByGene:
    """As :func:`log_expression`, for values of a kind, of all genes."""
    return values if kind == ValueKind.LOG1P else normalise_log1p(values)


def make_features(cells: Cells, config: RunConfig, *, from_text: Float[np.ndarray, " gene"] | None = None) -> Features:
    """Normalise, choose genes, reduce, and link cells: the expression side, which every recipe shares.

    Parameters
    ----------
    from_text
        How informative each gene of the cells is by its text, for ``config.low_data``; None to leave the text out.

    Raises
    ------
    InputUnusable
        If no gene is seen in enough cells.
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

    Raises
    ------
    InputUnusable
        If there are fewer than two.
    """
    if n_detected < 2:  # noqa: PLR2004 - one gene has no variance to share
        raise InputUnusable(
            f"{n_detected:,} of {n_genes:,} genes are seen in at least {min_cells} cells of {source}, 2 are needed; is "
            "it filtered already, or transposed?"
        )


def check_spread(pcs: Embedding, *, source: str) -> None:
    """Check that cells differ.

    Raises
    ------
    InputUnusable
        If all lie at one place.
    """
    if np.ptp(pcs, axis=0).max(initial=0.0) < SAME_PLACE:
        raise InputUnusable(
            f"all {len(pcs):,} cells of {source} are the same after normalising, so nothing tells them apart; is it "
            "the right layer (--layer), or one cell written many times?"
        )


def measured_recall(pcs: Embedding, knn: CellGraph, config: GraphConfig) -> float:
    """Recall of the nearest cells; 1 where the search was exact."""
    return 1.0 if len(pcs) <= config.exact_up_to else knn_recall(pcs, knn, metric=config.metric)
