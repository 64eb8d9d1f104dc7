"""cellmodel: single cells that carry the meaning of their genes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellmodel import tl
    from cellmodel.config import RunConfig

__all__ = ["RunConfig", "tl"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import cellmodel` costs nothing."""
    if name == "RunConfig":
        return import_module("cellmodel.config").RunConfig
    if name == "tl":
        return import_module("cellmodel.tl")
    raise AttributeError(f"module 'cellmodel' has no attribute {name!r}")
