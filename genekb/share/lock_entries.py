"""Entries of a lock file, whatever they pin: written kind by kind, with addresses that others may read."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from genekb.addresses import is_web_address, without_login
from genekb.errors import NotAvailable, SourceUnusable
from genekb.files import write_text
from genekb.replacing import Target, check_targets
from genekb.share.addresses import Address, is_address, parse_address
from genekb.store.pins import LOCK_VERSION, read_lock

_HEADER: Final = (
    "# What this project uses, by digest. The `lock` commands write it; the `sync` commands bring it here.\n"
)


def check_url(url: str) -> None:
    """Check that an address may stand in a lock file, which others read.

    Raises
    ------
    SourceUnusable
        If it is none, or holds user and password.
    """
    if is_web_address(url) and without_login(url)[1]:
        raise SourceUnusable(
            f"{url} was given with user and password, which a lock file that others read must not hold; "
            "give --url without them"
        )
    parse_address(url)


def url_for_lock(url: str, lock_file: Path) -> str:
    """Write an address as a lock file holds it: a relative path is one from the file's folder on, not from here."""
    if not url or is_address(url) or Path(url).expanduser().is_absolute():
        return url
    return Path(os.path.relpath(url, lock_file.parent)).as_posix()


def address_in_lock(
    url: str, lock_file: Path, *, digest: str, hub_kind: Literal["datasets", "models"] = "datasets"
) -> Address:
    """Read an address of a lock file; a relative path is one from the file's folder on.

    Parameters
    ----------
    digest
        What is pinned: the version that is asked for, but of the Hub, whose versions are commits and tags.

    Raises
    ------
    SourceUnusable
        If it is no address.
    """
    is_whole = is_address(url) or Path(url).expanduser().is_absolute()
    address = parse_address(url if is_whole else str(lock_file.parent / url), hub_kind=hub_kind)
    return address if address.scheme == "hf" else replace(address, revision=digest)


def write_entries(kind: str, entries: Sequence[Mapping[str, object]], lock_file: Path) -> None:
    """Write one kind of entries of a lock file; those of other kinds stay as they are.

    Raises
    ------
    SourceUnusable
        If the file is there and is no lock file.
    OutputUnusable
        If it is a folder, a pipe or a device.
    NotAvailable
        If it cannot be written.
    """
    import tomli_w

    check_targets([Target(lock_file, makes_parents=True)], overwrite=True)
    before = read_lock(lock_file) if lock_file.is_file() else {"version": LOCK_VERSION}
    try:
        write_text(_HEADER + tomli_w.dumps(before | {kind: list(entries)}), lock_file)
    except OSError as error:
        raise NotAvailable(f"{lock_file} cannot be written: {error.strerror}; give another --file") from error
