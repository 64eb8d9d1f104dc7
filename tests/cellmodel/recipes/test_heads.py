from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

from cellmodel.core.config import GraphConfig, HeadName
from cellmodel.core.errors import InputUnusable
from cellmodel.pp.neighbors import knn_graph, smooth, snn_weights
from cellmodel.pp.normalize import principal_components
from cellmodel.recipes.base import CellViews, Representation
from cellmodel.recipes.heads import HEADS, ensemble_head, find_head

EVERY = {**HEADS, "ensemble": ensemble_head}


def views_of(sizes, *, seed=0, shift=4.0):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    values = rng.exponential(1.0, (len(truth), 60))
    for group in range(len(sizes)):
        values[truth == group, 10 * group : 10 * group + 10] += shift
    expression = sp.csr_matrix(values.astype(np.float32))
    pcs = principal_components(expression, n_components=8, seed=0)
    knn = knn_graph(pcs, config=GraphConfig())
    graph = snn_weights(knn)
    views = CellViews(
        expression=expression,
        pcs=pcs,
        knn=knn,
        graph=graph,
        smoothed=smooth(pcs, graph),
        text=None,
        depth=values.sum(axis=1),
    )
    return views, truth


def represented(features):
    return Representation(z=features, z_expr=features, z_text=None, features=features)


@pytest.mark.parametrize("head", sorted(EVERY))
def test_every_head_finds_groups_that_lie_apart_and_says_nothing_of_a_number_that_was_given(head):
    views, truth = views_of((90, 60, 40))
    found = EVERY[head](represented(views.smoothed), views, 3, 0)
    assert adjusted_rand_score(truth, found.labels) > 0.95
    assert found.n_clusters is None


@pytest.mark.parametrize(
    "head",
    [name if name in {"ensemble", "leiden"} else pytest.param(name, marks=pytest.mark.slow) for name in sorted(EVERY)],
)
def test_every_head_finds_their_number_too(head):
    views, truth = views_of((90, 60, 40))
    found = EVERY[head](represented(views.smoothed), views, None, 0)
    if head == "leiden":  # its resolution is the number's own way
        assert found.n_clusters is None
    else:
        assert found.n_clusters.n_clusters == found.labels.max() + 1 == 3
        assert adjusted_rand_score(truth, found.labels) > 0.95


@pytest.mark.parametrize("head", sorted(set(EVERY) - {"leiden"}))
def test_cells_without_structure_are_one_cluster(head):
    views, _ = views_of((150,), shift=0.0)
    found = EVERY[head](represented(views.smoothed), views, None, 0)
    assert found.labels.tolist() == [0] * 150
    assert found.n_clusters.method.startswith("no structure found")


def test_the_leiden_head_links_cells_by_the_features_unless_these_are_the_components():
    views, truth = views_of((90, 60, 40))
    misled = replace(views, graph=sp.csr_matrix((190, 190)))
    of_features = HEADS["leiden"](represented(views.smoothed), misled, 3, 0)
    assert adjusted_rand_score(truth, of_features.labels) > 0.95
    assert HEADS["leiden"](represented(views.pcs), misled, None, 0).labels.max() + 1 == 190


def test_the_ensemble_clusters_learnt_features_and_not_the_expression_where_it_is_given_them():
    views, _ = views_of((90, 60, 40))
    other = np.repeat([0, 1, 2], [40, 60, 90])
    features = 10 * np.eye(3)[other] + np.random.default_rng(0).standard_normal((190, 3))
    assert adjusted_rand_score(other, ensemble_head(represented(features), views, 3, 0).labels) == 1


def test_heads_are_found_by_their_names_alone():
    assert set(HEADS) == set(get_args(HeadName))
    assert find_head("gmm") is HEADS["gmm"]
    with pytest.raises(InputUnusable, match="head 'median' is not one of kmeans, micro-ward, leiden, ot, gmm"):
        find_head("median")


@pytest.mark.parametrize("head", ["ot", "gmm"])
def test_clusters_that_stay_empty_are_told(head, caplog):
    views, _ = views_of((30, 10))
    equal = np.repeat(np.eye(2), [30, 10], axis=0)
    found = HEADS[head](represented(equal), views, 5, 0)
    n_found = int(found.labels.max()) + 1
    assert n_found < 5
    assert f"{5 - n_found} of 5 clusters hold no cell" in caplog.text
