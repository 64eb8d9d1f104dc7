from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

from cellmodel.core.config import GraphConfig, HeadName
from cellmodel.core.errors import InputUnusable
from cellmodel.pp.features import principal_components
from cellmodel.pp.neighbors import knn_graph, smooth, snn_weights
from cellmodel.recipes.base import CellViews, Representation
from cellmodel.recipes.heads import HEADS, find_head


def views_of(sizes, *, seed=0, shift=4.0):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    values = rng.exponential(1.0, (len(truth), 60))
    for group in range(len(sizes)):
        values[truth == group, 10 * group : 10 * group + 10] += shift
    expression = sp.csr_matrix(values.astype(np.float32))
    pcs = principal_components(expression, n_components=8)
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


@pytest.mark.parametrize("n_clusters", [3, None])
@pytest.mark.parametrize("head", sorted(HEADS))
def test_every_head_finds_groups_that_lie_apart_and_their_number(head, n_clusters):
    views, truth = views_of((90, 60, 40))
    labels = HEADS[head](represented(views.smoothed), replace(views, n_clusters=n_clusters, resolution=0.1), 0)
    assert adjusted_rand_score(truth, labels) > 0.95


def test_the_leiden_head_links_cells_by_the_features_unless_these_are_the_components():
    views, truth = views_of((90, 60, 40))
    misled = replace(views, graph=sp.csr_matrix((190, 190)))
    of_features = HEADS["leiden"](represented(views.smoothed[:, :6]), replace(misled, n_clusters=3), 0)
    assert adjusted_rand_score(truth, of_features) > 0.95
    assert HEADS["leiden"](represented(views.pcs), misled, 0).max() + 1 == 190


def test_heads_are_found_by_their_names_alone():
    assert set(HEADS) == set(get_args(HeadName))
    assert find_head("gmm") is HEADS["gmm"]
    with pytest.raises(InputUnusable, match="head 'median' is not one of kmeans, leiden, ot, gmm"):
        find_head("median")


@pytest.mark.parametrize("head", ["ot", "gmm"])
def test_clusters_that_stay_empty_are_told(head, caplog):
    views, _ = views_of((30, 10))
    equal = np.repeat(np.eye(2), [30, 10], axis=0)
    n_found = int(HEADS[head](represented(equal), replace(views, n_clusters=5), 0).max()) + 1
    assert n_found < 5
    assert f"{5 - n_found} of 5 clusters hold no cell" in caplog.text
