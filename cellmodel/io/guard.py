"""Checks before a cell file is read: kind, external links, declared sizes; what a library raises in one line."""

import csv
import gzip
import math
import os
import stat
import warnings
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from cellmodel.core.errors import InputUnusable
from genekb.core.resources import available_memory, in_units, raise_resource_fault

KINDS: Final = ".h5ad, .h5mu, .zarr, 10x .h5, a 10x folder with matrix.mtx, .csv, .tsv or .loom"
_UNREADABLE: Final = (
    *(OSError, EOFError, KeyError, ValueError, OverflowError, RuntimeError, IndexError, csv.Error, zlib.error),
)
# First bytes of what is often found under the name of a cell file, and what it is
_LOOKS_LIKE: Final = (
    (b"\x1f\x8b", "is gzipped; unzip it first (gunzip)"),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"version https://git-lfs", "is a pointer of Git LFS and not the file; fetch it with git lfs pull"),
    (b"<", "is a web page or XML, perhaps the error page of a download; download it again"),
)


@contextmanager
def damage_is_one_line(path: Path) -> Iterator[None]:
    """Turn what a library raises at a damaged file into one line; no code of ours that may fail runs inside."""
    try:
        yield
    except UnicodeDecodeError as error:
        utf16 = ", it looks like UTF-16" if error.object[:2] in {b"\xff\xfe", b"\xfe\xff"} else ""
        raise InputUnusable(f"{path} is no text in UTF-8 (byte {error.start:,}{utf16}); save it as UTF-8") from error
    except (MemoryError, *_UNREADABLE) as error:
        raise_resource_fault(error)
        if "Not a gzipped file" in str(error):
            raise InputUnusable(f"{path} is named .gz, but is not gzipped; take .gz off its name, or zip it") from error
        raise InputUnusable(
            f"{path} cannot be read ({_reason(error)}); is it complete, and of the kind its name says?"
        ) from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


@contextmanager
def refused_by_anndata(path: Path) -> Iterator[None]:
    """Say in one line what anndata raises at content that it does not know; no code of ours runs inside."""
    from anndata._io.specs.registry import IORegistryError  # it has no public name

    try:
        yield
    except IORegistryError as error:
        raise InputUnusable(
            f"{path} cannot be read by anndata {version('anndata')} ({_reason(error)}); update anndata, or write the "
            "file again with an older one"
        ) from error
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


@contextmanager
def quiet_names() -> Iterator[None]:
    """Names that occur twice, and files of old anndata, are reported by us, not by warnings."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*names are not unique", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*written without encoding metadata")
        warnings.filterwarnings("ignore", message=".*was written with a very old version of AnnData")
        warnings.filterwarnings("ignore", message="Moving element from")
        yield


def check_there(path: Path, *, kinds: str) -> None:
    """Check that there is a file or a folder that may be read; ``kinds``: what else could be given, in words."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        what = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise InputUnusable(f"{path} {what}; give {kinds}") from None
    except OSError as error:
        raise InputUnusable(f"{path} cannot be reached: {error.strerror}; give {kinds}") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputUnusable(f"{path} is a pipe or a device; write it to a file first, and give that")
    if not os.access(path, os.R_OK):
        raise InputUnusable(f"{path} may not be read by this user; allow it (chmod u+r), or copy it")


def check_hdf5(path: Path) -> None:
    """Check that a file is HDF5, and say what it is where it is not."""
    import h5py

    if path.is_dir():
        raise InputUnusable(f"{path} is a folder, not a file; if it is a zarr store, let its name end with .zarr")
    if h5py.is_hdf5(path):
        return
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise InputUnusable(f"{path} is empty (0 bytes); copy or download it again")
    for mark, what in _LOOKS_LIKE:
        if head.startswith(mark):
            raise InputUnusable(f"{path} {what}")
    raise InputUnusable(f"{path} is no HDF5 file, or is cut off; copy or download it again")


