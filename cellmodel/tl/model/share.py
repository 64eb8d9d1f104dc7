"""Fitted models that travel, in the way of stores: arrays first, the description that promises them last."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cellmodel.core.errors import InputUnusable, LineageMismatch
from cellmodel.io.outputs import DESCRIPTION, model_target
from cellmodel.io.writers import check_targets
from cellmodel.tl.model.files import ARRAYS, load_model
from genekb.files.replace import take_place
from genekb.net.client import Absent
from genekb.net.download import Progress
from genekb.net.retry import RetryPolicy
from genekb.share.addresses import Address
from genekb.share.push import Sent, send
from genekb.share.transfer import Version, open_version
from genekb.store.manifest import StoredFile
from genekb.store.writer import describe_file

_PULLING: Final = ".pulling"
_MOST_BYTES: Final = 64 << 30  # of the arrays; a model of a million cells has some gigabytes


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedModel:
    """A model that was pushed or pulled."""

    digest: str  # SHA-256 of its description, which holds that of its arrays
    url: str  # where it lies
    n_bytes_now: int  # bytes that travelled now
    store_id: str  # store_id, encoder_id: what it was fitted with; empty without knowledge
    encoder_id: str


def push_model(
    folder: Path, address: Address, *, retry: RetryPolicy | None = None, progress: Progress | None = None
) -> SharedModel:
    """Copy a fitted model to a place, or go on with a push that was interrupted.

    Raises ``InputUnusable``, ``LineageMismatch`` if the folder holds no model, or a damaged one: damage is not shared;
    ``genekb.core.errors.GeneKBError``: see :func:`genekb.share.push.push_store`.
    """
    model = load_model(folder)
    arrays, description = (describe_file(folder / name, folder=folder) for name in (ARRAYS, DESCRIPTION))
    sent = Sent(folder=folder, files=(arrays,), heads=(description,), digest=description.sha256)
    url, n_sent = send(sent, address, retry=retry or RetryPolicy(), progress=progress)
    return SharedModel(
        digest=sent.digest, url=url, n_bytes_now=n_sent, store_id=model.store_id, encoder_id=model.encoder_id
    )


def pull_model(
    address: Address,
    folder: Path,
    *,
    digest: str = "",
    overwrite: bool = False,
    retry: RetryPolicy | None = None,
    progress: Progress | None = None,
) -> SharedModel:
    """Bring a fitted model to a folder, or go on with a pull that was interrupted.

    ``digest``: digest that the model must have; any if empty. Raises ``InputUnusable`` if the folder may not be
    replaced, or what is there is no model; ``LineageMismatch`` if the place gives another version than asked for, or
    other bytes than promised; ``genekb.core.errors.GeneKBError`` if the place cannot be reached, or does not hold it.
    """
    check_targets([model_target(folder)], overwrite=overwrite)
    staging = folder.with_name(f".{folder.name}{_PULLING}")
    try:
        with open_version(address, head=DESCRIPTION, retry=retry or RetryPolicy()) as version:
            found_digest, url = hashlib.sha256(version.head).hexdigest(), version.remote.name
            wanted = digest or version.expected
            if not found_digest.startswith(wanted):
                raise LineageMismatch(f"{url} gives model {found_digest}, {wanted} was asked for; do not use it")
            arrays = _promised(version)
            staging.mkdir(parents=True, exist_ok=True)
            n_bytes = version.fetch([arrays], staging, progress=progress)
        (staging / DESCRIPTION).write_bytes(version.head)
        model = load_model(staging, address=f"{url}/{version.prefix}".rstrip("/"))
        take_place(staging, folder, overwrite=overwrite)
    except Absent as error:
        raise LineageMismatch(f"{address.url} lacks {ARRAYS}; ask its owner to push the model again") from error
    except OSError as error:
        raise InputUnusable(f"{folder} cannot be written: {error.strerror or error}; give another folder") from error
    return SharedModel(
        digest=found_digest, url=url, n_bytes_now=n_bytes, store_id=model.store_id, encoder_id=model.encoder_id
    )


def _promised(version: Version) -> StoredFile:
    """Read what a description promises of its arrays; models of earlier versions do not note their size."""
    name = version.remote.name
    try:
        content = json.loads(version.head)
        sha256, n_bytes = str(content["sha256"]), content.get("n_bytes")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LineageMismatch(f"{name}: {DESCRIPTION} is damaged ({type(error).__name__}); ask its owner") from error
    n_bytes = version.size(ARRAYS) if n_bytes is None else n_bytes
    if not isinstance(n_bytes, int) or not 0 <= n_bytes <= _MOST_BYTES:
        raise LineageMismatch(f"{name}: {ARRAYS} is absent, or too large ({n_bytes} bytes); ask its owner")
    return StoredFile(path=ARRAYS, n_bytes=n_bytes, n_rows=0, sha256=sha256)
