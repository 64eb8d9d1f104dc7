"""Scores against true labels, and the protocol that measures recipes; the only room that sees labels: `cm.bench`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellmodel.bench.api import bench, eval
    from cellmodel.bench.perturbations import perturb_eval

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
_FUNCTIONS = {"bench": "api", "eval": "api", "perturb_eval": "perturbations"}


def __getattr__(name: str) -> Any:
    """Import a function when it is first used."""
    if name not in _FUNCTIONS:
        raise AttributeError(f"module 'cellmodel.bench' has no attribute {name!r}")
    return getattr(import_module(f"cellmodel.bench.{_FUNCTIONS[name]}"), name)


def __dir__() -> list[str]:
    """Names that people use."""
    return sorted(_FUNCTIONS)
