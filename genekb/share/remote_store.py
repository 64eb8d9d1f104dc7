"""Open a store where it lies: its manifest at once, each of its files when it is first used, whole and verified."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from genekb.core.errors import StoreCorrupt
from genekb.files.atomic import write_text
from genekb.net.client import Absent
from genekb.net.retry import RetryPolicy
from genekb.share.addresses import Address, is_address, parse_address
from genekb.share.pull import parse_head
from genekb.share.remotes import open_remote
from genekb.share.transfer import Version, open_version
from genekb.store.home import check_name, find_home
from genekb.store.manifest import MANIFEST, Manifest
from genekb.store.reader import Store
from genekb.store.reader import open_store as open_local_store
from genekb.store.writer import locked, writing_to

_WAIT_S: Final = 600.0  # for another process that brings files of the same store
REMOTE: Final = "remote"  # beside `stores`: files of stores that were opened by address


def open_store(reference: str | Path, *, home: Path | None = None, trust_remote_code: bool = False) -> Store:
    """Open a store by name (``human@2022-11``, or ``human`` for the newest release), digest, path or address.

    A name that the ``genekb.lock`` of the working directory's project pins maps to the pinned digest. Of a store
    opened by address (``hf://...``, ``https://...``, ``s3://...``) only the manifest is read now, and each file when it
    is first used. Files are kept in the home, and each is compared with its digest before it is used: a range of a file
    could not be, so a file is always read whole.

    Parameters
    ----------
    reference
        Name, digest, path or address.
    home
        Artifact home, see :func:`genekb.store.home.find_home`.
    trust_remote_code
        Whether the store's encoders may run Python code that their models bring; without it they are refused when they
        are first used. Nothing else of a store ever runs code.

    Raises
    ------
    NotAvailable
        If there is no such store.
    StoreCorrupt, SchemaMismatch
        If it is damaged or of another schema version.
    """
    if isinstance(reference, str) and is_address(reference):
        return _open_remote_store(parse_address(reference), home, trust_remote_code=trust_remote_code)
    return open_local_store(reference, home=home, trust_remote_code=trust_remote_code)


def _open_remote_store(address: Address, home: Path | None, *, trust_remote_code: bool) -> Store:
    with open_version(address, head=MANIFEST, retry=RetryPolicy()) as version:
        manifest = parse_head(version)
        if address.scheme == "hf":
            address = parse_address(version.remote.name)  # the commit, wherever its branch points later
    name_folder = find_home(home) / REMOTE / check_name(manifest.full_name)
    folder = name_folder / manifest.digest
    if not (folder / MANIFEST).is_file():
        with writing_to(folder), locked(name_folder, wait_s=_WAIT_S):
            write_text(version.head.decode("utf-8"), folder / MANIFEST)
    fetch = partial(_fetch, address=address, folder=folder, manifest=manifest, version=version)
    return Store(folder, fetch=fetch, trust_remote_code=trust_remote_code)


def _fetch(prefix: str, *, address: Address, folder: Path, manifest: Manifest, version: Version) -> None:
    """Bring the files whose path starts with ``prefix``, those that are not here yet."""
    files = [
        file
        for file in manifest.files
        if file.path.startswith(prefix)
        and not ((folder / file.path).is_file() and (folder / file.path).stat().st_size == file.n_bytes)
    ]
    if not files:
        return
    with (
        writing_to(folder),
        locked(folder.parent, wait_s=_WAIT_S),
        open_remote(address, timeout_s=version.retry.timeout_s) as remote,
    ):
        try:
            replace(version, remote=remote).fetch(files, folder)
        except Absent as error:
            raise StoreCorrupt(f"{remote.name} lacks files of {prefix or 'its manifest'}; ask its owner") from error
