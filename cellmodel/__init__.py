"""cellmodel: single cells that carry the meaning of their genes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellmodel import io, pl, tl
    from cellmodel.core.config import RunConfig

__all__ = ["RunConfig", "io", "pl", "tl"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import cellmodel` costs nothing."""
    if name == "RunConfig":
        return import_module("cellmodel.core.config").RunConfig
    if name == "errors":
        return import_module("cellmodel.core.errors")
    if name in {"io", "pl", "tl"}:
        error = import_module("cellmodel.core.errors").NotAvailable
        import_module("genekb.core.plugins").require("anndata", needed_by=f"cellmodel.{name} needs", error=error)
        return import_module(f"cellmodel.{name}")
    if name == "__version__":
        return import_module("genekb").__version__
    raise AttributeError(f"module 'cellmodel' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names that people use."""
    return [*__all__, "__version__", "errors"]
