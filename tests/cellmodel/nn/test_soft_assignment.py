import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cellmodel.nn.soft_assignment import assignment_divergence, cluster_masses, log_soft_assignment, sinkhorn_target


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def plan_by_dense_scaling(kernel, columns, n_iterations=20_000):
    """Sinkhorn in the plain domain: rows to one, columns to their masses, over and over."""
    plan = kernel.copy()
    for _ in range(n_iterations):
        plan *= (columns / plan.sum(axis=0))[None, :]
        plan /= plan.sum(axis=1, keepdims=True)
    return plan


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_soft_assignment_is_the_student_t_formula(scale):
    z, centers = draw(4, 3), draw(2, 3, seed=1)
    weights = np.array([[1 / (1 + ((a - b) ** 2).sum() / scale**2) for b in centers.numpy()] for a in z.numpy()])
    expected = weights / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(log_soft_assignment(z, centers, scale=scale).exp().numpy(), expected)


def test_the_divergence_is_the_double_loop():
    p, log_q = torch.softmax(draw(5, 3), dim=1), torch.log_softmax(draw(5, 3, seed=1), dim=1)
    total = sum(float(p[i, c] * (p[i, c].log() - log_q[i, c])) for i in range(5) for c in range(3))
    assert float(assignment_divergence(p, log_q)) == pytest.approx(total / 5)
    assert float(assignment_divergence(log_q.exp(), log_q)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("sharpness", [1.0, 5.0])
def test_the_target_is_the_plan_of_a_dense_solver(sharpness):
    log_q = torch.log_softmax(draw(12, 3), dim=1)
    masses = torch.tensor([6.0, 4.0, 2.0], dtype=torch.float64)
    target = sinkhorn_target(log_q, masses, sharpness=sharpness, tolerance=1e-10, n_iterations=20_000)
    expected = plan_by_dense_scaling(np.exp(sharpness * log_q.numpy()), masses.numpy())
    assert target.converged
    np.testing.assert_allclose(target.p.numpy(), expected, atol=1e-8)


@pytest.mark.slow
def test_the_target_is_the_plan_of_pot():
    import ot

    log_q = torch.log_softmax(draw(15, 4), dim=1)
    masses = cluster_masses(log_q, smoothing=0.3)
    plan = ot.sinkhorn(np.ones(15), masses.numpy(), -log_q.numpy(), reg=1 / 5, numItermax=20_000, stopThr=1e-12)
    target = sinkhorn_target(log_q, masses, sharpness=5.0, tolerance=1e-10, n_iterations=20_000)
    np.testing.assert_allclose(target.p.numpy(), plan, atol=1e-7)


@settings(deadline=None)
@given(seed=st.integers(0, 2**31 - 1), smoothing=st.floats(0, 1, exclude_min=True))
@example(seed=44414, smoothing=5e-324)  # of four clusters one is empty
def test_rows_of_the_target_are_one_and_columns_their_masses(seed, smoothing):
    log_q = torch.log_softmax(2 * draw(20, 4, seed=seed), dim=1)
    masses = cluster_masses(log_q, smoothing=smoothing)
    target = sinkhorn_target(log_q, masses, sharpness=2.0, n_iterations=5000)
    assert target.converged
    np.testing.assert_allclose(target.p.sum(dim=1).numpy(), 1, atol=1e-10)
    assert float((target.p.sum(dim=0) - masses).abs().max()) <= 20 * 1e-4


def test_an_empty_cluster_without_smoothing_and_masses_that_do_not_fit_are_refused():
    log_q = torch.log_softmax(2 * draw(20, 4, seed=44414), dim=1)
    for masses in (cluster_masses(log_q, smoothing=0.0), torch.full((4,), 4.0)):
        with pytest.raises(ValueError, match=r"masses must be > 0 and sum to 20 .*got \[[46]\.0, 4\.0, "):
            sinkhorn_target(log_q, masses, sharpness=2.0)


def test_a_sharp_assignment_does_not_underflow():
    target = sinkhorn_target(torch.log_softmax(2000 * draw(10, 3), dim=1), torch.full((3,), 10 / 3), sharpness=5.0)
    assert torch.isfinite(target.p).all()


def test_a_solver_that_is_cut_short_says_so():
    log_q = torch.log_softmax(5 * draw(12, 3), dim=1)
    target = sinkhorn_target(log_q, torch.full((3,), 4.0), sharpness=5.0, n_iterations=2)
    assert not target.converged
    assert target.n_iterations == 2
    assert target.error == pytest.approx(float((target.p.sum(dim=0) - 4).abs().max()) / 12)


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_clusters_that_lie_apart_are_solved_in_a_few_steps(smoothing):
    truth = torch.arange(300) % 3 // 2  # 200 cells and 100
    points = 4 * torch.nn.functional.one_hot(truth, 2) + draw(300, 2)
    log_q = log_soft_assignment(points, 4 * torch.eye(2, dtype=torch.float64))
    target = sinkhorn_target(log_q, cluster_masses(log_q, smoothing=smoothing), sharpness=5.0, tolerance=1e-8)
    assert target.converged
    assert target.n_iterations <= 20


def test_masses_far_from_the_assignment_are_reached():
    scores = torch.tensor([[30.0, 0.0]] * 9 + [[0.0, 30.0]], dtype=torch.float64)
    target = sinkhorn_target(torch.log_softmax(scores, dim=1), torch.tensor([5.0, 5.0]), sharpness=1.0)
    assert target.converged
    np.testing.assert_allclose(target.p[:9, 0].numpy(), 5 / 9, atol=1e-3)


def test_assignments_and_targets_keep_the_precision_they_are_given():
    log_q = torch.log_softmax(draw(6, 2).float(), dim=1)
    assert sinkhorn_target(log_q, cluster_masses(log_q, smoothing=0.5), sharpness=2.0).p.dtype == torch.float32


def test_masses_run_from_the_clusters_own_to_equal_ones():
    log_q = torch.log_softmax(draw(8, 2), dim=1)
    sizes = np.bincount(log_q.numpy().argmax(axis=1), minlength=2)
    np.testing.assert_allclose(cluster_masses(log_q, smoothing=0.0), sizes)
    np.testing.assert_allclose(cluster_masses(log_q, smoothing=1.0), 4.0)


def test_gradients_agree_with_finite_differences():
    z, centers = draw(5, 3).requires_grad_(), draw(2, 3, seed=1).requires_grad_()
    p = torch.softmax(draw(5, 2, seed=2), dim=1)
    assert torch.autograd.gradcheck(
        lambda a, b: assignment_divergence(p, log_soft_assignment(a, b, scale=0.7)), (z, centers)
    )
