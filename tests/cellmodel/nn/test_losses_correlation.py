import numpy as np
import pytest
import torch

from cellmodel.nn.losses import cell_correlation, latent_correlation


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def distance_by_loops(rows, other_rows):
    """Mean of (C_ii - 1)² plus mean of C_ij² off the diagonal, of the cosines C."""
    on, off = [], []
    for i, a in enumerate(rows):
        for j, b in enumerate(other_rows):
            cosine = a @ b / np.sqrt((a @ a) * (b @ b))
            (on if i == j else off).append((cosine - 1) ** 2 if i == j else cosine**2)
    return np.mean(on) + np.mean(off)


def test_cell_correlation_is_the_double_loop():
    a, b = draw(6, 4), draw(6, 4, seed=1)
    assert float(cell_correlation(a, b)) == pytest.approx(distance_by_loops(a.numpy(), b.numpy()))


def test_equal_orthogonal_views_are_perfect_and_equal_cells_are_not():
    assert float(cell_correlation(torch.eye(4), 3 * torch.eye(4))) == pytest.approx(0, abs=1e-6)
    assert float(cell_correlation(torch.ones(4, 4), torch.ones(4, 4))) == pytest.approx(1, abs=1e-6)


def test_latent_correlation_reads_the_mean_of_each_soft_cluster():
    a, b, q = draw(8, 3), draw(8, 3, seed=1), torch.softmax(draw(8, 5, seed=2), dim=1)
    readouts = []
    for view in (a.numpy(), b.numpy()):
        means = np.stack([np.average(view, axis=0, weights=weights) for weights in q.numpy().T], axis=1)
        readouts.append(means - means.mean(axis=1, keepdims=True))
    assert float(latent_correlation(a, b, assignment=q)) == pytest.approx(distance_by_loops(*readouts))


def test_neither_sees_the_order_of_the_cells():
    a, b, q = draw(8, 3), draw(8, 3, seed=1), torch.softmax(draw(8, 4, seed=2), dim=1)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(cell_correlation(a, b), cell_correlation(a[order], b[order]))
    straight, permuted = (latent_correlation(a[o], b[o], assignment=q[o]) for o in (torch.arange(8), order))
    assert torch.allclose(straight, permuted)


def test_gradients_agree_with_finite_differences():
    a, b = draw(5, 3).requires_grad_(), draw(5, 3, seed=1).requires_grad_()
    q = torch.softmax(draw(5, 4, seed=2), dim=1)
    assert torch.autograd.gradcheck(cell_correlation, (a, b))
    assert torch.autograd.gradcheck(lambda x, y: latent_correlation(x, y, assignment=q), (a, b))
