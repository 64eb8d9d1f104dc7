"""Scores against true labels, and the protocol that measures recipes; the only room that sees labels: `cm.bench`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellmodel.bench.api import bench, eval, perturb_eval

__all__ = [
    "api",
    "bench",
    "changes",
    "eval",
    "integration",
    "metrics",
    "n_shot",
    "perturb_eval",
    "perturbations",
]
_FUNCTIONS = {"bench", "eval", "perturb_eval"}


def __getattr__(name: str) -> Any:
    """Import a function when it is first used."""
    if name not in _FUNCTIONS:
        raise AttributeError(f"module 'cellmodel.bench' has no attribute {name!r}")
    return getattr(import_module("cellmodel.bench.api"), name)


def __dir__() -> list[str]:
    """Names that people use."""
    return sorted(_FUNCTIONS)
