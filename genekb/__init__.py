"""genekb: versioned, verifiable stores of gene text and its embeddings."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genekb.builder.build import build, encode, import_vectors, update
    from genekb.builder.diff import diff
    from genekb.builder.plan import BuildConfig
    from genekb.builder.rebuild import rebuild
    from genekb.encoders.registry import models
    from genekb.genes.coverage import Coverage
    from genekb.genes.resolve import Resolution
    from genekb.query.compare import compare
    from genekb.query.doctor import doctor
    from genekb.query.export import export
    from genekb.query.gc import gc
    from genekb.query.name_set import name_set
    from genekb.share.lock import lock, sync
    from genekb.share.open import open
    from genekb.share.pull import pull
    from genekb.share.push import push
    from genekb.share.signing import keygen, sign
    from genekb.sources.entrez_fetch import fetch
    from genekb.sources.ncbi_bulk import read_ncbi_folder
    from genekb.sources.ncbi_download import download
    from genekb.sources.open import read_source
    from genekb.sources.table import read_demo_table
    from genekb.store.home import list_stores, path
    from genekb.store.reader import Store
    from genekb.store.verify import verify

__all__ = [
    "BuildConfig",
    "Coverage",
    "Resolution",
    "Store",
    "build",
    "compare",
    "diff",
    "doctor",
    "download",
    "encode",
    "export",
    "fetch",
    "gc",
    "import_vectors",
    "keygen",
    "list_stores",
    "lock",
    "models",
    "name_set",
    "open",
    "path",
    "pull",
    "push",
    "read_demo_table",
    "read_ncbi_folder",
    "read_source",
    "rebuild",
    "sign",
    "sync",
    "update",
    "verify",
]

_HOME = {
    "BuildConfig": "genekb.builder.plan",
    "Coverage": "genekb.genes.coverage",
    "Resolution": "genekb.genes.resolve",
    "Store": "genekb.store.reader",
    "build": "genekb.builder.build",
    "compare": "genekb.query.compare",
    "diff": "genekb.builder.diff",
    "doctor": "genekb.query.doctor",
    "download": "genekb.sources.ncbi_download",
    "encode": "genekb.builder.build",
    "export": "genekb.query.export",
    "fetch": "genekb.sources.entrez_fetch",
    "gc": "genekb.query.gc",
    "import_vectors": "genekb.builder.build",
    "keygen": "genekb.share.signing",
    "list_stores": "genekb.store.home",
    "lock": "genekb.share.lock",
    "models": "genekb.encoders.registry",
    "name_set": "genekb.query.name_set",
    "open": "genekb.share.open",
    "path": "genekb.store.home",
    "pull": "genekb.share.pull",
    "push": "genekb.share.push",
    "read_demo_table": "genekb.sources.table",
    "read_ncbi_folder": "genekb.sources.ncbi_bulk",
    "read_source": "genekb.sources.open",
    "rebuild": "genekb.builder.rebuild",
    "sign": "genekb.share.signing",
    "sync": "genekb.share.lock",
    "update": "genekb.builder.build",
    "verify": "genekb.store.verify",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import genekb` costs nothing."""
    if name == "__version__":
        return import_module("genekb.core.plugins").installed_version()
    if name == "errors":
        return import_module("genekb.core.errors")
    if name not in __all__:
        raise AttributeError(f"module 'genekb' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Names that people use."""
    return [*__all__, "__version__", "errors"]
