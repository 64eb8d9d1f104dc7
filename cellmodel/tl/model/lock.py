"""Pin the fitted models that a project uses beside its stores, and bring them to another machine."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cellmodel.core.errors import InputUnusable, LineageMismatch
from cellmodel.io.outputs import DESCRIPTION
from cellmodel.tl.model.files import ARRAYS, load_model
from cellmodel.tl.model.share import SharedModel, pull_model
from genekb.core.errors import NotAvailable
from genekb.files.atomic import sha256_file
from genekb.files.safe_names import is_digest, is_plain_path
from genekb.net.download import Progress
from genekb.net.retry import RetryPolicy
from genekb.share.lock import address_in_lock, check_url, url_for_lock, write_entries
from genekb.store.lockfile import read_lock

_KIND: Final = "model"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPin:
    """One model that a project uses."""

    path: str  # its folder, from the folder of the lock file on, with ``/`` between the parts
    digest: str  # SHA-256 in hex of its description, which holds that of its arrays
    url: str  # where it can be pulled from; empty if that is not known
    store_id: str  # store that it was fitted with; empty without knowledge
    n_bytes: int  # size of both files


def lock_models(folders: Sequence[Path], lock_file: Path, *, url: str = "") -> tuple[ModelPin, ...]:
    """Pin models in a lock file; its stores, and models of other folders, stay as they are.

    ``url``: where the models can be pulled from; the address that the lock file has of each folder if empty. A relative
    path is one from the working directory on, and is written as one from the folder of the lock file on. Returns all
    models that the file pins now, by path. Raises ``InputUnusable``, ``LineageMismatch`` if a folder holds no model, or
    a damaged one, or does not lie below the folder of the lock file; ``genekb.core.errors.GeneKBError`` if the address
    may not stand there, or the file is no lock file or cannot be written.
    """
    if url:
        check_url(url)
        url = url_for_lock(url, lock_file)
    pins = {pin.path: pin for pin in read_model_pins(lock_file)} if lock_file.is_file() else {}
    for folder in folders:
        path = _path_in_project(folder, lock_file)
        known = pins[path].url if path in pins else ""
        pins[path] = ModelPin(
            path=path,
            store_id=load_model(folder).store_id,
            digest=sha256_file(folder / DESCRIPTION),
            url=url or known,
            n_bytes=sum((folder / name).stat().st_size for name in (ARRAYS, DESCRIPTION)),
        )
    found = tuple(pins[path] for path in sorted(pins))
    write_entries(_KIND, [asdict(pin) for pin in found], lock_file)
    return found


def _path_in_project(folder: Path, lock_file: Path) -> str:
    """Path of a model from the lock file's folder on; both are looked at as they are named, links not followed."""
    path = Path(os.path.relpath(folder, lock_file.parent)).as_posix()
    if not is_plain_path(path):
        raise InputUnusable(
            f"{folder} does not lie below {lock_file.parent.absolute()}, the folder of the lock file, by a path of "
            "letters, digits, '.', '-' and '_'; move the model there to pin it"
        )
    return path


def read_model_pins(lock_file: Path) -> tuple[ModelPin, ...]:
    """Read the models of a lock file.

    Raises ``InputUnusable`` if an entry is damaged, or names a folder outside the project;
    ``genekb.core.errors.SourceUnusable`` if it is no lock file.
    """
    content = read_lock(lock_file)
    try:
        return tuple(_pin(entry) for entry in content.get(_KIND, []))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputUnusable(
            f"{lock_file} has a damaged [[{_KIND}]] ({error}); remove it, then write it again with `cellmodel lock`"
        ) from error


def _pin(entry: Mapping[str, Any]) -> ModelPin:
    pin = ModelPin(
        path=str(entry["path"]),
        digest=str(entry["digest"]),
        url=str(entry.get("url", "")),
        store_id=str(entry.get("store_id", "")),
        n_bytes=int(entry["n_bytes"]),
    )
    if not is_plain_path(pin.path):
        raise ValueError(f"{pin.path[:80]!r} is no plain path below the project")
    if not is_digest(pin.digest):
        raise ValueError(f"the digest of {pin.path} is not 64 hex digits")
    return pin


def check_model(pin: ModelPin, lock_file: Path) -> list[str]:
    """Compare a pin with what lies in its folder, every byte of it; give what is wrong, nothing if all is well."""
    folder = lock_file.parent / pin.path
    if not (folder / DESCRIPTION).is_file():
        return [f"{folder} holds no model {pin.digest[:16]}"]
    digest = sha256_file(folder / DESCRIPTION)
    if digest != pin.digest:
        return [f"{folder} is model {digest[:16]}, {pin.digest[:16]} is pinned"]
    try:
        load_model(folder)
    except (InputUnusable, LineageMismatch) as error:
        return [str(error)]
    return []


def sync_models(
    lock_file: Path, *, overwrite: bool = False, retry: RetryPolicy | None = None, progress: Progress | None = None
) -> list[tuple[ModelPin, SharedModel | None]]:
    """Bring every model of a lock file to its folder; what is here, whole, is not asked for again.

    ``overwrite``: whether a model that is here, and is not the pinned one, may be replaced. Returns each pin, with what
    was pulled for it. Raises ``LineageMismatch`` if another model is here and may not be replaced, or an address does
    not give what was pinned; ``InputUnusable`` if something else is in a model's place, or the disk refuses;
    ``genekb.core.errors.NotAvailable`` if a model is neither here nor anywhere to pull it from.
    """
    pins = read_model_pins(lock_file)
    return [(pin, _sync(pin, lock_file, overwrite=overwrite, retry=retry, progress=progress)) for pin in pins]


def _sync(
    pin: ModelPin, lock_file: Path, *, overwrite: bool, retry: RetryPolicy | None, progress: Progress | None
) -> SharedModel | None:
    folder = lock_file.parent / pin.path
    faults = check_model(pin, lock_file)
    if not faults:
        return None
    if (folder / DESCRIPTION).is_file() and not overwrite:
        raise LineageMismatch(
            f"{faults[0]}; pin what is here with `cellmodel lock {folder}`, or replace it with `cellmodel sync "
            "--overwrite`"
        )
    if not pin.url:
        raise NotAvailable(
            f"{folder} with digest {pin.digest} is not here, and {lock_file} has no address of it; copy it, or pin it "
            f"with `cellmodel lock {folder} --url ADDRESS` where it is"
        )
    address = address_in_lock(pin.url, lock_file, digest=pin.digest, hub_kind="models")
    return pull_model(address, folder, digest=pin.digest, overwrite=overwrite, retry=retry, progress=progress)
