"""Garbage collection: interrupted builds, caches without a store, and on request superseded stores.

Stores share files by hard links: bytes are freed with the last name of a file.
"""

import re
import shutil
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from genekb.core.errors import GeneKBError, SourceUnusable, StoreBusy
from genekb.core.messages import Paths, several
from genekb.core.python import for_python
from genekb.files.atomic import TEMPORARY, is_digest, user_path
from genekb.store.files import PLACES, PULLED
from genekb.store.home import CURRENT, check_name, current_folder, find_home
from genekb.store.lockfile import existing_lock, find_lock_file, noted_lock_files, read_pins
from genekb.store.manifest import MANIFEST, SIGNATURE, read_manifest
from genekb.store.vectors import CACHE
from genekb.store.writer import locked

REMOVING: Final = ".removing-"  # a folder is renamed before it is deleted: a store is whole, or it is not there
_LOCK: Final = ".lock"
_LINK: Final = "a link, which is not followed"
_UNFINISHED: Final = re.compile(r"\.(building|pulling)-[0-9a-f]{16}")
_CACHED_DIGITS: Final = 16
_CACHED: Final = re.compile(rf"[0-9a-f]{{{_CACHED_DIGITS}}}")
_CACHED_PART: Final = re.compile(r".+\.[0-9a-f]{32}\.part")
_FILES: Final = frozenset({CURRENT, PLACES, PULLED, _LOCK})


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """A folder or file that was removed, or would be."""

    path: Path
    reason: str
    n_bytes: int = 0  # freed by it: a file that stores share counts with its last name


@dataclass(frozen=True, kw_only=True, slots=True)
class Left:
    """What was not touched, with the reason."""

    path: Path
    reason: str = "not made by genekb"
    is_superseded: bool = False  # and would be removed on request


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """What garbage collection found."""

    removed: tuple[Removed, ...]  # what was removed; after a dry run, what would be
    left: tuple[Left, ...]  # not needed by a store, or not made by genekb
    # stores that could be removed on request, and what that would free, with their caches
    n_superseded: int
    n_bytes_superseded: int

    @property
    def n_bytes(self) -> int:
        """Bytes of all that was removed."""
        return sum(item.n_bytes for item in self.removed)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """Superseded stores that stay: all (None), or the newest of each name with the current one; and pinned ones."""

    n_newest: int | None
    pinned: Mapping[str, Path]  # digest → lock file


@for_python
def gc(
    *,
    superseded: bool = False,
    keep_newest: int | None = None,
    lock: Paths = (),
    dry_run: bool = False,
    home: str | Path | None = None,
) -> Collected:
    """Remove unfinished builds, caches of stores that are gone, and on request superseded stores, as `genekb gc` does.

    A name that another process is writing is skipped. Symbolic links are not followed, and what genekb did not make
    stays, as do stores that a lock file pins.

    Parameters
    ----------
    superseded
        Also remove stores that their name no longer maps to.
    keep_newest
        Remove superseded stores but the newest N of each name, the current one counted.
    lock
        Lock file whose stores stay, besides the project's and those noted in the home; one or several.
    dry_run
        Report what would be done, its time and size; write nothing.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.gc(dry_run=True, home="home-of-a-colleague").removed
    ()
    """
    where, project = find_home(user_path(home)), find_lock_file()
    given = [existing_lock(file, hint="give `lock` a file that `genekb lock` wrote") for file in several(lock)]
    locks = [*given, *([project] if project else []), *noted_lock_files(where)]
    pinned = {pin.digest: path for path in locks for pin in read_pins(path)}
    is_removed = superseded or keep_newest is not None
    wanted = _Wanted(n_newest=(keep_newest or 1) if is_removed else None, pinned=pinned)
    stores = where / "stores"
    found: list[Removed | Left] = []
    if stores.is_symlink():
        found.append(Left(path=stores, reason=_LINK))
    elif stores.is_dir():
        found += [
            item for folder in sorted(stores.iterdir()) for item in _collect_name(folder, wanted, dry_run=dry_run)
        ]
    removed = [item for item in found if isinstance(item, Removed)]
    left = [item for item in found if isinstance(item, Left)]
    gone = Counter[tuple[int, int]]()
    if dry_run:
        removed = [replace(item, n_bytes=_freed(item.path, gone)) for item in removed]
    waiting = [item.path for item in left if item.is_superseded]
    caches = [path.parent / CACHE / path.name[:_CACHED_DIGITS] for path in waiting]
    going = [*waiting, *filter(Path.is_dir, caches)]
    return Collected(
        removed=tuple(removed),
        left=tuple(left),
        n_superseded=len(waiting),
        n_bytes_superseded=sum(_freed(path, gone) for path in going),
    )


def _collect_name(folder: Path, wanted: _Wanted, *, dry_run: bool) -> list[Removed | Left]:
    """Classify what is in the folder of a store's name, and remove what is to go."""
    if folder.is_symlink() or (folder / _LOCK).is_symlink():
        return [Left(path=folder, reason=_LINK)]
    try:
        check_name(folder.name)
    except SourceUnusable:
        return [Left(path=folder)]
    if not folder.is_dir():
        return [Left(path=folder)]
    found = _survey(folder, wanted)
    has_work = any(isinstance(item, Removed) for item in found)
    if has_work and (not dry_run or (folder / _LOCK).exists()):  # a dry run makes no lock where nobody ever wrote
        try:
            with locked(folder):
                found = _survey(folder, wanted)
                return found if dry_run else [_remove(item) if isinstance(item, Removed) else item for item in found]
        except StoreBusy as error:
            return [Left(path=folder, reason=str(error))]
    return found


