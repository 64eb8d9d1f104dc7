"""What the chunks of a zarr store unfold to, before any of them is unfolded: 30 kB of zstd may hold a gigabyte."""

import bz2
import gzip
import io
import math
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from cellmodel.core.errors import InputUnusable

_HEAD: Final = 32  # bytes in front of a chunk that say, with some codecs, what it unfolds to
_BLOCK_BYTES: Final = 1 << 20
_SPARE: Final = 64 << 20  # bytes that any chunk may take
_CHUNKS_AND_OBJECTS: Final = 64  # bytes of memory for a byte of text: Python's objects, chunks that are read at a time
_MOST_CHUNKS: Final = 10_000_000  # of an array; missing ones take time as well
_CHECKSUMS: Final = {"crc32c"}  # behind the packed bytes
_UNBOUND: Final = {"lzma", "pcodec", "zfpy", "sharding_indexed"}  # do not say what they unfold to; shards of shards
_METADATA: Final = {".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json"}
_ZSTD: Final = 0xFD2FB528  # first bytes of a frame
_SKIPPED: Final = 0x184D2A50  # of one that is passed over, but for its last four bits
_REPEATED, _COMPRESSED, _ZSTD_BLOCK = 1, 2, 1 << 17  # two kinds of blocks, and the most that the second holds
_NO_CHUNK: Final = 2**64 - 1  # in the index of a shard


def check_chunks(path: Path, place: str, array: Any, *, memory: int) -> None:
    """Check the chunks of an array of a zarr store.

    ``place``: the array inside the store, as ``X/data``. ``memory``: bytes of memory of this machine; a chunk of texts
    may take a part of it. Raises ``InputUnusable`` if a chunk unfolds to more than the array declares, or is packed in
    a way that does not say; ``ValueError`` if chunks have no length, or one is shorter than it says.
    """
    codecs, is_plain = _codecs(array)
    declared = _declared(path, place, array, memory=memory)
    while codecs and codecs[-1] in _CHECKSUMS:
        codecs.pop()
    packed = [name for name in codecs if name in _PACKED.keys() | _UNBOUND]
    if packed and (packed != codecs[-1:] or packed[0] in _UNBOUND):
        raise InputUnusable(
            f"{place} of {path} is packed by {' and '.join(packed)}, which is not read; write it anew with zstd or "
            "blosc"
        )
    allowed = max(_SPARE, declared) if is_plain else max(memory // _CHUNKS_AND_OBJECTS, 2 * declared)
    counted = codecs[: -1 if packed else None][-1:] == ["vlen-utf8"]
    for file in _files(path / array.path) if packed or counted else ():
        with file.open("rb", buffering=0) as stream:
            for start, n_bytes in _pieces(array, stream):
                stream.seek(start)
                if packed and _PACKED[packed[0]](stream, n_bytes, allowed) > allowed:
                    raise InputUnusable(
                        f"{file.relative_to(path)} of {path}, {n_bytes:,} bytes, unfolds to more than {allowed:,}, and "
                        f"chunks of {declared:,} are declared; the file is damaged, copy or write it again"
                    )
                if counted:
                    stream.seek(start)
                    _check_texts(stream.read(n_bytes), packed, math.prod(array.chunks))


def _declared(path: Path, place: str, array: Any, *, memory: int) -> int:
    """Give the bytes of a chunk, after a check that all chunks can be gone through."""
    if 0 in array.chunks:
        raise ValueError(f"the chunks of {place} have no length")
    declared = math.prod(array.chunks) * array.dtype.itemsize
    n_chunks = math.prod(-(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True))
    if declared > memory or n_chunks > _MOST_CHUNKS:
        raise InputUnusable(
            f"{place} of {path} is declared as {n_chunks:,} chunks of {declared:,} bytes, more than can be read one "
            "after the other; the file is damaged, copy or write it again"
        )
    return declared


def _check_texts(content: bytes, packed: list[str], n_texts: int) -> None:
    """Raise ValueError where texts say that they are more than a chunk has: room is made for all before any is read."""
    import numcodecs

    unfolded = numcodecs.get_codec({"id": packed[0]}).decode(content) if packed else content
    found = int.from_bytes(bytes(memoryview(unfolded)[:4]), "little")
    if found > n_texts:
        raise ValueError(f"a chunk of {n_texts:,} texts says that it holds {found:,}")


def _codecs(array: Any) -> tuple[list[str], bool]:
    """Give the codecs in the order of writing, and whether what they pack has the size that is declared."""
    if array.metadata.zarr_format == 2:  # noqa: PLR2004 - of two formats
        filters = list(array.metadata.filters or ())
        compressor = array.metadata.compressor
        names = [codec.codec_id for codec in [*filters, *([] if compressor is None else [compressor])]]
        return names, not filters and not array.dtype.hasobject
    codecs = [codec.to_dict() for codec in array.metadata.codecs]
    if codecs[-1]["name"] == "sharding_indexed":
        settings = codecs[-1]["configuration"]
        is_usual = [codec["name"] for codec in settings["index_codecs"]] == ["bytes", "crc32c"]
        codecs = [*codecs[:-1], *([] if is_usual else [codecs[-1]]), *settings["codecs"]]
    names = [codec["name"].removeprefix("numcodecs.") for codec in codecs]
    return names, set(names) <= _PACKED.keys() | _CHECKSUMS | {"bytes", "transpose"}


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names if name not in _METADATA)


