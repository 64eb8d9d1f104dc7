"""Files from a place to a folder: several at once, each going on where it broke off, each compared with its digest."""

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from genekb.core.errors import NotAvailable, StoreCorrupt
from genekb.files.atomic import TEMPORARY, sha256_file
from genekb.net.client import Absent
from genekb.net.retry import TryAgain, with_tries
from genekb.share.remotes import Remote
from genekb.store.manifest import StoredFile

ENOUGH: Final = 1 << 16  # bytes that a broken connection must have brought for the next one to count as the first try

Progress = Callable[[str, int, int], None]
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How a place is asked.

    Raises ``ValueError`` if a number is not positive.
    """

    n_jobs: int = 4  # files on their way at once
    max_tries: int = 6  # of each file, without any progress in between
    timeout_s: float = 60.0  # longest silence of a server
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)  # waits between tries, in seconds

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.n_jobs < 1 or self.max_tries < 1 or self.timeout_s <= 0:
            raise ValueError(f"jobs, tries and timeout must be positive, got {self}")


def read_small(remote: Remote, path: str, *, limit: int, patience: Patience) -> bytes | None:
    """Read a small file; None where there is none.

    Raises ``StoreCorrupt`` if it is longer than ``limit`` bytes; ``NotAvailable`` if it does not come.
    """

    def read() -> bytes:
        content = b""
        for block in remote.read(path):
            content += block
            if len(content) > limit:
                raise StoreCorrupt(f"{remote.name}/{path} has more than {limit:,} bytes; it is none of ours")
        return content

    try:
        return with_tries(read, max_tries=patience.max_tries, sleep=patience.sleep)
    except Absent:
        return None
    except TryAgain as error:
        raise _gave_up(remote, path, patience, error) from error


def _gave_up(remote: Remote, path: str, patience: Patience, error: TryAgain) -> NotAvailable:
    return NotAvailable(
        f"{remote.name} did not give {path} in {patience.max_tries} tries ({error}); what has arrived is kept: run the "
        "same command again"
    )


def fetch_files(
    remote: Remote,
    files: Sequence[StoredFile],
    folder: Path,
    *,
    prefix: str,
    patience: Patience,
    progress: Progress | None = None,
) -> int:
    """Bring files to a folder; those that are there, whole, are not asked for again.

    ``prefix``: folder of the place in which they lie; empty, or ending with a slash. Returns bytes that came now.
    Raises ``Absent`` if the place lacks one; ``StoreCorrupt`` if the bytes that it gives are others than promised, also
    when asked once more; ``NotAvailable`` if one does not come; what has arrived is kept.
    """
    tally = _Tally(total=sum(file.n_bytes for file in files), progress=progress)

    def fetch(file: StoredFile) -> None:
        _fetch(remote, file, folder, prefix=prefix, patience=patience, tally=tally)

    _side_by_side(fetch, files, tally=tally, n_jobs=patience.n_jobs)
    return tally.n_new


def _side_by_side(
    work: Callable[[StoredFile], None], files: Sequence[StoredFile], *, tally: "_Tally", n_jobs: int
) -> None:
    """Work on several files at once; the first error stops the others.

    The threads are daemons: an interrupt does not wait for a server that is silent.
    """
    waiting = queue.SimpleQueue[StoredFile]()
    for file in files:
        waiting.put(file)
    failures = queue.SimpleQueue[Exception]()

    def take_turns() -> None:
        while not tally.is_stopped:
            try:
                work(waiting.get_nowait())
            except queue.Empty:
                return
            except Exception as error:  # noqa: BLE001 - carried to the caller's thread, and raised there
                tally.is_stopped = True
                failures.put(error)

    threads = [threading.Thread(target=take_turns, daemon=True) for _ in range(min(n_jobs, len(files)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        tally.is_stopped = True
    if not failures.empty():
        raise failures.get()


class _Tally:
    """Bytes of all files together, counted by several threads."""

    def __init__(self, *, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._lock = threading.Lock()
        self._n_there = 0
        self.n_new = 0
        self.is_stopped = False

    def add(self, n_bytes: int, *, is_new: bool) -> None:
        with self._lock:
            self._n_there += n_bytes
            self.n_new += n_bytes if is_new else 0
            if self._progress:
                self._progress("bytes", self._n_there, self._total)


def is_whole(folder: Path, file: StoredFile) -> bool:
    """Whether a file is in a folder, with the promised bytes."""
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.n_bytes and sha256_file(path) == file.sha256


def _fetch(remote: Remote, file: StoredFile, folder: Path, *, prefix: str, patience: Patience, tally: _Tally) -> None:
    path = folder / file.path
    if is_whole(folder, file):
        tally.add(file.n_bytes, is_new=False)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + TEMPORARY)
    has_begun = part.exists()
    for _ in range(2 if has_begun else 1):
        _fetch_part(remote, file, part, address=prefix + file.path, patience=patience, tally=tally)
        if sha256_file(part) == file.sha256:
            part.replace(path)
            return
        part.unlink()  # it may have been the old beginning: once more, from the first byte
    raise StoreCorrupt(
        f"{remote.name} gives other bytes of {file.path} than its manifest promises; nothing was taken over: tell its "
        "owner, or pull from elsewhere"
    )


def _fetch_part(
    remote: Remote, file: StoredFile, part: Path, *, address: str, patience: Patience, tally: _Tally
) -> None:
    """Bring all bytes of one file, over as many connections as it takes while they bring something."""
    if part.exists() and part.stat().st_size > file.n_bytes:
        part.unlink()
    tally.add(size_on_disk(part), is_new=False)

    def fetch() -> None:
        while True:
            before = size_on_disk(part)
            try:
                _append(remote, file, part, address=address, tally=tally)
            except TryAgain:
                if size_on_disk(part) - before < ENOUGH:
                    raise
            else:
                return

    try:
        with_tries(fetch, max_tries=patience.max_tries, sleep=patience.sleep)
    except TryAgain as error:
        raise _gave_up(remote, file.path, patience, error) from error


def _append(remote: Remote, file: StoredFile, part: Path, *, address: str, tally: _Tally) -> None:
    n_have = size_on_disk(part)
    with part.open("ab") as stream:
        if n_have < file.n_bytes:
            for block in remote.read(address, start=n_have):
                if n_have + len(block) > file.n_bytes:
                    raise StoreCorrupt(
                        f"{remote.name} gives more than {file.n_bytes:,} bytes of {file.path}; do not use it"
                    )
                if tally.is_stopped:
                    raise NotAvailable("another file failed")
                stream.write(block)
                stream.flush()  # a kill leaves what has arrived
                n_have += len(block)
                tally.add(len(block), is_new=True)
        os.fsync(stream.fileno())
    if n_have != file.n_bytes:
        raise TryAgain(f"{n_have:,} of {file.n_bytes:,} bytes came")


def size_on_disk(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def send_files(
    remote: Remote,
    files: Sequence[StoredFile],
    folder: Path,
    *,
    prefix: str,
    patience: Patience,
    progress: Progress | None = None,
) -> int:
    """Write files to a place; those that are there with the same bytes are not written again.

    Returns bytes that were written now. Raises ``NotAvailable`` if the place refuses or breaks off.
    """
    tally = _Tally(total=sum(file.n_bytes for file in files), progress=progress)

    def send(file: StoredFile) -> None:
        path = prefix + file.path
        is_new = asking(remote, patience, lambda: remote.write(folder / file.path, path, sha256=file.sha256))
        tally.add(file.n_bytes, is_new=is_new)

    _side_by_side(send, files, tally=tally, n_jobs=patience.n_jobs)
    return tally.n_new


def asking(remote: Remote, patience: Patience, call: Callable[[], Answer]) -> Answer:
    """Call until an answer comes.

    Raises ``NotAvailable`` if all tries failed.
    """
    try:
        return with_tries(call, max_tries=patience.max_tries, sleep=patience.sleep)
    except TryAgain as error:
        raise NotAvailable(
            f"{remote.name} did not answer in {patience.max_tries} tries ({error}); run the same command again"
        ) from error
