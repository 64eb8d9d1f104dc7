"""What holds for every recipe that trains on a graph of cells."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import adjusted_rand_score

from cellmodel.core.errors import InputUnusable
from cellmodel.recipes.registry import find_recipe
from tests.support.views import grouped_views, permuted

QUICK, SLOW = ["scllm-dsc"], ["scsiameseclu", "scrcl", "scrcl-text"]
RECIPES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.fixture(scope="module", params=RECIPES)
def trained(request):
    views, truth = grouped_views()
    recipe = find_recipe(request.param)
    return recipe, views, truth, recipe.represent(views, 0)


@pytest.fixture(params=RECIPES)
def recipe(request):
    return find_recipe(request.param)


def test_groups_are_found_and_the_loss_falls(trained):
    recipe, views, truth, found = trained
    assert adjusted_rand_score(truth, recipe.head(found, views, 0)) == 1
    every = [epoch for epoch in found.history if set(epoch) == set(recipe.objectives)]
    assert sum(every[-1].values()) < sum(every[0].values())


def test_equal_seeds_give_equal_bytes_whatever_the_global_stream_and_others_differ(trained):
    recipe, views, _, found = trained
    torch.manual_seed(99)
    again = recipe.represent(views, 0)
    assert again.z.tobytes() == found.z.tobytes()
    assert (again.centers is None) or again.centers.tobytes() == found.centers.tobytes()
    assert not np.allclose(recipe.represent(views, 1).z, found.z)


def test_permuting_the_cells_permutes_the_embedding(trained):
    recipe, views, _, found = trained
    order = np.random.default_rng(3).permutation(len(found.z))
    other = recipe.represent(permuted(views, order), 0)
    np.testing.assert_allclose(other.z, found.z[order], atol=1e-3)
    if recipe.learns_centers:
        np.testing.assert_allclose(other.centers, found.centers, atol=1e-3)


@pytest.mark.slow
def test_a_term_that_is_off_is_not_trained(trained):
    recipe, views, _, found = trained
    for name in (recipe.objectives[0], recipe.objectives[-1]):
        other = recipe.train(views, 0, off=frozenset({name}))
        assert {key for epoch in other.history[-3:] for key in epoch} == set(recipe.objectives) - {name}
        assert not np.allclose(other.z, found.z, atol=1e-4)


def test_terms_that_are_not_there_or_all_of_them_are_not_left_out(recipe):
    views, _ = grouped_views()
    for off in ({"typo"}, set(recipe.objectives)):
        with pytest.raises(ValueError, match="cannot be left out"):
            recipe.train(views, 0, off=frozenset(off))


@pytest.mark.slow
def test_the_number_of_clusters_is_estimated_where_it_is_not_given(recipe):
    views, truth = grouped_views(n_clusters=None)
    found = recipe.represent(views, 0)
    assert found.centers is None or len(found.centers) == 3
    assert adjusted_rand_score(truth, recipe.head(found, views, 0)) == 1


@pytest.mark.parametrize("name", ["scllm-dsc", "scsiameseclu"])
def test_more_clusters_than_cells_are_refused(name):
    with pytest.raises(InputUnusable, match="121 clusters were asked for, there are 120 cells"):
        find_recipe(name).represent(grouped_views(n_clusters=121)[0], 0)


@pytest.mark.slow
@pytest.mark.parametrize("n_clusters", [1, 3])
def test_three_cells_without_a_graph_train(recipe, n_clusters):
    few = permuted(grouped_views()[0], np.array([0, 60, 100]))
    tiny = replace(few, graph=sp.csr_matrix((3, 3)), knn=sp.csr_matrix((3, 3)), n_clusters=n_clusters)
    labels = recipe.head(recipe.represent(tiny, 0), tiny, 0)
    assert sorted(set(labels.tolist())) == list(range(n_clusters))
