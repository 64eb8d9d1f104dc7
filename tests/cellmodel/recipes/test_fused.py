"""The heads of ``fused`` and their training in NumPy, held against the same in PyTorch."""

from functools import partial

import numpy as np
import pytest
import torch

from cellmodel.core.errors import TrainingDiverged
from cellmodel.nn import losses
from cellmodel.nn.train import Term, TrainConfig, fit, objective
from cellmodel.recipes.fused import draw_weights, info_nce, project, train_heads, variance_hinge
from tests.support.aligner import Aligner, forward

TERMS = (
    Term(name="align", weight=1.0, loss=partial(info_nce, temperature=0.1)),
    Term(name="variance", weight=0.1, loss=variance_hinge),
)
ORACLE = (
    Term(name="align", weight=1.0, loss=lambda z: losses.info_nce(z["expression"], z["text"], temperature=0.1)),
    Term(
        name="variance",
        weight=0.1,
        loss=lambda z: losses.variance_hinge(z["expression"]) + losses.variance_hinge(z["text"]),
    ),
)


@pytest.fixture
def views():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((40, 3))
    return tuple((shared @ rng.standard_normal((3, dim))).astype(np.float32) for dim in (5, 6))


@pytest.fixture
def weights():
    return draw_weights(np.random.default_rng(1), expression_dim=5, text_dim=6, dim=4)


def same_in_torch(weights):
    model = Aligner(expression_dim=5, text_dim=6, joint_dim=4)
    model.load_state_dict({name: torch.from_numpy(each.copy()) for name, each in weights.items()})
    return model


def test_the_weights_are_those_of_linear_layers(weights):
    model = Aligner(expression_dim=5, text_dim=6, joint_dim=4)
    assert {name: each.shape for name, each in weights.items()} == {
        name: tuple(each.shape) for name, each in model.state_dict().items()
    }
    drawn = draw_weights(np.random.default_rng(0), expression_dim=400, text_dim=400, dim=400)
    layer = torch.nn.Linear(400, 400)
    for name in ("weight", "bias"):
        ours, theirs = drawn[f"expression_linear.{name}"], getattr(layer, name).detach().numpy()
        assert np.abs(ours).max() <= 0.05
        assert ours.std() == pytest.approx(theirs.std(), rel=0.1)


def test_both_heads_project_as_in_torch(views, weights):
    expected = same_in_torch(weights)(*(torch.from_numpy(each) for each in views))
    for ours, theirs in zip(project(weights, *views), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(("ours", "oracle"), list(zip(TERMS, ORACLE, strict=True)), ids=lambda term: term.name)
def test_values_and_gradients_are_those_of_torch(ours, oracle, views):
    rows = tuple(each[:, :4] * 0.3 for each in views)
    tensors = [torch.from_numpy(each).requires_grad_() for each in rows]
    expected = oracle.loss(dict(zip(("expression", "text"), tensors, strict=True)))
    expected.backward()
    value, gradients = ours.loss(*rows)
    assert value == pytest.approx(expected.item(), rel=1e-5)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), atol=1e-6)


def test_a_training_ends_where_that_of_torch_ends(views, weights):
    config = TrainConfig(n_steps=20, batch_size=16, learning_rate=1e-2, weight_decay=0.1)
    model = same_in_torch(weights)
    tensors = dict(zip(("expression", "text"), map(torch.from_numpy, views), strict=True))
    expected = fit(model, objective(forward, ORACLE), views=tensors, config=config, rng=np.random.default_rng(2))
    history = train_heads(weights, TERMS, views=views, config=config, rng=np.random.default_rng(2))
    for name, tensor in model.state_dict().items():
        np.testing.assert_allclose(weights[name], tensor.numpy(), atol=2e-4, err_msg=name)
    assert len(history) == len(expected)
    for ours, theirs in zip(history, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_an_infinite_loss_stops_the_training(views, weights):
    bad = Term(name="bad", weight=1.0, loss=lambda first, second: (float("inf"), (first, second)))
    with pytest.raises(TrainingDiverged, match=r"step 0: .*inf"):
        train_heads(weights, (bad,), views=views, config=TrainConfig(n_steps=2), rng=np.random.default_rng(0))
