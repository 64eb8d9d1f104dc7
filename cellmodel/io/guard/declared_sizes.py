"""Sizes that a cell file declares, checked before it is read: parts that fit together, and into memory."""

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from cellmodel.core.errors import InputUnusable
from cellmodel.io.guard.external_links import check_enclosed
from genekb.core.resources import available_memory, in_units

SPARSE: Final = {"csr_matrix": 0, "csc_matrix": 1}  # encoding, and the axis that its indptr runs along
_PARTS: Final = ("data", "indices", "indptr")
_MOST_CHUNKS: Final = 10_000_000  # of an array of zarr; missing ones take time as well
_DENSEST: Final = 2_000  # bytes of values that a stored byte can hold; deflate reaches 1,032


def check_declared(path: Path, file: Any, *, stay: Collection[str] = ()) -> None:
    """Check the sizes that an open HDF5 file or zarr store declares: a few bytes may declare terabytes of zeros.

    ``stay``: backed matrices, as ``X`` or ``layers/counts``: they need not fit into memory. Raises ``InputUnusable`` if
    a sparse matrix has another number of rows than its pointers say, the arrays or a chunk exceed the memory, or a part
    lies in another file.
    """
    check_enclosed(path, file)
    total = 0
    elements = list(_elements(file))
    for place, element in elements:
        stays = any(place == name or place.startswith(f"{name}/") for name in stay)
        if not hasattr(element, "keys") and (not stays or place.endswith("/indptr")):
            n_bytes = _n_bytes(element)
            if n_bytes > available_memory():
                shape = " x ".join(f"{size:,}" for size in element.shape)
                _refuse(path, f"{place} of {path} is declared as {shape} {element.dtype}, {in_units(n_bytes)}", n_bytes)
            total += n_bytes
        if hasattr(element, "metadata") and not hasattr(element, "keys"):  # an array of zarr
            _check_chunks(path, place, element)
    if total > available_memory():
        _refuse(path, f"{path} holds {in_units(total)}", total)
    for place, element in elements:  # now that their pointers are known to fit into memory
        if hasattr(element, "keys"):
            _check_sparse(path, place, element)


def could_hold(path: Path, n_bytes: int) -> bool:
    """Whether a file or folder is large enough to hold that many bytes of values, compressed."""
    return n_bytes <= _DENSEST * max(1, size_on_disk(path))


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    return path.stat().st_size


def _elements(file: Any) -> Iterator[tuple[str, Any]]:
    """Give groups and arrays with their places, no types that have a name; links out of the file are not followed."""
    if hasattr(file, "visititems"):
        found: list[tuple[str, Any]] = []
        file.visititems(lambda place, element: found.append((place, element)))
        yield from (each for each in found if hasattr(each[1], "keys") or hasattr(each[1], "shape"))
    else:
        yield from sorted(file.members(max_depth=None), key=lambda member: member[0])


def _n_bytes(element: Any) -> int:
    try:
        n_bytes = int(getattr(element.dtype, "itemsize", 0) or 8)
    except TypeError as error:  # h5py has no type for what is stored
        raise ValueError(str(error)) from error
    return math.prod(element.shape or ()) * n_bytes


def _check_chunks(path: Path, place: str, array: Any) -> None:
    """Check that the chunks that an array of zarr declares can be gone through one by one."""
    if 0 in array.chunks:
        raise ValueError(f"the chunks of {place} have no length")
    n_bytes = math.prod(array.chunks) * array.dtype.itemsize
    n_chunks = math.prod(-(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True))
    if n_bytes > available_memory() or n_chunks > _MOST_CHUNKS:
        raise InputUnusable(
            f"{place} of {path} is declared as {n_chunks:,} chunks of {n_bytes:,} bytes, more than can be read one "
            "after the other; the file is damaged, copy or write it again"
        )


def _check_sparse(path: Path, place: str, group: Any) -> None:
    encoding = str(group.attrs.get("encoding-type"))
    if encoding not in SPARSE or not {*_PARTS} <= set(group) or "shape" not in group.attrs:
        return
    shape = [int(size) for size in np.ravel(group.attrs["shape"])]
    if any(hasattr(group[part], "keys") or len(group[part].shape) != 1 for part in _PARTS):
        raise InputUnusable(
            f"{place} of {path} has a part that is not one-dimensional; the file is damaged, copy or write it again"
        )
    if group["indices"].dtype.kind not in "iu":
        raise InputUnusable(
            f"{place} of {path} has indices of type {group['indices'].dtype}, which are no whole numbers; the file is "
            "damaged, copy or write it again"
        )
    pointers = group["indptr"][:].astype(np.int64)  # scipy takes the difference of unsigned ones for positive
    n_entries = int(pointers[-1]) if len(pointers) else 0
    found = "x".join(f"{group[part].shape[0]:,}" for part in ("data", "indices"))
    wrong = ""
    if len(shape) != 2 or len(pointers) != shape[SPARSE[encoding]] + 1:  # noqa: PLR2004 - rows and columns
        wrong = f"pointers for {len(pointers) - 1:,} {('rows', 'columns')[SPARSE[encoding]]}"
    elif found != f"{n_entries:,}x{n_entries:,}":
        wrong = f"{found.replace('x', ' values and ')} indices for {n_entries:,} entries"
    elif pointers[0] != 0 or (np.diff(pointers) < 0).any():
        wrong = "pointers that do not rise from 0 on"
    if wrong:
        declared = " x ".join(f"{size:,}" for size in shape)
        raise InputUnusable(
            f"{place} of {path} is declared as {declared}, but has {wrong}; the file is damaged, copy or write it again"
        )


def _refuse(path: Path, what: str, n_bytes: int) -> None:
    memory = f"{in_units(available_memory())} of memory may be used"
    if could_hold(path, n_bytes):
        raise InputUnusable(f"{what}; {memory}: give --out-of-core yes (.h5ad and .zarr), or use a larger machine")
    raise InputUnusable(
        f"{what}, which {in_units(size_on_disk(path))} on disk cannot hold; {memory}: the file is damaged, copy or "
        "write it again"
    )
