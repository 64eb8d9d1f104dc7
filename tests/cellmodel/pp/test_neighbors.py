"""The neighbors graph: exact and approximate search, recall, shared neighbors, smoothing, new cells attached."""

import logging

import faiss
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from cellmodel.core.config import GraphConfig
from cellmodel.pp.neighbors import (
    approximate_search,
    attach,
    faiss_centers,
    knn_graph,
    knn_recall,
    metric_points,
    nearest_center,
    smooth,
    snn_weights,
)
from tests.support import oracles, strategies

METRICS = {"cosine": oracles.cosine_distances_by_loops, "euclidean": oracles.euclidean_distances_by_loops}


def blobs(seed, *, n_cells=200, n_dims=8):
    rng = np.random.default_rng(seed)
    centers = 4 * rng.standard_normal((12, n_dims))
    return (centers[rng.integers(0, 12, n_cells)] + rng.standard_normal((n_cells, n_dims))).astype(np.float32)


def as_graph(neighbors):
    """Graph of the stored entries, all at distance 0: only what is stored may matter."""
    n_cells, k = np.shape(neighbors)
    starts = np.arange(0, n_cells * k + 1, k)
    return sp.csr_matrix((np.zeros(n_cells * k), np.ravel(neighbors), starts), shape=(n_cells, n_cells))


def test_threads_change_nothing_in_what_the_inverted_lists_find(monkeypatch):
    found, before = [], faiss.omp_get_max_threads()
    for n_threads in (1, 2):
        monkeypatch.setenv("OMP_NUM_THREADS", str(n_threads))
        faiss.omp_set_num_threads(n_threads)
        found.append(approximate_search(blobs(5, n_cells=3000, n_dims=20), n_neighbors=10))
    faiss.omp_set_num_threads(before)
    assert all(one.tobytes() == other.tobytes() for one, other in zip(*found, strict=True))


def test_rows_that_the_lists_leave_short_are_filled():
    points = np.vstack([blobs(2, n_cells=1500, n_dims=5), 1e4 + np.arange(10.0).reshape(2, 5)])
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
        assert knn_recall(points, as_graph(truth), metric="euclidean") == 1
        assert not caplog.messages
        assert knn_recall(points, as_graph(halved), metric="euclidean") == 0.5
    assert caplog.messages == ["recall of the nearest cells is 0.50, below 0.90; clusters may suffer"]


def test_recall_counts_any_of_equally_far_cells_and_an_exact_graph_as_whole():
    crowd = np.ones((60, 3), dtype=np.float32)
    assert knn_recall(crowd, knn_graph(crowd, config=GraphConfig(n_neighbors=4)), metric="cosine") == 1
    cells = blobs(4, n_cells=500)
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


@settings(deadline=None)
@given(points=strategies.features(), k=st.integers(1, 30), metric=st.sampled_from(sorted(METRICS)))
def test_each_cell_has_its_k_nearest_others_and_never_itself(points, k, metric):
    graph = knn_graph(points, config=GraphConfig(n_neighbors=k, metric=metric))
    k_found = min(k, len(points) - 1)
    expected = METRICS[metric](points)
    assert (np.diff(graph.indptr) == k_found).all()
    for cell in range(len(points)):
        row = slice(graph.indptr[cell], graph.indptr[cell + 1])
        neighbors, distances = graph.indices[row], graph.data[row]
        assert cell not in neighbors
        assert len(set(neighbors.tolist())) == k_found
        np.testing.assert_allclose(distances, expected[cell, neighbors], atol=1e-6)
        nearest = np.sort(np.delete(expected[cell], cell))[:k_found]
        np.testing.assert_allclose(np.sort(distances), nearest, atol=1e-6)


@pytest.mark.parametrize("exact_up_to", [50_000, 10])
def test_a_crowd_of_equal_cells_still_gives_k_others(exact_up_to):
    points = np.ones((40, 3), dtype=np.float32)
    graph = knn_graph(points, config=GraphConfig(n_neighbors=5, exact_up_to=exact_up_to))
    assert (np.diff(graph.indptr) == 5).all()
    assert not graph.diagonal().any()
    assert not (graph.indices.reshape(40, 5) == np.arange(40)[:, None]).any()
    np.testing.assert_allclose(graph.data, 0, atol=1e-6)


def test_lengths_of_rows_do_not_matter_to_the_cosine_even_at_the_limits_of_float32():
    points = blobs(1, n_cells=40)
    factor = np.array([1e-30, 1.0, 1e30, 7.0] * 10, dtype=np.float32)[:, None]
    config = GraphConfig(n_neighbors=4)
    straight, scaled = knn_graph(points, config=config), knn_graph(points * factor, config=config)
    assert straight.indices.tolist() == scaled.indices.tolist()


@pytest.mark.parametrize("exact_up_to", [50_000, 10])
def test_permuting_the_cells_permutes_the_graph(exact_up_to):
    points, order = blobs(2, n_cells=600), np.random.default_rng(0).permutation(600)
    config = GraphConfig(n_neighbors=6, exact_up_to=exact_up_to)
    straight, permuted = knn_graph(points, config=config), knn_graph(points[order], config=config)
    np.testing.assert_allclose(permuted.toarray(), straight.toarray()[np.ix_(order, order)], atol=1e-7)


