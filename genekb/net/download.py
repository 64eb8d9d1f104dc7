"""One file over HTTP: it goes on where an earlier try ended, and gets its name only when it is whole.

What has arrived lies in ``<name>.part``; ``<name>.part.json`` beside it tells of which version of the server's file it
is the beginning. A part is continued only if the server says that its file is still that version.
"""

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from genekb.core.addresses import host_of, public_url
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.files.atomic import TEMPORARY, write_json
from genekb.net.client import OK, PARTIAL, RANGE_REFUSED, Absent, ask, blocks_of
from genekb.net.retry import TryAgain, with_tries

if TYPE_CHECKING:
    import httpx

_ABSENT: Final = frozenset({403, 404, 410})  # object stores say 403 for what they do not hold
_BLOCK: Final = 1 << 20
_CHECKSUM_FILES: Final = ("md5sums.txt", "md5checksums.txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """What a server tells of a file; enough of it to know whether two answers are about the same bytes."""

    url: str  # address without user, password and query
    etag: str  # etag, last_modified: as sent; empty where the server sends none
    last_modified: str
    n_bytes: int | None  # length of the whole file; None where the server does not say

    @property
    def validator(self) -> str:
        """Value of ``If-Range``: a strong ETag, else the date, else nothing."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """Where files come from, and how patiently they are asked for."""

    client: "httpx.Client"  # open HTTP client
    max_tries: int  # of each request, the first included
    sleep: Callable[[float], None]  # waits between tries, in seconds
    # called with the name of the file, the bytes that are there, and the bytes of the whole
    progress: Callable[[str, int, int], None] | None = None

    def fetch(self, url: str, path: Path) -> Version:
        """Bring one file to ``path``.

        Raises ``Absent`` if the server does not give it; ``TryAgain`` if it broke off as often as is allowed; what has
        arrived is kept; ``SourceUnusable`` if the server's file is damaged.
        """
        resumed = _part(path).exists()
        version = self._pull_whole(url, path)
        md5 = self._published_md5(url)
        fault = _find_fault(_part(path), md5=md5, is_gzip=path.suffix == ".gz")
        if fault and resumed:
            _drop(path)
            version = self._pull_whole(url, path)
            fault = _find_fault(_part(path), md5=md5, is_gzip=path.suffix == ".gz")
        if fault:
            _drop(path)
            raise SourceUnusable(f"{path.name} is damaged on the server {host_of(url)}: {fault}; try another --mirror")
        _part(path).replace(path)
        _part_record(path).unlink(missing_ok=True)
        return version

    def _pull_whole(self, url: str, path: Path) -> Version:
        return with_tries(lambda: self._pull(url, path), max_tries=self.max_tries, sleep=self.sleep)

    def _pull(self, url: str, path: Path) -> Version:
        """Ask once for what is missing; ends normally only when every byte is there."""
        begun = _begun(path, url)
        n_have = _part(path).stat().st_size if begun else 0
        headers = {"Range": f"bytes={n_have}-", "If-Range": begun.validator} if begun and n_have else {}
        with self._ask(url, headers) as response:
            version = _version(response, url)
            if begun and n_have and _is_rest(response, version, begun, n_have):
                return begun if response.status_code == RANGE_REFUSED else self._append(response, path, begun, n_have)
            _drop(path)  # before the record of the new version is written: a kill in between must not join the two
            if response.status_code != OK:
                raise TryAgain("the server's file is another one than when the download began")
            write_json(asdict(version), _part_record(path))
            return self._append(response, path, version, 0)

    def _append(self, response: "httpx.Response", path: Path, version: Version, n_have: int) -> Version:
        with _part(path).open("ab" if n_have else "wb") as stream:
            for block in blocks_of(response):
                stream.write(block)
                stream.flush()  # a kill leaves what has arrived; without a buffer a write may end short of the block
                n_have += len(block)
                if self.progress:
                    self.progress(path.name, n_have, version.n_bytes or n_have)
            os.fsync(stream.fileno())
        if version.n_bytes is not None and n_have != version.n_bytes:
            raise TryAgain(f"{n_have:,} of {version.n_bytes:,} bytes came")
        return version

    @contextmanager
    def _ask(self, url: str, headers: dict[str, str]) -> "Iterator[httpx.Response]":
        """Send one request; see :func:`genekb.net.client.ask`."""
        with ask(self.client, "GET", url, headers) as response:
            status = response.status_code
            if status in _ABSENT:
                raise Absent(f"status {status}")
            if status not in {OK, PARTIAL, RANGE_REFUSED}:
                raise NotAvailable(f"{host_of(url)} answers with status {status}; check the address of --mirror")
            yield response

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
        def read() -> str:
            with self._ask(url, {}) as response:
                content = b""
                for block in blocks_of(response):
                    content += block
                    if len(content) >= _BLOCK:
                        break
                return content.decode("utf-8", errors="replace")

        try:
            return with_tries(read, max_tries=self.max_tries, sleep=self.sleep)
        except Absent:
            return ""


def _part(path: Path) -> Path:
    return path.with_name(path.name + TEMPORARY)


def _part_record(path: Path) -> Path:
    return path.with_name(path.name + TEMPORARY + ".json")


def _drop(path: Path) -> None:
    _part_record(path).unlink(missing_ok=True)
    _part(path).unlink(missing_ok=True)


def _begun(path: Path, url: str) -> Version | None:
    """Version of which a part is the beginning; None where there is no part, or no way to tell."""
    try:
        version = Version(**json.loads(_part_record(path).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    n_have = _part(path).stat().st_size if _part(path).exists() else 0
    fits = version.n_bytes is None or n_have <= version.n_bytes
    return version if n_have and fits and version.validator and version.url == public_url(url) else None


def _version(response: "httpx.Response", url: str) -> Version:
    headers = response.headers
    length = headers.get("Content-Length", "")
    if response.status_code in {PARTIAL, RANGE_REFUSED}:
        length = headers.get("Content-Range", "").rpartition("/")[2]
    return Version(
        url=public_url(url),
        etag=headers.get("ETag", ""),
        last_modified=headers.get("Last-Modified", ""),
        n_bytes=int(length) if length.isdigit() else None,
    )


def _is_rest(response: "httpx.Response", version: Version, begun: Version, n_have: int) -> bool:
    """Whether an answer is the rest of what has begun, or says that there is none; servers may ignore ``If-Range``."""
    told = [(version.etag, begun.etag), (version.last_modified, begun.last_modified)]
    if any(now and now != then for now, then in told) or version.n_bytes != begun.n_bytes:
        return False
    if response.status_code == RANGE_REFUSED:
        return n_have == begun.n_bytes
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status_code == PARTIAL and start is not None and int(start[1]) == n_have


def _find_fault(path: Path, *, md5: str | None, is_gzip: bool) -> str:
    """Say what is wrong with a file that has arrived; empty if nothing is."""
    if md5:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != md5:
            return f"its MD5 is {found}, the server's list says {md5}"
    if not is_gzip:
        return ""
    try:
        with gzip.open(path, "rb") as content:
            while content.read(_BLOCK):
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"it is no whole gzip file ({error})"
    return ""
