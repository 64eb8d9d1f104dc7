"""One integer seed per run; every random stream is derived from it by purpose."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, purpose: str) -> int:
    """Hash a run's seed and a purpose to a 32-bit seed, so that a new stream never shifts an old one."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def generator(seed: int, purpose: str) -> np.random.Generator:
    """NumPy generator for one purpose of a run."""
    return np.random.default_rng(derive(seed, purpose))


def torch_generator(seed: int, purpose: str) -> "torch.Generator":
    """PyTorch CPU generator for one purpose of a run."""
    import torch

    return torch.Generator().manual_seed(derive(seed, purpose))


@contextmanager
def scope(seed: int) -> Iterator[None]:
    """Seed PyTorch's global stream inside the block (initialisers, dropout) and restore it afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "torch"))
        yield
