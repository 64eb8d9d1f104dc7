import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import cosine_distances
from sknetwork.clustering import get_modularity

from cellmodel.cluster.ensemble import candidates, ensemble_clusters, modularity, separation
from cellmodel.core.config import EnsembleConfig
from cellmodel.pp.normalize import principal_components

QUICK = EnsembleConfig(component_shares=(0.5, 1.0), n_neighbors=(5, 10), n_steps=(1, 2), runs_per_view=1)
SAMPLED_SCORES = replace(QUICK, whole_up_to=100)
SAMPLED = replace(QUICK, whole_up_to=100, sampled_cells=120, scored_cells=80)


def expression_of(sizes, *, seed=0, n_genes=60, shift=4.0):
    """Log values of groups that differ in ten genes each, and the group of each cell."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    values = rng.exponential(1.0, (len(truth), n_genes))
    for group in range(len(sizes)):
        values[truth == group, 10 * group : 10 * group + 10] += shift
    return sp.csr_matrix(values.astype(np.float32)), truth


def found(expression, n_clusters, *, seed=0, config=QUICK):
    pcs = principal_components(expression, n_components=max(config.widths(8)), seed=seed)
    return ensemble_clusters(pcs, n_components=8, n_clusters=n_clusters, seed=seed, config=config)


def separation_by_loops(distances, clusters):
    widths = []
    for cell, own in enumerate(clusters):
        mates = (clusters == own) & (np.arange(len(clusters)) != cell)
        inside = distances[cell, mates].mean() if mates.any() else None
        outside = min(distances[cell, clusters == other].mean() for other in set(clusters) - {own})
        widths.append(0.0 if inside is None else (outside - inside) / max(inside, outside))
    widths = np.array(widths)
    by_cluster = np.mean([widths[clusters == cluster].mean() for cluster in set(clusters)])
    return (widths.mean() + by_cluster) / 2


def test_groups_of_very_different_size_are_found():
    expression, truth = expression_of((200, 60, 12))
    assert found(expression, 3).tolist() == truth.tolist()


def test_separation_equals_its_definition():
    rng = np.random.default_rng(1)
    points, clusters = rng.standard_normal((30, 3)), np.repeat([4, 0, 2, 7], [15, 10, 4, 1])
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert separation(distances, clusters) == pytest.approx(separation_by_loops(distances, clusters))


def test_no_second_copy_of_the_distances_is_made():
    distances = np.random.default_rng(0).random((800, 800), dtype=np.float32)
    tracemalloc.start()
    separation(distances, np.arange(800) % 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < distances.nbytes


@pytest.mark.parametrize("clusters", [[0, 0, 0], [0, 1, 2]])
def test_separation_is_nought_where_nothing_can_be_compared(clusters):
    assert separation(np.ones((3, 3)) - np.eye(3), np.array(clusters)) == 0


def test_further_views_can_only_raise_the_separation():
    expression, _ = expression_of((80, 60, 40, 20), shift=0.7, seed=4)
    distances = cosine_distances(principal_components(expression, n_components=8, seed=0))
    n_steps = [(1,), (1, 2), (1, 2, 3)]
    views = [EnsembleConfig(component_shares=(1.0,), n_neighbors=(5,), n_steps=steps) for steps in n_steps]
    one, two, three = (separation(distances, found(expression, 6, config=config)) for config in views)
    assert one < two + 1e-9 < three + 2e-9
    assert three > one + 0.01


def test_modularity_equals_that_of_a_library_of_graphs():
    rng = np.random.default_rng(0)
    weights = np.triu(rng.random((20, 20)) * (rng.random((20, 20)) < 0.4), 1)
    graph, clusters = sp.csr_matrix(weights + weights.T), rng.integers(0, 4, 20)
    assert modularity(graph, clusters) == pytest.approx(get_modularity(graph, clusters))
    assert modularity(graph, np.zeros(20, dtype=np.int64)) == pytest.approx(0)
    assert modularity(sp.csr_matrix((3, 3)), np.arange(3)) == 0


def test_the_partition_of_both_methods_that_scores_highest_is_kept():
    expression, _ = expression_of((80, 60, 40, 20), shift=0.7, seed=4)
    pcs = principal_components(expression, n_components=8, seed=0)
    given = {"n_components": 8, "n_clusters": 5, "seed": 0, "config": QUICK}
    compared = list(candidates(pcs, **given))
    assert [each.method for each in compared] == (4 * ["micro-ward"] + ["communities"]) * 2
    distances = cosine_distances(pcs)
    for each in compared:
        assert each.separation == pytest.approx(separation(distances, each.labels))
        assert each.score == pytest.approx(each.separation + 0.1 * each.modularity)
        assert len(set(each.labels.tolist())) == 5
    best = max(compared, key=lambda each: each.score)
    assert ensemble_clusters(pcs, **given).tolist() == best.labels.tolist()


def test_near_types_of_one_size_are_cut_by_communities():
    expression, truth = expression_of((90, 90, 90, 90), shift=0.9, seed=2)
    pcs = principal_components(expression, n_components=8, seed=0)
    compared = list(candidates(pcs, n_components=8, n_clusters=4, seed=0, config=QUICK))
    best = max(compared, key=lambda each: each.score)
    assert best.method == "communities"
    assert adjusted_rand_score(truth, best.labels) > 0.6


def test_permuting_the_cells_permutes_the_clusters_and_equal_seeds_give_equal_ones():
    expression, _ = expression_of((60, 50, 40), shift=0.8, seed=5)
    order = np.random.default_rng(0).permutation(150)
    straight = found(expression, 5, seed=3)
    assert straight.tolist() == found(expression, 5, seed=3).tolist()
    assert adjusted_rand_score(straight[order], found(expression[order], 5, seed=3)) == 1


@pytest.mark.parametrize("n_clusters", [1, 2, 19, 20])
def test_any_number_of_clusters_up_to_the_cells_is_given(n_clusters):
    expression, _ = expression_of((12, 8))
    assert sorted(set(found(expression, n_clusters).tolist())) == list(range(n_clusters))


def test_a_sample_for_scoring_leaves_no_cell_without_a_cluster():
    expression, truth = expression_of((150, 100, 50))
    few = EnsembleConfig(component_shares=(1.0,), n_neighbors=(10,), n_steps=(2,), scored_cells=60)
    assert adjusted_rand_score(truth, found(expression, 3, config=few)) == 1


def test_cells_that_follow_a_sample_get_the_clusters_that_all_cells_get():
    expression, truth = expression_of((180, 120, 90))
    assert adjusted_rand_score(truth, found(expression, 3)) == 1
    assert adjusted_rand_score(truth, found(expression, 3, config=SAMPLED)) == 1


@pytest.mark.parametrize("n_clusters", [1, 7, 120])
def test_a_sample_gives_any_number_of_clusters_up_to_its_own(n_clusters):
    expression, _ = expression_of((150, 60), shift=0.5)
    assert sorted(set(found(expression, n_clusters, config=SAMPLED).tolist())) == list(range(n_clusters))


def test_permuting_the_cells_permutes_the_clusters_of_a_sample():
    expression, _ = expression_of((150, 90, 60), shift=0.8, seed=6)
    order = np.random.default_rng(1).permutation(300)
    straight = found(expression, 5, config=SAMPLED)
    assert straight.tolist() == found(expression, 5, config=SAMPLED).tolist()
    assert adjusted_rand_score(straight[order], found(expression[order], 5, config=SAMPLED)) == 1


def test_components_that_are_made_already_give_the_clusters_of_their_expression(tmp_path):
    expression, truth = expression_of((90, 60, 30))
    pcs = principal_components(expression, n_components=8, seed=0)
    np.save(tmp_path / "pcs.npy", pcs)
    for config in (QUICK, SAMPLED):
        mapped = np.load(tmp_path / "pcs.npy", mmap_mode="r")
        labels = ensemble_clusters(mapped, n_components=8, n_clusters=3, seed=0, config=config)
        assert labels.tolist() == truth.tolist()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"n_clusters must lie in 1 \.\. 20"):
        found(expression_of((12, 8))[0], 21)
    for wrong in (
        {"n_steps": ()},
        {"component_shares": (0.0,)},
        {"runs_per_view": 0},
        {"scored_cells": 2},
        {"n_voters": 0},
    ):
        with pytest.raises(ValueError, match=r"must be >=|needs values > 0"):
            EnsembleConfig(**wrong)
