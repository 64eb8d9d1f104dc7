"""Losses against double loops and SciPy; their gradients against finite differences."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax
from scipy.stats import nbinom

from cellmodel.nn import losses
from cellmodel.nn.graphs import symmetric_propagation
from cellmodel.nn.losses import (
    cell_correlation,
    cross_view_consistency,
    distribution_alignment,
    edge_reconstruction,
    info_nce,
    jensen_shannon,
    latent_correlation,
    neighborhood_contrast,
    normalized_cut,
    sup_con,
    variance_hinge,
    zinb_nll,
)

EDGES = torch.tensor([[3, 0, 2, 0, 3], [0, 1, 4, 2, 4]])  # cells 1 and 4 have no neighbor; sources are not sorted
OTHERS = torch.tensor([[2, 3], [0, 4], [1, 3], [1, 2], [0, 0]])
PAIRS = torch.tensor([[0, 1, 4], [3, 2, 1]])
CLASSES = torch.tensor([0, 0, 1, 1, 1, 2])  # the last is alone in its class


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def draw_two(n_cells=5, dim=4):
    return 2 * draw(n_cells, dim), 2 * draw(n_cells, dim, seed=1)


def cosine(u, v):
    return float(u @ v / np.sqrt((u @ u) * (v @ v)))


def divergence(p, q):
    return (rel_entr(p, q).sum() + rel_entr(q, p).sum()) / 2


def symmetric_kl(logits, other_logits):
    return losses.symmetric_kl(torch.log_softmax(logits, dim=1), torch.log_softmax(other_logits, dim=1))


def two_blocks():
    """Propagation over two complete graphs of three cells without a link between them."""
    graph = sp.csr_matrix(np.kron(np.eye(2), np.ones((3, 3)) - np.eye(3)))
    return symmetric_propagation(graph).to(torch.float64)


def cut(z):
    return normalized_cut(z, two_blocks(), one_hop=0.21, orthogonality=0.32)


def zinb_inputs(n_cells=5, n_genes=4):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, n_cells, n_genes, dtype=torch.float64, generator=generator)
    factors = torch.randn(n_cells, dtype=torch.float64, generator=generator)
    counts = torch.poisson(torch.rand(n_cells, n_genes, generator=generator) * 5, generator=generator).double()
    names = ("log_mean", "log_dispersion", "dropout_logits")
    return counts, {**dict(zip(names, values, strict=True)), "log_size_factors": factors}


Q = torch.softmax(draw(6, 4, seed=2), dim=1)
GRADIENTS = {  # of two views of six cells
    "info_nce": lambda a, b: info_nce(a, b, temperature=0.5),
    "variance_hinge": lambda a, _: variance_hinge(a * 0.1),
    "sup_con": lambda a, _: sup_con(a, CLASSES, temperature=0.5),
    "symmetric_kl": symmetric_kl,
    "distribution_alignment": distribution_alignment,
    "neighborhood_contrast": lambda a, b: neighborhood_contrast(a[:5], b[:5], edges=EDGES, others=OTHERS),
    "cross_view_consistency": lambda a, b: cross_view_consistency(a, b, edges=EDGES, pairs=EDGES.flip(0)),
    "cell_correlation": cell_correlation,
    "latent_correlation": lambda a, b: latent_correlation(a, b, assignment=Q),
    "normalized_cut": lambda a, _: cut(a),
    "jensen_shannon": jensen_shannon,
    "edge_reconstruction": lambda a, _: edge_reconstruction(a, edges=PAIRS, others=PAIRS.flip(1)[:, :2]),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_agree_with_finite_differences(name):
    assert torch.autograd.gradcheck(
        GRADIENTS[name], [view.requires_grad_() for view in (draw(6, 4), draw(6, 4, seed=1))]
    )


def test_the_gradient_of_zinb_agrees_with_finite_differences():
    counts, given = zinb_inputs()
    inputs = [values.requires_grad_() for values in given.values()]
    assert torch.autograd.gradcheck(lambda *values: zinb_nll(counts, **dict(zip(given, values, strict=True))), inputs)


ORDERS = {
    "info_nce": lambda a, b, _: info_nce(a, b, temperature=0.2),
    "sup_con": lambda a, _, rows: sup_con(a, torch.tensor([7, 2, 0])[CLASSES[rows]], temperature=0.2),
    "cell_correlation": lambda a, b, _: cell_correlation(a, b),
    "latent_correlation": lambda a, b, rows: latent_correlation(a, b, assignment=Q[rows]),
}


@pytest.mark.parametrize("name", ORDERS)
@settings(deadline=None)
@given(order=st.permutations(range(6)), seed=st.integers(0, 2**31 - 1))
def test_the_order_of_cells_changes_nothing(name, order, seed):
    (a, b), rows = draw(2, 6, 4, seed=seed), torch.tensor(order)
    straight, permuted = ORDERS[name](a, b, torch.arange(6)), ORDERS[name](a[rows], b[rows], rows)
    assert torch.allclose(straight, permuted)


def test_info_nce_is_the_double_loop_of_its_formula():
    a, p = draw(2, 6, 4, seed=5).numpy()
    total = 0.0
    for i in range(6):
        s, t = ([cosine(a[i], each) / 0.3 for each in p], [cosine(each, p[i]) / 0.3 for each in a])
        total += math.log(sum(map(math.exp, s))) - s[i] + math.log(sum(map(math.exp, t))) - t[i]
    found = info_nce(torch.from_numpy(a), torch.from_numpy(p), temperature=0.3)
    assert float(found) == pytest.approx(total / 12)


def test_info_nce_of_ties_is_the_log_of_the_number_of_cells_and_finite_at_a_small_temperature():
    same = torch.ones(5, 3)
    assert float(info_nce(same, same, temperature=0.1)) == pytest.approx(math.log(5), rel=1e-5)
    assert torch.isfinite(info_nce(*draw(2, 6, 4), temperature=1e-4))


def test_sup_con_is_the_mean_over_positives_outside_the_log():
    views = draw(6, 4)
    score = [[math.exp(cosine(u, v) / 0.2) for v in views.numpy()] for u in views.numpy()]
    expected = []
    for i in range(5):
        others = sum(score[i][j] for j in range(6) if j != i)
        same = [j for j in range(6) if j != i and CLASSES[j] == CLASSES[i]]
        expected.append(-sum(math.log(score[i][j] / others) for j in same) / len(same))
    assert sup_con(views, CLASSES, temperature=0.2).item() == pytest.approx(sum(expected) / 5)


def test_sup_con_without_a_pair_of_one_class_is_zero_with_zero_gradient():
    views = draw(6, 4).requires_grad_()
    loss = sup_con(views, torch.arange(6), temperature=0.1)
    loss.backward()
    assert loss.item() == 0
    assert not views.grad.any()


def test_a_temperature_of_zero_is_refused():
    for loss in (lambda a: info_nce(a, a, temperature=0.0), lambda a: sup_con(a, CLASSES, temperature=0.0)):
        with pytest.raises(ValueError, match=r"temperature must be > 0, got 0\.0"):
            loss(draw(6, 4))


def test_variance_hinge_is_zero_once_spread_and_positive_when_collapsed():
    assert float(variance_hinge(draw(500, 3) * 3)) == 0.0
    assert float(variance_hinge(torch.ones(10, 3))) == pytest.approx(1 - 0.01, abs=1e-3)


def test_symmetric_kl_and_distribution_alignment_are_those_of_scipy():
    a, b = draw_two()
    p, q = softmax(a.numpy(), axis=1), softmax(b.numpy(), axis=1)
    by_cell = [divergence(*pair) for pair in zip(p, q, strict=True)]
    np.testing.assert_allclose(symmetric_kl(a, b), by_cell)
    expected = divergence(p.mean(axis=0), q.mean(axis=0)) + np.mean(by_cell)
    assert float(distribution_alignment(a, b)) == pytest.approx(expected)
    for loss in (symmetric_kl, distribution_alignment):
        assert float(loss(a, a + 3.0).abs().max()) == pytest.approx(0, abs=1e-14)  # logits may be shifted
        assert float(loss(500 * a, 500 * b).max()) < np.inf  # probabilities that underflow do no harm


def test_neighborhood_contrast_is_the_ratio_of_double_loops():
    a, b = draw_two()
    p, q = softmax(a.numpy(), axis=1), softmax(b.numpy(), axis=1)
    ratios = []
    for cell in range(5):
        near = [cell, *(j for i, j in EDGES.T.tolist() if i == cell)]
        mean_near = np.mean([divergence(p[cell], q[j]) for j in near])
        mean_far = np.mean([divergence(p[cell], q[j]) for j in OTHERS[cell].tolist()])
        ratios.append((mean_near + 1e-3) / (mean_far + 1e-3))
    assert float(neighborhood_contrast(a, b, edges=EDGES, others=OTHERS)) == pytest.approx(np.mean(ratios))


def test_float32_sums_keep_the_ratio_of_float64():
    a, b = draw_two(n_cells=200, dim=32)
    rng = torch.Generator().manual_seed(1)
    edges, others = torch.randint(200, (2, 3000), generator=rng), torch.randint(200, (200, 15), generator=rng)
    exact = neighborhood_contrast(a, b, edges=edges, others=others)
    near = neighborhood_contrast(a.float(), b.float(), edges=edges, others=others)
    assert float(near) == pytest.approx(float(exact), rel=1e-5)


def test_cross_view_consistency_is_that_of_single_cosines():
    a, b = (view.numpy() for view in draw_two())
    linked = [*EDGES.T.tolist(), *((cell, cell) for cell in range(5))]
    near = np.mean([(1 - cosine(a[i], b[j])) ** 2 for i, j in linked])
    far = np.mean([cosine(a[i], b[j]) ** 2 for i, j in PAIRS.T.tolist()])
    found = cross_view_consistency(torch.from_numpy(a), torch.from_numpy(b), edges=EDGES, pairs=PAIRS)
    assert float(found) == pytest.approx((near + far) / 2)


def distance_by_loops(rows, other_rows):
    """Mean of (C_ii - 1)² plus mean of C_ij² off the diagonal, of the cosines C."""
    cosines = np.array([[cosine(a, b) for b in other_rows] for a in rows])
    is_on = np.eye(len(cosines), dtype=bool)
    return np.mean((cosines[is_on] - 1) ** 2) + np.mean(cosines[~is_on] ** 2)


def test_cell_correlation_is_the_double_loop():
    a, b = draw(6, 4), draw(6, 4, seed=1)
    assert float(cell_correlation(a, b)) == pytest.approx(distance_by_loops(a.numpy(), b.numpy()))
    assert float(cell_correlation(torch.eye(4), 3 * torch.eye(4))) == pytest.approx(0, abs=1e-6)
    assert float(cell_correlation(torch.ones(4, 4), torch.ones(4, 4))) == pytest.approx(1, abs=1e-6)


def test_latent_correlation_reads_the_mean_of_each_soft_cluster():
    a, b = draw(6, 3), draw(6, 3, seed=1)
    readouts = []
    for view in (a.numpy(), b.numpy()):
        means = np.stack([np.average(view, axis=0, weights=weights) for weights in Q.numpy().T], axis=1)
        readouts.append(means - means.mean(axis=1, keepdims=True))
    assert float(latent_correlation(a, b, assignment=Q)) == pytest.approx(distance_by_loops(*readouts))


def test_zinb_is_the_mixture_of_scipys_negative_binomial():
    counts, given = zinb_inputs()
    mu = np.exp(given["log_mean"].numpy() + given["log_size_factors"].numpy()[:, None])
    theta = np.exp(given["log_dispersion"].numpy())
    drop = 1 / (1 + np.exp(-given["dropout_logits"].numpy()))
    likelihood = (1 - drop) * nbinom.pmf(counts.numpy(), theta, theta / (theta + mu)) + drop * (counts.numpy() == 0)
    assert float(zinb_nll(counts, **given)) == pytest.approx(-np.log(likelihood).mean())
    assert 0 < int((counts == 0).sum()) < counts.numel()
    scaled = given["log_mean"] + given["log_size_factors"][:, None]
    moved = given | {"log_mean": scaled, "log_size_factors": torch.zeros(5, dtype=torch.float64)}
    assert torch.allclose(zinb_nll(counts, **given), zinb_nll(counts, **moved))


@pytest.mark.parametrize("extreme", [-60.0, 60.0])
@pytest.mark.parametrize("name", ["log_mean", "log_dispersion", "dropout_logits"])
def test_zinb_and_its_gradient_are_finite_at_extreme_parameters(name, extreme):
    counts, given = zinb_inputs()
    given[name] = torch.full_like(given[name], extreme).requires_grad_()
    value = zinb_nll(counts, **given)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(given[name].grad).all()


def test_normalized_cut_is_the_dense_formula():
    z = draw(6, 3)
    weights = np.kron(np.eye(2), np.ones((3, 3)))
    once = weights / 3  # all degrees are three
    columns = z.numpy() / np.linalg.norm(z.numpy(), axis=0)
    traced = -np.trace(columns.T @ (0.21 * once + 0.79 * once @ once) @ columns) / 3
    penalty = 0.32 * ((columns.T @ columns - np.eye(3)) ** 2).sum() / 3
    assert float(cut(z)) == pytest.approx(traced + penalty, rel=1e-5)


def test_jensen_shannon_agrees_with_scipy():
    a, b = draw(5, 4), draw(5, 4, seed=1)
    rows = zip(a.softmax(1).numpy(), b.softmax(1).numpy(), strict=True)
    expected = np.mean([jensenshannon(p, q) ** 2 for p, q in rows])
    assert float(jensen_shannon(a, b)) == pytest.approx(expected)
    assert float(jensen_shannon(b, a)) == pytest.approx(expected)
    assert float(jensen_shannon(a, a)) == pytest.approx(0, abs=1e-12)
    far = torch.tensor([[1e4, 0.0]])
    assert float(jensen_shannon(far, far.flip(1))) == pytest.approx(np.log(2))


def test_edge_reconstruction_is_the_loop_over_pairs():
    z, edges, others = draw(5, 3), torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0, 4, 1], [3, 2, 0]])
    links = 1 / (1 + np.exp(-(z @ z.T).numpy()))
    on = np.mean([(1 - links[i, j]) ** 2 for i, j in edges.T.tolist()])
    off = np.mean([links[i, j] ** 2 for i, j in others.T.tolist()])
    assert float(edge_reconstruction(z, edges=edges, others=others)) == pytest.approx((on + off) / 2)
