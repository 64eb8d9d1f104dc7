"""Stores, found and opened, and the encoders that there are."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genekb.core.python import for_python
from genekb.store.reader import Store

if TYPE_CHECKING:
    from genekb.encoders.kinds import ModelEntry

Names = str | Sequence[str]  # one, or several


def several(names: Names | None) -> list[str]:
    """List names that may be one."""
    return [names] if isinstance(names, str) else list(names or ())


def user_path(path: str | Path | None) -> Path | None:
    """Take a path as a person writes it."""
    return None if path is None else Path(path).expanduser()


@for_python
def open(reference: str | Path | Store, *, home: str | Path | None = None, trust_remote_code: bool = False) -> Store:
    """Open a store by name, digest, path or address; see :func:`genekb.share.pull.open_store`. An open one is itself.

    Parameters
    ----------
    reference
        ``human@2022-11``, or ``human`` for the newest release; a digest; a folder; ``hf://...``, ``https://...``.
    home
        Artifact home; else ``GENEKB_HOME``, else the user's data folder.
    trust_remote_code
        Whether encoders may run Python code that their models bring.

    Raises
    ------
    NotAvailable
        If there is no such store.
    StoreCorrupt, SchemaMismatch
        If it is damaged or of another schema version.

    Examples
    --------
    >>> import genekb as gk
    >>> kb = gk.open("demo")
    >>> len(kb) > 700, "CD3D" in kb, "T3D" in kb
    (True, True, True)
    """
    from genekb.share.pull import open_store

    if isinstance(reference, Store):
        return reference
    return open_store(reference, home=user_path(home), trust_remote_code=trust_remote_code)


def list_stores(*, home: str | Path | None = None) -> list[str]:
    """List the stores of the home by name, as `genekb list` does.

    Examples
    --------
    >>> import genekb as gk
    >>> "demo@1" in gk.list_stores()
    True
    """
    from genekb.store.home import find_home, list_store_folders

    return [folder.parent.name for folder in list_store_folders(find_home(user_path(home)))]


@for_python
def path(store: str, *, home: str | Path | None = None) -> Path:
    """Find the folder of a store, as `genekb info --path` does; ``NotAvailable`` if there is none.

    Examples
    --------
    >>> import genekb as gk
    >>> (gk.path("demo") / "manifest.json").is_file()
    True
    """
    from genekb.store.home import find_store

    return find_store(store, user_path(home)).absolute()


def models() -> "list[ModelEntry]":
    """List the encoders that ``model`` takes, as `genekb models` does.

    Examples
    --------
    >>> import genekb as gk
    >>> {"wcp", "minilm"} <= {model.name for model in gk.models()}
    True
    """
    from genekb.encoders import list_models

    return list_models()
