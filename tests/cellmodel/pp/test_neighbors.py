import logging

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist

from cellmodel.core.config import GraphConfig
from cellmodel.pp.neighbors import (
    approximate_search,
    exact_search,
    faiss_centers,
    knn_graph,
    knn_recall,
    metric_points,
    nearest_center,
)


def blobs(seed, *, n_cells=3000, n_dims=5):
    rng = np.random.default_rng(seed)
    centers = 4 * rng.standard_normal((12, n_dims))
    return centers[rng.integers(0, 12, n_cells)] + rng.standard_normal((n_cells, n_dims))


def graph_of(neighbors):
    n_cells, width = neighbors.shape
    starts = np.arange(0, neighbors.size + 1, width)
    return sp.csr_matrix((np.ones(neighbors.size), neighbors.ravel(), starts), shape=(n_cells, n_cells))


def test_the_inverted_lists_find_nearly_all_and_true_distances():
    points = blobs(0)
    squared, neighbors = approximate_search(points, n_neighbors=10)
    truth, _ = exact_search(points, points, n_neighbors=10)
    assert np.mean(squared <= truth[:, -1:] * (1 + 1e-5)) > 0.95
    own = ((points[neighbors] - points[:, None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared, own, rtol=1e-4, atol=1e-5)


def test_permuting_the_points_permutes_what_the_inverted_lists_find():
    points, order = blobs(1), np.random.default_rng(0).permutation(3000)
    straight, permuted = (approximate_search(each, n_neighbors=10)[1] for each in (points, points[order]))
    assert np.array_equal(order[permuted], straight[order])


def test_rows_that_the_lists_leave_short_are_filled():
    points = np.vstack([blobs(2, n_cells=1500), 1e4 + np.arange(10.0).reshape(2, 5)])
    _, neighbors = approximate_search(points, n_neighbors=1400)
    assert (neighbors >= 0).all()
    assert all(len(set(row.tolist())) == 1400 for row in neighbors[-2:])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_distances_of_metric_points_have_the_order_of_the_metric(metric):
    cells = np.random.default_rng(3).standard_normal((30, 4))
    points = metric_points(cells, metric=metric)
    expected = cdist(cells, cells, metric) if metric == "euclidean" else np.sqrt(2 * cdist(cells, cells, "cosine"))
    np.testing.assert_allclose(cdist(points, points), expected, atol=1e-7)


def test_recall_is_the_share_of_the_true_neighbors_that_a_graph_holds(caplog):
    points = np.arange(40.0)[:, None] ** 1.1
    truth = np.argsort(cdist(points, points), axis=1)[:, 1:5]
    halved = truth.copy()
    halved[:, 2:] = np.argsort(cdist(points, points), axis=1)[:, 20:22]
    with caplog.at_level(logging.WARNING):
        assert knn_recall(points, graph_of(truth), metric="euclidean") == 1
        assert not caplog.messages
        assert knn_recall(points, graph_of(halved), metric="euclidean") == 0.5
    assert caplog.messages == ["recall of the nearest cells is 0.50, below 0.90; clusters may suffer"]


def test_recall_counts_any_of_equally_far_cells_and_an_exact_graph_as_whole():
    crowd = np.ones((60, 3), dtype=np.float32)
    assert knn_recall(crowd, knn_graph(crowd, config=GraphConfig(n_neighbors=4)), metric="cosine") == 1
    cells = blobs(4, n_cells=500).astype(np.float32)
    assert knn_recall(cells, knn_graph(cells, config=GraphConfig()), metric="cosine", n_cells=100) == 1
    alone = np.ones((1, 2))
    assert knn_recall(alone, knn_graph(alone, config=GraphConfig()), metric="cosine") == 1


def test_quick_centers_are_means_of_their_points_in_any_order_of_these():
    rng = np.random.default_rng(5)
    vectors = (np.repeat(50 * np.eye(3), 40, axis=0) + rng.standard_normal((120, 3))).astype(np.float32)
    centers = faiss_centers(vectors, n_clusters=6)
    assert np.array_equal(centers, faiss_centers(vectors[rng.permutation(120)], n_clusters=6))
    nearest = nearest_center(vectors, centers)
    assert nearest.tolist() == cdist(vectors, centers).argmin(axis=1).tolist()
    means = [vectors[nearest == center].mean(axis=0) for center in range(6)]
    np.testing.assert_allclose(centers, means, atol=0.5)
