"""Fitted models shared as stores are: pushed, pulled, pinned in a lock file; the description promises the arrays."""

import hashlib
import json
import logging
import os
from functools import partial
from pathlib import Path
from typing import Final

from cellmodel.core.errors import InputUnusable, LineageMismatch
from cellmodel.core.tools import paths_of
from cellmodel.io.graph import ARRAYS
from cellmodel.io.writers import MODEL, check_targets
from cellmodel.tl.model.fitted import FittedModel, load_model
from genekb.core.messages import Paths
from genekb.core.python import for_python
from genekb.files.atomic import is_plain_path, sha256_file
from genekb.files.replace import replace_atomically
from genekb.net.client import Absent
from genekb.net.retry import RetryPolicy
from genekb.share.lock import address_of, lock_artifacts
from genekb.share.remotes import Address, parse_address
from genekb.share.transfer import Artifact, RemoteVersion, Transfer, open_version
from genekb.store.lockfile import Pin, existing_lock, new_lock_file, read_pins
from genekb.store.manifest import StoredFile
from genekb.store.writer import describe_file

log = logging.getLogger(__name__)
DESCRIPTION: Final = MODEL.description
PIN: Final = "pin a model with `genekb lock FOLDER`"
_PULLING: Final = ".pulling"
_MOST_BYTES: Final = 64 << 30  # of the arrays; a model of a million cells has some gigabytes


@for_python
def push(model: str | Path, url: str, *, timeout_s: float = 60.0) -> Transfer:
    """Copy a fitted model to where others can pull it; an interrupted push goes on where it was.

    From the shell: ``cellmodel model push``.

    Parameters
    ----------
    model
        Folder that ``save_model`` wrote.
    url
        Folder, ``file://``, ``s3://bucket/path`` or ``hf://models/owner/name``.
    timeout_s
        Longest silence of the server, in seconds.

    Raises
    ------
    InputUnusable, LineageMismatch
        If the folder holds no model, or a damaged one.

    Examples
    --------
    >>> import cellmodel as cm
    >>> cm.tl.push("model", "shared/model").n_bytes_now > 0
    True
    """
    return push_model(Path(model), parse_address(url, hub_kind="models"), retry=RetryPolicy(timeout_s=timeout_s))


@for_python
def pull(url: str, output: str | Path, *, overwrite: bool = False, timeout_s: float = 60.0) -> Transfer:
    """Bring a shared model to this machine, every byte checked; an interrupted pull goes on where it was.

    From the shell: ``cellmodel model pull``.

    Parameters
    ----------
    url
        Address, with ``@DIGEST`` or ``@REVISION`` to pin it.
    output
        Folder for the model.
    overwrite
        Whether that folder may be replaced.
    timeout_s
        Longest silence of the server, in seconds.

    Raises
    ------
    InputUnusable, LineageMismatch
        See :func:`pull_model`.

    Examples
    --------
    >>> import cellmodel as cm
    >>> pushed = cm.tl.push("model", "shared/model")
    >>> cm.tl.pull("shared/model", "copy").digest == pushed.digest
    True
    """
    address = parse_address(url, hub_kind="models")
    return pull_model(address, Path(output), overwrite=overwrite, retry=RetryPolicy(timeout_s=timeout_s))


@for_python
def lock(model: Paths = (), *, url: str | None = None, file: str | Path | None = None) -> tuple[Pin, ...]:
    """Pin the models that a project uses, by digest and folder, in genekb.lock, and give all that are pinned.

    From the shell: ``genekb lock FOLDER``.

    Parameters
    ----------
    model
        Folders of models, one or several; none gives what is pinned.
    url
        Where the model can be pulled from; what is known if None.
    file
        Lock file; the project's if None.

    Raises
    ------
    SourceUnusable
        If nothing is pinned, and no model given.

    Examples
    --------
    >>> import cellmodel as cm
    >>> [pin.name for pin in cm.tl.lock("model")]
    ['model']
    """
    path, folders = new_lock_file(file), paths_of(model)
    pins = lock_artifacts("model", folders, partial(pin_model, lock_file=path), path, url=url, hint=PIN)
    stores = {pin.digest[:16] for pin in read_pins(path)}
    for pin in pins if folders else ():
        if pin.store_id and pin.store_id.partition(":")[2] not in stores:
            log.info("%s needs %s, which is not pinned; `genekb lock` it too", pin.name, pin.store_id)
    return pins


@for_python
def sync(
    file: str | Path | None = None, *, check: bool = False, overwrite: bool = False, timeout_s: float = 60.0
) -> list[tuple[Pin, Transfer | None]]:
    """Bring the models that genekb.lock pins to their folders; give each pin, and what was pulled for it.

    From the shell: ``cellmodel model pull``.

    Parameters
    ----------
    file
        Lock file; the project's if None.
    check
        Only compare.
    overwrite
        Whether a model that is here, and is not the pinned one, may be replaced.
    timeout_s
        Longest silence of the server, in seconds.

    Raises
    ------
    LineageMismatch
        If a model is not as it is pinned, and may not be replaced, or is only compared.

    Examples
    --------
    >>> import cellmodel as cm
    >>> _ = cm.tl.lock("model")
    >>> [pin.name for pin, pulled in cm.tl.sync(check=True)]
    ['model']
    """
    path = existing_lock(file, hint=PIN)
    if not check:
        return sync_models(path, overwrite=overwrite, retry=RetryPolicy(timeout_s=timeout_s))
    faults = [fault for pin in read_pins(path, "model") for fault in check_model(pin, path)]
    if faults:
        raise LineageMismatch(f"{faults[0]}; `cellmodel model pull` brings what is missing")
    return [(pin, None) for pin in read_pins(path, "model")]


