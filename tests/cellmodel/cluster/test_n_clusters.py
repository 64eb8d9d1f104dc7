from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.cluster.algorithms import leiden
from cellmodel.cluster.n_clusters import StabilityConfig, estimate_n_clusters
from cellmodel.core.config import GraphConfig, RunConfig
from cellmodel.io.cells import read_cells
from cellmodel.pp.features import make_features
from cellmodel.pp.neighbors import knn_graph, snn_weights
from cellmodel.pp.normalize import normalise_log1p, principal_components

QUICK = StabilityConfig(numbers=(2, 3, 6), n_parts=3, n_nulls=3)


def groups(n_groups, *, seed=0, size=60):
    rng = np.random.default_rng(seed)
    return np.repeat(15 * np.eye(n_groups, 12), size, axis=0) + rng.standard_normal((n_groups * size, 12))


def graph_of(points):
    return snn_weights(knn_graph(points, config=GraphConfig(metric="euclidean", n_neighbors=30)))


def estimate(points, *, depth=None, seed=0, config=QUICK):
    depth = np.ones(len(points)) if depth is None else depth
    return estimate_n_clusters(graph_of(points), pcs=points, depth=depth, seed=seed, config=config)


def shallow_and_deep_cells_of_one_profile(seed, n_cells=400, spread=0.6):
    rng = np.random.default_rng(seed)
    profile = rng.dirichlet(np.exp(rng.normal(0, 1.5, 1500)))
    counts = rng.poisson(2000 * rng.lognormal(0, spread, n_cells)[:, None] * profile).astype(np.float32)
    expression = normalise_log1p(sp.csr_matrix(counts))
    return principal_components(expression, n_components=20, seed=seed), counts.sum(axis=1)


SHAPES = {
    "round": lambda rng: rng.standard_normal((200, 30)),
    "long": lambda rng: rng.standard_normal((200, 30)) * np.geomspace(10, 1, 30),
    "one long axis": lambda rng: rng.standard_normal((200, 30)) * np.r_[10, np.ones(29)],
    "few dimensions": lambda rng: rng.standard_normal((200, 5)),
    "heavy tails": lambda rng: rng.standard_t(4, (200, 30)),
    "a box": lambda rng: rng.uniform(-1, 1, (200, 30)) * np.geomspace(6, 1, 30),
}


@pytest.mark.parametrize("n_groups", [3, 6])
@pytest.mark.parametrize("seed", range(2))
def test_the_number_of_groups_that_lie_apart_is_found(n_groups, seed):
    assert estimate(groups(n_groups, seed=seed), seed=seed).n_clusters == n_groups


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("longest_axis", [1.0, 10.0])
def test_one_gaussian_has_no_structure_even_if_it_is_long(seed, longest_axis):
    points = np.random.default_rng(seed).standard_normal((300, 20)) * np.geomspace(longest_axis, 1, 20)
    found = estimate(points, seed=seed)
    assert found.n_clusters == 1
    assert found.method.startswith("no structure found")


@pytest.mark.parametrize(
    ("seed", "spread"),
    [(0, 0.6), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(1, 0.6), (5, 0.6), (9, 1.0)])],
)  # some nulls part otherwise
def test_depth_alone_is_no_structure_although_it_makes_communities(seed, spread):
    points, depth = shallow_and_deep_cells_of_one_profile(seed, spread=spread)
    assert leiden(graph_of(points), resolution=0.5, seed=seed).max() + 1 > 1
    assert estimate(points, depth=depth, seed=seed).n_clusters == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_noise_of_any_shape_is_never_split(seed):
    short = StabilityConfig(numbers=(2,), n_parts=2)
    for name, shape in SHAPES.items():
        assert estimate(shape(np.random.default_rng(seed)), seed=seed, config=short).n_clusters == 1, name
    for spread in (0.05, 0.5, 1.0):
        points, depth = shallow_and_deep_cells_of_one_profile(seed, spread=spread)
        assert estimate(points, depth=depth, seed=seed, config=short).n_clusters == 1, spread


def test_many_cells_do_not_raise_the_number_of_groups_of_a_continuum_between_them():
    points = groups(4, size=400)
    points[:, 4] = np.random.default_rng(1).uniform(-30, 30, len(points))  # more cells cut it into more communities
    few = replace(QUICK, proposing_cells=200)
    whole, sampled = (estimate(points, config=config) for config in (QUICK, few))
    assert 1 < sampled.n_clusters < whole.n_clusters
    assert "resolution 0.3 among 200 of 1,600 cells, median of three graphs; stability" in sampled.method


