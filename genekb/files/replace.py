"""Results in a user's folder: checked before any work, written to a temporary sibling, renamed in one step."""

import ctypes
import errno
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Final, Literal

from genekb.core.errors import OutputUnusable
from genekb.files.atomic import sync

_STALE_S: Final = 86_400.0  # of another machine: nothing is written for so long
_MANY: Final = 100
_AT_FDCWD, _RENAME_NOREPLACE, _RENAME_EXCHANGE = -100, 1, 2
_REMOVALS: Final = 20
# a folder with one of these is one result
_ONE_RESULT: Final = ("manifest.json", "model.json", "graph.json", "zarr.json", ".zgroup")


@dataclass(frozen=True, slots=True)
class Target:
    """What a command writes, for :func:`check_targets`."""

    path: Path
    # ``file``; ``whole``: a folder that is replaced as one, and only if it holds a file that ``marks`` names;
    # ``shared``: a folder that may exist, into which files are written; ``private``: one in which nothing else is
    kind: Literal["file", "whole", "shared", "private"] = "file"
    marks: tuple[str, ...] = ()
    makes_parents: bool = False  # whether the folders above it are made if they are missing


def check_targets(targets: Iterable[Target], *, inputs: Iterable[Path] = (), overwrite: bool) -> None:
    """Check that a command can write its outputs, before any work is done.

    ``inputs``: files and folders that the command reads. ``overwrite``: whether what exists may be replaced. Raises
    ``OutputUnusable`` if an output exists and may not be replaced, is a device, a pipe or a folder of other files, has
    no folder to be written to, is an input or another output, or one of them would be replaced or damaged with the
    other.
    """
    targets, inputs = list(targets), list(inputs)
    for target in targets:
        for path in inputs:
            _check_input(target, path)
        _check_free(target, overwrite=overwrite)
        _check_parent(target)
    for one, other in permutations(targets, 2):
        if real_path(one.path) == real_path(other.path):
            raise OutputUnusable(f"{one.path} is the name of two outputs; give each a name of its own")
        if one.kind != "shared" and _is_inside(other.path, one.path):
            raise OutputUnusable(f"{other.path} lies inside {one.path}, another output; write it elsewhere")


def _check_free(target: Target, *, overwrite: bool) -> None:
    path = target.path
    try:
        is_there, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise OutputUnusable(f"{path} cannot be written: {error.strerror}; give another name") from error
    if not is_there or (is_folder and target.kind in {"shared", "private"}):
        return
    if is_folder and not any((path / mark).is_file() for mark in target.marks):
        raise OutputUnusable(f"{path} is a folder of other files, which is never replaced; give another name")
    if not is_folder and target.kind != "file":
        raise OutputUnusable(f"{path} is a file; name a folder")
    if not is_folder and not path.is_file():
        raise OutputUnusable(f"{path} is a pipe or a device, not a file; give another name")
    if not overwrite:
        raise OutputUnusable(f"{path} exists; give another name, or --overwrite")


def _check_parent(target: Target) -> None:
    for path in (target.path, real_path(target.path)):
        folder = path if target.kind in {"shared", "private"} and path.is_dir() else path.parent
        while target.makes_parents and not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise OutputUnusable(
                f"{target.path} cannot be written: {folder} is not a folder; make it first, or write elsewhere"
            )
        if not os.access(folder, os.W_OK):
            raise OutputUnusable(f"{folder} may not be written to by this user; write elsewhere with -o")


def _check_input(target: Target, path: Path) -> None:
    if real_path(target.path) == real_path(path):
        raise OutputUnusable(
            f"{target.path} is an input; write to another file, results are never written over the input"
        )
    if target.kind != "shared" and _is_inside(path, target.path):
        raise OutputUnusable(f"{path}, an input, lies inside {target.path}; write elsewhere")
    if _is_inside(target.path, path) and any((path / mark).is_file() for mark in _ONE_RESULT):
        raise OutputUnusable(f"{target.path} lies inside {path}, an input; write elsewhere")


def real_path(path: Path) -> Path:
    """Follow links as far as they lead; unlike ``Path.resolve``, one that leads in a circle is no error here."""
    return Path(os.path.realpath(path))


def _is_inside(path: Path, folder: Path) -> bool:
    return real_path(folder) in real_path(path).parents