def push_model(folder: Path, address: Address, *, retry: RetryPolicy | None = None) -> Transfer:
    """Copy a fitted model to a location, or go on with a push that was interrupted; a damaged one is not shared."""
    model = load_model(folder)
    return _artifact(folder).send(address, retry=retry or RetryPolicy(), **_fitted_with(model))


def _artifact(folder: Path) -> Artifact:
    arrays, description = (describe_file(folder / name, folder=folder) for name in (ARRAYS, DESCRIPTION))
    return Artifact(name=folder.name, digest=description.sha256, folder=folder, files=(arrays,), heads=(description,))


def _fitted_with(model: FittedModel) -> dict[str, str]:
    return {"store_id": model.lineage.store_id, "encoder_id": model.lineage.encoder_id}


def pull_model(
    address: Address, folder: Path, *, digest: str = "", overwrite: bool = False, retry: RetryPolicy | None = None
) -> Transfer:
    """Bring a fitted model, of this digest if one is given, or go on with a pull that was interrupted.

    ``LineageMismatch`` if another version comes than was asked for, or other bytes than promised.
    """
    check_targets([MODEL.target(folder)], overwrite=overwrite)
    staging = folder.with_name(f".{folder.name}{_PULLING}")
    try:
        with open_version(address, head=DESCRIPTION, retry=retry or RetryPolicy()) as version:
            found_digest, url = hashlib.sha256(version.head).hexdigest(), version.remote.name
            wanted = digest or version.expected
            if not found_digest.startswith(wanted):
                raise LineageMismatch(f"{url} gives model {found_digest}, {wanted} was asked for; do not use it")
            arrays = _promised(version)
            staging.mkdir(parents=True, exist_ok=True)
            n_bytes = version.fetch([arrays], staging)
        (staging / DESCRIPTION).write_bytes(version.head)
        model = load_model(staging, address=f"{url}/{version.prefix}".rstrip("/"))
        replace_atomically(staging, folder, overwrite=overwrite)
    except Absent as error:
        raise LineageMismatch(f"{address.url} lacks {ARRAYS}; ask its owner to push the model again") from error
    except OSError as error:
        raise InputUnusable(f"{folder} cannot be written: {error.strerror or error}; give another folder") from error
    return _artifact(folder).transfer(url, n_bytes_now=n_bytes, **_fitted_with(model))


def _promised(version: RemoteVersion) -> StoredFile:
    """Read what a description promises of its arrays."""
    name = version.remote.name
    try:
        content = json.loads(version.head)
        sha256, n_bytes = str(content["sha256"]), content["n_bytes"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LineageMismatch(f"{name}: {DESCRIPTION} is damaged ({type(error).__name__}); ask its owner") from error
    if not isinstance(n_bytes, int) or not 0 <= n_bytes <= _MOST_BYTES:
        raise LineageMismatch(f"{name}: the size of {ARRAYS} is absent, or too large ({n_bytes}); ask its owner")
    return StoredFile(path=ARRAYS, n_bytes=n_bytes, n_rows=0, sha256=sha256)


def pin_model(folder: Path, url: str, *, lock_file: Path) -> Pin:
    """Describe a model as a lock file does; ``url``: where it can be pulled from, if empty what the file has of it."""
    name = Path(os.path.relpath(folder, lock_file.parent)).as_posix()  # links are not followed
    if not is_plain_path(name):
        raise InputUnusable(
            f"{folder} does not lie below {lock_file.parent.absolute()}, the folder of the lock file, by a path of "
            "letters, digits, '.', '-' and '_'; move the model there to pin it"
        )
    known = {pin.name: pin.url for pin in read_pins(lock_file, "model")} if lock_file.is_file() else {}
    model = load_model(folder)
    found = _artifact(folder).transfer(url or known.get(name, ""))
    return Pin(
        kind="model", name=name, store_id=model.lineage.store_id, digest=found.digest, url=found.url,
        n_bytes=found.n_bytes,
    )  # fmt: skip


def check_model(pin: Pin, lock_file: Path) -> list[str]:
    """Compare a pin with every byte of what lies in its folder; give what is wrong."""
    folder = lock_file.parent / pin.name
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
    lock_file: Path, *, overwrite: bool = False, retry: RetryPolicy | None = None
) -> list[tuple[Pin, Transfer | None]]:
    """Bring every model of a lock file to its folder, and give each pin with what was pulled for it.

    What is here, whole, is not asked for again; another model is replaced with ``overwrite`` alone.
    """
    done: list[tuple[Pin, Transfer | None]] = []
    for pin in read_pins(lock_file, "model"):
        folder, faults, pulled = lock_file.parent / pin.name, check_model(pin, lock_file), None
        if faults and (folder / DESCRIPTION).is_file() and not overwrite:
            raise LineageMismatch(
                f"{faults[0]}; pin what is here with `genekb lock {folder}`, or replace it with "
                "`cellmodel model pull` and overwrite=True"
            )
        if faults:
            address = address_of(pin, lock_file, folder=folder)
            pulled = pull_model(address, folder, digest=pin.digest, overwrite=overwrite, retry=retry)
        done.append((pin, pulled))
    return done
