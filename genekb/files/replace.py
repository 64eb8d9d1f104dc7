"""Outputs: targets checked before any work, results written to a temporary sibling and renamed when complete."""

import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Final, Literal

from genekb.core.errors import OutputUnusable
from genekb.files.atomic import sync

_STALE_S: Final = 86_400.0  # of another machine: nothing is written for so long
_MANY: Final = 100
_REMOVALS: Final = 20
_ASIDE: Final = ".old"
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
    """Check before any work that outputs can be written, and harm no input or other; ``OutputUnusable``."""
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
        raise OutputUnusable(f"{path} exists; give another name, or overwrite=True")


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
            raise OutputUnusable(f"{folder} may not be written to by this user; write elsewhere")


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
    """Give a temporary sibling to write to; it is renamed to the target if the block ends well, and removed if not."""
    check_targets([target], overwrite=True)  # without overwrite, what exists is noticed at the end: no work is lost
    part = temporary_sibling(target.path, target.path.suffix)
    try:
        if target.makes_parents:
            target.path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        replace_atomically(part, target.path, overwrite=overwrite)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:160]
        raise OutputUnusable(f"{target.path} cannot be written: {reason}; free space, or write elsewhere") from error
    finally:
        _remove(part)
        for _ in range(_REMOVALS):  # where one write of zarr fails, its others may still be under way
            if not part.exists():
                break
            time.sleep(0.1)
            _remove(part)


def temporary_sibling(path: Path, suffix: str = "") -> Path:
    """Give a hidden temporary name beside ``path`` that no other process uses.

    What killed processes left beside it is removed: of other machines where nothing was written for a day.
    """
    _remove_left(path.parent, rf"\.{re.escape(path.name)}\.([A-Za-z0-9]*)-(\d{{1,9}})\.(?:part(?:\.\w+)?|old)", path)
    mine = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}.part{suffix}")
    _remove(mine)  # of an earlier process with the same number
    return mine


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Give a folder for what is gone when the block ends; what killed processes of this user left is removed first."""
    _remove_left(Path(gettempdir()), rf"{re.escape(purpose)}-([A-Za-z0-9]*)-(\d{{1,9}})-\w+")
    with TemporaryDirectory(prefix=f"{purpose}-{_machine()}-{os.getpid()}-") as folder:
        yield Path(folder)


def _machine() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())


def _remove_left(folder: Path, pattern: str, path: Path | None = None) -> None:
    """Remove what dead processes left; a result that one had put aside returns to ``path`` where nothing is there."""
    for left in sorted(folder.iterdir()) if folder.is_dir() else ():
        named = re.fullmatch(pattern, left.name)
        if not named or left.is_symlink() or not _is_gone(left, machine=named[1], process=int(named[2])):
            continue
        if path and left.suffix == _ASIDE and not os.path.lexists(path):
            left.replace(path)
        else:
            _remove(left)


def _remove(path: Path) -> None:
    is_folder = path.is_dir() and not path.is_symlink()
    with suppress(NotADirectoryError):  # a file lies where a folder of the path should
        shutil.rmtree(path, ignore_errors=True) if is_folder else path.unlink(missing_ok=True)


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


def replace_atomically(part: Path, path: Path, *, overwrite: bool) -> None:
    """Rename a finished file or folder to ``path``, synced to disk; with ``overwrite``, what has that name goes.

    A folder that exists is put aside between two renames. ``OutputUnusable`` if another run wrote ``path`` meanwhile;
    the result is then beside it, under a name that the message gives.
    """
    written = [*part.rglob("*")] if part.is_dir() else [part]
    if len(written) > _MANY and hasattr(os, "sync"):
        os.sync()  # one by one, thousands of files of a zarr store would take minutes
    else:
        for each in written:
            sync(each)
    if overwrite:
        _replace(part, path)
    elif not _rename_new(part, path):
        number = 2
        while not _rename_new(part, kept := path.with_name(f"{path.stem}-{number}{path.suffix}")):
            number += 1
        raise OutputUnusable(
            f"{path} exists and is not replaced; this result is in {kept}: rename it, or use overwrite=True the next "
            "time"
        )
    sync(path.parent)


def _replace(part: Path, path: Path) -> None:
    if not (path.is_dir() and part.is_dir()):
        part.replace(path)
        return
    aside = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}{_ASIDE}")
    _remove(aside)
    path.replace(aside)
    try:
        part.replace(path)
    except OSError:
        aside.replace(path)
        raise
    _remove(aside)


def _rename_new(part: Path, path: Path) -> bool:
    """Rename, unless something has the name already, even if another run made it a moment ago."""
    if os.path.lexists(path):
        return False
    try:
        if part.is_dir():
            part.rename(path)  # refused where a folder of files has the name
        else:
            path.hardlink_to(part)  # unlike a rename, a link replaces nothing
            part.unlink()
    except OSError:
        if os.path.lexists(path):
            return False
        part.rename(path)  # a disk without hard links
    return True
