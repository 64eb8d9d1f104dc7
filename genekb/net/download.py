"""The resumable download: bytes go to ``<name>.part``, which gets its name when it is whole and has been checked.

A file of a web server that nobody promised a digest of has ``<name>.part.json`` beside its part: the version of the
server's file of which it is the beginning. Such a part is continued only if the server's file is still that version.
"""

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from genekb.core.addresses import host_of, public_url
from genekb.core.errors import SourceUnusable, StoreBusy
from genekb.core.progress import Progress
from genekb.files.atomic import TEMPORARY, system_errors, write_json
from genekb.net.client import OK, PARTIAL, RANGE_REFUSED, Absent, ask, blocks_of
from genekb.net.retry import RetryPolicy, TryAgain

if TYPE_CHECKING:
    import httpx

KEPT: Final = "what has arrived is kept: run the same command again"

_ENOUGH: Final = 1 << 16  # bytes that a broken connection must have brought for the next one to count as the first try
_ABSENT: Final = frozenset({403, 404, 410})  # object stores say 403 for what they do not hold
_BLOCK: Final = 1 << 20
_CHECKSUM_FILES: Final = ("md5sums.txt", "md5checksums.txt")


class Damaged(Exception):
    """A file that has arrived is not the promised one; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartialResponse:
    """What one connection gives of a file."""

    start: int  # index of the first byte that comes; 0 begins the file again
    n_bytes: int | None  # length of the whole file; None where that is not known
    blocks: Iterable[bytes]


def download_resumable(
    path: Path,
    connect: Callable[[int], AbstractContextManager[PartialResponse]],
    *,
    find_fault: Callable[[Path], str],
    retry: RetryPolicy,
    failure: str,
    hint: str = KEPT,
    on_block: Callable[[int, int, int | None], None],
) -> None:
    """Bring one file to ``path``, over as many connections as it takes while they bring something.

    ``connect``: asks for the rest after so many bytes. ``find_fault``: says what is wrong with a part, ``Damaged``
    if twice. ``on_block``: called with the bytes that came, those that are there, and all.
    """
    part = part_of(path)
    for _ in range(2 if part.exists() else 1):
        retry.call(lambda: _bring_part(part, connect, on_block), failure=failure, hint=hint)
        fault = find_fault(part)
        if not fault:
            part.replace(path)
            return
        part.unlink()
    raise Damaged(fault)


def _bring_part(
    part: Path,
    connect: Callable[[int], AbstractContextManager[PartialResponse]],
    on_block: Callable[[int, int, int | None], None],
) -> None:
    while True:
        before = size_on_disk(part)
        try:
            with connect(before) as rest:
                _append(part, rest, on_block)
        except TryAgain:
            if size_on_disk(part) - before < _ENOUGH:
                raise
        else:
            return


def _append(part: Path, rest: PartialResponse, on_block: Callable[[int, int, int | None], None]) -> None:
    n_have = rest.start
    with part.open("ab" if rest.start else "wb") as stream:
        for block in rest.blocks:
            n_have += len(block)
            if rest.n_bytes is not None and n_have > rest.n_bytes:
                raise Damaged(f"more than {rest.n_bytes:,} bytes came")
            stream.write(block)
            stream.flush()  # a kill leaves what has arrived; without a buffer a write may end short of the block
            on_block(len(block), n_have, rest.n_bytes)
        os.fsync(stream.fileno())
    if rest.n_bytes not in {None, n_have}:
        raise TryAgain(f"{n_have:,} of {rest.n_bytes:,} bytes came")


@contextmanager
def own_folder(folder: Path, *, lock: str, work: str) -> Iterator[None]:
    """Make a folder, and keep other processes that do the same ``work`` out of it, until the block ends."""
    import filelock

    hint = "free space or use another folder, then run the same command again"
    with system_errors(f"cannot write to {folder}", hint=hint):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(folder / lock, blocking=False):
                yield
        except filelock.Timeout as error:
            raise StoreBusy(f"another process {work} into {folder}; wait for it, or use another folder") from error


def part_of(path: Path) -> Path:
    """File that holds the beginning of another."""
    return path.with_name(path.name + TEMPORARY)


def size_on_disk(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class FileVersion:
    """What a server reports of a file; enough to decide whether two answers are about the same bytes."""

    url: str  # address without user, password and query
    etag: str  # etag, last_modified: as sent; empty where the server sends none
    last_modified: str
    n_bytes: int | None  # length of the whole file; None where the server does not say

    @property
    def validator(self) -> str:
        """Value of ``If-Range``: a strong ETag, else the date, else nothing."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


