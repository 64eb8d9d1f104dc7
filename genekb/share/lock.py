"""Lock of artifacts: pin the stores and models that a project uses, and bring the pinned ones to another machine."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any, Final, TypeVar

import pyarrow.compute as pc

from genekb.core.addresses import is_web_address, without_login
from genekb.core.errors import NotAvailable, SourceUnusable, StoreCorrupt
from genekb.core.messages import Names, several
from genekb.core.python import for_python
from genekb.encoders.kinds import asked_names
from genekb.files.atomic import user_path, write_toml
from genekb.files.replace import Target, check_targets
from genekb.net.retry import RetryPolicy
from genekb.share.open import open
from genekb.share.pull import PullConfig, files_with, find_encoders, pull_store
from genekb.share.remotes import Address, at_digest, is_relative, parse_address
from genekb.share.transfer import Transfer
from genekb.sources.ncbi_download import RECORD
from genekb.store.files import ONLY_NAMES, read_notes, read_origin
from genekb.store.home import find_home
from genekb.store.lockfile import (
    LOCK_VERSION,
    Kind,
    Pin,
    existing_lock,
    new_lock_file,
    note_lock_file,
    read_lock,
    read_pins,
)
from genekb.store.manifest import MANIFEST
from genekb.store.reader import Store
from genekb.store.vectors import CACHE
from genekb.store.verify import Verification, verify_store

Given = TypeVar("Given")
log = logging.getLogger(__name__)
PIN: Final = "pin a store with `genekb lock NAME`"
_HEADER: Final = "# What this project uses, by digest. `genekb lock` writes it; the `pull` commands bring it here.\n"


def url_for_lock(url: str, lock_file: Path) -> str:
    """Write an address as a lock file holds it: a relative path is one from its folder on."""
    return Path(os.path.relpath(url, lock_file.parent)).as_posix() if url and is_relative(url) else url


def address_of(pin: Pin, lock_file: Path, *, folder: Path | None = None) -> Address:
    """Address that a pin can be pulled from; errors name ``folder``, in which the artifact lies, if it is given."""
    name = folder or pin.name
    if not pin.url:
        by_hand = "build or copy it" if pin.kind == "store" else "copy it"
        raise NotAvailable(
            f"{name} with digest {pin.digest} is not here, and {lock_file} has no address of it; {by_hand}, or pin it "
            f"with `genekb lock {name}` and `url` where it is"
        )
    url = str(lock_file.parent / pin.url) if is_relative(pin.url) else pin.url
    return at_digest(parse_address(url, hub_kind="datasets" if pin.kind == "store" else "models"), pin.digest)


def write_pins(pins: Sequence[Pin], path: Path) -> None:
    """Write pins into a lock file, by name; its pins of other names and kinds stay as they are."""
    for pin in pins:
        _check_url(pin.url)
    check_targets([Target(path, makes_parents=True)], overwrite=True)
    content: dict[str, Any] = read_lock(path) if path.is_file() else {"version": LOCK_VERSION}
    for kind in {pin.kind for pin in pins}:
        known = read_pins(path, kind) if kind in content else ()
        by_name = {pin.name: pin.entry() for pin in (*known, *pins) if pin.kind == kind}
        content[kind] = [by_name[name] for name in sorted(by_name)]
    write_toml(content, path, header=_HEADER, argument="file")


def _check_url(url: str) -> None:
    if is_web_address(url) and without_login(url)[1]:
        raise SourceUnusable(
            f"{url} was given with user and password, which a lock file that others read must not hold; "
            "give `url` without them"
        )
    if url:
        parse_address(url)


def pin_store(store: Store, *, encoders: Sequence[str] = (), url: str = "", source: Path | None = None) -> Pin:
    """Describe a store as a lock file does.

    ``encoders``: ids or names of the encoders that the project needs; those that are here if empty. ``url``: as
    :func:`url_for_lock` gives it; where it was pulled from if empty. ``source``: see :func:`lock`.
    """
    manifest = store.manifest
    chosen = find_encoders(manifest, encoders, where=store.store_id) if encoders else store.encoder_ids
    origin = read_origin(store.folder)
    return Pin(
        kind="store",
        name=manifest.full_name,
        digest=manifest.digest,
        url=url or (origin.url if origin else ""),
        encoders=tuple(chosen),
        n_bytes=sum(file.n_bytes for file in files_with(manifest, chosen)),
        build=_build_of(store, source),
    )


def _build_of(store: Store, source: Path | None) -> dict[str, Any]:
    """Record what makes a store again; nothing of one that an update, or an encoder added later, made."""
    manifest = store.manifest
    try:
        models = asked_names({key: entry["recipe"] for key, entry in manifest.encoders.items()})
    except ValueError as error:
        log.info("%s cannot be built from the lock file: %s", manifest.full_name, error)
        return {}
    if manifest.parent:
        log.info("%s cannot be built from the lock file: it was made from another store", manifest.full_name)
        return {}
    downloads = read_notes(source / RECORD) if source else {}
    places = {name: entry for name, entry in downloads.items() if isinstance(entry, dict)}
    has_go = pc.any(pc.starts_with(store.table("annotations")["vocabulary"], "go_")).as_py()
    sources: list[dict[str, Any]] = []
    for file in manifest.sources:
        place = places.get(file["name"], {})
        is_same = place.get("sha256") == file["sha256"]
        known = {key: str(place.get(key, "")) for key in ("url", "last_modified")} if is_same else {}
        # GO terms lay in another folder than gene_info where they served encoders alone
        apart = {"is_apart": True} if file["name"].startswith("gene2go") and not has_go else {}
        sources.append({"name": file["name"], "sha256": file["sha256"], **known, **apart})
    names = store.folder / ONLY_NAMES
    only = {"only_genes": names.read_text(encoding="utf-8").splitlines()} if names.is_file() else {}
    return {
        "made_by": manifest.created_by,
        "taxa": list(manifest.taxa),
        "template": manifest.template["number"],
        "models": models,
        **{key: str(manifest.options[key]) for key in ("genes", "vector_dtype")},
        "sources": sources,
        **only,
    }


def check_pin(pin: Pin, home: Path | None) -> list[str]:
    """Compare a store's pin with every byte of what is on this machine; give what is wrong."""
    result = _verify(pin, home)
    if result is None:
        return [f"{pin.name} {pin.digest[:16]} is not here"]
    return [*result.faults, *(f"{key} was not pulled" for key in pin.encoders if key in result.not_pulled)]