@contextmanager
def output(target: Target, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary sibling to write to; it is renamed to the target if the block ends well, and removed if not.

    Raises ``OutputUnusable`` if the target can never be written, see :func:`check_targets`, exists at the end, see
    :func:`take_place`, or the disk refuses it.
    """
    check_targets([target], overwrite=True)  # without overwrite, what exists is noticed at the end: no work is lost
    part = own_sibling(target.path, target.path.suffix)
    try:
        if target.makes_parents:
            target.path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        take_place(part, target.path, overwrite=overwrite)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:160]
        raise OutputUnusable(
            f"{target.path} cannot be written: {reason}; free space, or write elsewhere with -o"
        ) from error
    finally:
        _remove(part)
        for _ in range(_REMOVALS):  # where one write of zarr fails, its others may still be under way
            if not part.exists():
                break
            time.sleep(0.1)
            _remove(part)


def own_sibling(path: Path, suffix: str = "") -> Path:
    """Give a hidden temporary name beside ``path`` that no other process uses.

    What processes that were killed left beside it is removed: of this machine where no such process runs, of others
    (a shared folder, a container) where nothing was written for a day.
    """
    _remove_left(path.parent, re.compile(re.escape(f".{path.name}.") + r"([A-Za-z0-9]*)-(\d{1,9})\.part(\.\w+)?"))
    mine = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}.part{suffix}")
    if os.path.lexists(mine):  # of an earlier process with the same number
        _remove(mine)
    return mine


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Give a folder for what is gone when the block ends; what killed processes of this user left is removed first."""
    _remove_left(Path(gettempdir()), re.compile(re.escape(purpose) + r"-([A-Za-z0-9]*)-(\d{1,9})-\w+"))
    with TemporaryDirectory(prefix=f"{purpose}-{_machine()}-{os.getpid()}-") as folder:
        yield Path(folder)


def _machine() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())


def _remove_left(folder: Path, name: re.Pattern[str]) -> None:
    """Remove what processes that are gone left under names of a machine and a process."""
    for left in sorted(folder.iterdir()) if folder.is_dir() else ():
        found = name.fullmatch(left.name)
        if found and not left.is_symlink() and _is_gone(left, machine=found[1], process=int(found[2])):
            _remove(left)


def _remove(left: Path) -> None:
    is_folder = left.is_dir() and not left.is_symlink()
    shutil.rmtree(left, ignore_errors=True) if is_folder else left.unlink(missing_ok=True)


def _is_gone(left: Path, *, machine: str, process: int) -> bool:
    if machine != _machine():
        return time.time() - left.stat().st_mtime > _STALE_S
    if os.name != "posix":
        return False  # asking is to signal there; what is left stays
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it runs, and is another user's
        pass
    return False


def take_place(part: Path, path: Path, *, overwrite: bool) -> None:
    """Rename a finished file or folder to ``path``, synced to disk; with ``overwrite``, what has that name goes.

    A folder that exists is exchanged with the new one in one step where the system can; else it is put aside for the
    moment between two renames.

    Raises ``OutputUnusable`` if ``path`` exists and may not be replaced, because another run wrote it meanwhile. The
    finished result is then beside it, under a name that the message gives.
    """
    written = [*part.rglob("*")] if part.is_dir() else [part]
    if len(written) > _MANY and hasattr(os, "sync"):
        os.sync()  # one by one, thousands of files of a zarr store would take minutes
    else:
        for one in written:
            sync(one)
    if overwrite:
        _replace(part, path)
        sync(path.parent)
    elif not _rename(part, path):
        kept = _keep_beside(part, path)
        raise OutputUnusable(
            f"{path} exists and is not replaced; this result is in {kept}: rename it, or use --overwrite the next time"
        )


def _replace(part: Path, path: Path) -> None:
    if not (path.is_dir() and part.is_dir()):
        part.replace(path)
    elif _rename_at_once(part, path, _RENAME_EXCHANGE) == 0:
        _remove(part)
    else:
        old = part.with_name(f"{part.name}.old")
        path.replace(old)
        try:
            part.replace(path)
        except OSError:
            old.replace(path)
            raise
        _remove(old)


def _rename(part: Path, path: Path) -> bool:
    """Rename, unless something has the name already."""
    refusal = _rename_at_once(part, path, _RENAME_NOREPLACE)
    if refusal and (refusal == errno.EEXIST or os.path.lexists(path)):
        return False
    if refusal:  # the system or the disk cannot: another run has the moment since the look at the name
        part.rename(path)
    sync(path.parent)
    return True


def _keep_beside(part: Path, path: Path) -> Path:
    """Rename to the first free name of NAME-2, NAME-3, ..."""
    number = 2
    while not _rename(part, kept := path.with_name(f"{path.stem}-{number}{path.suffix}")):
        number += 1
    return kept


def _rename_at_once(one: Path, other: Path, how: int) -> int:
    """Rename by Linux's renameat2; give 0, or the number of the error where the system or the disk cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return errno.ENOSYS
    refused = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), how)
    return ctypes.get_errno() if refused else 0
