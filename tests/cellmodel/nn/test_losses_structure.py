import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.spatial.distance import jensenshannon

from cellmodel.nn.graphs import symmetric_propagation
from cellmodel.nn.losses import edge_reconstruction, jensen_shannon, normalized_cut


def two_blocks(n=6):
    """Two complete graphs without a link between them."""
    block = np.ones((n // 2, n // 2)) - np.eye(n // 2)
    return sp.csr_matrix(np.kron(np.eye(2), block))


def embedding(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def propagation(graph):
    return symmetric_propagation(graph).to(torch.float64)


def test_normalized_cut_is_the_dense_formula():
    z, graph = embedding(6, 3), two_blocks()
    weights = graph.toarray() + np.eye(6)
    scale = np.diag(weights.sum(axis=1) ** -0.5)
    once = scale @ weights @ scale
    columns = z.numpy() / np.linalg.norm(z.numpy(), axis=0)
    cut = -np.trace(columns.T @ (0.21 * once + 0.79 * once @ once) @ columns) / 3
    penalty = 0.32 * ((columns.T @ columns - np.eye(3)) ** 2).sum() / 3
    found = normalized_cut(z, propagation(graph), one_hop=0.21, orthogonality=0.32)
    assert float(found) == pytest.approx(cut + penalty, rel=1e-5)


def test_the_indicator_of_the_blocks_has_the_lowest_cut():
    indicator = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3, dtype=torch.float64)
    mixed = torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 3, dtype=torch.float64)
    best, worse = (
        normalized_cut(z, propagation(two_blocks()), one_hop=0.21, orthogonality=0.32) for z in (indicator, mixed)
    )
    assert float(best) == pytest.approx(-1, abs=1e-6)
    assert worse > best + 0.3


def test_collapsed_columns_pay_for_it():
    one = torch.ones(6, 1, dtype=torch.float64)
    values = [
        normalized_cut(z, propagation(two_blocks()), one_hop=0.5, orthogonality=1.0) for z in (one, one.expand(6, 2))
    ]
    assert float(values[1] - values[0]) == pytest.approx(1.0, abs=1e-6)  # two off-diagonal ones, over two columns


def test_jensen_shannon_agrees_with_scipy():
    a, b = embedding(5, 4), embedding(5, 4, seed=1)
    expected = np.mean(
        [jensenshannon(p, q) ** 2 for p, q in zip(a.softmax(1).numpy(), b.softmax(1).numpy(), strict=True)]
    )
    assert float(jensen_shannon(a, b)) == pytest.approx(expected)
    assert float(jensen_shannon(b, a)) == pytest.approx(expected)
    assert float(jensen_shannon(a, a)) == pytest.approx(0, abs=1e-12)


def test_jensen_shannon_of_disjoint_distributions_is_log_two():
    far = torch.tensor([[1e4, 0.0]])
    assert float(jensen_shannon(far, far.flip(1))) == pytest.approx(np.log(2))


def test_edge_reconstruction_is_the_loop_over_pairs():
    z, edges, others = embedding(5, 3), torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0, 4, 1], [3, 2, 0]])
    link = lambda i, j: 1 / (1 + np.exp(-float(z[i] @ z[j])))  # noqa: E731
    on = np.mean([(1 - link(i, j)) ** 2 for i, j in edges.T.tolist()])
    off = np.mean([link(i, j) ** 2 for i, j in others.T.tolist()])
    assert float(edge_reconstruction(z, edges=edges, others=others)) == pytest.approx((on + off) / 2)


def test_gradients_agree_with_finite_differences():
    z, graph = embedding(6, 3).requires_grad_(), propagation(two_blocks())
    pairs = torch.tensor([[0, 1, 2], [3, 4, 5]])
    assert torch.autograd.gradcheck(lambda x: normalized_cut(x, graph, one_hop=0.21, orthogonality=0.32), (z,))
    assert torch.autograd.gradcheck(lambda x: jensen_shannon(x, x.flip(0) * 2), (z,))
    assert torch.autograd.gradcheck(lambda x: edge_reconstruction(x, edges=pairs, others=pairs.flip(1)[:, :2]), (z,))
