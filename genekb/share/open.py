"""Open a store by name, digest, path or address; of a remote one each file is read when it is first used."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from genekb.core.errors import StoreCorrupt
from genekb.core.python import for_python
from genekb.files.atomic import user_path, write_text
from genekb.net.client import Absent
from genekb.net.retry import RetryPolicy
from genekb.share.pull import parse_head
from genekb.share.remotes import Address, is_address, open_remote, parse_address
from genekb.share.transfer import RemoteVersion, open_version
from genekb.store.files import file_fault
from genekb.store.home import check_name, find_home, find_store
from genekb.store.manifest import MANIFEST, Manifest
from genekb.store.reader import Store
from genekb.store.writer import locked, writing_to

_WAIT_S: Final = 600.0  # for another process that brings files of the same store
REMOTE: Final = "remote"  # beside `stores`: files of stores that were opened by address


@for_python
def open(reference: str | Path | Store, *, home: str | Path | None = None, trust_remote_code: bool = False) -> Store:
    """Open a store by name, digest, path or address. One that is open is itself.

    A name that the ``genekb.lock`` of the working directory's project pins maps to the pinned digest. Of a store
    opened by address (``hf://...``, ``https://...``, ``s3://...``) only the manifest is read now, and each file when it
    is first used. Files are kept in the home, and each is compared with its digest before it is used: a range of a file
    could not be, so a file is always read whole. Code of a model that may not be run is refused when its encoder is
    first used; nothing else of a store ever runs code.

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
    if isinstance(reference, Store):
        return reference
    where = user_path(home)
    if isinstance(reference, str) and is_address(reference):
        return _open_remote_store(parse_address(reference), where, trust_remote_code=trust_remote_code)
    folder = find_store(reference, where)
    in_home = folder.parent.resolve().is_relative_to(find_home(where).resolve())
    return Store(folder, trust_remote_code=trust_remote_code, in_home=in_home)


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


def _fetch(prefix: str, *, address: Address, folder: Path, manifest: Manifest, version: RemoteVersion) -> None:
    """Bring the files whose path starts with ``prefix``, those that are not here yet."""
    files = [
        file
        for file in manifest.files
        if file.path.startswith(prefix) and file_fault(folder / file.path, file, only_size=True)
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
