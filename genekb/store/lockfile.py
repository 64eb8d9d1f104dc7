"""A project's lock file: the digest that a store's name stands for in that project, wherever its commands run.

It may hold entries of other kinds, for other programs; they are left as they are.
"""

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from genekb.core.errors import SourceUnusable
from genekb.files.atomic import write_json
from genekb.files.safe_names import is_digest, is_plain_name
from genekb.store.notes import read_notes

LOCK_FILE: Final = "genekb.lock"
LOCK_VERSION: Final = 1
NOTED: Final = ".locks.json"  # in the home: where lock files are; without it, `genekb gc` has to be given them
_LIMIT: Final = 1 << 22


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """One store that a project uses."""

    store: str  # ``NAME@RELEASE``
    digest: str  # SHA-256 in hex of what it holds
    url: str  # where it can be pulled from; empty if that is not known
    encoders: tuple[str, ...]  # ids of the encoders that the project needs
    n_bytes: int  # size of tables and encoders


def find_lock_file(folder: Path | None = None) -> Path | None:
    """Find the lock file of the project that a folder (the working directory, if left out) belongs to."""
    start = (folder or Path.cwd()).absolute()
    return next((place / LOCK_FILE for place in (start, *start.parents) if (place / LOCK_FILE).is_file()), None)


def read_lock(path: Path) -> dict[str, Any]:
    """Read a lock file, entries of every kind.

    Raises ``SourceUnusable`` if it is damaged, or of a later version.
    """
    try:
        if path.stat().st_size > _LIMIT:
            raise ValueError("it is far too large")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        if content.get("version") != LOCK_VERSION:
            raise ValueError(f"its version is {content.get('version')}, {LOCK_VERSION} is read here")
    except (OSError, ValueError, RecursionError) as error:
        raise _no_lock(path, error) from error
    return content


def read_pins(path: Path) -> tuple[Pin, ...]:
    """Read the stores of a lock file.

    Raises ``SourceUnusable`` if it is damaged, or of a later version.
    """
    content = read_lock(path)
    try:
        return tuple(_pin(entry) for entry in content.get("store", []))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_lock(path, error) from error


def note_lock_file(path: Path, home: Path) -> None:
    """Note in a home that a lock file pins stores of it; a home that may not be written goes without."""
    known = {str(path.absolute()), *map(str, noted_lock_files(home))}
    with suppress(OSError):
        write_json({"lock_files": sorted(known)}, home / NOTED)


def noted_lock_files(home: Path) -> tuple[Path, ...]:
    """List the lock files that were noted in a home and are still there."""
    noted = read_notes(home / NOTED).get("lock_files")
    paths = (Path(path) for path in noted if isinstance(path, str)) if isinstance(noted, list) else ()
    return tuple(path for path in paths if path.is_file())


def _no_lock(path: Path, error: Exception) -> SourceUnusable:
    return SourceUnusable(f"{path} is no lock file ({error}); remove it, then write it again with `genekb lock`")


def _pin(entry: Mapping[str, Any]) -> Pin:
    pin = Pin(
        store=str(entry["name"]),
        digest=str(entry["digest"]),
        url=str(entry.get("url", "")),
        encoders=tuple(map(str, entry["encoders"])),
        n_bytes=int(entry["n_bytes"]),
    )
    if not all(map(is_plain_name, pin.store.split("@", 1))):
        raise ValueError(f"{pin.store[:80]!r} is no store's name")
    if not is_digest(pin.digest):
        raise ValueError(f"the digest of {pin.store} is not 64 hex digits")
    return pin


def pinned_digest(reference: str) -> tuple[str, Path] | None:
    """Give the digest that a name stands for in the project of the working directory, and the file that says so.

    Raises ``SourceUnusable`` if the lock file is damaged.
    """
    path = find_lock_file()
    if path is None:
        return None
    fits = [pin for pin in read_pins(path) if reference in {pin.store, pin.store.partition("@")[0]}]
    return (fits[-1].digest, path) if fits else None
