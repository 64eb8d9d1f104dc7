"""Push a store: every file first, the manifest after them, and the name last, so that none is ever seen in part."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from genekb.core.errors import SourceUnusable
from genekb.core.messages import Names, several
from genekb.core.python import for_python
from genekb.files.atomic import user_path
from genekb.net.retry import RetryPolicy
from genekb.share.catalog import add_to_catalog, check_catalog, list_manifest
from genekb.share.open import open
from genekb.share.pull import files_with, find_encoders
from genekb.share.remotes import Address, parse_address
from genekb.share.transfer import Artifact, Transfer
from genekb.store.files import absent_encoders, check_files
from genekb.store.manifest import MANIFEST, SIGNATURE
from genekb.store.reader import Store
from genekb.store.writer import describe_file

_NOT_FREE: Final = re.compile(r"no licence stated|\bBY-NC|non-?commercial|\b(?:kegg|corum)", re.IGNORECASE)


@for_python
def push(
    store: str | Store,
    url: str,
    *,
    encoder: Names | None = None,
    catalog: str | Path | None = None,
    allow_licence: Names = (),
    dry_run: bool = False,
    jobs: int = 4,
    timeout_s: float = 60.0,
    home: str | Path | None = None,
) -> Transfer:
    """Copy a store to where others can pull it, as `genekb push` does; an interrupted push goes on where it was.

    Parameters
    ----------
    store
        Name, digest, path, or opened.
    url
        Folder, file://, s3://bucket/path or hf://datasets/owner/name.
    encoder
        This encoder alone; all if None; one or several.
    catalog
        Also list the store in this catalog.toml.
    allow_licence
        Share this source though its licence is not stated or not free; one or several.
    dry_run
        Report what would be copied; write nothing.
    jobs
        Parallel transfers.
    timeout_s
        Longest silence of the server, in seconds.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.push("demo", "shared/demo").n_bytes_now > 0
    True
    """
    kb, address, listed = open(store, home=home), parse_address(url), user_path(catalog)
    if listed:
        check_catalog(listed)
    if dry_run:
        return _collect(kb, address, several(encoder)).transfer(address.url)
    retry = RetryPolicy(n_jobs=jobs, timeout_s=timeout_s)
    allowed = several(allow_licence)
    pushed = push_store(kb, address, encoders=several(encoder), allow_licence=allowed, retry=retry)
    if listed:
        add_to_catalog(list_manifest(kb.manifest, pushed.url, catalog=listed), listed)
    return pushed


def push_store(
    store: Store,
    address: Address,
    *,
    encoders: Sequence[str] = (),
    allow_licence: Sequence[str] = (),
    retry: RetryPolicy | None = None,
) -> Transfer:
    """Copy a store to a location; ``SourceUnusable`` for a licence that is not free nor in ``allow_licence``."""
    for stated in (part.strip() for licence in store.manifest.licences for part in licence.split(";")):
        source = stated.partition(":")[0]
        if _NOT_FREE.search(stated) and source not in allow_licence:
            raise SourceUnusable(
                f"{store.manifest.full_name} is made of {stated!r}, which may not be free to share; leave it out, or "
                f"name it in `allow_licence`: {source}"
            )
    return _collect(store, address, encoders).send(address, retry=retry or RetryPolicy())


def _collect(store: Store, address: Address, encoders: Sequence[str]) -> Artifact:
    manifest = store.manifest
    if address.revision and address.scheme != "hf":
        raise SourceUnusable(f"a push makes a version of its own; leave @{address.revision} out of the address")
    chosen = find_encoders(manifest, encoders, where=store.store_id)
    absent = absent_encoders(store.folder, manifest)
    for key in chosen:
        if key in absent:
            store.encoder_id(key) if encoders else store.check_whole()
    check_files(store.folder, manifest)
    heads = [
        describe_file(store.folder / name, folder=store.folder)
        for name in (SIGNATURE, MANIFEST)
        if (store.folder / name).is_file()
    ]
    return Artifact(
        name=manifest.full_name,
        folder=store.folder,
        files=files_with(manifest, chosen),
        heads=tuple(heads),
        digest=manifest.digest,
        left=tuple(key for key in manifest.encoders if key not in chosen),
    )
