"""Entries of a lock file, whatever they pin: written kind by kind, with addresses that others may read."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shutil import rmtree
from typing import Final, Literal

from genekb.core.addresses import is_web_address, without_login
from genekb.core.errors import NotAvailable, SourceUnusable, StoreCorrupt
from genekb.files.atomic import write_text
from genekb.files.replace import Target, check_targets
from genekb.net.download import Progress
from genekb.net.retry import RetryPolicy
from genekb.share.addresses import Address, is_address, parse_address
from genekb.share.pull import PullConfig, Pulled, find_encoders, pull_store
from genekb.store.home import find_home
from genekb.store.lockfile import LOCK_VERSION, Pin, note_lock_file, read_lock, read_pins
from genekb.store.manifest import MANIFEST, is_of
from genekb.store.notes import read_origin
from genekb.store.reader import Store
from genekb.store.vectors import CACHE
from genekb.store.verify import Verification, verify_store

_HEADER: Final = (
    "# What this project uses, by digest. The `lock` commands write it; the `sync` commands bring it here.\n"
)


def check_url(url: str) -> None:
    """Check that an address may stand in a lock file, which others read.

    Raises ``SourceUnusable`` if it is none, or holds user and password.
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

    ``digest``: what is pinned: the version that is asked for, but of the Hub, whose versions are commits and tags.
    Raises ``SourceUnusable`` if it is no address.
    """
    is_whole = is_address(url) or Path(url).expanduser().is_absolute()
    address = parse_address(url if is_whole else str(lock_file.parent / url), hub_kind=hub_kind)
    return address if address.scheme == "hf" else replace(address, revision=digest)


def write_entries(kind: str, entries: Sequence[Mapping[str, object]], lock_file: Path) -> None:
    """Write one kind of entries of a lock file; those of other kinds stay as they are.

    Raises ``SourceUnusable`` if the file is there and is no lock file; ``OutputUnusable`` if it is a folder, a pipe or
    a device; ``NotAvailable`` if it cannot be written.
    """
    import tomli_w

    check_targets([Target(lock_file, makes_parents=True)], overwrite=True)
    before = read_lock(lock_file) if lock_file.is_file() else {"version": LOCK_VERSION}
    try:
        write_text(_HEADER + tomli_w.dumps(before | {kind: list(entries)}), lock_file)
    except OSError as error:
        raise NotAvailable(f"{lock_file} cannot be written: {error.strerror}; give another --file") from error


def pin_store(store: Store, *, encoders: Sequence[str] = (), url: str = "") -> Pin:
    """Describe a store as a lock file does.

    ``encoders``: ids or names of the encoders that the project needs; those that are here if empty. ``url``: where it
    can be pulled from, a relative path from the folder of the lock file on; where it was pulled from if empty. Raises
    ``NotAvailable`` if the store has no such encoder; ``SourceUnusable`` if the address is none, or holds user and
    password.
    """
    manifest = store.manifest
    chosen = find_encoders(manifest, encoders, where=store.store_id) if encoders else store.encoder_ids
    origin = read_origin(store.folder)
    if url:
        check_url(url)
    left = [key for key in manifest.encoders if key not in chosen]
    files = [file for file in manifest.files if not any(is_of(file, key) for key in left)]
    return Pin(
        store=manifest.full_name,
        digest=manifest.digest,
        url=url or (origin.url if origin else ""),
        encoders=tuple(chosen),
        n_bytes=sum(file.n_bytes for file in files),
    )


def write_pins(pins: Sequence[Pin], path: Path) -> None:
    """Write the stores of a lock file, by name; of two pins of one name the later counts.

    Raises ``SourceUnusable``, ``NotAvailable``: see :func:`genekb.share.lock.write_entries`.
    """
    by_name = {pin.store: pin for pin in pins}
    write_entries("store", [_entry(by_name[name]) for name in sorted(by_name)], path)


def _entry(pin: Pin) -> dict[str, object]:
    content = asdict(pin)
    return {"name": content.pop("store"), **content, "encoders": list(pin.encoders)}


def check_pin(pin: Pin, home: Path | None) -> list[str]:
    """Compare a pin with what is on this machine, every byte of it; give what is wrong, nothing if all is well."""
    result = _verify(pin, home)
    return (
        [f"{pin.store} {pin.digest[:16]} is not here"] if result is None else [*result.faults, *_lacking(pin, result)]
    )


def _verify(pin: Pin, home: Path | None) -> Verification | None:
    folder = find_home(home) / "stores" / pin.store / pin.digest
    return verify_store(folder) if (folder / MANIFEST).is_file() else None


def _lacking(pin: Pin, result: Verification) -> list[str]:
    return [f"{key} was not pulled" for key in pin.encoders if key in result.not_pulled]


def sync(
    path: Path, *, home: Path | None = None, retry: RetryPolicy | None = None, progress: Progress | None = None
) -> list[tuple[Pin, Pulled | None]]:
    """Bring every store of a lock file to a home; what is here, whole, is not asked for again.

    Returns each pin, with what was pulled for it. Raises ``NotAvailable`` if a store is neither here nor anywhere to
    pull it from; ``StoreCorrupt`` if what is here, or what an address gives, is not what was pinned.
    """
    retry = retry or RetryPolicy()
    note_lock_file(path, find_home(home))
    return [(pin, _sync(pin, path, home=home, retry=retry, progress=progress)) for pin in read_pins(path)]


def _sync(pin: Pin, path: Path, *, home: Path | None, retry: RetryPolicy, progress: Progress | None) -> Pulled | None:
    """Bring one store. A pull hashes all that it brings, so only what was here, and damaged, is verified once more."""
    before = _verify(pin, home)
    is_sound = before is not None and not before.faults
    if before is not None and is_sound and not _lacking(pin, before):
        return None
    if not pin.url:
        raise NotAvailable(
            f"{pin.store} with digest {pin.digest} is not here, and {path} has no address of it; build or copy it, "
            f"or pin it with `genekb lock {pin.store} --url ADDRESS` where it is"
        )
    address = address_in_lock(pin.url, path, digest=pin.digest)
    if not is_sound:  # a cache of what was damaged, or is gone, is made anew when the vectors are first used
        rmtree(find_home(home) / "stores" / pin.store / CACHE / pin.digest[:16], ignore_errors=True)
    config = PullConfig(encoders=pin.encoders, digest=pin.digest, retry=retry)
    pulled = pull_store(address, config, home=home, progress=progress)
    if pulled.manifest.full_name != pin.store:
        raise StoreCorrupt(f"{pin.url} gives {pulled.manifest.full_name} where {path} pins {pin.store}; pin it again")
    faults = [] if before is None or is_sound else check_pin(pin, home)
    if faults:
        raise StoreCorrupt(f"{pulled.folder}: {faults[0]}; remove this folder and run `genekb sync` again")
    return pulled
