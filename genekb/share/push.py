"""Push a store: every file first, the manifest after them, and the name last, so that none is ever seen in part."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from genekb.core.errors import SourceUnusable
from genekb.core.messages import Names, several
from genekb.core.python import for_python
from genekb.files.replace import Target, check_targets
from genekb.net.retry import RetryPolicy
from genekb.share.open import open
from genekb.share.pull import files_with, find_encoders
from genekb.share.remotes import Address, open_remote, parse_address, push_to_hub
from genekb.share.transfer import send_files, write_file
from genekb.store.files import absent_encoders, check_files
from genekb.store.home import CURRENT
from genekb.store.manifest import MANIFEST, SIGNATURE, Manifest, StoredFile
from genekb.store.reader import Store
from genekb.store.writer import describe_file

_NOT_FREE: Final = re.compile(r"no licence stated|\bBY-NC|non-?commercial|\b(?:kegg|corum)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """What a push ended with."""

    url: str  # where this very version lies: with its digest, or of the Hub with the commit
    digest: str  # of the store
    n_files: int  # n_files, n_bytes: of the pushed version
    n_bytes: int
    n_sent: int  # bytes that were sent now
    left: tuple[str, ...]  # encoders that were not pushed


@for_python
def push(
    store: str | Store,
    url: str,
    *,
    encoder: Names | None = None,
    allow_licence: Names = (),
    home: str | Path | None = None,
) -> Pushed:
    """Copy a store to where others can pull it, as `genekb push` does; ``encoder``: those to push, all if None.

    ``allow_licence``: sources that may be shared though their licence is not stated, or not free.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.push("demo", "shared/demo").n_sent > 0
    True
    """
    return push_store(
        open(store, home=home), parse_address(url), encoders=several(encoder), allow_licence=several(allow_licence)
    )


def push_store(
    store: Store,
    address: Address,
    *,
    encoders: Sequence[str] = (),
    allow_licence: Sequence[str] = (),
    retry: RetryPolicy | None = None,
) -> Pushed:
    """Copy a store to a location, or go on with a push that was interrupted.

    ``encoders``: ids or names of the encoders to push; all if empty. ``allow_licence``: sources that may be shared
    though their licence is not stated, or not free, such as a ``.gmt`` of KEGG. Raises ``SourceUnusable`` if the store
    has others of that kind; ``NotAvailable`` if access is refused, or an encoder is not here; ``StoreCorrupt`` if the
    store is damaged: damage is not shared.
    """
    check_licences(store.manifest, allow_licence)
    sent = _collect(store, address, encoders)
    url, n_sent = send(sent, address, retry=retry or RetryPolicy())
    return _pushed(sent, url, n_sent=n_sent)


def check_licences(manifest: Manifest, allowed: Sequence[str]) -> None:
    """Raise ``SourceUnusable`` if a source's licence is not stated or not free, and it is not one of the allowed."""
    for stated in (part.strip() for licence in manifest.licences for part in licence.split(";")):
        source = stated.partition(":")[0]
        if _NOT_FREE.search(stated) and source not in allowed:
            raise SourceUnusable(
                f"{manifest.full_name} is made of {stated!r}, which may not be free to share; leave it out, or "
                f"name it in `allow_licence`: {source}"
            )


def plan_push(store: Store, address: Address, *, encoders: Sequence[str] = ()) -> Pushed:
    """Say what a push would copy; see :func:`push_store`."""
    return _pushed(_collect(store, address, encoders), address.url)


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """Files of one version: first ``files``, then ``heads`` one after the other, then the name; ``left`` stay here."""

    folder: Path
    files: tuple[StoredFile, ...]
    heads: tuple[StoredFile, ...]
    digest: str
    left: tuple[str, ...] = ()

    @property
    def everything(self) -> list[StoredFile]:
        """All files, in the order in which they are sent."""
        return [*self.files, *self.heads]


def _collect(store: Store, address: Address, encoders: Sequence[str]) -> Upload:
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
    return Upload(
        folder=store.folder,
        files=files_with(manifest, chosen),
        heads=tuple(heads),
        digest=manifest.digest,
        left=tuple(key for key in manifest.encoders if key not in chosen),
    )


def _pushed(sent: Upload, url: str, *, n_sent: int = 0) -> Pushed:
    n_bytes = sum(file.n_bytes for file in sent.everything)
    n_files = len(sent.everything)
    return Pushed(url=url, digest=sent.digest, n_files=n_files, n_bytes=n_bytes, n_sent=n_sent, left=sent.left)


def send(sent: Upload, address: Address, *, retry: RetryPolicy) -> tuple[str, int]:
    """Send one version to a location; give its address there, and the bytes that were sent now."""
    if address.scheme == "file":
        target = Target(Path(address.url), kind="shared", makes_parents=True)
        check_targets([target], inputs=[sent.folder], overwrite=True)
    if address.scheme == "http":
        raise SourceUnusable(f"{address.url} is read only; push to a folder that it shows, s3:// or hf://")
    if address.scheme == "hf":
        names = [file.path for file in sent.everything]
        commit = push_to_hub(sent.folder, address, digest=sent.digest, patterns=names)
        return f"{address.url}@{commit}", sum(file.n_bytes for file in sent.everything)
    prefix = f"{sent.digest}/"
    with open_remote(address, timeout_s=retry.timeout_s) as remote, tempfile.TemporaryDirectory() as folder:
        n_sent = send_files(remote, sent.files, sent.folder, prefix=prefix, retry=retry)
        for head in sent.heads:
            write_file(remote, sent.folder / head.path, prefix + head.path, retry=retry)
            n_sent += head.n_bytes
        pointer = Path(folder) / CURRENT
        pointer.write_text(sent.digest + "\n", encoding="utf-8")
        write_file(remote, pointer, CURRENT, retry=retry)
        return f"{remote.name}@{sent.digest}", n_sent
