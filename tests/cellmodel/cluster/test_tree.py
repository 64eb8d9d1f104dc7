"""The tree above clusters: its cuts, its merges as scipy has them, and the support of its splits."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, is_valid_linkage, linkage

from cellmodel.cluster.structure import grow_tree, split_support, tree_of_linkage


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
