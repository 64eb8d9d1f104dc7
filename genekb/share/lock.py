"""Pin the stores that a project uses, and bring them to another machine: the same digests, hence the same bytes."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from genekb.errors import NotAvailable, SourceUnusable, StoreCorrupt
from genekb.files import write_text
from genekb.share.addresses import parse_address
from genekb.share.pull import PullConfig, Pulled, find_encoders, is_of, pull_store
from genekb.share.transfer import Patience, Progress
from genekb.sources.addresses import is_web_address, public_url, without_login
from genekb.store.home import find_home
from genekb.store.manifest import MANIFEST
from genekb.store.origins import absent_encoders, read_origin
from genekb.store.pins import LOCK_VERSION, Pin, read_pins
from genekb.store.reader import Store
from genekb.store.verify import verify_store

_HEADER = "# Stores that this project uses. Written by `genekb lock`; `genekb sync` brings them here.\n"


def pin_store(store: Store, *, encoders: Sequence[str] = (), url: str = "") -> Pin:
    """Describe a store as a lock file does.

    Parameters
    ----------
    encoders
        Ids or names of the encoders that the project needs; those that are here if empty.
    url
        Where it can be pulled from; where it was pulled from if empty.

    Raises
    ------
    NotAvailable
        If the store has no such encoder.
    SourceUnusable
        If the address is none, or holds user and password.
    """
    manifest = store.manifest
    absent = absent_encoders(store.folder, manifest)
    here = [key for key in manifest.encoders if key not in absent]
    chosen = find_encoders(manifest, encoders, where=store.store_id) if encoders else here
    origin = read_origin(store.folder)
    if url and is_web_address(url) and without_login(url)[1]:
        raise SourceUnusable(
            f"{public_url(url)} was given with user and password, which a lock file that others read must not hold; "
            "give --url without them"
        )
    if url:
        parse_address(url)
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
    """Write a lock file, by name; of two pins of one name the later counts.

    Raises
    ------
    NotAvailable
        If it cannot be written.
    """
    import tomli_w

    by_name = {pin.store: pin for pin in pins}
    stores = [_entry(by_name[name]) for name in sorted(by_name)]
    try:
        write_text(_HEADER + tomli_w.dumps({"version": LOCK_VERSION, "store": stores}), path)
    except OSError as error:
        raise NotAvailable(f"{path} cannot be written: {error.strerror}; give another --file") from error


def _entry(pin: Pin) -> dict[str, object]:
    content = asdict(pin)
    return {"name": content.pop("store"), **content, "encoders": list(pin.encoders)}


def check_pin(pin: Pin, home: Path | None) -> list[str]:
    """Compare a pin with what is on this machine, every byte of it; give what is wrong, nothing if all is well."""
    folder = find_home(home) / "stores" / pin.store / pin.digest
    if not (folder / MANIFEST).is_file():
        return [f"{pin.store} {pin.digest[:16]} is not here"]
    result = verify_store(folder)
    lacking = [key for key in pin.encoders if key in result.not_pulled]
    return [*result.faults, *(f"{key} was not pulled" for key in lacking)]


def sync(
    path: Path, *, home: Path | None = None, patience: Patience | None = None, progress: Progress | None = None
) -> list[tuple[Pin, Pulled | None]]:
    """Bring every store of a lock file to a home; what is here, whole, is not asked for again.

    Returns
    -------
    Each pin, with what was pulled for it.

    Raises
    ------
    NotAvailable
        If a store is neither here nor anywhere to pull it from.
    StoreCorrupt
        If what is here, or what an address gives, is not what was pinned.
    """
    done: list[tuple[Pin, Pulled | None]] = []
    for pin in read_pins(path):
        faults = check_pin(pin, home)
        if not faults:
            done.append((pin, None))
            continue
        if not pin.url:
            raise NotAvailable(
                f"{pin.store} with digest {pin.digest} is not here, and {path} has no address of it; build or copy it, "
                f"or pin it with `genekb lock {pin.store} --url ADDRESS` where it is"
            )
        address = parse_address(pin.url)
        if address.scheme != "hf":
            address = replace(address, revision=pin.digest)
        config = PullConfig(encoders=pin.encoders, digest=pin.digest, patience=patience or Patience())
        pulled = pull_store(address, config, home=home, progress=progress)
        faults = check_pin(pin, home)
        if faults:
            raise StoreCorrupt(f"{pulled.folder}: {faults[0]}; remove this folder and run `genekb sync` again")
        done.append((pin, pulled))
    return done
