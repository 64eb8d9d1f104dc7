import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellmodel.nn.losses import info_nce, variance_hinge


def views(seed, n_cells=6, dim=4):
    return torch.randn(2, n_cells, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(order=st.permutations(range(6)), seed=st.integers(0, 2**31 - 1))
def test_info_nce_does_not_see_the_order_of_cells(order, seed):
    a, p = views(seed)
    assert torch.allclose(info_nce(a, p, temperature=0.2), info_nce(a[list(order)], p[list(order)], temperature=0.2))


def test_info_nce_is_the_double_loop_of_its_formula():
    a, p = views(5)
    total = 0.0
    for i in range(6):
        s = [float(torch.nn.functional.cosine_similarity(a[i], p[j], dim=0)) / 0.3 for j in range(6)]
        t = [float(torch.nn.functional.cosine_similarity(a[j], p[i], dim=0)) / 0.3 for j in range(6)]
        total += math.log(sum(map(math.exp, s))) - s[i] + math.log(sum(map(math.exp, t))) - t[i]
    assert float(info_nce(a, p, temperature=0.3)) == pytest.approx(total / 12)


def test_info_nce_of_ties_is_the_log_of_the_number_of_cells():
    same = torch.ones(5, 3)
    assert float(info_nce(same, same, temperature=0.1)) == pytest.approx(math.log(5), rel=1e-5)


def test_info_nce_is_finite_at_a_small_temperature():
    a, p = views(0)
    assert torch.isfinite(info_nce(a, p, temperature=1e-4))


def test_info_nce_refuses_a_temperature_of_zero():
    with pytest.raises(ValueError, match=r"temperature must be > 0, got 0\.0"):
        info_nce(*views(0), temperature=0.0)


def test_variance_hinge_is_zero_once_spread_and_positive_when_collapsed():
    spread = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 3
    assert float(variance_hinge(spread)) == 0.0
    assert float(variance_hinge(torch.ones(10, 3))) == pytest.approx(1 - 0.01, abs=1e-3)


@pytest.mark.parametrize("loss", [lambda a, p: info_nce(a, p, temperature=0.5), lambda a, _: variance_hinge(a * 0.1)])
def test_gradients_agree_with_finite_differences(loss):
    a, p = views(3)
    assert torch.autograd.gradcheck(loss, (a.requires_grad_(), p.requires_grad_()))