def _verify(pin: Pin, home: Path | None) -> Verification | None:
    folder = find_home(home) / "stores" / pin.name / pin.digest
    return verify_store(folder) if (folder / MANIFEST).is_file() else None


@for_python
def lock(
    store: str | Path | Sequence[str | Path] = (),
    *,
    encoder: Names = (),
    url: str | None = None,
    source: str | Path | None = None,
    file: str | Path | None = None,
    home: str | Path | None = None,
) -> tuple[Pin, ...]:
    """Pin the stores that a project uses, by digest, as `genekb lock` does; give all that are pinned.

    Parameters
    ----------
    store
        Stores to pin, one or several; none gives what is pinned.
    encoder
        This encoder alone; those that are here if empty; one or several.
    url
        Where the store can be pulled from, if it was made here.
    source
        Folder of `genekb download` that it was made from: addresses and dates of its files are recorded, so that
        `genekb build --lock` makes it again anywhere.
    file
        Lock file; else the project's genekb.lock.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Raises
    ------
    SourceUnusable
        If nothing is pinned, and no store given.

    Examples
    --------
    >>> import genekb as gk
    >>> [pin.name for pin in gk.lock("demo")]
    ['demo@1']
    """
    path, names = new_lock_file(file), several(store)

    def pin(name: str | Path, place: str) -> Pin:
        return pin_store(open(str(name), home=home), encoders=several(encoder), url=place, source=user_path(source))

    pins = lock_artifacts("store", names, pin, path, url=url, hint=PIN)
    if names:
        note_lock_file(path, find_home(user_path(home)))
    return pins


