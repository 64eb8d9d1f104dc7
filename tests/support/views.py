"""Views of a few groups of cells, for tests of recipes."""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from cellmodel.core.config import GraphConfig
from cellmodel.pp.neighbors import knn_graph, smooth, snn_weights
from cellmodel.recipes.base import CellViews

BY_CELL = ("expression", "pcs", "smoothed", "text", "depth", "counts")
BY_PAIR = ("graph", "knn")


def grouped_views(*, sizes=(60, 40, 20), n_clusters=3):
    """Three groups of cells, each with ten genes of its own, and a text that knows them; and the group of each cell."""
    rng = np.random.default_rng(0)
    truth, n_cells = np.repeat(np.arange(3), sizes), sum(sizes)
    counts = rng.poisson(0.3 + 3 * np.kron(np.eye(3, 4), np.ones(10))[truth]).astype(np.float32)
    expression = np.log1p(counts)
    left, singular, _ = np.linalg.svd(expression - expression.mean(axis=0), full_matrices=False)
    pcs = (left * singular)[:, :6].astype(np.float32)
    knn = knn_graph(pcs, config=GraphConfig(n_neighbors=10, metric="euclidean"))
    graph = snn_weights(knn)
    text = (2 * np.eye(3, 8)[truth] + rng.standard_normal((n_cells, 8))).astype(np.float32)
    views = CellViews(
        expression=sp.csr_matrix(expression), pcs=pcs, graph=graph, smoothed=smooth(pcs, graph), text=text, knn=knn,
        depth=counts.sum(axis=1).astype(np.float64), counts=sp.csr_matrix(counts), n_clusters=n_clusters,
        gene_vectors=rng.standard_normal((40, 5)).astype(np.float32),
    )  # fmt: skip
    return views, truth


def permuted(views, order):
    """Views of some cells in another order."""
    by_cell = {name: getattr(views, name)[order] for name in BY_CELL if getattr(views, name) is not None}
    return replace(views, **by_cell, **{name: getattr(views, name)[order][:, order] for name in BY_PAIR})
