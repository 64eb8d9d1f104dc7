import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from cellmodel.cluster.algorithms import (
    confidence,
    kmeans,
    leiden,
    leiden_to_k,
    order_by_size,
)
from cellmodel.core.config import GraphConfig
from cellmodel.pp.neighbors import knn_graph, snn_weights
from tests.support import oracles, strategies

SIZES = (400, 120, 60, 15)


def blobs(seed, *, sizes=SIZES, distance=12.0):
    """Groups of very different size, far apart, and the group of each cell."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    centers = distance * np.eye(len(sizes), 6)
    return (centers[truth] + rng.standard_normal((len(truth), 6))).astype(np.float32), truth


def snn_of(features, n_neighbors=15):
    return snn_weights(knn_graph(features, config=GraphConfig(n_neighbors=n_neighbors, metric="euclidean")))


@pytest.mark.parametrize("seed", range(3))
def test_kmeans_finds_groups_that_lie_apart(seed):
    features, truth = blobs(seed)
    assert kmeans(features, n_clusters=4, seed=seed).tolist() == truth.tolist()


@settings(deadline=None)
@given(features=strategies.features(), data=st.data())
def test_every_cluster_occurs_even_among_equal_cells(features, data):
    k = data.draw(st.integers(1, len(features)))
    labels = kmeans(features, n_clusters=k, seed=0)
    assert labels.dtype == np.int64
    assert sorted(set(labels.tolist())) == list(range(k))


@settings(deadline=None)
@given(seed=strategies.seeds)
def test_permuting_the_cells_permutes_the_clusters(seed):
    features, _ = blobs(5, sizes=(80, 60, 40), distance=2.0)
    order = np.random.default_rng(seed).permutation(len(features))
    straight = kmeans(features, n_clusters=6, seed=seed)
    permuted = kmeans(features[order], n_clusters=6, seed=seed)
    assert adjusted_rand_score(straight[order], permuted) == 1


def test_equal_seeds_give_equal_clusters_and_the_global_stream_does_not_matter():
    features, _ = blobs(6, distance=2.0)
    np.random.seed(1)  # noqa: NPY002 - a caller's own use of the global stream
    first = kmeans(features, n_clusters=8, seed=3)
    np.random.seed(2)  # noqa: NPY002
    assert first.tolist() == kmeans(features, n_clusters=8, seed=3).tolist()


@pytest.mark.parametrize("n_clusters", [0, -1, 6])
def test_a_number_of_clusters_out_of_range_is_refused(n_clusters):
    with pytest.raises(ValueError, match=rf"n_clusters must lie in 1 \.\. 5 .*got {n_clusters}"):
        kmeans(np.ones((5, 2), dtype=np.float32), n_clusters=n_clusters, seed=0)


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="1 of 6 features are NaN or infinite"):
        kmeans(np.array([[1.0, 2.0], [np.nan, 1.0], [0.0, 1.0]]), n_clusters=2, seed=0)


def test_leiden_finds_groups_and_parts_of_the_graph():
    features, truth = blobs(9)
    assert adjusted_rand_score(truth, leiden(snn_of(features), resolution=0.05, seed=0)) == 1


def test_leiden_repeats_itself_within_one_process():
    features, _ = blobs(10, distance=1.5)
    graph = snn_of(features)
    first = leiden(graph, resolution=1.5, seed=4)
    for other in range(3):
        leiden(graph, resolution=0.7, seed=other)
    assert leiden(graph, resolution=1.5, seed=4).tolist() == first.tolist()


def test_leiden_gives_more_communities_at_higher_resolution():
    graph = snn_of(blobs(11, distance=3.0)[0])
    found = [leiden(graph, resolution=value, seed=0).max() + 1 for value in (0.05, 1.0, 20.0)]
    assert found[0] < found[1] < found[2]


def test_leiden_makes_each_cell_a_community_where_nothing_is_linked():
    assert leiden(sp.csr_matrix((4, 4)), resolution=1.0, seed=0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("resolution", [0, -1.0])
def test_leiden_refuses_a_resolution_that_is_not_positive(resolution):
    with pytest.raises(ValueError, match=f"resolution must be > 0, got {resolution}"):
        leiden(sp.identity(3, format="csr"), resolution=resolution, seed=0)


@pytest.mark.parametrize("n_clusters", [1, 4, 7])
def test_leiden_to_k_meets_the_number_asked_for(n_clusters):
    graph = snn_of(blobs(12, distance=3.0)[0], n_neighbors=30)
    labels = leiden_to_k(graph, n_clusters=n_clusters, seed=0)
    assert sorted(set(labels.tolist())) == list(range(n_clusters))


def test_leiden_to_k_merges_what_is_most_linked_where_no_resolution_gives_the_number():
    graph = sp.block_diag([np.ones((5, 5)) - np.eye(5), np.ones((6, 6)) - np.eye(6)] * 2, format="csr").tolil()
    graph[0, 5] = graph[5, 0] = graph[11, 16] = graph[16, 11] = 0.01
    labels = leiden_to_k(graph.tocsr(), n_clusters=2, seed=0)
    assert adjusted_rand_score(np.repeat([0, 1], 11), labels) == 1
    apart = sp.block_diag([np.ones((n, n)) - np.eye(n) for n in (4, 5, 9)], format="csr")
    assert adjusted_rand_score([0] * 9 + [1] * 9, leiden_to_k(apart, n_clusters=2, seed=0)) == 1
    with pytest.raises(ValueError, match=r"n_clusters must lie in 1 \.\. 18"):
        leiden_to_k(apart, n_clusters=19, seed=0)


@given(labels=strategies.labelings())
def test_ordering_by_size_renames_and_nothing_else(labels):
    before = labels[0] * 7 - 3
    after = order_by_size(before)
    sizes = np.bincount(after)
    assert (np.diff(sizes) <= 0).all()
    assert adjusted_rand_score(before, after) == 1
    firsts = [after.tolist().index(cluster) for cluster in range(len(sizes))]
    for a, b in zip(range(len(sizes)), range(1, len(sizes)), strict=False):
        assert sizes[a] > sizes[b] or firsts[a] < firsts[b]


def test_confidence_equals_its_definition():
    features, truth = blobs(13, sizes=(30, 20, 10), distance=3.0)
    expected = oracles.simplified_silhouette_by_loops(features, truth)
    np.testing.assert_allclose(confidence(features, truth), expected, atol=1e-5)


def test_confidence_is_one_for_one_cluster_and_falls_towards_a_border():
    features, truth = blobs(14, sizes=(50, 50), distance=6.0)
    assert (confidence(features, np.zeros(100, dtype=np.int64)) == 1).all()
    line = np.array([[0.0], [1.0], [4.0], [9.0], [10.0], [11.0]], dtype=np.float32)
    values = confidence(line, np.array([0, 0, 0, 1, 1, 1]))
    assert values[2] < values[0] < values[1]
    assert ((values >= 0) & (values <= 1)).all()
    wrong = truth.copy()
    wrong[0] = 1
    assert confidence(features, wrong)[0] == 0
