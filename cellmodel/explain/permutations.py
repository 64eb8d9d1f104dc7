"""Permutation p values, counted in one place."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

TIE: Final = 1e-9  # statistics of order one that are closer are equal: their sums were taken in another order


def permutation_p(
    found: Sequence[np.ndarray],
    draw: Callable[[], Sequence[np.ndarray]],
    *,
    n_permutations: int,
    tie: float = TIE,
) -> tuple[np.ndarray, ...]:
    """P values (1 + hits) / (1 + n) :cite:`phipson2010permutation`; a hit is a permutation that reaches what was found.

    ``found``: statistics of the data. ``draw``: the same, in the same order, after one more permutation; each must
    broadcast to the one found, as the highest of a family does :cite:`westfall1993resampling`. Raises ``ValueError``
    if there is no permutation.
    """
    if n_permutations < 1:
        raise ValueError(f"n_permutations must be >= 1, got {n_permutations}")
    hits = [np.zeros(statistic.shape, dtype=np.int64) for statistic in found]
    for _ in range(n_permutations):
        for at, permuted in enumerate(draw()):
            hits[at] += permuted >= found[at] - tie
    return tuple((1 + count) / (1 + n_permutations) for count in hits)
