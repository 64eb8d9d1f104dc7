"""Installed packages: the version of this one, those of its extras, and plug-ins that others offer as entry points."""

import logging
import re
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from typing import Any, Final

from genekb.core.errors import NotAvailable

log = logging.getLogger(__name__)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
# Modules that a plain installation lacks: the package that has each, and the extra of this package that installs it
EXTRAS: Final[Mapping[str, tuple[str, str]]] = {
    "Bio": ("biopython", "fetch"),
    "huggingface_hub": ("huggingface_hub", "hub"),
    "scipy": ("scipy", "encode"),
    "sentence_transformers": ("sentence-transformers", "encode"),
    "sklearn": ("scikit-learn", "encode"),
    "threadpoolctl": ("threadpoolctl", "encode"),
    "tokenizers": ("tokenizers", "encode"),
    "torch": ("torch", "encode"),
    "transformers": ("transformers", "encode"),
    "anndata": ("anndata", "cells"),
    "faiss": ("faiss-cpu", "cells"),
    "h5py": ("h5py", "cells"),
    "harmonypy": ("harmonypy", "cells"),
    "numcodecs": ("numcodecs", "cells"),
    "pandas": ("pandas", "cells"),
    "sknetwork": ("scikit-network", "cells"),
    "torch_geometric": ("torch-geometric", "cells"),
    "zarr": ("zarr", "cells"),
    "matplotlib": ("matplotlib", "plot"),
    "pydeseq2": ("pydeseq2", "de"),
    "minisign": ("py-minisign", "sign"),
    "mcp": ("mcp", "mcp"),
    "pydantic": ("pydantic", "mcp"),
    "model2vec": ("model2vec", "static"),
    "ray": ("ray", "ray"),
    "s3fs": ("s3fs", "s3"),
    "scanpy": ("scanpy", "scanpy"),
    "scib_metrics": ("scib-metrics", "scib"),
}


def find_plugins(group: str, *, is_taken: Callable[[str], bool]) -> dict[str, EntryPoint]:
    """Find the entry points of a group by name, without importing them; of names that are taken with a warning."""
    found: dict[str, EntryPoint] = {}
    for plugin in sorted(entry_points(group=group), key=lambda each: (origin(each), each.name)):
        if not _NAME.fullmatch(plugin.name):
            log.warning("%s: %r of %s is left out: a name is [a-z0-9._-]", group, plugin.name, origin(plugin))
        elif is_taken(plugin.name) or plugin.name in found:
            owner = origin(found[plugin.name]) if plugin.name in found else "a built-in"
            log.warning("%s: %r of %s is left out: %s has that name", group, plugin.name, origin(plugin), owner)
        else:
            found[plugin.name] = plugin
    return found


def origin(plugin: EntryPoint) -> str:
    """Name and version of the distribution that offers a plug-in."""
    return f"{plugin.dist.name} {plugin.dist.version}" if plugin.dist else plugin.module


def load_plugin(plugin: EntryPoint, use: Callable[[Any], Any] = lambda found: found) -> Any:
    """Import what an entry point names, and give it or what is made of it; ``NotAvailable`` if that fails."""
    try:
        return use(plugin.load())
    except Exception as error:
        raise unusable(plugin, f"{type(error).__name__}: {error}") from error


def unusable(plugin: EntryPoint, why: str) -> NotAvailable:
    """Give the error of a plug-in that does not keep its contract."""
    return NotAvailable(f"plug-in {plugin.name!r} of {origin(plugin)} cannot be used: {why}; mend or uninstall it")


def is_installed(module: str) -> bool:
    """Whether a module can be imported; it is not."""
    return find_spec(module) is not None


def require(
    module: str, *, needed_by: str, extra: str = "", instead: str = "", error: type[Exception] = NotAvailable
) -> None:
    """Raise ``error`` if a module is not installed, with the ``extra`` that has it; ``needed_by``: `x needs`."""
    if find_spec(module) is None:
        package, own = EXTRAS[module]
        hint = f", or {instead}" if instead else ""
        raise error(f"{needed_by} {package}; pip install 'genekb-cellmodel[{extra or own}]'{hint}")


def missing_extra(error: BaseException) -> NotAvailable | None:
    """Give the error of a package of an extra that was imported and is not installed; None for any other error."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if module not in EXTRAS:
        return None
    package, extra = EXTRAS[module]
    return NotAvailable(f"this needs {package}; pip install 'genekb-cellmodel[{extra}]'")


def installed_version(name: str = "genekb-cellmodel") -> str:
    """Version of a distribution, this one if none is named; ``source tree`` where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "source tree"
