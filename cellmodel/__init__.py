"""cellmodel: single cells that carry the meaning of their genes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellmodel import io, pl, tl
    from cellmodel.core.config import RunConfig
    from cellmodel.io import get
    from cellmodel.pl._tools import report

__all__ = ["RunConfig", "get", "io", "pl", "report", "tl"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import cellmodel` costs nothing."""
    if name == "RunConfig":
        return import_module("cellmodel.core.config").RunConfig
    if name == "errors":
        return import_module("cellmodel.core.errors")
    if name == "__version__":
        return import_module("genekb").__version__
    if name not in __all__:
        raise AttributeError(f"module 'cellmodel' has no attribute {name!r}")
    error = import_module("cellmodel.core.errors").NotAvailable
    import_module("genekb.core.plugins").require("anndata", needed_by=f"cellmodel.{name} needs", error=error)
    if name == "report":
        return import_module("cellmodel.pl._tools").report
    return import_module("cellmodel.io.get" if name == "get" else f"cellmodel.{name}")


def __dir__() -> list[str]:
    """Names that people use."""
    return [*__all__, "__version__", "errors"]
