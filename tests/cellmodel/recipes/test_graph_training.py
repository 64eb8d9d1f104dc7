import logging
from dataclasses import fields

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from cellmodel.nn.graphs import csr_tensor, symmetric_propagation
from cellmodel.nn.modules import weights_of, with_weights
from cellmodel.nn.soft_assignment import assignment_divergence, cluster_masses, log_soft_assignment, sinkhorn_target
from cellmodel.nn.train import Term, TrainConfig, fit, objective
from cellmodel.recipes.base import CellViews
from cellmodel.recipes.graph_training import ScheduledTarget, in_content_order, standard_of, standardized

N_CELLS = 12
NOT_BY_CELL = {
    "gene_vectors",
    "raw_gene_vectors",
    "n_clusters",
    "text_path2_encoded",
    "gene_weights",
    "device",
    "resolution",
    "training",
}


def make_views():
    """Every field set, so that none can be forgotten."""
    rng = np.random.default_rng(0)

    def table(dim):
        return rng.standard_normal((N_CELLS, dim)).astype(np.float32)

    def graph():
        return sp.random(N_CELLS, N_CELLS, density=0.3, format="csr", random_state=rng)

    by_pair = {name: graph() for name in ("graph", "knn", "spatial")}
    by_cell = {name: table(3) for name in ("pcs", "smoothed", "text")}
    sparse = {name: sp.csr_matrix(table(4)) for name in ("expression", "counts")}
    return CellViews(
        **by_pair, **by_cell, **sparse, depth=np.arange(N_CELLS, dtype=float), text_paths=(table(2), table(2)),
        gene_vectors=np.ones((4, 2), dtype=np.float32), raw_gene_vectors=np.zeros((4, 5), dtype=np.float32),
        n_clusters=3, text_path2_encoded=True, gene_weights=np.ones(4), device="auto",
    )  # fmt: skip


def dense(value):
    return value.toarray() if sp.issparse(value) else np.asarray(value)


def test_every_field_follows_the_cells():
    views = make_views()
    ordered, places = in_content_order(views)
    order = np.argsort(places)
    assert order.tolist() != list(range(N_CELLS))
    for field in fields(CellViews):
        before, after = getattr(views, field.name), getattr(ordered, field.name)
        assert before is not None, f"{field.name} is not in this test"
        if field.name in NOT_BY_CELL:
            assert after is before
        elif field.name in {"graph", "knn", "spatial"}:
            np.testing.assert_array_equal(dense(after), dense(before)[np.ix_(order, order)])
        else:
            pairs = zip(after, before, strict=True) if field.name == "text_paths" else [(after, before)]
            for moved, given in pairs:
                np.testing.assert_array_equal(dense(moved), dense(given)[order])


def test_fields_that_are_not_read_stay_as_they_are():
    views = make_views()
    ordered, places = in_content_order(views, reads=("pcs", "knn"))
    np.testing.assert_array_equal(ordered.pcs[places], views.pcs)
    assert (ordered.knn[places][:, places] != views.knn).nnz == 0
    assert all(getattr(ordered, name) is getattr(views, name) for name in ("graph", "text", "text_paths", "counts"))


def test_the_order_depends_on_the_cells_and_not_on_their_places():
    views = make_views()
    shuffled, _ = in_content_order(in_content_order(views)[0])
    np.testing.assert_array_equal(shuffled.pcs, in_content_order(views)[0].pcs)
    ordered, places = in_content_order(views)
    np.testing.assert_array_equal(ordered.pcs[places], views.pcs)
    assert (np.diff(ordered.pcs[:, 0]) > 0).all()


def test_propagation_is_the_dense_formula():
    graph = sp.triu(make_views().graph, k=1)
    graph = (graph + graph.T).tocsr()
    weights = graph.toarray() + np.eye(N_CELLS)
    degrees = weights.sum(axis=1)
    expected = [[weights[i, j] / np.sqrt(degrees[i] * degrees[j]) for j in range(N_CELLS)] for i in range(N_CELLS)]
    np.testing.assert_allclose(symmetric_propagation(graph).to_dense(), expected, rtol=1e-6)
    assert np.linalg.eigvalsh(expected).max() == pytest.approx(1)


def test_attached_cells_change_no_propagation_but_their_own():
    graph, links = sp.triu(make_views().graph, k=1), sp.random(3, N_CELLS, density=0.3, rng=np.random.default_rng(0))
    graph = (graph + graph.T).tocsr()
    every = sp.vstack([graph, links], format="csr")
    every.resize(N_CELLS + 3, N_CELLS + 3)
    alone, found = (symmetric_propagation(each).to_dense().numpy() for each in (graph, every))
    np.testing.assert_allclose(found[:N_CELLS, :N_CELLS], alone, rtol=1e-6)
    assert (found[:N_CELLS, N_CELLS:] == 0).all()
    own, others = (1 + np.asarray(weights.sum(axis=1)).ravel() for weights in (links, graph))
    np.testing.assert_allclose(found[N_CELLS:, :N_CELLS], links.toarray() / np.sqrt(np.outer(own, others)), rtol=1e-6)
    np.testing.assert_allclose(found[N_CELLS:, N_CELLS:], np.diag(1 / own), rtol=1e-6)


