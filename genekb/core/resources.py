"""Too little memory, and files that this user may not open: no reader calls these damage."""

import re
from collections.abc import Iterator
from typing import Final

from genekb.core.errors import NotAvailable

# What libraries say that have no error of their own for it; they also raise it as MemoryError, or with its number
_OWN_LIMIT: Final = "iB used)"  # DuckDB at the limit that a query has, with memory left
_ARROW_NAMES: Final = re.compile(r"local file '(.+?)'")
_FILTER: Final = "filter returned failure"  # HDF5 of a chunk that is damaged, or for which there is no memory
_CHUNK_BYTES: Final = 1 << 25
_SHORT: Final = re.compile(
    r"(cannot|can't|unable to|failed to|could not) allocate|(not enough|out of) memory|malloc of size|bad.alloc"
    r"|memory allocation failed|failed to map segment|start new thread|launch worker thread|return without exception",
    re.IGNORECASE,
)


def resource_fault(error: BaseException) -> NotAvailable | None:
    """Give the error to raise where too little memory, or a file's permissions, is behind an error; else None."""
    short = next((cause for cause in _causes(error) if _is_short(cause)), None)
    if short is not None:
        reason = " ".join(str(short).split())[:120] or type(short).__name__
        return NotAvailable(
            f"too little memory ({reason}); free some, raise the limit (ulimit -v), use fewer threads "
            "(OMP_NUM_THREADS=1), or read cells with --out-of-core yes"
        )
    if isinstance(error, PermissionError):
        named = _ARROW_NAMES.search(str(error))
        name = error.filename or (named[1] if named else error)
        return NotAvailable(f"{name}: permission denied; let its owner allow it (chmod), or take a copy of your own")
    return None


def raise_resource_fault(error: BaseException) -> None:
    """Raise what :func:`resource_fault` gives, if anything; called where a file is about to be called damaged.

    Raises ``NotAvailable`` if the file is not to blame.
    """
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
    is_told = _SHORT.search(text) is not None and _OWN_LIMIT not in text
    return isinstance(error, MemoryError) or is_told or (_FILTER in text and not _has_memory())


def _has_memory() -> bool:
    """Whether there is memory for a large chunk of an array."""
    try:
        bytearray(_CHUNK_BYTES)
    except MemoryError:
        return False
    return True