def _pieces(array: Any, stream: io.FileIO) -> Iterator[tuple[int, int]]:
    """Give places and lengths of what was packed at a time: a file, or by the index of a shard its parts."""
    size = os.fstat(stream.fileno()).st_size
    if array.shards is None:
        yield 0, size
        return
    n_parts = math.prod(shard // chunk for shard, chunk in zip(array.shards, array.chunks, strict=True))
    index_bytes = 16 * n_parts + 4  # place and length of each, and a checksum
    is_in_front = "start" in str(array.metadata.codecs[-1].to_dict()["configuration"]["index_location"])
    if index_bytes > size:
        raise ValueError("a shard is shorter than its index")
    stream.seek(0 if is_in_front else size - index_bytes)
    index = np.frombuffer(stream.read(index_bytes)[: 16 * n_parts], dtype="<u8").reshape(-1, 2)
    yield from ((int(start), int(n_bytes)) for start, n_bytes in index if start != _NO_CHUNK and start < size)


def _by_zstd(stream: io.FileIO, n_bytes: int, allowed: int) -> int:
    """Bound it by the headers of frames and blocks (RFC 8878, 3.1.1); where they allow too much, unfold and count."""
    import pyarrow as pa

    start = stream.tell()
    place, found = start, 0
    while place < start + n_bytes and found <= allowed:
        place, size = bound_zstd_frame(stream, place)
        found += size
    if found <= allowed:
        return found
    stream.seek(start)
    return _count(pa.CompressedInputStream(io.BytesIO(stream.read(n_bytes)), "zstd").read, allowed)


def bound_zstd_frame(stream: io.FileIO, start: int) -> tuple[int, int]:
    """Give the end of a frame that starts at a place of a file, and the most bytes that it can unfold to.

    Only headers are read: of the frame and of its blocks (RFC 8878, 3.1.1). What is damaged is not told here.
    """
    stream.seek(start)
    mark, n_skipped = struct.unpack("<2I", stream.read(8).ljust(8, b"\0"))
    if mark & ~15 == _SKIPPED:
        return start + 8 + n_skipped, 0
    if mark != _ZSTD:
        return sys.maxsize, 0
    flags = n_skipped & 255  # the descriptor is where a frame that is skipped has its length
    is_single = flags >> 5 & 1
    place = start + 5 + (1 - is_single) + (0, 1, 2, 4)[flags & 3] + (is_single, 2, 4, 8)[flags >> 6]
    n_bytes, is_last = 0, False
    while not is_last:
        stream.seek(place)
        header = int.from_bytes(stream.read(3) or b"\1", "little")  # the end of a file ends what is cut off
        is_last, kind, size = header & 1 == 1, header >> 1 & 3, header >> 3
        n_bytes += _ZSTD_BLOCK if kind == _COMPRESSED else size
        place += 3 + (1 if kind == _REPEATED else size)
    return place + 4 * (flags >> 2 & 1), n_bytes


def _by_blosc(stream: io.FileIO, n_bytes: int, _: int) -> int:
    """Read the header; the library reads as far as that says, also beyond the end of the chunk."""
    head = stream.read(min(_HEAD, n_bytes))
    unfolded, _, stored = (int.from_bytes(head[start : start + 4], "little") for start in (4, 8, 12))
    if stored != n_bytes:
        raise ValueError(f"a chunk has {n_bytes:,} bytes, its header says {stored:,}")
    return unfolded


def _by_lz4(stream: io.FileIO, n_bytes: int, _: int) -> int:
    return int.from_bytes(stream.read(min(4, n_bytes)), "little")


def _by_unfolding(opened: Callable[[Any], Any]) -> Callable[[io.FileIO, int, int], int]:
    return lambda stream, n_bytes, allowed: _count(opened(io.BytesIO(stream.read(n_bytes))).read, allowed)


def _by_zlib(stream: io.FileIO, n_bytes: int, allowed: int) -> int:
    return len(zlib.decompressobj().decompress(stream.read(n_bytes), allowed + 1))


def _count(read: Callable[[int], bytes], allowed: int) -> int:
    """Count bytes until there are more than allowed; what is damaged is refused by its reader."""
    n_bytes = 0
    try:
        while n_bytes <= allowed and (block := read(_BLOCK_BYTES)):
            n_bytes += len(block)
    except (OSError, EOFError, zlib.error):
        pass
    return n_bytes


_PACKED: Final[dict[str, Callable[[io.FileIO, int, int], int]]] = {
    "zstd": _by_zstd,
    "blosc": _by_blosc,
    "lz4": _by_lz4,
    "zlib": _by_zlib,
    "gzip": _by_unfolding(gzip.open),
    "bz2": _by_unfolding(bz2.open),
}
