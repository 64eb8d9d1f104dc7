"""One integer seed per run; every random stream is derived from it by purpose."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


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
