"""Stages of a long run, each kept in a folder when it is done, so that a run that was cut short goes on after the last.

A stage is a function that writes arrays into a folder of its own; the folder takes its name when the function has
returned, so that what has the name is whole. Arrays are memory-mapped when they are read.
"""

import json
import logging
import mmap
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import DTypeLike

from cellmodel.core.errors import InputUnusable, WorkUnwritten
from genekb.files.atomic import sync

log = logging.getLogger(__name__)
KEY: Final = "run.json"
LOCK: Final = "run.lock"
RECORD: Final = "record.json"


class StoredArrays:
    """Arrays as ``NAME.npy`` in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[np.memmap] = []

    def create(self, name: str, *, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Map a new file, to be filled block by block."""
        mapped = np.lib.format.open_memmap(self._folder / f"{name}.npy", mode="w+", dtype=np.dtype(dtype), shape=shape)
        self._open.append(mapped)
        return mapped

    def save(self, name: str, values: np.ndarray) -> None:
        """Write a file."""
        np.save(self._folder / f"{name}.npy", values, allow_pickle=False)

    def flush(self) -> None:
        """Write what is still in memory of the mapped files."""
        for mapped in self._open:
            mapped.flush()


class MemoryArrays(dict[str, np.ndarray]):
    """Arrays by name."""

    def create(self, name: str, *, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Allocate an array, to be filled block by block."""
        self[name] = np.empty(shape, dtype=dtype)
        return self[name]

    def save(self, name: str, values: np.ndarray) -> None:
        """Keep the array itself."""
        self[name] = values


Arrays = StoredArrays | MemoryArrays  # where a stage keeps its arrays
Make = Callable[[Arrays], Mapping[str, Any]]  # keeps the arrays of a stage and returns its plain values


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stage:
    """What a stage left."""

    arrays: Mapping[str, np.ndarray]  # by name, not to be written to; memory-mapped where they are files
    record: Mapping[str, Any]  # plain values


class MemoryStages:
    """The stages of a run whose cells are in memory: nothing is written, and nothing is taken up."""

    def run(self, name: str, make: Make) -> Stage:
        """Give a stage."""
        arrays = MemoryArrays()
        return Stage(record=make(arrays), arrays=arrays)


class Stages:
    """The stages of one run in one folder, which is made if it is missing.

    ``key``: everything that decides the results, as plain values; the stages of another key are dropped.
    """

    def __init__(self, folder: Path, *, key: Mapping[str, Any]) -> None:
        self.folder = folder
        self._lock = FileLock(folder / LOCK)
        self._mapped: list[np.memmap] = []
        text = json.dumps(key, sort_keys=True, default=str)
        try:
            self._claim(text)
        except Timeout as error:
            raise InputUnusable(f"another run works in {folder}; wait for it, or give another `work_dir`") from error
        except OSError as error:
            raise WorkUnwritten(f"{folder} cannot be written: {error.strerror}; give another `work_dir`") from error

    def _claim(self, key: str) -> None:
        held = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
        if held and KEY not in held and held != {LOCK}:
            raise InputUnusable(f"{self.folder} holds other files, it is never used; give another `work_dir`")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire(timeout=0)
        if (self.folder / KEY).is_file() and (self.folder / KEY).read_text() == key:
            return
        self._drop()
        (self.folder / KEY).write_text(key)

    def _drop(self) -> None:
        """Drop all stages; a kill in the middle leaves a folder that is of no run, and is cleared by the next one."""
        (self.folder / KEY).write_text("")
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)

    def run(self, name: str, make: Make) -> Stage:
        """Give a stage, from its folder if it was done before; ``WorkUnwritten`` if the disk refuses."""
        target = self.folder / name
        if target.is_dir():
            log.info("%s: done before, taken from %s", name, target)
            return self._read(target)
        self.forget()
        part = self.folder / f"{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        started = time.perf_counter()
        try:
            part.mkdir(parents=True)
            arrays = StoredArrays(part)
            record = dict(make(arrays))
            arrays.flush()
            seconds = round(time.perf_counter() - started, 2)
            (part / RECORD).write_text(json.dumps({"record": record, "seconds": seconds}))
            for path in part.iterdir():
                sync(path)
            part.rename(target)
            sync(target.parent)
        except OSError as error:
            raise WorkUnwritten(
                f"{part} cannot be written: {error.strerror or error}; free space, or give another `work_dir`"
            ) from error
        log.info("%s: %.1f s", name, seconds)
        return self._read(target)

    def forget(self) -> None:
        """Take the arrays of all stages out of resident memory; what is looked at again comes from their files."""
        for array in self._mapped:
            mapped = array.base
            if isinstance(mapped, mmap.mmap) and hasattr(mapped, "madvise"):  # not on Windows
                mapped.madvise(mmap.MADV_DONTNEED)

    def _read(self, folder: Path) -> Stage:
        arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(folder.glob("*.npy"))}
        self._mapped.extend(array for array in arrays.values() if isinstance(array, np.memmap))
        return Stage(arrays=arrays, record=json.loads((folder / RECORD).read_text())["record"])

    def remove(self) -> None:
        """Remove the folder with all stages, and let go of it."""
        self._mapped.clear()
        with suppress(OSError):
            self._drop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Let go of the folder, so that another run may work in it."""
        self._lock.release()


@dataclass(frozen=True, kw_only=True, slots=True)
class InputStages:
    """The stages of one of several inputs of a run."""

    stages: Stages
    name: str  # of the folder in the folder of the run

    @property
    def folder(self) -> Path:
        """Folder of the stages."""
        return self.stages.folder / self.name

    def run(self, name: str, make: Make) -> Stage:
        """Give a stage, see :meth:`Stages.run`."""
        return self.stages.run(f"{self.name}/{name}", make)


AnyStages = MemoryStages | Stages | InputStages
