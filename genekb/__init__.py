"""genekb: versioned, verifiable stores of gene text and its embeddings."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genekb.builder.diff import diff_stores
    from genekb.builder.plan import BuildConfig, build
    from genekb.builder.update import plan_update, update
    from genekb.genes.coverage import Coverage
    from genekb.genes.resolve import Resolution
    from genekb.share.pull import open_store as open
    from genekb.sources.ncbi_bulk import read_ncbi_folder
    from genekb.sources.open import read_source
    from genekb.sources.table import read_demo_table
    from genekb.store.reader import Store

__all__ = [
    "BuildConfig",
    "Coverage",
    "Resolution",
    "Store",
    "build",
    "diff_stores",
    "open",
    "plan_update",
    "read_demo_table",
    "read_ncbi_folder",
    "read_source",
    "update",
]

_HOME = {
    "BuildConfig": ("genekb.builder.plan", "BuildConfig"),
    "Coverage": ("genekb.genes.coverage", "Coverage"),
    "Resolution": ("genekb.genes.resolve", "Resolution"),
    "Store": ("genekb.store.reader", "Store"),
    "build": ("genekb.builder.plan", "build"),
    "diff_stores": ("genekb.builder.diff", "diff_stores"),
    "open": ("genekb.share.pull", "open_store"),
    "plan_update": ("genekb.builder.update", "plan_update"),
    "read_demo_table": ("genekb.sources.table", "read_demo_table"),
    "read_ncbi_folder": ("genekb.sources.ncbi_bulk", "read_ncbi_folder"),
    "read_source": ("genekb.sources.open", "read_source"),
    "update": ("genekb.builder.update", "update"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import genekb` costs nothing."""
    from importlib import import_module

    if name == "__version__":
        return import_module("genekb.core.plugins").installed_version()
    if name == "errors":
        return import_module("genekb.core.errors")
    if name not in _HOME:
        raise AttributeError(f"module 'genekb' has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(import_module(module), attribute)
