import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from cellmodel.nn import losses
from cellmodel.nn.losses import cross_view_consistency, distribution_alignment, neighborhood_contrast

EDGES = torch.tensor([[3, 0, 2, 0, 3], [0, 1, 4, 2, 4]])  # cells 1 and 4 have no neighbor; sources are not sorted
OTHERS = torch.tensor([[2, 3], [0, 4], [1, 3], [1, 2], [0, 0]])


def views(*, n_cells=5, dim=4):
    rng = torch.Generator().manual_seed(0)
    return tuple(2 * torch.randn(n_cells, dim, dtype=torch.float64, generator=rng) for _ in range(2))


def divergence(p, q):
    return (rel_entr(p, q).sum() + rel_entr(q, p).sum()) / 2


def symmetric_kl(logits, other_logits):
    return losses.symmetric_kl(torch.log_softmax(logits, dim=1), torch.log_softmax(other_logits, dim=1))


def test_symmetric_kl_is_that_of_scipy():
    a, b = views()
    expected = [divergence(p, q) for p, q in zip(softmax(a, axis=1), softmax(b, axis=1), strict=True)]
    np.testing.assert_allclose(symmetric_kl(a, b), expected)


@pytest.mark.parametrize("loss", [symmetric_kl, distribution_alignment])
def test_divergences_are_zero_where_views_agree_and_positive_elsewhere(loss):
    a, b = views()
    assert float(loss(a, a + 3.0).abs().max()) == pytest.approx(0, abs=1e-14)  # a shift of all logits changes nothing
    assert float(loss(a, b).min()) > 0.01
    assert float(loss(500 * a, 500 * b).max()) < np.inf  # probabilities that underflow do no harm


def test_distribution_alignment_adds_the_mean_distributions_to_the_cells():
    a, b = views()
    p, q = softmax(a.numpy(), axis=1), softmax(b.numpy(), axis=1)
    expected = divergence(p.mean(axis=0), q.mean(axis=0)) + np.mean([divergence(*pair) for pair in zip(p, q)])  # noqa: B905 - equal by construction
    assert float(distribution_alignment(a, b)) == pytest.approx(expected)


def test_neighborhood_contrast_is_the_ratio_of_double_loops():
    a, b = views()
    p, q = softmax(a.numpy(), axis=1), softmax(b.numpy(), axis=1)
    ratios = []
    for cell in range(5):
        near = [cell, *(j for i, j in EDGES.T.tolist() if i == cell)]
        mean_near = np.mean([divergence(p[cell], q[j]) for j in near])
        mean_far = np.mean([divergence(p[cell], q[j]) for j in OTHERS[cell].tolist()])
        ratios.append((mean_near + 1e-3) / (mean_far + 1e-3))
    found = neighborhood_contrast(a, b, edges=EDGES, others=OTHERS)
    assert float(found) == pytest.approx(np.mean(ratios))


def test_neighborhood_contrast_is_one_where_all_cells_are_alike():
    same = torch.ones(5, 4)
    assert float(neighborhood_contrast(same, same, edges=EDGES, others=OTHERS)) == pytest.approx(1, abs=1e-2)


def test_neighborhood_contrast_falls_as_groups_part():
    two_groups = torch.eye(2, dtype=torch.float64)[[0, 0, 1, 1]]
    edges, others = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]]), torch.tensor([[2], [3], [0], [1]])
    values = [
        float(neighborhood_contrast(scale * two_groups, scale * two_groups, edges=edges, others=others))
        for scale in (0.1, 1.0, 10.0)
    ]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 1e-3


def test_float32_sums_keep_the_ratio_of_float64():
    a, b = views(n_cells=200, dim=32)
    rng = torch.Generator().manual_seed(1)
    graph = {
        "edges": torch.randint(200, (2, 3000), generator=rng),
        "others": torch.randint(200, (200, 15), generator=rng),
    }
    exact, near = neighborhood_contrast(a, b, **graph), neighborhood_contrast(a.float(), b.float(), **graph)
    assert float(near) == pytest.approx(float(exact), rel=1e-5)


def test_cross_view_consistency_is_that_of_single_cosines():
    a, b = (view.numpy() for view in views())
    pairs = torch.tensor([[0, 1, 4], [3, 2, 1]])

    def cosine(i, j):
        return a[i] @ b[j] / np.linalg.norm(a[i]) / np.linalg.norm(b[j])

    linked = [*EDGES.T.tolist(), *((cell, cell) for cell in range(5))]
    near = np.mean([(1 - cosine(i, j)) ** 2 for i, j in linked])
    far = np.mean([cosine(i, j) ** 2 for i, j in pairs.T.tolist()])
    found = cross_view_consistency(torch.from_numpy(a), torch.from_numpy(b), edges=EDGES, pairs=pairs)
    assert float(found) == pytest.approx((near + far) / 2)


@pytest.mark.parametrize("name", ["symmetric", "distribution", "neighborhood", "consistency"])
def test_gradients_agree_with_finite_differences(name):
    functions = {
        "symmetric": symmetric_kl,
        "distribution": distribution_alignment,
        "neighborhood": lambda a, b: neighborhood_contrast(a, b, edges=EDGES, others=OTHERS),
        "consistency": lambda a, b: cross_view_consistency(a, b, edges=EDGES, pairs=EDGES.flip(0)),
    }
    assert torch.autograd.gradcheck(functions[name], [view.requires_grad_() for view in views()])
