"""The supervised contrastive loss against a double loop, and its gradient against finite differences."""

import math

import pytest
import torch

from cellmodel.nn.losses import sup_con

CLASSES = torch.tensor([0, 0, 1, 1, 1, 2])  # the last is alone in its class


@pytest.fixture
def views():
    return torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_it_is_the_mean_over_positives_outside_the_log(views):
    unit = (views / views.norm(dim=1, keepdim=True)).tolist()
    score = [[math.exp(sum(a * b for a, b in zip(u, v, strict=True)) / 0.2) for v in unit] for u in unit]
    losses = []
    for i in range(5):
        others = sum(score[i][j] for j in range(6) if j != i)
        same = [j for j in range(6) if j != i and CLASSES[j] == CLASSES[i]]
        losses.append(-sum(math.log(score[i][j] / others) for j in same) / len(same))
    assert sup_con(views, CLASSES, temperature=0.2).item() == pytest.approx(sum(losses) / 5)


def test_its_gradient_agrees_with_finite_differences(views):
    assert torch.autograd.gradcheck(lambda x: sup_con(x, CLASSES, temperature=0.5), views.requires_grad_())


def test_it_is_blind_to_order_and_to_names_of_classes(views):
    order = torch.tensor([3, 5, 0, 2, 4, 1])
    renamed = torch.tensor([7, 2, 0])[CLASSES]
    expected = sup_con(views, CLASSES, temperature=0.1)
    assert torch.allclose(sup_con(views[order], renamed[order], temperature=0.1), expected)


def test_without_a_pair_of_one_class_it_is_zero_with_zero_gradient(views):
    loss = sup_con(views.requires_grad_(), torch.arange(6), temperature=0.1)
    loss.backward()
    assert loss.item() == 0
    assert not views.grad.any()


def test_a_temperature_of_zero_is_refused(views):
    with pytest.raises(ValueError, match="temperature must be > 0"):
        sup_con(views, CLASSES, temperature=0)
