from dataclasses import asdict

import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.cluster.algorithms import communities
from cellmodel.cluster.structure import Structure, check_structure, structure_notes
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
