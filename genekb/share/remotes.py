"""Locations that artefacts are shared from: bytes of a file from any index on and, where allowed, whole files to it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote

from genekb.core.addresses import public_url
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.files.atomic import atomic_file, sha256_file
from genekb.net.client import OK, PARTIAL, RANGE_REFUSED, Absent, ask, blocks_of, check_reachable, open_client
from genekb.net.retry import TryAgain
from genekb.share.addresses import Address

if TYPE_CHECKING:
    import httpx

_BLOCK: Final = 1 << 20
_OBJECT_BLOCK: Final = 8 << 20  # one request of an object store
_ABSENT: Final = frozenset({404, 410})


class Remote(Protocol):
    """A location that files are read from, and perhaps written to."""

    @property
    def name(self) -> str:
        """Address as it may be shown and recorded: without user, password and query."""

    def read(self, path: str, *, start: int = 0) -> Iterator[bytes]:
        """Give the bytes of a file from ``start`` on, block by block; none if the file ends there.

        Raises ``Absent`` if there is no such file; ``TryAgain`` if the connection failed or broke off; ``NotAvailable``
        if access is refused, or nothing is there at all.
        """

    def size(self, path: str) -> int | None:
        """Bytes of a file; None where there is none."""

    def write(self, local: Path, path: str, *, sha256: str = "") -> bool:
        """Write a file whole or not at all; give whether it was written.

        ``sha256``: of the file, which is not written where these bytes lie already; empty: it is always written. Raises
        ``NotAvailable`` if access is refused; ``SourceUnusable`` if the location is read only.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderRemote:
    """A folder of this machine, or one that is mounted."""

    folder: Path

    @property
    def name(self) -> str:
        """Its path as an address."""
        return self.folder.as_uri()

    def read(self, path: str, *, start: int = 0) -> Iterator[bytes]:
        """See :class:`Remote`."""
        try:
            with (self.folder / path).open("rb") as stream:
                stream.seek(start)
                while block := stream.read(_BLOCK):
                    yield block
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise Absent(f"{self.folder / path} is not there") from error
        except PermissionError as error:
            raise NotAvailable(f"{self.folder / path} may not be read; check its permissions") from error

    def size(self, path: str) -> int | None:
        """See :class:`Remote`."""
        file = self.folder / path
        return file.stat().st_size if file.is_file() else None

    def write(self, local: Path, path: str, *, sha256: str = "") -> bool:
        """See :class:`Remote`; what is there is read to compare it."""
        import shutil

        try:
            if sha256 and self.size(path) == local.stat().st_size and sha256_file(self.folder / path) == sha256:
                return False
            with atomic_file(self.folder / path) as part:
                shutil.copyfile(local, part)
            return True
        except OSError as error:
            raise NotAvailable(
                f"cannot write to {self.folder}: {error.strerror or error}; free space or choose another folder, then "
                "run the same command again"
            ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class WebRemote:
    """A folder of a web server; also what the Hub serves of one commit."""

    base: str  # address of the folder
    client: "httpx.Client"  # open HTTP client
    shown: str = ""  # address to show in place of ``base``; empty: ``base`` without user, password and query
    hint: str = "put user:password@ in front of the host in the address"  # where the server refuses

    @property
    def name(self) -> str:
        """Address without secrets."""
        return self.shown or public_url(self.base)

    def read(self, path: str, *, start: int = 0) -> Iterator[bytes]:
        """See :class:`Remote`."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._ask("GET", path, headers) as response:
            if response.status_code == RANGE_REFUSED:
                return
            skipped = start if response.status_code == OK else 0  # a server that knows no ranges sends all of it
            if response.status_code == PARTIAL:
                _check_range(response.headers.get("Content-Range", ""), start)
            for block in blocks_of(response):
                yield block[skipped:]
                skipped = max(0, skipped - len(block))

    def size(self, path: str) -> int | None:
        """See :class:`Remote`."""
        try:
            with self._ask("HEAD", path, {}) as response:
                length = response.headers.get("Content-Length", "")
                return int(length) if length.isdigit() else None
        except Absent:
            return None

    def write(self, local: Path, path: str, *, sha256: str = "") -> bool:
        """Refuse: a web server takes no files."""
        raise SourceUnusable(
            f"{self.name} is read only, {path} cannot be written; push to a folder that the server shows, s3:// or hf://"
        )

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> "AbstractContextManager[httpx.Response]":
        refusal = f"{self.name} answers with status {{status}} to {path}; check the address, or {self.hint}"
        return ask(self.client, method, f"{self.base}/{quote(path)}", headers, absent=_ABSENT, refusal=refusal)


def _check_range(content_range: str, start: int) -> None:
    if not content_range.startswith(f"bytes {start}-"):
        raise TryAgain("the server sent another range than was asked for")


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketRemote:
    """A folder of an S3 bucket, through fsspec."""

    base: str  # ``s3://bucket/path``
    filesystem: Any  # open :class:`fsspec.AbstractFileSystem`

    @property
    def name(self) -> str:
        """Its address."""
        return self.base

    def read(self, path: str, *, start: int = 0) -> Iterator[bytes]:
        """See :class:`Remote`."""
        with (
            self._errors(path),
            self.filesystem.open(f"{self.base}/{path}", block_size=_OBJECT_BLOCK, cache_type="none") as stream,
        ):
            stream.seek(start)
            while block := stream.read(_OBJECT_BLOCK):
                yield block

    def size(self, path: str) -> int | None:
        """See :class:`Remote`."""
        try:
            with self._errors(path):
                self.filesystem.invalidate_cache()
                return int(self.filesystem.info(f"{self.base}/{path}")["size"])
        except Absent:
            return None

    def write(self, local: Path, path: str, *, sha256: str = "") -> bool:
        """See :class:`Remote`; the digest is kept as metadata of the object, which a change by others takes away."""
        if sha256 and self._digest(path) == sha256:
            return False
        try:
            with self._errors(path):
                self.filesystem.put_file(str(local), f"{self.base}/{path}", Metadata={"sha256": sha256})
            return True
        except Absent as error:
            raise NotAvailable(f"{self.name}: there is no such bucket; make it first") from error

    def _digest(self, path: str) -> str:
        """SHA-256 that was noted when an object was pushed; empty where there is none."""
        try:
            with self._errors(path):
                return str(self.filesystem.metadata(f"{self.base}/{path}").get("sha256", ""))
        except Absent:
            return ""

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Turn what the libraries raise into our errors; their messages may hold what a server echoes, so they go."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except FileNotFoundError as error:
            raise Absent(f"{self.base}/{path} is not there") from error
        except (PermissionError, NoCredentialsError) as error:
            raise NotAvailable(
                f"{self.name} refuses ({type(error).__name__}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
                "(and AWS_ENDPOINT_URL), or FSSPEC_S3_ANON=true for a public bucket"
            ) from None
        except (BotoCoreError, ClientError, OSError) as error:
            raise TryAgain(f"{self.name}: {type(error).__name__}") from None


@contextmanager
def open_remote(address: Address, *, timeout_s: float) -> Iterator[Remote]:
    """Open the location that an address names, until the block ends.

    Of the Hub it is the commit that the revision maps to now: every file then comes from that one commit. Raises
    ``NotAvailable`` if the Hub has no such repository or revision, or a library that is needed is not installed.
    """
    if address.scheme == "file":
        yield FolderRemote(folder=Path(address.url))
    elif address.scheme == "s3":
        yield BucketRemote(base=address.url, filesystem=_open_bucket(timeout_s))
    else:
        with open_client(timeout_s) as client:
            if address.scheme == "http":
                check_reachable(client, address.url, hint="check the address and the network")
                yield WebRemote(base=address.url, client=client)
            else:
                from genekb.share.hub import hub_remote

                yield hub_remote(address, client)


def _open_bucket(timeout_s: float) -> Any:
    try:
        import s3fs
    except ImportError as error:
        raise NotAvailable("s3:// needs the package s3fs; pip install 'genekb-cellmodel[s3]'") from error
    settings = {"read_timeout": timeout_s, "connect_timeout": timeout_s, "retries": {"max_attempts": 2}}
    return s3fs.S3FileSystem(config_kwargs=settings, use_listings_cache=False, skip_instance_cache=True)
