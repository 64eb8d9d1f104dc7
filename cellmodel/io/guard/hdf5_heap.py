"""Heaps of texts in HDF5 that the library would read without end, found before it opens the file.

A collection lists its objects one behind the other. HDF5 (2.0 and before) goes on by the length that each states, and
where that is nothing it stays where it is for ever; no signal that Python handles gets through.
"""

import io
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from cellmodel.core.errors import InputUnusable

_MARK: Final = b"GCOL"  # of a global heap collection (HDF5 file format, III.E)
_VERSION: Final = b"\1\0\0\0"  # behind the mark
_HEAD: Final = 16  # bytes of the mark and the collection's length, and of each object before its content
_SIZES: Final = 1 << 64
_BLOCK_BYTES: Final = 1 << 24


def check_heaps(path: Path) -> None:
    """Check that every heap of texts of an HDF5 file has an end.

    Raises ``InputUnusable`` if one has none.
    """
    stat = path.stat()
    place = _find_endless(path, stat.st_size, stat.st_mtime_ns)
    if place is not None:
        raise InputUnusable(
            f"{path} holds texts at byte {place:,} that HDF5 would read without end; the file is damaged, copy it again"
        )


@lru_cache(maxsize=16)
def _find_endless(path: Path, _size: int, _changed: int) -> int | None:
    """Place of the first heap without an end; a file is gone through once a process, unless it changes."""
    with path.open("rb") as file:
        return next((place for place in _heaps(file) if _is_endless(file, place)), None)


def _heaps(file: io.BufferedReader) -> Iterator[int]:
    """Places of the marks of heaps, also of one that lies across two blocks."""
    start, kept = 0, b""
    while block := _read_at(file, start + len(kept), _BLOCK_BYTES):
        block = kept + block
        found = block.find(_MARK)
        while found >= 0:
            yield start + found
            found = block.find(_MARK, found + 1)
        kept = block[1 - len(_MARK) :]
        start += len(block) - len(kept)


def _is_endless(file: io.BufferedReader, place: int) -> bool:
    """Follow the objects of a heap as HDF5 does: free space, numbered 0, states its length with its head."""
    head = _read_at(file, place + len(_MARK), _HEAD - len(_MARK))
    if not head.startswith(_VERSION):
        return False
    at, n_bytes = _HEAD, int.from_bytes(head[len(_VERSION) :], "little")
    while at + _HEAD <= n_bytes and len(head := _read_at(file, place + at, _HEAD)) == _HEAD:
        number, size = int.from_bytes(head[:2], "little"), int.from_bytes(head[8:], "little")
        step = size if number == 0 else (_HEAD + size + (-size) % 8) % _SIZES
        if step == 0:
            return True
        at += step
    return False


def _read_at(file: io.BufferedReader, place: int, n_bytes: int) -> bytes:
    file.seek(place)
    return file.read(n_bytes)
