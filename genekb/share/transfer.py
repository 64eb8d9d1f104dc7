"""Artifacts, which are stores and fitted models, sent to a location and brought from it: several files at once.

A folder that is shared holds versions side by side, ``<digest>/...``, and ``current``, which names one of them: the
layout of a name's folder in a home, so that such a folder can be served as it is. A folder that holds the head file
itself (a repository of the Hub, a store that was copied) is one version.
"""

import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from genekb.core.errors import NotAvailable, SourceUnusable, StoreCorrupt
from genekb.core.progress import progress
from genekb.files.atomic import is_digest, sha256_file
from genekb.files.replace import Target, check_targets
from genekb.net.download import Damaged, PartialResponse, download_resumable, part_of, read_small, size_on_disk
from genekb.net.retry import RetryPolicy
from genekb.share.remotes import Address, Remote, open_remote, push_to_hub
from genekb.store.files import file_fault
from genekb.store.home import CURRENT
from genekb.store.manifest import StoredFile

_HEAD_LIMIT: Final = 64 << 20
_POINTER_LIMIT: Final = 1 << 16


def read_remote_file(remote: Remote, path: str, *, limit: int, retry: RetryPolicy) -> bytes | None:
    """Read a file of at most ``limit`` bytes; None where there is none."""
    failure = f"{remote.name} did not give {path}"
    content = read_small(lambda: remote.read(path), limit=limit, retry=retry, failure=failure)
    if content is not None and len(content) > limit:
        raise StoreCorrupt(f"{remote.name}/{path} has more than {limit:,} bytes; it is none of ours")
    return content


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """What a push or a pull of a store or a fitted model ended with."""

    name: str  # NAME@RELEASE of a store; of a model its folder
    digest: str  # of a store's content; of a model's description, which holds that of its arrays
    path: Path  # its folder on this machine
    url: str  # where this very version lies: with its digest, or of the Hub with the commit
    n_files: int  # n_files, n_bytes: of the version
    n_bytes: int
    n_bytes_now: int  # bytes that were sent, or came, now
    left: tuple[str, ...] = ()  # encoders of a store that were left where they are
    replaced: str = ""  # digest that a store's name mapped to before, if it was another
    signed: str = ""  # signed comment, if a signature was asked for
    store_id: str = ""  # store_id, encoder_id: what a model was fitted with; empty without knowledge
    encoder_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A version of a store or a fitted model in a folder: first ``files`` are sent, then ``heads``, then its digest."""

    name: str
    digest: str
    folder: Path
    files: tuple[StoredFile, ...]
    heads: tuple[StoredFile, ...]  # that promise the files
    left: tuple[str, ...] = ()  # encoders that are not shared

    def transfer(self, url: str, *, n_bytes_now: int = 0, **more: Any) -> Transfer:
        """Give what its transfer ended with; ``more``: further fields."""
        every = [*self.files, *self.heads]
        return Transfer(
            name=self.name, digest=self.digest, path=self.folder, url=url, n_files=len(every),
            n_bytes=sum(file.n_bytes for file in every), n_bytes_now=n_bytes_now, left=self.left, **more,
        )  # fmt: skip

    def send(self, address: Address, *, retry: RetryPolicy, **more: Any) -> Transfer:
        """Send it to a location, or go on with a push that was interrupted."""
        if address.scheme == "file":
            target = Target(Path(address.url), kind="shared", makes_parents=True)
            check_targets([target], inputs=[self.folder], overwrite=True)
        if address.scheme == "http":
            raise SourceUnusable(f"{address.url} is read only; push to a folder that it shows, s3:// or hf://")
        every = [*self.files, *self.heads]
        if address.scheme == "hf":
            names = [file.path for file in every]
            commit = push_to_hub(self.folder, address, digest=self.digest, patterns=names)
            n_sent = sum(file.n_bytes for file in every)
            return self.transfer(f"{address.url}@{commit}", n_bytes_now=n_sent, **more)
        prefix = f"{self.digest}/"
        with open_remote(address, timeout_s=retry.timeout_s) as remote, tempfile.TemporaryDirectory() as folder:
            n_sent = _send_files(remote, self.files, self.folder, prefix=prefix, retry=retry)
            for head in self.heads:
                _write_file(remote, self.folder / head.path, prefix + head.path, retry=retry)
                n_sent += head.n_bytes
            pointer = Path(folder) / CURRENT
            pointer.write_text(self.digest + "\n", encoding="utf-8")
            _write_file(remote, pointer, CURRENT, retry=retry)
            return self.transfer(f"{remote.name}@{self.digest}", n_bytes_now=n_sent, **more)


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteVersion:
    """One version at an open location."""

    remote: Remote
    retry: RetryPolicy
    head: bytes  # bytes of the head file
    prefix: str  # folder in which the version lies: empty, or ending with a slash
    expected: str  # digest, or its first digits, that the version must have; empty if any

    def fetch(self, files: Sequence[StoredFile], folder: Path) -> int:
        """Bring files to a folder, but those that are whole there; give the bytes that came, or raise ``Absent``."""
        tally = _Tally(total=sum(file.n_bytes for file in files))
        _run_parallel(lambda file: self._fetch(file, folder, tally), files, tally=tally, n_jobs=self.retry.n_jobs)
        return tally.n_new

    def _fetch(self, file: StoredFile, folder: Path, tally: "_Tally") -> None:
        path, remote = folder / file.path, self.remote
        if not file_fault(path, file):
            tally.add(file.n_bytes, is_new=False)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if size_on_disk(part_of(path)) > file.n_bytes:
            part_of(path).unlink()
        tally.add(size_on_disk(part_of(path)), is_new=False)

        @contextmanager
        def connect(n_have: int) -> Iterator[PartialResponse]:
            is_complete = n_have == file.n_bytes
            blocks = () if is_complete else remote.read(self.prefix + file.path, start=n_have)
            yield PartialResponse(start=n_have, n_bytes=file.n_bytes, blocks=blocks)

        try:
            download_resumable(
                path,
                connect,
                find_fault=lambda part: "" if sha256_file(part) == file.sha256 else "its SHA-256 is another",
                retry=self.retry,
                failure=f"{remote.name} did not give {file.path}",
                on_block=lambda n_new, *_: tally.add(n_new, is_new=True),
            )
        except Damaged as fault:
            raise StoreCorrupt(
                f"{remote.name} gives other bytes of {file.path} than its manifest promises ({fault}); nothing was "
                "used: report it to its owner, or pull from elsewhere"
            ) from fault


@contextmanager
def open_version(address: Address, *, head: str, retry: RetryPolicy) -> Iterator[RemoteVersion]:
    """Open the version that an address names, the current one or that of a digest; ``head`` promises its files."""
    with open_remote(address, timeout_s=retry.timeout_s) as remote:
        yield _find_version(remote, address, head=head, retry=retry)


def _find_version(remote: Remote, address: Address, *, head: str, retry: RetryPolicy) -> RemoteVersion:
    wanted = address.revision if address.scheme != "hf" else ""
    pointer = read_remote_file(remote, CURRENT, limit=_POINTER_LIMIT, retry=retry)
    current = pointer.decode("ascii", errors="replace").strip() if pointer else ""
    if pointer and not is_digest(current):
        raise StoreCorrupt(f"{remote.name}/{CURRENT} holds no digest; it is none of ours")
    digest = current if current.startswith(wanted) else wanted
    candidates = [(f"{digest}/", digest)] if is_digest(digest) else []
    for prefix, expected in [*candidates, *([] if pointer else [("", wanted)])]:
        content = read_remote_file(remote, prefix + head, limit=_HEAD_LIMIT, retry=retry)
        if content is not None:
            return RemoteVersion(remote=remote, retry=retry, head=content, prefix=prefix, expected=expected)
    if wanted:
        raise NotAvailable(
            f"{remote.name} has no version {wanted}"
            + (f" (current there: {current})" if current else "")
            + ("; give all 64 digits of its digest" if not is_digest(wanted) else "")
        )
    raise NotAvailable(f"{remote.name} holds neither {CURRENT} nor {head}; is the address that of a name's folder?")


def _send_files(remote: Remote, files: Sequence[StoredFile], folder: Path, *, prefix: str, retry: RetryPolicy) -> int:
    """Write files to a location, but those that lie there with the same bytes; give the bytes that were written."""
    tally = _Tally(total=sum(file.n_bytes for file in files))

    def send(file: StoredFile) -> None:
        is_new = _write_file(remote, folder / file.path, prefix + file.path, retry=retry, sha256=file.sha256)
        tally.add(file.n_bytes, is_new=is_new)

    _run_parallel(send, files, tally=tally, n_jobs=retry.n_jobs)
    return tally.n_new


def _write_file(remote: Remote, local: Path, path: str, *, retry: RetryPolicy, sha256: str = "") -> bool:
    """Write one file, see :meth:`Remote.write`; ``NotAvailable`` if all tries failed."""
    return retry.call(lambda: remote.write(local, path, sha256=sha256), failure=f"{remote.name} did not answer")


def _run_parallel(
    work: Callable[[StoredFile], None], files: Sequence[StoredFile], *, tally: "_Tally", n_jobs: int
) -> None:
    """Work on several files at once; the first error stops the others."""
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
            except Exception as error:  # noqa: BLE001 - raised in the caller's thread
                failures.put(error)
                tally.is_stopped = True

    # daemons: an interrupt does not wait for a server that is silent
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

    def __init__(self, *, total: int) -> None:
        self._total = total
        self._lock = threading.Lock()
        self._n_there = 0
        self.n_new = 0
        self.is_stopped = False

    def add(self, n_bytes: int, *, is_new: bool) -> None:
        """Count; stops a thread that still downloads when another has failed."""
        if self.is_stopped:
            raise NotAvailable("another file failed")
        with self._lock:
            self._n_there += n_bytes
            self.n_new += n_bytes if is_new else 0
            progress("bytes", self._n_there, self._total)