def test_communities_without_a_gap_between_them_count_as_one():
    points = groups(3, size=150)
    points[:150, 5] += np.random.default_rng(3).uniform(-20, 20, 150)  # a group so long that Leiden cuts it
    communities = leiden(graph_of(points), resolution=0.3, seed=0)
    assert communities.max() + 1 > 3
    assert estimate(points).n_clusters == 3
    assert estimate(points, config=replace(QUICK, least_support=0.0)).n_clusters > 3


def test_cells_that_propose_are_drawn_by_their_content():
    points, order = groups(5, size=80), np.random.default_rng(0).permutation(400)
    few = replace(QUICK, proposing_cells=150)
    assert estimate(points, config=few).n_clusters == estimate(points[order], config=few).n_clusters == 5


def test_the_estimate_is_the_median_of_the_three_graphs_that_it_names():
    centres = np.zeros((6, 12))
    centres[[0, 1, 2, 4, 5], [0, 1, 2, 3, 3]] = 12
    centres[3] = 3 * centres[0]  # one direction: apart by Euclidean distance alone
    centres[5, 11] = 9  # not in the leading components
    points = np.repeat(centres, 60, axis=0) + np.random.default_rng(0).standard_normal((360, 12))
    graph = snn_weights(knn_graph(points, config=GraphConfig()))
    by_distance = snn_weights(knn_graph(points, config=GraphConfig(metric="euclidean")))
    leading = snn_weights(knn_graph(points[:, :8], config=GraphConfig()))
    numbers = [leiden(each, resolution=0.3, seed=2).max() + 1 for each in (graph, by_distance, leading)]
    found = estimate_n_clusters(graph, pcs=points, depth=np.ones(360), seed=2, config=QUICK)
    assert found.method.startswith(
        "supported communities of Leiden at resolution 0.3, median of three graphs; stability +"
    )
    assert numbers == [5, 6, 4]
    assert found.n_clusters == 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_types_are_found_although_nulls_of_their_depths_part_farther_in_fewer_communities(real_data, seed):
    cells = read_cells(real_data / "batches" / "kang_2donors_ctrl_stim.h5ad")
    pcs = make_features(cells, RunConfig(seed=seed)).pcs
    graph = snn_weights(knn_graph(pcs, config=GraphConfig()))
    depth = np.asarray(cells.matrix.sum(axis=1)).ravel()
    assert estimate_n_clusters(graph, pcs=pcs, depth=depth, seed=seed, config=QUICK).n_clusters > 4


def test_the_curve_holds_the_numbers_asked_for_and_the_proposal_and_peaks_at_the_truth():
    curve = estimate(groups(4, size=80)).curve
    assert [point.n_clusters for point in curve] == [2, 3, 4, 6]
    above = {point.n_clusters: point.stability - point.null_mean for point in curve}
    assert max(above, key=above.get) == 4
    assert all(-0.5 <= point.stability <= 1 and point.null_sd >= 0 for point in curve)


def test_equal_seeds_give_equal_estimates_and_the_order_of_the_cells_does_not_matter():
    points, depth = shallow_and_deep_cells_of_one_profile(3)
    first = estimate(points, depth=depth, seed=1)
    assert first == estimate(points, depth=depth, seed=1)
    order = np.random.default_rng(0).permutation(len(points))
    few = StabilityConfig(numbers=(3,), tested_cells=100, n_parts=2, n_nulls=2)
    straight = estimate(points, depth=depth, config=few)
    assert estimate(points[order], depth=depth[order], config=few).curve[-1].stability == straight.curve[-1].stability


@pytest.mark.parametrize("n_cells", [1, 3, 29])
def test_too_few_cells_are_not_tested(n_cells):
    points = np.random.default_rng(0).standard_normal((n_cells, 3))
    found = estimate_n_clusters(graph_of(points), pcs=points, depth=np.ones(n_cells), seed=0)
    assert found.n_clusters >= 1
    assert found.curve == ()
    assert found.method.endswith("too few cells to test it")


def test_inputs_of_different_cells_and_settings_out_of_range_are_refused():
    points = groups(2)
    with pytest.raises(ValueError, match="hold 120, 119 and 120 cells"):
        estimate_n_clusters(graph_of(points), pcs=points[1:], depth=np.ones(120), seed=0)
    for wrong in ({"numbers": (1, 2)}, {"n_nulls": 1}, {"share": 1.0}, {"tested_cells": 5}):
        with pytest.raises(ValueError, match="must"):
            StabilityConfig(**wrong)
