import logging

import numpy as np
import pytest
import torch

from cellmodel.nn.soft_assignment import assignment_divergence, cluster_masses, log_soft_assignment, sinkhorn_target
from cellmodel.nn.train import Term, TrainConfig, fit, objective
from cellmodel.recipes.graph_training import ScheduledTarget


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
