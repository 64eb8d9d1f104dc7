import logging
from dataclasses import dataclass, replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import adjusted_rand_score

from cellmodel.core.config import GraphConfig
from cellmodel.nn.train import fit
from cellmodel.pp.neighbors import knn_graph, smooth, snn_weights
from cellmodel.recipes import graph_training, scsiameseclu
from cellmodel.recipes.base import CellViews, Representation
from cellmodel.recipes.scsiameseclu import RECIPE, TERMS, augment_views, represent

pytestmark = pytest.mark.slow  # trains networks; of the graph recipes, scllm-dsc is trained in the quick tests

SIZES = (60, 40, 20)


def make_views(*, with_counts=True):
    """Three groups of cells of very different size."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), SIZES)
    pcs = (5 * np.eye(3, 6)[truth] + rng.standard_normal((120, 6))).astype(np.float32)
    counts = rng.poisson(np.repeat(1 + 4 * np.eye(3)[truth], 5, axis=1)).astype(np.float32)
    knn = knn_graph(pcs, config=GraphConfig(n_neighbors=10, metric="euclidean"))
    graph = snn_weights(knn)
    views = CellViews(
        expression=sp.csr_matrix(np.log1p(counts)),
        pcs=pcs,
        graph=graph,
        smoothed=smooth(pcs, graph),
        text=None,
        knn=knn,
        depth=counts.sum(axis=1).astype(np.float64),
        counts=sp.csr_matrix(counts) if with_counts else None,
        n_clusters=3,
    )
    return views, truth


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training, and the model before and after its last stage."""

    views: CellViews
    truth: np.ndarray
    result: Representation
    model: torch.nn.Module
    before: dict
    gradients: dict


@pytest.fixture(scope="module")
def trained():
    views, truth = make_views()
    stages = []

    def recording_fit(model, objective, **settings):
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        history = fit(model, objective, **settings)
        gradients = {name: value.grad for name, value in model.named_parameters()}
        stages.append({"model": model, "before": before, "gradients": gradients})
        return history

    with pytest.MonkeyPatch.context() as patch:
        for module in (scsiameseclu, graph_training):
            patch.setattr(module, "fit", recording_fit)
        result = represent(views, 0)
    return Trained(views=views, truth=truth, result=result, **stages[-1])


@pytest.mark.slow
def test_without_counts_their_term_alone_is_left_out_and_the_log_says_so(trained, caplog):
    views, _ = make_views(with_counts=False)
    with caplog.at_level(logging.INFO):
        result = represent(views, 0)
    assert set(trained.result.history[-1]) - set(result.history[-1]) == {"counts"}
    assert "trained without the likelihood of counts" in caplog.text
    for found in (trained.result, result):
        assert adjusted_rand_score(trained.truth, RECIPE.head(found, replace(views, n_clusters=3), 0)) == 1


def test_pretraining_lowers_both_reconstructions_and_training_lowers_what_counts_and_clusters_say(trained):
    features, smoothed, together = (
        [epoch for epoch in trained.result.history if set(epoch) == names]
        for names in ({"features"}, {"smoothed"}, {term.name for term in TERMS})
    )
    assert len(features) + len(smoothed) + len(together) == len(trained.result.history)
    assert features[-1]["features"] < features[0]["features"]
    assert smoothed[-1]["smoothed"] < smoothed[0]["smoothed"]
    assert together[-1]["counts"] < together[0]["counts"]
    assert together[-1]["cluster"] < together[0]["cluster"]
    assert min(epoch["cluster"] for epoch in together) >= 0


def test_centers_move_from_where_they_start(trained):
    moved = np.linalg.norm(trained.result.centers - trained.before["centers"].numpy(), axis=1)
    assert (moved > 1e-3).all()
    assert (moved < 1).all()


def test_every_parameter_gets_a_gradient_from_training_together_and_changes(trained):
    for name, value in trained.model.named_parameters():
        assert float(trained.gradients[name].abs().max()) > 0, name
        assert not torch.equal(value, trained.before[name]), name


def test_the_views_of_the_graph_differ_and_size_factors_are_depths_over_their_mean(trained):
    inputs = augment_views(trained.views, seed=0)
    graphs = inputs.graphs.whole
    propagation, diffused, dropped = (matrix.to_dense().numpy() for matrix in (graphs.propagation, *graphs.views))
    np.testing.assert_allclose(diffused.sum(axis=1), 1, rtol=1e-5)
    assert (diffused > 0).sum() > (propagation > 0).sum() > (dropped > 0).sum()
    np.testing.assert_array_equal(np.unique(graphs.edges[0]), np.arange(120))
    depth = trained.views.depth
    np.testing.assert_allclose(inputs.cells["log_size_factors"].exp().numpy(), depth / depth.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        inputs.cells["smoothed"].numpy(), propagation @ inputs.cells["features"].numpy(), atol=1e-5
    )
