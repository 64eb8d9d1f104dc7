"""Errors of readers in one line: what is wrong with a file, and what to do."""

import csv
import gzip
import os
import stat
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final, TextIO

from cellmodel.core.errors import InputUnusable
from genekb.core.resources import raise_resource_fault

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
    """Check that there is a file or a folder that may be read.

    ``kinds``: what else could be given, in words. Raises ``InputUnusable`` if there is none.
    """
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
    """Check that a file is HDF5, and say what it is where it is not.

    Raises ``InputUnusable`` if it is not.
    """
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
