import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sknetwork.clustering import get_modularity

from cellmodel.cluster.algorithms import coarse_graph, communities, leiden, leiden_to_k
from cellmodel.core.arrays import content_order
from cellmodel.core.config import GraphConfig
from cellmodel.pp.neighbors import knn_graph, snn_weights

COARSE = {"whole_up_to": 100, "n_micro": 60}


def groups(seed=0, *, sizes=(300, 200, 100, 40)):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    points = 8 * rng.standard_normal((len(sizes), 6))[truth] + rng.standard_normal((len(truth), 6))
    points = points.astype(np.float32)
    return points, truth, snn_weights(knn_graph(points, config=GraphConfig(metric="euclidean")))


def test_weights_of_micro_clusters_are_sums_of_those_of_their_cells():
    points, _, graph = groups()
    merged, micro = coarse_graph(graph, points, n_micro=25)
    expected = np.zeros(merged.shape)
    np.add.at(expected, (micro[graph.nonzero()[0]], micro[graph.nonzero()[1]]), graph[graph.nonzero()].A1)
    np.testing.assert_allclose(merged.toarray(), expected, rtol=1e-6)
    assert sorted(set(micro.tolist())) == list(range(merged.shape[0]))


def test_modularity_of_clusters_is_the_same_on_micro_clusters_and_on_cells():
    points, _, graph = groups(1)
    merged, micro = coarse_graph(graph, points, n_micro=30)
    clusters = np.arange(merged.shape[0]) % 4
    on_cells = get_modularity(graph, clusters[micro], resolution=0.7)
    assert get_modularity(merged, clusters, resolution=0.7) == pytest.approx(on_cells, abs=1e-6)


def test_leiden_on_micro_clusters_finds_the_groups_that_leiden_on_cells_finds():
    points, truth, graph = groups(2)
    assert adjusted_rand_score(truth, leiden(graph, resolution=0.05, seed=0)) == 1
    assert adjusted_rand_score(truth, communities(graph, points, resolution=0.05, seed=0, **COARSE)) == 1
    assert adjusted_rand_score(truth, communities(graph, points, n_clusters=4, seed=0, **COARSE)) == 1


def test_few_cells_are_clustered_as_they_are():
    points, _, graph = groups(3, sizes=(60, 40, 20))
    order = content_order(points)
    ordered = graph[order][:, order]
    alone = communities(graph, points, resolution=1.0, seed=5)
    assert np.array_equal(alone[order], leiden(ordered, resolution=1.0, seed=5))
    cut = communities(graph, points, n_clusters=5, seed=5)
    assert np.array_equal(cut[order], leiden_to_k(ordered, n_clusters=5, seed=5))
    mixed = np.random.default_rng(0).permutation(len(points))
    again = communities(graph[mixed][:, mixed], points[mixed], resolution=1.0, seed=5)
    assert np.array_equal(again, alone[mixed])


def test_permuting_the_cells_permutes_the_micro_clusters():
    points, _, graph = groups(4)
    order = np.random.default_rng(0).permutation(len(points))
    straight = coarse_graph(graph, points, n_micro=20)[1]
    assert np.array_equal(straight[order], coarse_graph(graph[order][:, order], points[order], n_micro=20)[1])


def test_what_cannot_be_is_refused():
    points, _, graph = groups(sizes=(80, 60))
    with pytest.raises(ValueError, match=r"n_clusters must lie in 1 \.\. 140"):
        communities(graph, points, n_clusters=141, seed=0)
