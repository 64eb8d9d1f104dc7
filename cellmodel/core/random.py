"""One integer seed per run; every random stream is derived from it by purpose."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

RANGE: Final = range(-(2**63), 2**63)  # what a file can hold


def check_seed(seed: int) -> None:
    """Check that a run's seed can be written to a file.

    Raises ``ValueError`` if it does not fit into 64 bits.
    """
    if seed not in RANGE:
        raise ValueError(f"a seed must lie from {RANGE[0]} to {RANGE[-1]}, got {seed}")


def derive(seed: int, purpose: str) -> int:
    """Hash a run's seed and a purpose to a 32-bit seed, so that a new stream never shifts an old one."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def generator(seed: int, purpose: str) -> np.random.Generator:
    """NumPy generator for one purpose of a run."""
    return np.random.default_rng(derive(seed, purpose))


@contextmanager
def scope(seed: int) -> Iterator[None]:
    """Seed PyTorch's global stream inside the block (initialisers, dropout) and restore it afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "torch"))
        yield
