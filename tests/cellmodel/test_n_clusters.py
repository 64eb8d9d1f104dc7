import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.cluster import leiden
from cellmodel.graph import GraphConfig, knn_graph, snn_weights
from cellmodel.n_clusters import estimate_n_clusters


def graph_of_groups(n_groups, *, seed=0, size=60):
    rng = np.random.default_rng(seed)
    points = np.repeat(15 * np.eye(n_groups, 12), size, axis=0) + rng.standard_normal((n_groups * size, 12))
    return snn_weights(knn_graph(points, config=GraphConfig(metric="euclidean", n_neighbors=30)))


@pytest.mark.parametrize("n_groups", [4, 6, 9])
@pytest.mark.parametrize("seed", range(2))
def test_the_number_of_groups_that_lie_apart_is_found(n_groups, seed):
    assert estimate_n_clusters(graph_of_groups(n_groups, seed=seed), seed=seed).n_clusters == n_groups


def test_the_estimate_is_the_leiden_partition_that_it_names():
    graph = graph_of_groups(5)
    estimate = estimate_n_clusters(graph, seed=2)
    assert estimate.method == "communities of Leiden at resolution 0.5"
    assert estimate.n_clusters == leiden(graph, resolution=0.5, seed=2).max() + 1
    assert dict(estimate.curve)[0.5] == estimate.n_clusters


def test_the_curve_rises_over_resolutions_from_low_to_high():
    resolutions, numbers = zip(*estimate_n_clusters(graph_of_groups(3, size=150), seed=0).curve, strict=True)
    assert list(resolutions) == sorted(set(resolutions))
    assert list(numbers) == sorted(numbers)
    assert numbers[0] >= 3


def test_equal_seeds_give_equal_estimates():
    graph = graph_of_groups(7)
    assert estimate_n_clusters(graph, seed=1) == estimate_n_clusters(graph, seed=1)


def test_one_cell_is_one_cluster():
    assert estimate_n_clusters(sp.csr_matrix((1, 1)), seed=0).n_clusters == 1
