"""Other views of the same cells: noise on the features, edges dropped, the graph diffused. Nothing is dense."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from cellmodel.core import random as seeding
from cellmodel.core.arrays import CellByGene, CellGraph, Embedding
from cellmodel.core.device import find_device
from cellmodel.nn.modules.siamese import SiameseGraphs
from cellmodel.nn.train import Batch
from cellmodel.recipes.base import CellViews
from cellmodel.recipes.whole_graph import csr_tensor, standardised, symmetric_propagation


def feature_noise(features: Embedding, *, deviation: float, rng: np.random.Generator) -> Embedding:
    """Multiply every value by a draw from N(1, deviation²).

    Raises ``ValueError`` if ``deviation`` is negative.
    """
    if deviation < 0:
        raise ValueError(f"deviation must be >= 0, got {deviation}")
    return (features * (1 + deviation * rng.standard_normal(features.shape))).astype(features.dtype)


def drop_edges(graph: CellGraph, embedding: Embedding, *, share: float) -> CellGraph:
    """Drop a share of the edges that exist, those between the least similar cells first.

    ``graph``: symmetric weights, zero diagonal. ``embedding``: one row a cell; the cosine of the rows is the
    similarity. Ties go by the order of the cells. ``share``: 0 to below 1, of the undirected edges, rounded down.
    Returns a symmetric graph with the weights of the edges that are left. Raises ``ValueError`` if ``share`` is out of
    range.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must lie in [0, 1), got {share}")
    upper = sp.triu(graph, k=1, format="coo")
    lengths = np.maximum(np.linalg.norm(embedding, axis=1), np.finfo(np.float64).tiny)
    dots = np.einsum("ij,ij->i", embedding[upper.row].astype(np.float64), embedding[upper.col])
    order = np.argsort(dots / (lengths[upper.row] * lengths[upper.col]), kind="stable")
    kept = np.sort(order[int(share * upper.nnz) :])
    half = sp.csr_matrix((upper.data[kept], (upper.row[kept], upper.col[kept])), shape=graph.shape)
    return (half + half.T).tocsr()


def diffuse(transition: CellGraph, *, restart: float, n_steps: int, n_kept: int) -> CellGraph:
    r"""Personalised PageRank from every cell, truncated :cite:`gasteiger2019diffusion`.

    .. math:: S_{t+1} = (1 - \alpha) S_t T + \alpha I, \quad S_0 = I

    After each step a row keeps its largest values and is scaled to sum to one, so no inverse and no dense matrix is
    ever made; published is the inverse of an n × n matrix.

    ``transition``: t: rows sum to one. ``restart``: :math:`\alpha`, in (0, 1]. ``n_steps``: steps of the iteration;
    what lies further away is left out. ``n_kept``: values a row keeps at most; of equal ones the first cells. Raises
    ``ValueError`` if a setting is out of range.
    """
    if not 0 < restart <= 1 or n_steps < 1 or n_kept < 1:
        raise ValueError(f"restart must lie in (0, 1], steps and values be >= 1; got {restart}, {n_steps}, {n_kept}")
    start = sp.identity(transition.shape[0], format="csr")
    current = start
    for _ in range(n_steps):
        current = _largest_by_row(((1 - restart) * (current @ transition) + restart * start).tocsr(), n_kept=n_kept)
    return current


def _largest_by_row(matrix: CellGraph, *, n_kept: int) -> CellGraph:
    """Keep the largest values of each row and scale them to sum to one."""
    matrix.sort_indices()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))  # rows stay together, the largest value first
    rank = np.arange(matrix.nnz) - matrix.indptr[rows]  # the same rows[order] as rows
    chosen = np.sort(order[rank < n_kept])
    kept_rows, values = rows[chosen], matrix.data[chosen]
    totals: Float[np.ndarray, " cell"] = np.bincount(kept_rows, values, minlength=matrix.shape[0])
    scaled = values / totals[kept_rows]
    return sp.csr_matrix((scaled, (kept_rows, matrix.indices[chosen])), shape=matrix.shape)


NOISE: Final = 0.1  # standard deviation of the factors that make a view of the features
DROPPED_EDGES: Final = 0.1
RESTART: Final = 0.2  # of the diffusion
DIFFUSION_STEPS: Final = 5
DIFFUSION_KEPT: Final = 64  # cells that a row of the diffusion keeps


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AugmentedViews:
    """What does not change while siamese encoders are trained."""

    # by cell: ``features``, two noisy views of them, ``view`` and ``other_view``, and ``smoothed``, the features
    # averaged over the graph
    cells: Batch
    graphs: SiameseGraphs  # the graph and its two views
    counts: CellByGene | None  # (cell, gene) raw counts; None where the input holds none
    log_size_factors: Float[Tensor, " cell"]  # logarithm of each cell's depth over the mean depth


def augment_views(views: CellViews, *, seed: int) -> AugmentedViews:
    """Make the views: noise on the principal components, the graph diffused, and without its least similar edges.

    The components are centred and scaled by one factor, the noise is drawn once. All tensors lie on the device that
    the views ask for.
    """
    features = standardised(views.pcs)
    rng = seeding.generator(seed, "feature noise")
    noisy = [torch.from_numpy(feature_noise(features, deviation=NOISE, rng=rng)) for _ in range(2)]
    device = find_device(views.compute.device)
    graphs = _graphs(views, device)
    cells = {"features": torch.from_numpy(features), "view": noisy[0], "other_view": noisy[1]}
    cells = {name: values.to(device) for name, values in cells.items()}
    depth = np.maximum(views.depth, 1.0)  # a cell without counts has none to explain
    return AugmentedViews(
        cells={**cells, "smoothed": graphs.propagation @ cells["features"]},
        graphs=graphs,
        counts=views.counts,
        log_size_factors=torch.from_numpy(np.log(depth / depth.mean()).astype(np.float32)).to(device),
    )


def _graphs(views: CellViews, device: torch.device) -> SiameseGraphs:
    linked = (views.graph + sp.identity(views.graph.shape[0], format="csr")).tocoo()
    transition = (sp.diags(1 / np.asarray(linked.sum(axis=1)).ravel()) @ linked).tocsr()
    diffused = diffuse(transition, restart=RESTART, n_steps=DIFFUSION_STEPS, n_kept=DIFFUSION_KEPT)
    dropped = drop_edges(views.graph, views.pcs, share=DROPPED_EDGES)
    return SiameseGraphs(
        propagation=csr_tensor(symmetric_propagation(views.graph)).to(device),
        views=(csr_tensor(diffused).to(device), csr_tensor(symmetric_propagation(dropped)).to(device)),
        edges=torch.from_numpy(np.stack([linked.row, linked.col]).astype(np.int64)).to(device),
    )
