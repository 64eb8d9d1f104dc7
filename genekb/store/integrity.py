"""Bytes of a store, compared with its manifest before they are used: a damaged file never gives a wrong vector."""

from pathlib import Path

from genekb.errors import StoreCorrupt
from genekb.files import sha256_file
from genekb.store.manifest import Manifest


def check_files(folder: Path, manifest: Manifest, *, prefix: str = "") -> None:
    """Compare size and SHA-256 of the files whose path starts with ``prefix`` with the manifest.

    Raises
    ------
    StoreCorrupt
        At the first file that is missing or differs.
    """
    for file in manifest.files:
        if not file.path.startswith(prefix):
            continue
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.n_bytes:
            raise StoreCorrupt(f"{path} is missing or not {file.n_bytes} bytes long; build or pull the store again")
        if sha256_file(path) != file.sha256:
            raise StoreCorrupt(f"{path} has other bytes than its manifest says; build or pull the store again")
