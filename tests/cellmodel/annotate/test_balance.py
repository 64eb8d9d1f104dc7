"""Even weights: a double loop, and blindness to how many cells a crowd has."""

import math

import numpy as np
import pytest

from cellmodel.annotate.shared_genes import even_weights


def test_weights_are_one_over_the_density():
    points = np.random.default_rng(0).normal(size=(12, 3))
    squared = [[sum((a - b) ** 2 for a, b in zip(u, v, strict=True)) for v in points] for u in points]
    width = 0.25 * float(np.median(squared))
    density = [sum(math.exp(-d / (2 * width)) for d in row) for row in squared]
    expected = np.array([1 / d for d in density])
    np.testing.assert_allclose(even_weights(points), expected / expected.sum(), rtol=1e-9)


def test_a_weighted_mean_does_not_move_with_the_shares_of_two_crowds():
    rng = np.random.default_rng(1)
    sizes = {"even": (150, 150), "uneven": (240, 60)}
    crowds = {name: [rng.normal(center, 0.1, size=(n, 2)) for center, n in zip((0, 5), ns, strict=True)]
              for name, ns in sizes.items()}  # fmt: skip
    means = {name: even_weights(np.concatenate(c)) @ np.concatenate(c) for name, c in crowds.items()}
    np.testing.assert_allclose(means["even"], 2.5, atol=0.3)
    np.testing.assert_allclose(means["uneven"], means["even"], atol=0.3)


def test_the_order_of_cells_does_not_matter():
    points = np.random.default_rng(2).normal(size=(50, 4))
    order = np.random.default_rng(3).permutation(50)
    np.testing.assert_allclose(even_weights(points[order]), even_weights(points)[order], rtol=1e-9)


def test_equal_cells_weigh_the_same():
    assert even_weights(np.ones((4, 2))).tolist() == pytest.approx([0.25] * 4)
