"""The artifact home, and stores by name, digest or path."""

import logging
import os
import re
from pathlib import Path
from typing import Final

from genekb.core.addresses import looks_like_address
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.core.messages import known_names
from genekb.core.python import for_python
from genekb.files.atomic import user_path
from genekb.store.lockfile import pinned_digest
from genekb.store.manifest import MANIFEST

UNTIL: Final = "@.."  # between a name and a date
CURRENT: Final = "current"  # file beside the digest folders: the current digest of the name
_NAME: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9][A-Za-z0-9._-]*)?\Z")
logger = logging.getLogger(__name__)
_POINTER_CHARS: Final = 80  # a digest and the end of its line
_DIGEST: Final = re.compile(r"^[0-9a-f]{8,64}\Z")


def find_home(home: Path | None = None) -> Path:
    """Find the artifact home: the argument, else ``GENEKB_HOME``, else the user's data folder."""
    if home is not None:
        return home.expanduser()
    if os.environ.get("GENEKB_HOME"):
        return Path(os.environ["GENEKB_HOME"]).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("genekb", appauthor=False))


def check_name(name: str) -> str:
    """Accept ``NAME`` or ``NAME@RELEASE`` of letters, digits, dot, dash and underscore; else ``SourceUnusable``."""
    if not _NAME.match(name):
        raise SourceUnusable(f"store name {name!r} is not NAME or NAME@RELEASE of letters, digits, '.', '-', '_'")
    return name


def list_store_folders(home: Path) -> list[Path]:
    """Folders of the current store of every name of a home, by name."""
    stores = home / "stores"
    if not stores.is_dir():
        return []
    found = (current_folder(folder) for folder in sorted(stores.iterdir()) if folder.is_dir())
    return [folder for folder in found if folder is not None]


def current_folder(name_folder: Path) -> Path | None:
    """Folder of the current digest of a name; None where nothing was committed."""
    pointer = name_folder / CURRENT
    if not pointer.is_file():
        return None
    with pointer.open(encoding="ascii", errors="replace") as stream:
        digest = stream.read(_POINTER_CHARS).strip()
    is_store = bool(_DIGEST.match(digest)) and (name_folder / digest / MANIFEST).is_file()
    return name_folder / digest if is_store else None


def find_store(reference: str | Path, home: Path | None = None) -> Path:
    """Find a store's folder by path, ``NAME@RELEASE``, ``NAME`` (the newest release) or digest (8 digits or more).

    ``NAME@..DATE`` is the newest release up to a date. A name that the project's ``genekb.lock`` pins means the pinned
    digest. Raises ``NotAvailable`` if no store, or several, match.
    """
    as_path = Path(reference).expanduser()
    if (as_path / MANIFEST).is_file():
        return as_path
    stores = find_home(home) / "stores"
    text = str(reference)
    if looks_like_address(text):
        raise NotAvailable(f"{text} is an address, a store of this machine is needed; `genekb pull {text}` brings it")
    pinned = pinned_digest(text) if _NAME.match(text) else None
    if pinned:
        return _by_pin(stores, text, *pinned)
    matches = _by_name(stores, text) or find_by_digest(stores, text)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise NotAvailable(f"digest {text} fits {len(matches)} stores of {stores}; give more of its digits")
    if as_path.is_dir():
        raise NotAvailable(
            f"{as_path} is a folder without {MANIFEST}, so no store; `genekb info` shows those there are"
        )
    name, is_until, until = text.partition(UNTIL)
    if is_until and _NAME.match(name):
        have = ", ".join(sorted(folder.name for folder in stores.glob(f"{name}@*"))) or "none"
        raise NotAvailable(f"no release of {name} up to {until} in {stores} (there: {have})")
    if not _NAME.match(text):
        raise NotAvailable(
            f"no store at {as_path}: there is no such folder, and a name is NAME[@RELEASE] without '/'; `genekb info` "
            "shows those there are"
        )
    known = known_names(text, dict.fromkeys(folder.parent.name for folder in list_store_folders(find_home(home))))
    raise NotAvailable(f"no store {text!r} in {stores} (there: {known}); make it with `genekb build`")


def _by_pin(stores: Path, text: str, digest: str, lock_file: Path) -> Path:
    found = find_by_digest(stores, digest)
    if not found:
        raise NotAvailable(
            f"{lock_file} pins {text} to {digest[:16]}, which is not in {stores}; `genekb pull` brings it, or give a "
            "path"
        )
    logger.info("%s: %s is pinned to %s", lock_file, text, digest[:16])
    return found[0]


def _by_name(stores: Path, text: str) -> list[Path]:
    name, is_until, until = text.partition(UNTIL)
    if not _NAME.match(name) or not stores.is_dir():
        return []
    releases = [stores / name] if "@" in name else sorted(stores.glob(f"{name}@*"), key=_release_order)
    if is_until:
        dated = ((_release_order(each), each) for each in releases)
        releases = [each for (is_dated, date), each in dated if is_dated and date[: len(until)] <= until]
    found = [folder for folder in map(current_folder, releases) if folder is not None]
    return found[-1:]


def _release_order(folder: Path) -> tuple[bool, str]:
    """Order releases: those that start with a year last, by date."""
    release = folder.name.partition("@")[2]
    return bool(re.match(r"\d{4}", release)), release


def find_by_digest(stores: Path, text: str) -> list[Path]:
    """Folders of the stores whose digest starts with eight digits or more."""
    if not _DIGEST.match(text) or not stores.is_dir():
        return []
    return sorted(folder for folder in stores.glob(f"*/{text}*") if (folder / MANIFEST).is_file())


def list_stores(*, home: str | Path | None = None) -> list[str]:
    """List the stores of the home by name, as `genekb info` does.

    Parameters
    ----------
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Examples
    --------
    >>> import genekb as gk
    >>> "demo@1" in gk.list_stores()
    True
    """
    return [folder.parent.name for folder in list_store_folders(find_home(user_path(home)))]


@for_python
def path(store: str, *, home: str | Path | None = None) -> Path:
    """Find the folder of a store, as `genekb info --path` does; ``NotAvailable`` if there is none.

    Parameters
    ----------
    store
        ``human@2022-11``, or ``human`` for the newest release; a digest; a folder.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Examples
    --------
    >>> import genekb as gk
    >>> (gk.path("demo") / "manifest.json").is_file()
    True
    """
    return find_store(store, user_path(home)).absolute()
