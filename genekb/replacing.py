"""Results in a user's folder: made beside their place under a name of this process, then put there in one step."""

import ctypes
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Final

from genekb.files import sync

_STALE_S: Final = 86_400.0  # of another machine: nothing is written for so long
_MANY: Final = 100
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


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
    shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _is_gone(left: Path, *, machine: str, process: int) -> bool:
    if machine == _machine():
        return not _is_running(process)
    return time.time() - left.stat().st_mtime > _STALE_S


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # asking is to signal there; what is left stays
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it runs, and is another user's
        return True
    return True


def take_place(part: Path, path: Path) -> None:
    """Put a finished file or folder where it belongs, synced to disk; what was there before goes.

    A folder that is there is exchanged with the new one in one step where the system can; else it is put aside for the
    moment between two renames.
    """
    written = [*part.rglob("*")] if part.is_dir() else [part]
    if len(written) > _MANY and hasattr(os, "sync"):
        os.sync()  # one by one, thousands of files of a zarr store would take minutes
    else:
        for one in written:
            sync(one)
    if not path.is_dir():
        part.replace(path)
    elif _exchange(part, path):
        shutil.rmtree(part)
    else:
        old = part.with_name(f"{part.name}.old")
        path.replace(old)
        try:
            part.replace(path)
        except OSError:
            old.replace(path)
            raise
        shutil.rmtree(old)
    sync(path.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system or the disk cannot."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if swap is None:
        return False
    return bool(swap(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)
