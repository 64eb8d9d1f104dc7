"""Clear away what no store needs: builds that ended early, caches without a store, superseded stores on request."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from genekb.errors import GeneKBError, SourceUnusable, StoreBusy
from genekb.files import TEMPORARY
from genekb.safe_names import is_digest
from genekb.store.home import CURRENT, check_name, current_folder
from genekb.store.manifest import MANIFEST, SIGNATURE, read_manifest
from genekb.store.origins import PULLED
from genekb.store.places import PLACES
from genekb.store.vectors import CACHE
from genekb.store.writer import locked

REMOVING: Final = ".removing-"  # a folder is renamed before it is deleted: a store is whole, or it is not there
_LOCK: Final = ".lock"
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
    n_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Left:
    """What lies in a home and was not touched, with the reason."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """What a clearing found.

    Parameters
    ----------
    removed
        What was removed; after a dry run, what would be.
    left
        What stays though no store needs it, or though genekb did not make it.
    """

    removed: tuple[Removed, ...]
    left: tuple[Left, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of all that was removed."""
        return sum(item.n_bytes for item in self.removed)


def collect_garbage(home: Path, *, superseded: bool, dry_run: bool) -> Collected:
    """Remove what no store needs.

    That is: builds that ended early, unfinished files, caches of stores that are gone, and what an interrupted removal
    left. A name that another process is writing is passed over. Symbolic links are not followed, and what genekb did
    not make stays.

    Parameters
    ----------
    superseded
        Also remove stores that their name no longer stands for.
    dry_run
        Tell what would be removed, and write nothing.
    """
    removed: list[Removed] = []
    left: list[Left] = []
    stores = home / "stores"
    if stores.is_symlink():
        left.append(Left(path=stores, reason="a link, which is not followed"))
    elif stores.is_dir():
        for folder in sorted(stores.iterdir()):
            _collect_name(folder, superseded=superseded, dry_run=dry_run, removed=removed, left=left)
    return Collected(removed=tuple(removed), left=tuple(left))


def _collect_name(folder: Path, *, superseded: bool, dry_run: bool, removed: list[Removed], left: list[Left]) -> None:
    reason = _not_a_name(folder)
    if reason:
        left.append(Left(path=folder, reason=reason))
        return
    found = _survey(folder, superseded=superseded)
    has_work = any(isinstance(item, Removed) for item in found)
    if has_work and (not dry_run or (folder / _LOCK).exists()):  # a dry run makes no lock where nobody ever wrote
        try:
            with locked(folder):
                found = _survey(folder, superseded=superseded)
                if not dry_run:
                    found = [_remove(item) if isinstance(item, Removed) else item for item in found]
        except StoreBusy as error:
            left.append(Left(path=folder, reason=str(error)))
            return
    removed += [item for item in found if isinstance(item, Removed)]
    left += [item for item in found if isinstance(item, Left)]


def _not_a_name(folder: Path) -> str:
    """Why an entry of the stores is not the folder of a name; empty if it is."""
    if folder.is_symlink() or (folder / _LOCK).is_symlink():
        return "a link, which is not followed"
    try:
        check_name(folder.name)
    except SourceUnusable:
        return "not made by genekb"
    return "" if folder.is_dir() else "not made by genekb"


def _survey(folder: Path, *, superseded: bool) -> list[Removed | Left]:
    """Judge every entry of a name's folder; caches last, since they go with their stores."""
    current = current_folder(folder)
    has_current = current is not None and current.parent == folder
    found: list[Removed | Left] = []
    for path in sorted(folder.iterdir()):
        is_store = is_digest(path.name) and path.is_dir() and not path.is_symlink()
        if is_store and path != current:
            found.append(_judge_store(path, has_current=has_current, superseded=superseded))
        elif not is_store:
            found += _judge_entry(path)
    going = {item.path.name for item in found if isinstance(item, Removed)}
    cache = folder / CACHE
    if cache.is_dir() and not cache.is_symlink():
        found += _survey_cache(cache, stores={path.parent.name for path in folder.glob(f"*/{MANIFEST}")} - going)
    return found


def _judge_entry(path: Path) -> Iterator[Removed | Left]:
    """Judge what is no store; files that belong there are passed over."""
    if path.is_symlink():
        yield Left(path=path, reason="a link, which is not followed")
    elif path.is_dir() and path.name.startswith(REMOVING):
        yield _found(path, "a removal that was interrupted")
    elif path.is_dir() and (unfinished := _UNFINISHED.fullmatch(path.name)):
        yield _found(path, "an unfinished build" if unfinished[1] == "building" else "an unfinished pull")
    elif path.is_file() and path.name.endswith(TEMPORARY) and path.name.removesuffix(TEMPORARY) in _FILES:
        yield _found(path, "an unfinished file")
    elif not (path.is_file() and path.name in _FILES) and not (path.is_dir() and path.name == CACHE):
        yield Left(path=path, reason="not made by genekb")


def _survey_cache(cache: Path, *, stores: set[str]) -> Iterator[Removed | Left]:
    """Judge the memory-mapped copies of vectors; a reader that is writing one now does without it."""
    kept = {digest[:_CACHED_DIGITS] for digest in stores}
    for path in sorted(cache.iterdir()):
        if path.is_symlink() or not path.is_dir() or not _CACHED.fullmatch(path.name.removeprefix(REMOVING)):
            yield Left(path=path, reason="not made by genekb")
        elif path.name.startswith(REMOVING):
            yield _found(path, "a removal that was interrupted")
        elif path.name not in kept:
            yield _found(path, "a cache of a store that is gone")
        else:
            parts = (part for part in sorted(path.iterdir()) if part.is_dir() and not part.is_symlink())
            yield from (_found(part, "an unfinished cache") for part in parts if _CACHED_PART.fullmatch(part.name))


def _judge_store(path: Path, *, has_current: bool, superseded: bool) -> Removed | Left:
    """Judge a store that its name does not stand for: removed only on request, and only if nothing else lies in it."""
    if not has_current:
        return Left(path=path, reason=f"no file {CURRENT} says whether it is superseded")
    if not superseded:
        return Left(path=path, reason="superseded; --superseded removes it")
    try:
        manifest = read_manifest(path)
    except GeneKBError as error:
        return Left(path=path, reason=f"its manifest cannot be read: {error}")
    made = {MANIFEST, SIGNATURE, *(file.path for file in manifest.files)}
    found = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_symlink() or file.is_file())
    foreign = sorted(name for name in found if name not in made and not name.endswith(TEMPORARY))
    if manifest.digest != path.name or foreign:
        return Left(path=path, reason=f"it holds {foreign[0] if foreign else 'another store'}, not made by genekb")
    return _found(path, "a superseded store")


def _found(path: Path, reason: str) -> Removed:
    files = path.rglob("*") if path.is_dir() else [path]
    return Removed(path=path, reason=reason, n_bytes=sum(file.lstat().st_size for file in files if not file.is_dir()))


def _remove(item: Removed) -> Removed | Left:
    try:
        if item.path.is_dir():
            _remove_folder(item.path)
        else:
            item.path.unlink(missing_ok=True)
    except OSError as error:
        return Left(path=item.path, reason=f"{item.reason}, cannot be removed: {error.strerror}")
    return item


def _remove_folder(path: Path) -> None:
    if not path.name.startswith(REMOVING):
        going = path.with_name(f"{REMOVING}{path.name.lstrip('.')}")
        if going.exists():
            shutil.rmtree(going)
        path = path.rename(going)
    shutil.rmtree(path)
