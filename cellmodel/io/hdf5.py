"""HDF5 files opened for writing, such that a disk that refuses is an error and no crash."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Literal


@contextmanager
def open_h5ad(path: Path, mode: Literal["w", "r+"]) -> Iterator[Any]:
    """Open for writing, such that a disk that refuses gives an error."""
    import h5py

    with _Sink(path, "w+" if mode == "w" else "r+") as sink, warnings.catch_warnings():
        # columns such as "CD4/CD8" of the user's tables are kept
        warnings.filterwarnings("ignore", message="Forward slashes will be disallowed in h5", category=FutureWarning)
        try:
            with h5py.File(sink, mode) as file:
                yield file
        finally:
            if sink.refusal is not None:
                raise sink.refusal


class _Sink(FileIO):
    """A file that keeps the first refusal of the disk to itself, to be raised once HDF5 has closed.

    HDF5 cannot close a file whose last writes fail, and ends the process with a segmentation fault at its exit.
    """

    refusal: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of it, or pretend to."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and self.refusal is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.refusal = error
        return size

    def readinto(self, buffer: Any) -> int:
        """Read, and zeros beyond the end, as HDF5's own files give: what it reads back need not be written yet."""
        into = memoryview(buffer).cast("B")
        n_read = super().readinto(into) or 0
        into[n_read:] = bytes(len(into) - n_read)
        return len(into)

    def truncate(self, size: int | None = None) -> int:
        """Set the size, or pretend to."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.refusal = self.refusal or error
            return size or 0

    def flush(self) -> None:
        """Do nothing: no byte waits here."""
