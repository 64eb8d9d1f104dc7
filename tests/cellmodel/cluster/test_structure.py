"""The tree above clusters and the support of its splits; how well clusters hold up, beside data without any."""

from dataclasses import asdict

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.cluster.hierarchy import fcluster, is_valid_linkage, linkage

from cellmodel.cluster.algorithms import communities
from cellmodel.cluster.structure import (
    Structure,
    check_structure,
    grow_tree,
    split_support,
    structure_notes,
    tree_of_linkage,
)
from cellmodel.core.config import RESOLUTION, GraphConfig
from cellmodel.pp.features import principal_components
from cellmodel.pp.neighbors import knn_graph, snn_weights
from cellmodel.pp.normalize import normalize_log1p


def groups(n_groups, *, seed=0, size=30, distance=15):
    rng = np.random.default_rng(seed)
    return np.repeat(distance * np.eye(n_groups, 12), size, axis=0) + rng.standard_normal((n_groups * size, 12))


def checked(points, *, total_counts=None, seed=0, n_clusters=None):
    graph = snn_weights(knn_graph(points, config=GraphConfig()))
    given = {"resolution": RESOLUTION} if n_clusters is None else {"n_clusters": n_clusters}
    labels = communities(graph, points, seed=seed, **given)
    counts = np.ones(len(points)) if total_counts is None else total_counts
    return check_structure(labels, pcs=points, total_counts=counts, seed=seed, **given)


def one_profile_of_any_depth(seed, n_cells=200):
    rng = np.random.default_rng(seed)
    profile = rng.dirichlet(np.exp(rng.normal(0, 1.5, 1500)))
    counts = rng.poisson(2000 * rng.lognormal(0, 0.6, n_cells)[:, None] * profile).astype(np.float32)
    return principal_components(normalize_log1p(sp.csr_matrix(counts)), n_components=20), counts.sum(axis=1)


@pytest.mark.parametrize("n_clusters", [None, 4])
def test_groups_that_lie_apart_come_back_and_are_separated(n_clusters):
    found = checked(groups(4), n_clusters=n_clusters)
    assert found == Structure(repeats=1.0, p_value=0.05)
    assert list(structure_notes(asdict(found))) == [
        "clustering random 80 % of the cells again gives these clusters with an ARI of 1.00"
    ]