@pytest.mark.parametrize("metric", sorted(METRICS))
@pytest.mark.parametrize(("n_cells", "n_dims", "recall"), [(600, 8, 0.98), (3000, 5, 0.95)])
def test_the_approximate_search_finds_nearly_all_neighbors_at_true_distances_and_the_same_every_time(
    metric, n_cells, n_dims, recall
):
    points = blobs(3, n_cells=n_cells, n_dims=n_dims)
    exact = knn_graph(points, config=GraphConfig(metric=metric))
    approximate, again = (knn_graph(points, config=GraphConfig(metric=metric, exact_up_to=100)) for _ in range(2))
    pairs = zip(exact.indices.reshape(n_cells, 15), approximate.indices.reshape(n_cells, 15), strict=True)
    assert np.mean([len(set(a) & set(b)) / 15 for a, b in pairs]) > recall
    true = cdist(points, points, metric)[np.repeat(np.arange(n_cells), 15), approximate.indices]
    np.testing.assert_allclose(approximate.data, true, rtol=1e-5, atol=1e-6)
    assert approximate.data.tobytes() == again.data.tobytes()
    assert approximate.indices.tobytes() == again.indices.tobytes()


def test_one_cell_has_no_neighbor():
    graph = knn_graph(np.ones((1, 2), dtype=np.float32), config=GraphConfig())
    assert (graph.shape, graph.nnz) == ((1, 1), 0)
    assert snn_weights(graph).nnz == 0
    assert smooth(np.ones((1, 2), dtype=np.float32), graph).tolist() == [[1, 1]]


@pytest.mark.parametrize("points", [np.empty((0, 3)), np.array([[1.0], [np.nan]]), np.array([[1.0], [np.inf]])])
def test_no_cell_or_values_that_are_not_finite_are_refused(points):
    with pytest.raises(ValueError, match=f"embedding of {len(points)} cells must hold at least one cell and finite"):
        knn_graph(points, config=GraphConfig())


def test_at_least_one_neighbor_must_be_asked_for():
    with pytest.raises(ValueError, match="n_neighbors must be >= 1, got 0"):
        GraphConfig(n_neighbors=0)


@settings(deadline=None)
@given(neighbors=strategies.neighbor_lists())
def test_shared_neighbors_equal_a_double_loop(neighbors):
    graph = snn_weights(as_graph(neighbors))
    np.testing.assert_allclose(graph.toarray(), oracles.jaccard_by_loops(neighbors), atol=1e-6)
    assert (graph != graph.T).nnz == 0
    assert not graph.diagonal().any()
    assert (graph.data > 0).all()
    assert (graph.data <= 1).all()


def test_shared_neighbors_do_not_depend_on_the_size_of_the_blocks_and_leave_the_distances(monkeypatch):
    knn = knn_graph(blobs(4), config=GraphConfig())
    before = knn.data.copy()
    whole = snn_weights(knn)
    monkeypatch.setattr("cellmodel.pp.neighbors._COUNTED", 7)
    assert (snn_weights(knn) != whole).nnz == 0
    assert np.array_equal(knn.data, before)


def test_an_approximate_graph_with_low_recall_is_told(monkeypatch, caplog):
    points = blobs(7, n_cells=3000)
    monkeypatch.setattr("cellmodel.pp.neighbors._PROBES", 1)
    knn_graph(points, config=GraphConfig(exact_up_to=100))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "recall of the nearest cells is 0." in caplog.text


@settings(deadline=None)
@given(graph=strategies.weighted_graphs(), n_steps=st.integers(0, 3), seed=strategies.seeds)
def test_smoothing_equals_a_double_loop(graph, n_steps, seed):
    features = np.random.default_rng(seed).standard_normal((graph.shape[0], 3))
    found = smooth(features, graph, n_steps=n_steps)
    np.testing.assert_allclose(found, oracles.smooth_by_loops(features, graph.toarray(), n_steps), atol=1e-9)


def test_new_cells_are_attached_as_if_each_alone_had_joined():
    rng = np.random.default_rng(5)
    reference, new = rng.standard_normal((60, 4)), rng.standard_normal((7, 4))
    config = GraphConfig(n_neighbors=8, metric="euclidean")
    knn = knn_graph(reference, config=config)
    graph = attach(new, reference, config=config)
    np.testing.assert_allclose(graph[:60, :60].toarray(), snn_weights(knn).toarray())
    assert graph[:, 60:].nnz == 0
    members = [{row, *knn[row].indices.tolist()} for row in range(60)]
    for row, cell in enumerate(new):
        nearest = np.argsort(np.linalg.norm(reference - cell, axis=1))[:8].tolist()
        own = {*nearest, "the cell itself"}
        expected = {near: len(own & members[near]) / len(own | members[near]) for near in nearest}
        found = graph[60 + row].tocoo()
        kept = {near: weight for near, weight in expected.items() if weight}
        assert dict(zip(found.col.tolist(), found.data.tolist(), strict=True)) == pytest.approx(kept)
    assert (attach(new[3:4], reference, config=config)[60] != graph[63, :61]).nnz == 0