@dataclass(frozen=True, kw_only=True, slots=True)
class WebDownload:
    """Downloads of files whose size and digest are not known before."""

    client: "httpx.Client"
    retry: RetryPolicy
    hint: str  # what to do where a server does not answer
    progress: Progress | None = None

    def fetch(self, url: str, path: Path) -> FileVersion:
        """Bring one file to ``path``; raises ``Absent`` if the server does not give it."""
        versions: list[FileVersion] = []

        @contextmanager
        def connect(n_have: int) -> Iterator[PartialResponse]:
            with self._rest(url, path, n_have) as (version, rest):
                versions.append(version)
                yield rest

        def find_fault(part: Path) -> str:
            return _md5_fault(part, self._published_md5(url)) or (_gzip_fault(part) if path.suffix == ".gz" else "")

        def report(_: int, n_have: int, n_bytes: int | None) -> None:
            if self.progress:
                self.progress(path.name, n_have, n_bytes or n_have)

        try:
            download_resumable(
                path,
                connect,
                find_fault=find_fault,
                retry=self.retry,
                failure=_did_not_give(url),
                hint=self.hint,
                on_block=report,
            )
        except Damaged as fault:
            _drop(path)
            raise SourceUnusable(
                f"{path.name} is damaged on the server {host_of(url)}: {fault}; try another `mirror`"
            ) from fault
        _part_record(path).unlink(missing_ok=True)
        return versions[-1]

    @contextmanager
    def _rest(self, url: str, path: Path, n_have: int) -> Iterator[tuple[FileVersion, PartialResponse]]:
        """Ask for what is missing; a part of another version is dropped first."""
        begun = _begun(path, url)
        headers = {"Range": f"bytes={n_have}-", "If-Range": begun.validator} if begun else {}
        with self._ask(url, headers) as response:
            version = _version(response, url)
            if begun and _is_rest(response, version, begun, n_have):
                blocks = () if response.status_code == RANGE_REFUSED else blocks_of(response)
                yield begun, PartialResponse(start=n_have, n_bytes=begun.n_bytes, blocks=blocks)
                return
            _drop(path)  # before the record of the new version is written: a kill in between must not join the two
            if response.status_code != OK:
                raise TryAgain("the server's file is another one than when the download began")
            write_json(asdict(version), _part_record(path))
            yield version, PartialResponse(start=0, n_bytes=version.n_bytes, blocks=blocks_of(response))

    def _ask(self, url: str, headers: dict[str, str]) -> "AbstractContextManager[httpx.Response]":
        refusal = f"{host_of(url)} answers with status {{status}}; check the address of `mirror`"
        return ask(self.client, "GET", url, headers, absent=_ABSENT, refusal=refusal)

    def _published_md5(self, url: str) -> str | None:
        """MD5 of a file where the server publishes one beside it."""
        parts = urlsplit(url)
        folder, _, remote_name = parts.path.rpartition("/")
        for other in (f"{remote_name}.md5", *_CHECKSUM_FILES):
            text = self._read_small(urlunsplit(parts._replace(path=f"{folder}/{other}")))
            found = re.search(rf"(?im)^([0-9a-f]{{32}})(?:\s+\*?(?:\S*/)?{re.escape(remote_name)})?\s*$", text)
            if found:
                return found[1].lower()
        return None

    def _read_small(self, url: str) -> str:
        def blocks() -> Iterator[bytes]:
            with self._ask(url, {}) as response:
                yield from blocks_of(response)

        content = read_small(blocks, limit=_BLOCK, retry=self.retry, failure=_did_not_give(url), hint=self.hint)
        return (content or b"").decode("utf-8", errors="replace")


def read_small(
    read: Callable[[], Iterator[bytes]], *, limit: int, retry: RetryPolicy, failure: str, hint: str = KEPT
) -> bytes | None:
    """Read a small file, the first bytes above ``limit`` included; None where there is none."""

    def read_whole() -> bytes:
        content = b""
        for block in read():
            content += block
            if len(content) > limit:
                break
        return content

    try:
        return retry.call(read_whole, failure=failure, hint=hint)
    except Absent:
        return None


def _did_not_give(url: str) -> str:
    return f"{host_of(url)} did not give {urlsplit(url).path.rpartition('/')[2]}"


def _part_record(path: Path) -> Path:
    return path.with_name(path.name + TEMPORARY + ".json")


def _drop(path: Path) -> None:
    _part_record(path).unlink(missing_ok=True)
    part_of(path).unlink(missing_ok=True)


def _begun(path: Path, url: str) -> FileVersion | None:
    """Version of which a part is the beginning; None where there is no part, or its version is not known."""
    try:
        version = FileVersion(**json.loads(_part_record(path).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    n_have = size_on_disk(part_of(path))
    fits = version.n_bytes is None or n_have <= version.n_bytes
    return version if n_have and fits and version.validator and version.url == public_url(url) else None


def _version(response: "httpx.Response", url: str) -> FileVersion:
    headers = response.headers
    length = headers.get("Content-Length", "")
    if response.status_code in {PARTIAL, RANGE_REFUSED}:
        length = headers.get("Content-Range", "").rpartition("/")[2]
    return FileVersion(
        url=public_url(url),
        etag=headers.get("ETag", ""),
        last_modified=headers.get("Last-Modified", ""),
        n_bytes=int(length) if length.isdigit() else None,
    )


def _is_rest(response: "httpx.Response", version: FileVersion, begun: FileVersion, n_have: int) -> bool:
    """Whether an answer is the rest of what has begun, or says that there is none; servers may ignore ``If-Range``."""
    validators = [(version.etag, begun.etag), (version.last_modified, begun.last_modified)]
    if any(now and now != then for now, then in validators) or version.n_bytes != begun.n_bytes:
        return False
    if response.status_code == RANGE_REFUSED:
        return n_have == begun.n_bytes
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status_code == PARTIAL and start is not None and int(start[1]) == n_have


def _md5_fault(path: Path, md5: str | None) -> str:
    if not md5:
        return ""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return "" if found == md5 else f"its MD5 is {found}, the server's list says {md5}"


def _gzip_fault(path: Path) -> str:
    try:
        with gzip.open(path, "rb") as content:
            while content.read(_BLOCK):
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"it is no whole gzip file ({error})"
    return ""