def open_text(path: Path) -> TextIO:
    """Open text in UTF-8, gzipped or not."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def check_enclosed(path: Path, file: Any) -> None:
    """Check that no part of an open HDF5 file is a link to another file, or raw or virtual data of one.

    Else what a stranger's file names, such as a list of passwords, would be read as numbers and written to the result.
    """
    import h5py

    if not isinstance(file, h5py.Group):
        return
    groups, outside = [("", file)], []

    def look(place: str, element: Any) -> None:
        if isinstance(element, h5py.Group):
            groups.append((f"{place}/", element))
        elif isinstance(element, h5py.Dataset) and (element.external or element.is_virtual):
            outside.append(place)

    file.visititems(look)
    links = ((place + _shown(name), group.get(name, getlink=True)) for place, group in groups for name in group)
    outside += [place for place, link in links if isinstance(link, h5py.ExternalLink)]
    if outside:
        raise InputUnusable(
            f"{outside[0]} of {path} lies in another file, which is not read; copy its values into the file"
        )


def _shown(name: str | bytes) -> str:
    """Show the name of a part, which h5py gives as bytes where it is no UTF-8."""
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")


def check_enclosed_folder(path: Path) -> None:
    """Check that a folder holds plain files and folders alone; no file is opened. It may be a link itself.

    A link inside is refused wherever it leads: no zarr store needs one, and one that leads upwards has no end.
    """
    folders = [os.fspath(path)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not entry.is_file(follow_symlinks=False):
                    what = "a pipe or a device, which is not read; copy the whole folder again"
                    if entry.is_symlink():
                        what = "a link, which is not followed; copy what it links to into the folder in its place"
                    raise InputUnusable(f"{os.path.relpath(entry.path, path)} of {path} is {what}")


PARTS: Final = ("data", "indices", "indptr")
_READ_AT_ONCE: Final = 10_000  # numbers
_MOST_CHUNKS: Final = 10_000_000  # of an array of zarr; missing ones take time as well
_DENSEST: Final = 2_000  # bytes of values that a stored byte can hold; deflate reaches 1,032


def check_declared(path: Path, file: Any, *, backed: Collection[str] = ()) -> None:
    """Check the sizes that an open HDF5 file or zarr store declares: a few bytes may declare terabytes of zeros.

    ``backed``: matrices, as ``X`` or ``layers/counts``: they need not fit into memory. External links are refused.
    """
    check_enclosed(path, file)
    total = 0
    elements = list(_elements(file))
    for place, element in elements:
        is_backed = any(place == name or place.startswith(f"{name}/") for name in backed)
        if not hasattr(element, "keys") and (not is_backed or place.endswith("/indptr")):
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
    if encoding in {"csr_matrix", "csc_matrix"} and {*PARTS} <= set(group) and "shape" in group.attrs:
        shape = [int(size) for size in np.ravel(group.attrs["shape"])]
        check_pointers(path, place, group, shape=shape, by_columns=encoding == "csc_matrix")


def check_pointers(path: Path, place: str, group: Any, *, shape: Sequence[int], by_columns: bool) -> None:
    """Check that data, indices and indptr of a sparse matrix fit together; ``by_columns``: it is CSC."""
    if any(hasattr(group[part], "keys") or len(group[part].shape) != 1 for part in PARTS):
        raise InputUnusable(
            f"{place} of {path} has a part that is not one-dimensional; the file is damaged, copy or write it again"
        )
    if group["indices"].dtype.kind not in "iu":
        raise InputUnusable(
            f"{place} of {path} has indices of type {group['indices'].dtype}, which are no whole numbers; the file is "
            "damaged, copy or write it again"
        )
    stored = group["indptr"]  # some at a time: while HDF5 reads, it holds some 6 kB a chunk
    starts = range(0, max(stored.shape[0], 1), _READ_AT_ONCE)
    pointers = np.concatenate([np.asarray(stored[start : start + _READ_AT_ONCE]) for start in starts])
    pointers = pointers.astype(np.int64)  # scipy takes differences of unsigned ones for positive
    n_entries = int(pointers[-1]) if len(pointers) else 0
    found = "x".join(f"{group[part].shape[0]:,}" for part in ("data", "indices"))
    wrong = ""
    if len(shape) != 2 or len(pointers) != shape[by_columns] + 1:  # noqa: PLR2004 - rows and columns
        wrong = f"pointers for {len(pointers) - 1:,} {('rows', 'columns')[by_columns]}"
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
        raise InputUnusable(
            f'{what}; {memory}: give out_of_core="yes" (.h5ad, .zarr, 10x .h5), or use a larger machine'
        )
    raise InputUnusable(
        f"{what}, which {in_units(size_on_disk(path))} on disk cannot hold; {memory}: the file is damaged, copy or "
        "write it again"
    )
