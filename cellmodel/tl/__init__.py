"""Tools on an AnnData, in the manner of scanpy: `cm.tl.run`, `cluster`, `annotate`, `search`, `predict`, and others."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cellmodel.tl._annotate import annotate, annotate_markers, map_labels
    from cellmodel.tl._attribute import attribute
    from cellmodel.tl._chain import run
    from cellmodel.tl._classify import classify, predict
    from cellmodel.tl._cluster import cluster, embed
    from cellmodel.tl._compare import compare
    from cellmodel.tl._export import cell_type_terms, export_graph
    from cellmodel.tl._perturb import perturb
    from cellmodel.tl._run.files import CellFiles
    from cellmodel.tl._samples import composition, markers
    from cellmodel.tl._search import search
    from cellmodel.tl.model.share import lock, pull, push, sync

__all__ = [
    "CellFiles",
    "annotate",
    "annotate_markers",
    "attribute",
    "cell_type_terms",
    "classify",
    "cluster",
    "compare",
    "composition",
    "embed",
    "export_graph",
    "lock",
    "map_labels",
    "markers",
    "perturb",
    "predict",
    "pull",
    "push",
    "run",
    "search",
    "sync",
]

_MODULES: Final = {
    "_annotate": ("annotate", "annotate_markers", "map_labels"),
    "_attribute": ("attribute",),
    "_chain": ("run",),
    "_classify": ("classify", "predict"),
    "_cluster": ("cluster", "embed"),
    "_compare": ("compare",),
    "_export": ("cell_type_terms", "export_graph"),
    "_perturb": ("perturb",),
    "_run.files": ("CellFiles",),
    "_samples": ("composition", "markers"),
    "_search": ("search",),
    "model.share": ("lock", "pull", "push", "sync"),
}


def __getattr__(name: str) -> Any:
    """Import a tool when it is first used: a command imports what it needs."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"cellmodel.tl.{module}"), name)
    raise AttributeError(f"module 'cellmodel.tl' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names that people use."""
    return __all__