SHAPES = {
    "round": lambda rng: rng.standard_normal((300, 20)),
    "long": lambda rng: rng.standard_normal((300, 20)) * np.geomspace(10, 1, 20),
    "heavy tails": lambda rng: rng.standard_t(4, (300, 20)),
    "a box": lambda rng: rng.uniform(-1, 1, (300, 20)) * np.geomspace(6, 1, 20),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_noise_of_any_shape_carries_the_note(shape):
    carried = [checked(SHAPES[shape](np.random.default_rng(seed)), seed=seed).p_value > 0.05 for seed in range(5)]
    assert sum(carried) >= 4


def test_total_counts_alone_are_no_structure_although_they_make_communities():
    points, total_counts = one_profile_of_any_depth(0)
    found = checked(points, total_counts=total_counts)
    assert found.p_value > 0.05
    assert "no better separated than those of data without structure" in list(structure_notes(asdict(found)))[1]


def test_nothing_depends_on_the_order_of_the_cells():
    points = groups(3, distance=3)
    order = np.random.default_rng(0).permutation(len(points))
    assert checked(points[order]) == checked(points)


def test_few_cells_and_one_cluster_are_not_checked():
    one = check_structure(np.zeros(30, dtype=np.int64), pcs=groups(1), total_counts=np.ones(30), seed=0)
    for found in (one, checked(groups(2, size=10))):
        assert list(structure_notes(asdict(found))) == []


def blobs(centers, *, n=60, seed=0, sd=1.0):
    rng = np.random.default_rng(seed)
    centers = np.asarray(centers, dtype=float)
    labels = np.repeat(np.arange(len(centers)), n)
    return (centers[labels] + sd * rng.normal(size=(len(labels), centers.shape[1]))).astype(np.float32), labels


CENTERS = [[0, 0, 0, 0], [9, 0, 0, 0], [0, 40, 0, 0], [0, 49, 0, 0], [0, 0, 200, 0]]


@pytest.fixture(scope="module")
def grown():
    points, labels = blobs(CENTERS)
    return points, labels, grow_tree(points, labels, pcs=points, seed=0)


def test_near_clusters_are_merged_first(grown):
    *_, tree = grown
    assert [(split.left, split.right) for split in tree.splits[:2]] == [((0, 1, 2, 3), (4,)), ((0, 1), (2, 3))]
    assert {(split.left, split.right) for split in tree.splits[2:]} == {((0,), (1,)), ((2,), (3,))}
    assert all(split.support > 0.7 for split in tree.splits)
    assert tree.groups(1) == ((0, 1, 2, 3, 4),)
    assert tree.groups(3) == ((0, 1), (2, 3), (4,))
    assert tree.group_of(3) == (0, 0, 1, 1, 2)
    assert tree.levels() == (3, 5)


def test_merges_are_those_of_scipy(grown):
    points, labels, tree = grown
    centers = np.stack([points[labels == cluster].mean(axis=0) for cluster in range(5)])
    found, expected = tree.linkage(), linkage(centers.astype(float), method="ward")
    assert is_valid_linkage(found)
    np.testing.assert_allclose(found[:, 2:], expected[:, 2:], rtol=1e-5)
    for n_groups in range(1, 6):
        cut = fcluster(found, n_groups, criterion="maxclust")
        assert len(set(zip(cut, tree.group_of(n_groups), strict=True))) == n_groups
    again = tree_of_linkage(found, [split.support for split in tree.splits])
    assert again == tree
    twice, late, half, missing = (found.copy() for _ in range(4))
    twice[1, 0], late[0, 1], half[0, 0], missing[2, 2] = found[0, 0], len(found) + 1, 0.5, np.nan
    for broken in (found[::-1], found[:, :3], found[:0], twice, late, half, missing):
        with pytest.raises(ValueError, match="no tree"):
            tree_of_linkage(broken, [0.0] * len(broken))


def test_parts_of_a_group_are_merged_before_others():
    points, labels = blobs(CENTERS)
    tree = grow_tree(points, labels, pcs=points, seed=0, parents=[0, 1, 0, 2, 3])  # 0 lies nearer to 1 than to 2
    assert (0, 2) in {split.clusters for split in tree.splits}
    assert is_valid_linkage(tree.linkage())


def test_one_cluster_has_no_split_and_no_level():
    points, _ = blobs([[0, 0]])
    tree = grow_tree(points, np.zeros(len(points), dtype=np.int64), pcs=points, seed=0)
    assert (tree.splits, tree.levels(), tree.linkage().shape) == ((), (), (0, 4))


@pytest.mark.parametrize(("distance", "low", "high"), [(0, 0.0, 0.02), (2, 0.0, 0.05), (5, 0.4, 0.6), (9, 0.75, 0.9)])
def test_support_grows_with_the_distance_of_the_sides(distance, low, high):
    points, sides = blobs(np.eye(12)[:2] * distance / np.sqrt(2), n=300)
    assert low <= split_support(points, sides == 1) <= high


@pytest.mark.parametrize("sd", [0.0, 0.4])
def test_noise_that_is_cut_in_two_has_no_support(sd):
    rng = np.random.default_rng(1)
    points = rng.normal(size=(500, 20)) * np.linspace(3, 1, 20) * (1 + sd * rng.random((500, 1)))
    assert split_support(points, points[:, 0] > 0.3) <= 0.02


def test_small_and_equal_sides():
    points, sides = blobs([[0, 0, 0], [30, 0, 0]], n=5)
    assert split_support(points, sides == 1) > 0.5
    assert split_support(points[:9], (sides == 1)[:9]) == 0.0  # four cells cannot be held out in five folds
    equal = np.repeat([[0.0, 0.0], [1.0, 0.0]], 20, axis=0)
    assert split_support(equal, equal[:, 0] > 0) > 0.9


def test_support_follows_the_cells_and_not_their_order():
    points, labels = blobs([[0, 0, 0], [5, 0, 0], [0, 7, 0]], n=700)
    order = np.random.default_rng(3).permutation(len(points))
    one, other = (grow_tree(p, c, pcs=p, seed=0) for p, c in ((points, labels), (points[order], labels[order])))
    assert [split.support for split in one.splits] == [split.support for split in other.splits]
