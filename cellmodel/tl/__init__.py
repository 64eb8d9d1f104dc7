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

_HOME: Final = {
    "annotate": "_annotate",
    "annotate_markers": "_annotate",
    "map_labels": "_annotate",
    "attribute": "_attribute",
    "run": "_chain",
    "classify": "_classify",
    "predict": "_classify",
    "cluster": "_cluster",
    "embed": "_cluster",
    "compare": "_compare",
    "cell_type_terms": "_export",
    "export_graph": "_export",
    "perturb": "_perturb",
    "CellFiles": "_run.files",
    "composition": "_samples",
    "markers": "_samples",
    "search": "_search",
    "lock": "model.share",
    "pull": "model.share",
    "push": "model.share",
    "sync": "model.share",
}


def __getattr__(name: str) -> Any:
    """Import a tool when it is first used: a command imports what it needs."""
    if name not in _HOME:
        raise AttributeError(f"module 'cellmodel.tl' has no attribute {name!r}")
    return getattr(import_module(f"cellmodel.tl.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """Names that people use."""
    return __all__