def test_new_features_are_scaled_as_those_that_a_model_was_fitted_to():
    features = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)
    standard = standard_of(features)
    np.testing.assert_array_equal(standardized(features[7:9], standard), standardized(features)[7:9])


def test_a_model_is_given_its_weights_again_and_notices_one_that_is_missing():
    first, second = (torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)) for _ in range(2))
    state = weights_of(first, but=("1",))
    assert sorted(state) == ["0.bias", "0.weight"]
    with_weights(second, {**state, "other": np.zeros(1)}, but=("1",))
    assert torch.equal(first[0].weight, second[0].weight)
    assert not torch.equal(first[1].weight, second[1].weight)
    with pytest.raises(KeyError, match=r"1\.weight"):
        with_weights(second, state)


def test_the_widest_column_has_unit_deviation_and_others_keep_their_share():
    features = np.array([[1.0, 5.0], [3.0, 5.5], [5.0, 6.0]], dtype=np.float32)
    found = standardized(features)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=0), [1, 0.25], rtol=1e-6)
    assert not standardized(np.ones((3, 2), dtype=np.float32)).any()


def test_a_tensor_holds_the_same_values_whatever_the_order_of_a_row():
    matrix = sp.csr_matrix((np.array([1.0, 2.0, 3.0]), np.array([2, 0, 1]), np.array([0, 2, 3])), shape=(2, 3))
    np.testing.assert_array_equal(csr_tensor(matrix).to_dense(), [[2, 0, 1], [0, 3, 0]])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Centers(torch.nn.Module):
    """Two centers on a line, and the assignment of cells to them."""

    def __init__(self, first):
        super().__init__()
        self.centers = torch.nn.Parameter(torch.tensor(first))

    def forward(self, cells):
        return log_soft_assignment(cells, self.centers)


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (10, [0])])
def test_the_target_is_refreshed_on_the_stated_epochs_of_a_training_and_on_no_other(every, expected):
    cells, model = draw(30, 1), Centers([[-1.0], [1.5]])
    target = ScheduledTarget(lambda: model(cells), every=every, sharpness=2.0, smoothing=0.1)
    seen = []

    def on_epoch(epoch):
        target.on_epoch(epoch)
        seen.append(target.p.clone())

    term = Term(name="cluster", weight=1.0, loss=lambda o: assignment_divergence(target.p, o["log_q"]))
    config = TrainConfig(n_steps=5, batch_size=None, learning_rate=0.1)
    train = objective(lambda m, batch: {"log_q": m(batch["cells"])}, (term,))
    fit(model, train, views={"cells": cells}, config=config, rng=np.random.default_rng(0), on_epoch=on_epoch)
    changed = [epoch for epoch in range(1, 5) if not torch.equal(seen[epoch], seen[epoch - 1])]
    assert target.epochs == expected
    assert [0, *changed] == expected


def test_the_target_is_that_of_the_models_own_assignment():
    cells, model = draw(30, 1), Centers([[-1.0], [1.5]])
    target = ScheduledTarget(lambda: model(cells), every=10, sharpness=5.0, smoothing=0.3)
    target.on_epoch(0)
    log_q = model(cells).detach()
    expected = sinkhorn_target(log_q, cluster_masses(log_q, smoothing=0.3), sharpness=5.0).p
    torch.testing.assert_close(target.p, expected)
    assert not target.p.requires_grad


def test_self_training_draws_centers_to_the_groups():
    cells = torch.cat([draw(30, 1) * 0.3 - 3, draw(30, 1, seed=1) * 0.3 + 3])
    model = Centers([[-1.0], [1.0]])
    target = ScheduledTarget(lambda: model(cells), every=5, sharpness=5.0, smoothing=0.1)
    term = Term(name="cluster", weight=1.0, loss=lambda o: assignment_divergence(target.p, o["log_q"]))
    history = fit(
        model,
        objective(lambda m, batch: {"log_q": m(batch["cells"])}, (term,)),
        views={"cells": cells},
        config=TrainConfig(n_steps=300, batch_size=None, learning_rate=0.05, weight_decay=0.0),
        rng=np.random.default_rng(0),
        on_epoch=target.on_epoch,
    )
    torch.testing.assert_close(model.centers.detach(), torch.tensor([[-3.0], [3.0]]), atol=0.5, rtol=0)
    assert min(epoch["cluster"] for epoch in history) >= 0


def test_a_target_that_was_not_reached_is_logged(caplog):
    far = torch.log_softmax(20_000 * draw(12, 3), dim=1)
    target = ScheduledTarget(lambda: far, every=1, sharpness=5.0, smoothing=1.0)
    with caplog.at_level(logging.WARNING):
        target.on_epoch(0)
    assert "target of epoch 0: error" in caplog.text
