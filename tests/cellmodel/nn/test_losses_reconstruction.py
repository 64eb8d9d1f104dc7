import numpy as np
import pytest
import torch
from scipy.stats import nbinom

from cellmodel.nn.losses import zinb_nll


def parameters(n_cells=5, n_genes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, n_cells, n_genes, dtype=torch.float64, generator=generator)
    names = ("log_mean", "log_dispersion", "dropout_logits")
    factors = torch.randn(n_cells, dtype=torch.float64, generator=generator)
    counts = torch.poisson(torch.rand(n_cells, n_genes, generator=generator) * 5, generator=generator).double()
    return counts, {**dict(zip(names, values, strict=True)), "log_size_factors": factors}


def test_zinb_is_the_mixture_of_scipys_negative_binomial():
    counts, settings = parameters()
    mu = np.exp(settings["log_mean"].numpy() + settings["log_size_factors"].numpy()[:, None])
    theta = np.exp(settings["log_dispersion"].numpy())
    drop = 1 / (1 + np.exp(-settings["dropout_logits"].numpy()))
    likelihood = (1 - drop) * nbinom.pmf(counts.numpy(), theta, theta / (theta + mu)) + drop * (counts.numpy() == 0)
    assert float(zinb_nll(counts, **settings)) == pytest.approx(-np.log(likelihood).mean())
    assert 0 < int((counts == 0).sum()) < counts.numel()


@pytest.mark.parametrize("extreme", [-60.0, 60.0])
@pytest.mark.parametrize("name", ["log_mean", "log_dispersion", "dropout_logits"])
def test_zinb_and_its_gradient_are_finite_at_extreme_parameters(name, extreme):
    counts, settings = parameters()
    settings[name] = torch.full_like(settings[name], extreme).requires_grad_()
    value = zinb_nll(counts, **settings)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(settings[name].grad).all()


def test_the_mean_of_zinb_receives_a_gradient_and_its_best_value_is_the_mean():
    counts = torch.tensor([[3.0], [5.0], [4.0]], dtype=torch.float64)
    log_mean = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    best = torch.full((3, 1), float(np.log(4)), dtype=torch.float64, requires_grad=True)
    other = {"log_dispersion": torch.full((3, 1), 8.0), "dropout_logits": torch.full((3, 1), -30.0)}
    for values in (log_mean, best):
        zinb_nll(counts, log_mean=values, log_size_factors=torch.zeros(3), **other).backward()
    assert (log_mean.grad < 0).all()
    assert float(best.grad.sum()) == pytest.approx(0, abs=1e-6)


def test_size_factors_scale_the_mean():
    counts, settings = parameters()
    moved = settings | {
        "log_mean": settings["log_mean"] + settings["log_size_factors"][:, None],
        "log_size_factors": torch.zeros(5, dtype=torch.float64),
    }
    assert torch.allclose(zinb_nll(counts, **settings), zinb_nll(counts, **moved))


def test_gradients_agree_with_finite_differences():
    counts, settings = parameters()
    inputs = [settings[name].requires_grad_() for name in settings]
    assert torch.autograd.gradcheck(lambda *given: zinb_nll(counts, **dict(zip(settings, given, strict=True))), inputs)
