"""Random streams of a run, derived from its one seed by purpose, and p values by permutation."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Int

from cellmodel.core.arrays import in_order
from genekb.core.progress import progress

Order: TypeAlias = Int[np.ndarray, " permuted"]
TIE: Final = 1e-9  # statistics of order one that are closer are equal: their sums were taken in another order


def derive(seed: int, purpose: str) -> int:
    """Hash a run's seed and a purpose to a 32-bit seed, so that a new stream never shifts an old one."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def generator(seed: int, purpose: str) -> np.random.Generator:
    """NumPy generator for one purpose of a run."""
    return np.random.default_rng(derive(seed, purpose))


@contextmanager
def scope(seed: int) -> Iterator[None]:
    """Seed PyTorch's global stream inside the block (initializers, dropout) and restore it afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "torch"))
        yield


def permutation_p(
    found: Sequence[np.ndarray],
    statistics: Callable[[Order], Sequence[np.ndarray]],
    *,
    draw: Callable[[], Order],
    n_permutations: int,
    tie: float = TIE,
) -> tuple[np.ndarray, ...]:
    """P values (1 + hits) / (1 + n) :cite:`phipson2010permutation`; a hit is a permutation that reaches what was found.

    ``statistics``: those ``found``, after a permutation, in any thread; each must broadcast to the one found, as the
    highest of a family does :cite:`westfall1993resampling`. ``draw``: one more permutation.
    """
    if n_permutations < 1:
        raise ValueError(f"n_permutations must be >= 1, got {n_permutations}")
    hits = [np.zeros(statistic.shape, dtype=np.int64) for statistic in found]
    for number, drawn in enumerate(in_order(statistics, (draw() for _ in range(n_permutations)))):
        progress("permutations", number, n_permutations)
        for at, permuted in enumerate(drawn):
            hits[at] += permuted >= found[at] - tie
    return tuple((1 + count) / (1 + n_permutations) for count in hits)