def _survey(folder: Path, wanted: _Wanted) -> list[Removed | Left]:
    """Classify every entry of a name's folder; caches last, since they go with their stores."""
    current = current_folder(folder)
    entries = sorted(folder.iterdir())
    stores = [path for path in entries if is_digest(path.name) and _is_folder(path)]
    found: list[Removed | Left] = [one for path in entries if path not in stores for one in _judge_entry(path)]
    older = sorted((path for path in stores if path != current), key=_made_at, reverse=True)
    if current is not None and current.parent == folder:
        found += [_judge_store(path, wanted, n_newer=number) for number, path in enumerate(older, start=1)]
    else:
        found += [Left(path=path, reason=f"no file {CURRENT} says whether it is superseded") for path in older]
    going = {item.path.name for item in found if isinstance(item, Removed)}
    cache = folder / CACHE
    if _is_folder(cache):
        found += _survey_cache(cache, stores={path.parent.name for path in folder.glob(f"*/{MANIFEST}")} - going)
    return found


def _judge_entry(path: Path) -> Iterator[Removed | Left]:
    """Classify what is not a store; files that belong there are skipped."""
    if path.is_symlink():
        yield Left(path=path, reason=_LINK)
    elif path.is_dir() and path.name.startswith(REMOVING):
        yield Removed(path=path, reason="a removal that was interrupted")
    elif path.is_dir() and (unfinished := _UNFINISHED.fullmatch(path.name)):
        yield Removed(path=path, reason="an unfinished build" if unfinished[1] == "building" else "an unfinished pull")
    elif path.is_file() and path.name.endswith(TEMPORARY) and path.name.removesuffix(TEMPORARY) in _FILES:
        yield Removed(path=path, reason="an unfinished file")
    elif not (path.is_file() and path.name in _FILES) and not (path.is_dir() and path.name == CACHE):
        yield Left(path=path)


def _survey_cache(cache: Path, *, stores: set[str]) -> Iterator[Removed | Left]:
    """Classify the memory-mapped copies of vectors; a reader that is writing one does without it."""
    kept = {digest[:_CACHED_DIGITS] for digest in stores}
    for path in sorted(cache.iterdir()):
        if not _is_folder(path) or not _CACHED.fullmatch(path.name.removeprefix(REMOVING)):
            yield Left(path=path)
        elif path.name.startswith(REMOVING):
            yield Removed(path=path, reason="a removal that was interrupted")
        elif path.name not in kept:
            yield Removed(path=path, reason="a cache of a store that is gone")
        else:
            parts = [part for part in sorted(path.iterdir()) if _is_folder(part) and _CACHED_PART.fullmatch(part.name)]
            yield from (Removed(path=part, reason="an unfinished cache") for part in parts)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _made_at(path: Path) -> tuple[str, int]:
    """When a store was made; ties by the last change of the folder."""
    try:
        return str(read_manifest(path).created_at), path.stat().st_mtime_ns
    except GeneKBError:
        return "", 0


def _judge_store(path: Path, wanted: _Wanted, *, n_newer: int) -> Removed | Left:
    """Classify a superseded store, of which ``n_newer`` are newer: removed on request, if nothing else is in it."""
    if path.name in wanted.pinned:
        return Left(path=path, reason=f"superseded, but pinned by {wanted.pinned[path.name]}")
    if wanted.n_newest is None:
        return Left(path=path, reason="superseded; superseded=True removes it", is_superseded=True)
    if n_newer < wanted.n_newest:
        return Left(path=path, reason=f"superseded, but among the {wanted.n_newest} newest of its name")
    try:
        manifest = read_manifest(path)
    except GeneKBError as error:
        return Left(path=path, reason=f"its manifest cannot be read: {error}")
    made = {MANIFEST, SIGNATURE, *(file.path for file in manifest.files)}
    found = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_symlink() or file.is_file())
    foreign = sorted(name for name in found if name not in made and not name.endswith(TEMPORARY))
    if manifest.digest != path.name or foreign:
        return Left(path=path, reason=f"it holds {foreign[0] if foreign else 'another store'}, not made by genekb")
    return Removed(path=path, reason="a superseded store")


def _freed(path: Path, gone: Counter[tuple[int, int]]) -> int:
    """Bytes of the files whose last name goes; ``gone`` counts removed names of each file by device and inode."""
    n_bytes = 0
    for file in path.rglob("*") if path.is_dir() else [path]:
        status = file.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue
        gone[status.st_dev, status.st_ino] += 1
        if gone[status.st_dev, status.st_ino] >= status.st_nlink:
            n_bytes += status.st_size
    return n_bytes


def _remove(item: Removed) -> Removed | Left:
    item, path = replace(item, n_bytes=_freed(item.path, Counter())), item.path
    try:
        if path.is_dir() and not path.name.startswith(REMOVING):
            going = path.with_name(f"{REMOVING}{path.name.lstrip('.')}")
            if going.exists():
                shutil.rmtree(going)
            path = path.rename(going)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except OSError as error:
        return Left(path=item.path, reason=f"{item.reason}, cannot be removed: {error.strerror}")
    return item
