"""A project's lock file: digests of the stores and models that it uses, wherever its commands run."""

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from genekb.core.errors import SourceUnusable
from genekb.files.atomic import is_digest, is_plain_name, is_plain_path, write_json
from genekb.store.files import read_notes

LOCK_FILE: Final = "genekb.lock"
LOCK_VERSION: Final = 1
NOTED: Final = ".locks.json"  # in the home: where lock files are; without it, `genekb gc` has to be given them
_LIMIT: Final = 1 << 22

Kind = Literal["store", "model"]
_NAME_KEY: Final[Mapping[Kind, str]] = {"store": "name", "model": "path"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """One store or fitted model that a project uses."""

    kind: Kind
    name: str  # NAME@RELEASE of a store; of a model its folder, from that of the lock file on, with ``/``
    digest: str  # SHA-256 in hex: of a store's content, of a model's description, which holds that of its arrays
    url: str  # where it can be pulled from; empty if that is not known
    n_bytes: int
    encoders: tuple[str, ...] = ()  # of a store: ids of the encoders that the project needs
    store_id: str = ""  # of a model: store that it was fitted with; empty without knowledge
    # of a store: what makes it again, see :func:`genekb.builder.rebuild.rebuild`; empty where that is not known
    build: Mapping[str, Any] = field(default_factory=dict)

    def entry(self, name_key: str = "") -> dict[str, object]:
        """Its entry in a lock file, or in JSON that calls the name otherwise."""
        own = {"encoders": list(self.encoders)} if self.kind == "store" else {"store_id": self.store_id}
        name = {name_key or _NAME_KEY[self.kind]: self.name}
        build = {"build": dict(self.build)} if self.build and not name_key else {}
        return {**name, "digest": self.digest, "url": self.url, **own, "n_bytes": self.n_bytes, **build}


def find_lock_file(folder: Path | None = None) -> Path | None:
    """Find the lock file of the project that a folder (the working directory, if left out) belongs to."""
    start = (folder or Path.cwd()).absolute()
    return next((parent / LOCK_FILE for parent in (start, *start.parents) if (parent / LOCK_FILE).is_file()), None)


def new_lock_file(file: str | Path | None = None) -> Path:
    """Choose the lock file that pins are written to: the one given, the project's, else a new one."""
    return Path(file) if file else find_lock_file() or Path(LOCK_FILE)


def existing_lock(file: str | Path | None, *, hint: str) -> Path:
    """Find the lock file that is given, or the project's; ``SourceUnusable`` if there is none."""
    path = Path(file) if file else find_lock_file()
    if path is None or not path.is_file():
        raise SourceUnusable(f"no {path or f'{LOCK_FILE} here or above'}; {hint}")
    return path


def read_lock(path: Path) -> dict[str, Any]:
    """Read a lock file, entries of every kind; ``SourceUnusable`` if it is damaged, or of a later version."""
    try:
        if path.stat().st_size > _LIMIT:
            raise ValueError("it is far too large")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        if content.get("version") != LOCK_VERSION:
            raise ValueError(f"its version is {content.get('version')}, {LOCK_VERSION} is read here")
    except (OSError, ValueError, RecursionError) as error:
        raise _no_lock(path, error) from error
    return content


def read_pins(path: Path, kind: Kind = "store") -> tuple[Pin, ...]:
    """Read one kind of entries of a lock file; ``SourceUnusable`` if it is damaged, or of a later version."""
    content = read_lock(path)
    try:
        return tuple(_pin(kind, entry) for entry in content.get(kind, []))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_lock(path, error) from error


def _no_lock(path: Path, error: Exception) -> SourceUnusable:
    return SourceUnusable(f"{path} is no lock file ({error}); remove it, then write it again with `genekb lock`")


def _pin(kind: Kind, entry: Mapping[str, Any]) -> Pin:
    pin = Pin(
        kind=kind,
        name=str(entry[_NAME_KEY[kind]]),
        digest=str(entry["digest"]),
        url=str(entry.get("url", "")),
        n_bytes=int(entry["n_bytes"]),
        encoders=tuple(map(str, entry["encoders"])) if kind == "store" else (),
        store_id=str(entry.get("store_id", "")),
        build=dict(entry.get("build", {})),
    )
    if kind == "store" and not all(map(is_plain_name, pin.name.split("@", 1))):
        raise ValueError(f"{pin.name[:80]!r} is no store's name")
    if kind == "model" and not is_plain_path(pin.name):
        raise ValueError(f"{pin.name[:80]!r} is no plain path below the project")
    if not is_digest(pin.digest):
        raise ValueError(f"the digest of {pin.name} is not 64 hex digits")
    return pin


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


def pinned_digest(reference: str) -> tuple[str, Path] | None:
    """Give the digest that a store's name maps to in the project of the working directory, and the lock file."""
    path = find_lock_file()
    if path is None:
        return None
    fits = [pin for pin in read_pins(path) if reference in {pin.name, pin.name.partition("@")[0]}]
    return (fits[-1].digest, path) if fits else None