def lock_artifacts(
    kind: Kind, given: Sequence[Given], pin: Callable[[Given, str], Pin], path: Path, *, url: str | None, hint: str
) -> tuple[Pin, ...]:
    """Pin artifacts of a kind in a lock file, and give all of that kind; see :func:`lock`.

    ``pin``: describes one of those ``given``, and where it can be pulled from. ``hint``: how to pin the first one.
    """
    if not given:
        return read_pins(existing_lock(path, hint=hint), kind)
    if url and len(given) > 1:
        raise ValueError(f"url goes with one {kind}, not {len(given)}")
    place = url_for_lock(url or "", path)
    new = [pin(each, place) for each in given]
    write_pins(new, path)
    push = {"store": "genekb push", "model": "cellmodel model push"}[kind]
    for one in new:
        if not one.url:
            log.info("%s has no address: others need a copy of it; `%s` it and give `url`", one.name, push)
    return read_pins(path, kind)


@for_python
def sync(
    file: str | Path | None = None,
    *,
    check: bool = False,
    home: str | Path | None = None,
    retry: RetryPolicy | None = None,
) -> list[tuple[Pin, Transfer | None]]:
    """Bring every store of a lock file to a home, as `genekb pull` does; give each pin, and what was pulled for it.

    What is whole stays.

    Parameters
    ----------
    file
        Lock file; else the project's genekb.lock.
    check
        Only compare.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.
    retry
        How servers are asked.

    Raises
    ------
    StoreCorrupt
        If a store is not as it is pinned and is only compared, or an address gives another one.

    Examples
    --------
    >>> import genekb as gk
    >>> _ = gk.push("demo", "shared/demo")
    >>> _ = gk.lock("demo", url="shared/demo")
    >>> [pin.name for pin, pulled in gk.sync(home="home-of-a-colleague")]
    ['demo@1']
    """
    path, place = existing_lock(file, hint=PIN), None if home is None else Path(home)
    if check:
        faults = [fault for pin in read_pins(path) for fault in check_pin(pin, place)]
        if faults:
            raise StoreCorrupt(f"{faults[0]}, as {path} pins it; `genekb pull` brings what is missing")
        return [(pin, None) for pin in read_pins(path)]
    retry = retry or RetryPolicy()
    note_lock_file(path, find_home(place))
    return [(pin, _sync(pin, path, home=place, retry=retry)) for pin in read_pins(path)]


def _sync(pin: Pin, path: Path, *, home: Path | None, retry: RetryPolicy) -> Transfer | None:
    """Bring one store. A pull hashes all that it brings, so only what was here, and damaged, is verified once more."""
    before = _verify(pin, home)
    is_sound = before is not None and not before.faults
    if before is not None and is_sound and not set(pin.encoders) & set(before.not_pulled):
        return None
    address = address_of(pin, path)
    if not is_sound:  # a cache of what was damaged, or is gone, is made again when the vectors are first used
        rmtree(find_home(home) / "stores" / pin.name / CACHE / pin.digest[:16], ignore_errors=True)
    config = PullConfig(encoders=pin.encoders, digest=pin.digest, retry=retry)
    pulled = pull_store(address, config, home=home)
    if pulled.name != pin.name:
        raise StoreCorrupt(f"{pin.url} gives {pulled.name} where {path} pins {pin.name}; pin it again")
    faults = [] if before is None or is_sound else check_pin(pin, home)
    if faults:
        raise StoreCorrupt(f"{pulled.path}: {faults[0]}; remove this folder and run `genekb pull` again")
    return pulled
