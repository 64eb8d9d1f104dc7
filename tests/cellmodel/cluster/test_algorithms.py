import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sknetwork.clustering import get_modularity

from cellmodel.cluster.algorithms import (
    coarse_graph,
    communities,
    confidence,
    gaussian_mixture,
    kmeans,
    leiden,
    leiden_to_k,
    order_by_size,
    transport_clusters,
)
from cellmodel.core.arrays import content_order
from cellmodel.core.config import GraphConfig
from cellmodel.pp.neighbors import knn_graph, snn_weights
from tests.support import oracles, strategies

SIZES = (400, 120, 60, 15)
HEADS = {
    "kmeans": kmeans,
    "gmm": lambda features, **asked: gaussian_mixture(features, **asked).labels,
    "ot": lambda features, **asked: transport_clusters(features, **asked).labels,
}


def blobs(seed, *, sizes=SIZES, distance=12.0):
    """Groups of very different size, far apart, and the group of each cell."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    centers = distance * np.eye(len(sizes), 6)
    return (centers[truth] + rng.standard_normal((len(truth), 6))).astype(np.float32), truth


def snn_of(features, n_neighbors=15):
    return snn_weights(knn_graph(features, config=GraphConfig(n_neighbors=n_neighbors, metric="euclidean")))


@pytest.mark.parametrize(
    ("head", "sizes"), [("kmeans", SIZES), ("gmm", (200, 80, 30)), ("ot", (100, 100, 100))], ids=HEADS
)
@pytest.mark.parametrize("seed", range(2))
def test_groups_that_lie_apart_are_found(head, sizes, seed):
    features, truth = blobs(seed, sizes=sizes)
    found = HEADS[head](features, n_clusters=len(sizes), seed=seed)
    assert adjusted_rand_score(truth, found) == 1


@settings(deadline=None)
@given(features=strategies.features(), data=st.data())
def test_every_cluster_occurs_even_among_equal_cells(features, data):
    k = data.draw(st.integers(1, len(features)))
    labels = kmeans(features, n_clusters=k, seed=0)
    assert labels.dtype == np.int64
    assert sorted(set(labels.tolist())) == list(range(k))


@pytest.mark.parametrize("head", HEADS)
@settings(deadline=None)
@given(seed=strategies.seeds)
def test_permuting_the_cells_permutes_the_clusters_and_the_global_stream_does_not_matter(head, seed):
    features, _ = blobs(5, sizes=(80, 60, 40), distance=2.0)
    order = np.random.default_rng(seed).permutation(len(features))
    np.random.seed(1)  # noqa: NPY002 - a caller's own use of the global stream
    straight = HEADS[head](features, n_clusters=6, seed=seed)
    np.random.seed(2)  # noqa: NPY002
    assert straight.tolist() == HEADS[head](features, n_clusters=6, seed=seed).tolist()
    assert adjusted_rand_score(straight[order], HEADS[head](features[order], n_clusters=6, seed=seed)) == 1


@pytest.mark.parametrize("n_clusters", [0, -1, 6])
def test_a_number_of_clusters_out_of_range_is_refused(n_clusters):
    graph = sp.identity(5, format="csr")
    for method in (*HEADS.values(), lambda _, **asked: leiden_to_k(graph, **asked)):
        with pytest.raises(ValueError, match=rf"n_clusters must lie in 1 \.\. 5 .*got {n_clusters}"):
            method(np.ones((5, 2), dtype=np.float32), n_clusters=n_clusters, seed=0)


def test_features_that_are_not_finite_are_refused():
    for method in HEADS.values():
        with pytest.raises(ValueError, match="1 of 6 features are NaN or infinite"):
            method(np.array([[1.0, 2.0], [np.nan, 1.0], [0.0, 1.0]]), n_clusters=2, seed=0)


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


@pytest.mark.parametrize("n_clusters", [1, 4, 7])
def test_leiden_to_k_meets_the_number_asked_for(n_clusters):
    graph = snn_of(blobs(12, distance=3.0)[0], n_neighbors=30)
    labels = leiden_to_k(graph, n_clusters=n_clusters, seed=0)
    assert sorted(set(labels.tolist())) == list(range(n_clusters))


def test_leiden_to_k_merges_what_is_most_linked_where_no_resolution_gives_the_number():
    graph = sp.block_diag([sp.csr_matrix(np.ones((n, n)) - np.eye(n)) for n in (5, 6, 5, 6)], format="csr").tolil()
    graph[0, 5] = graph[5, 0] = graph[11, 16] = graph[16, 11] = 0.01
    labels = leiden_to_k(graph.tocsr(), n_clusters=2, seed=0)
    assert adjusted_rand_score(np.repeat([0, 1], 11), labels) == 1
    apart = sp.block_diag([sp.csr_matrix(np.ones((n, n)) - np.eye(n)) for n in (4, 5, 9)], format="csr")
    assert adjusted_rand_score([0] * 9 + [1] * 9, leiden_to_k(apart, n_clusters=2, seed=0)) == 1


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


COARSE = {"whole_up_to": 100, "n_micro": 60}


def groups(seed):
    points, truth = blobs(seed, sizes=(300, 200, 100, 40))
    return points, truth, snn_of(points)


def test_weights_of_micro_clusters_are_sums_of_those_of_their_cells():
    points, _, graph = groups(0)
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
    points, _, graph = groups(3)
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


def test_a_mixture_tells_a_tight_group_inside_a_wide_one_where_kmeans_cannot():
    rng = np.random.default_rng(3)
    features = np.vstack([rng.normal(0, 5, (300, 6)), rng.normal(0, 0.3, (150, 6)) + 2]).astype(np.float32)
    truth = np.repeat([0, 1], [300, 150])
    found = gaussian_mixture(features, n_clusters=2, seed=0)
    assert adjusted_rand_score(truth, found.labels) > 0.9
    assert adjusted_rand_score(truth, kmeans(features, n_clusters=2, seed=0)) < 0.5


def test_a_mixture_converges_and_is_as_likely_as_the_best_of_many_random_starts():
    features, _ = blobs(4, sizes=(200, 80, 30), distance=3.0)
    found = gaussian_mixture(features, n_clusters=3, seed=0)
    assert found.converged
    best = GaussianMixture(3, covariance_type="diag", n_init=20, random_state=1).fit_predict(features)
    assert adjusted_rand_score(found.labels, best) > 0.95


def test_smoothing_draws_transported_clusters_towards_equal_sizes():
    features, _ = blobs(5, sizes=(240, 40, 20), distance=4.0)
    spreads = []
    for smoothing in (0.0, 0.5, 1.0):
        found = transport_clusters(features, n_clusters=3, seed=0, smoothing=smoothing)
        spreads.append(np.bincount(found.labels).std())
    assert spreads[0] > spreads[1] > spreads[2]
    assert spreads[2] < 10


def test_transport_without_smoothing_is_kmeans_where_clusters_are_clear():
    features, _ = blobs(6, sizes=(200, 80, 30), distance=8.0)
    sharp = transport_clusters(features, n_clusters=3, seed=0, smoothing=0.0, sharpness=50.0)
    assert sharp.labels.tolist() == kmeans(features, n_clusters=3, seed=0).tolist()


def test_transport_that_is_cut_short_says_so():
    features, _ = blobs(7, sizes=(120, 60, 60), distance=1.0)
    found = transport_clusters(features, n_clusters=3, seed=0, smoothing=1.0, n_rounds=1)
    assert (found.n_rounds, found.converged) == (1, False)
    assert transport_clusters(blobs(0, sizes=(100, 100, 100))[0], n_clusters=3, seed=0).converged
