"""Memory limits, permissions, interrupts: what stops a process, and is no damage of a file."""

import ctypes
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from genekb.core.errors import GeneKBError, MemoryLimitReached, NotAvailable

try:
    import resource
except ImportError:  # Windows has no limits of a process
    resource = None  # type: ignore[assignment]  # asked for before each use

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
_ARENA_MAX: Final = -8  # of glibc's malloc.h
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?", re.IGNORECASE)
_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")  # of a container

# What libraries say that have no error of their own for it; they also raise it as MemoryError, or with its number
_OWN_LIMIT: Final = "iB used)"  # DuckDB at the limit that a query has, with memory left
_ARROW_NAMES: Final = re.compile(r"local file '(.+?)'")
_FILTER: Final = "filter returned failure"  # HDF5 of a chunk that is damaged, or for which there is no memory
_CHUNK_BYTES: Final = 1 << 25
_SHORT: Final = re.compile(
    r"(cannot|can't|unable to|failed to|could not) allocate|(not enough|out of) memory|malloc of size|bad.alloc"
    r"|memory allocation failed|failed to map segment|could not expand output buffer|start new thread"
    r"|launch worker thread|return without exception",
    re.IGNORECASE,
)


def parse_size(text: str) -> int:
    """Bytes of a size such as ``8GB`` or ``512MiB``; ``ValueError`` if it is none, or nothing."""
    found = _SIZE.fullmatch(text.strip())
    base = 1024 if found and found[3] else 1000
    n_bytes = int(float(found[1]) * base ** " kmgt".index(found[2].lower() or " ")) if found else 0
    if n_bytes < 1:
        raise ValueError(f"{text!r} is no size of memory; give a number with a unit, such as 8GB or 512MB")
    return n_bytes


def in_units(n_bytes: int) -> str:
    """Write a number of bytes in a unit that suits it: ``8.59 GB``."""
    power = min(int(math.log10(max(n_bytes, 1))) // 3, len(_UNITS) - 1)
    return f"{n_bytes / 1000**power:.3g} {_UNITS[power]}"


def limit_memory(n_bytes: int | None = None) -> None:
    """Limit the data (``RLIMIT_DATA``, not mapped files) of this process and its children, to the machine's if None."""
    if resource is None:
        return
    if sys.platform == "linux":  # one heap for all threads: what one frees another takes
        getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)(_ARENA_MAX, 1)
    wanted = n_bytes or available_memory()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def available_memory() -> int:
    """Bytes that this process may use: the limit that was set, or what the machine, container or ``ulimit`` allows."""
    limits = [_limit(name) for name in ("RLIMIT_DATA", "RLIMIT_AS")]
    if limits[0] is None:
        limits += [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _container_memory()]
    return min(limit for limit in limits if limit is not None)


def _container_memory() -> int | None:
    try:
        return int(_CGROUP.read_text())
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return None


def _limit(name: str) -> int | None:
    if resource is None:
        return None
    soft = resource.getrlimit(getattr(resource, name))[0]
    return None if soft == resource.RLIM_INFINITY else soft


def resource_fault(error: BaseException) -> GeneKBError | None:
    """Give the error to raise where too little memory, or a file's permissions, is behind an error; else None."""
    short = next((cause for cause in _causes(error) if _is_short(cause)), None)
    if short is not None:
        reason = " ".join(str(short).split())[:120] or type(short).__name__
        limit = _limit("RLIMIT_DATA")
        if limit is not None and _limit("RLIMIT_AS") is None and "thread" not in reason:
            return MemoryLimitReached(
                f"too little memory ({reason}): more than {in_units(limit)} is needed; allow more (`max_memory`), "
                'use fewer threads (OMP_NUM_THREADS=1), or read cells with out_of_core="yes"'
            )
        return NotAvailable(
            f"too little memory ({reason}); free some, raise the limit (ulimit -v), use fewer threads "
            '(OMP_NUM_THREADS=1), or read cells with out_of_core="yes"'
        )
    if isinstance(error, PermissionError):
        named = _ARROW_NAMES.search(str(error))
        name = error.filename or (named[1] if named else error)
        return NotAvailable(f"{name}: permission denied; let its owner allow it (chmod), or take a copy of your own")
    return None


def raise_resource_fault(error: BaseException) -> None:
    """Raise what :func:`resource_fault` gives, if anything; called where a file is about to be called damaged."""
    fault = resource_fault(error)
    if fault is not None:
        raise fault from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_short(error: BaseException) -> bool:
    """Whether it is a MemoryError, or one of a library that says so; ours, and those of values, may quote a user."""
    if isinstance(error, (ValueError, LookupError)) or type(error).__module__.startswith(("genekb.", "cellmodel.")):
        return False
    text = getattr(error, "strerror", None) or str(error)  # without the name of a file
    is_reported = _SHORT.search(text) is not None and _OWN_LIMIT not in text
    return isinstance(error, MemoryError) or is_reported or (_FILTER in text and not _has_memory())


def _has_memory() -> bool:
    """Whether there is memory for a large chunk of an array."""
    try:
        return bool(bytearray(_CHUNK_BYTES))
    except MemoryError:
        return False


@contextmanager
def note_on_interrupt(what: str) -> Iterator[None]:
    """Add a note to a KeyboardInterrupt: what of the work inside is kept, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(what)
        raise


def leave_interrupts_to_parent() -> None:
    """Ignore Ctrl-C, which a terminal sends to workers too: the process that started them ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def sigterm_handler_kept() -> Iterator[None]:
    """Put the handler of SIGTERM back, which ``ray.init`` replaces by one that exits with the signal's number."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:
        if end.code == signal.SIGTERM:
            raise KeyboardInterrupt from end
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def release_unused() -> None:
    """Give memory back that Arrow's allocator keeps for later: its threads keep some each, more than is in use."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
