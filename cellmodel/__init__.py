"""cellmodel: single cells that carry the meaning of their genes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellmodel import bench, io, pl, tl
    from cellmodel.core.config import RunConfig
    from cellmodel.io import get
    from cellmodel.pl._tools import report, view
    from cellmodel.tl._demo import demo

__all__ = ["RunConfig", "bench", "demo", "get", "io", "pl", "report", "tl", "view"]
_FUNCTIONS = {"demo": "cellmodel.tl._demo", "report": "cellmodel.pl._tools", "view": "cellmodel.pl._tools"}


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
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    return import_module("cellmodel.io.get" if name == "get" else f"cellmodel.{name}")


def __dir__() -> list[str]:
    """Names that people use."""
    return [*__all__, "__version__", "errors"]
