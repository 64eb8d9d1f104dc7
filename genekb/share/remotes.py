"""Locations that artifacts are shared from: a folder, a web server, an S3 bucket, a repository of the Hugging Face Hub.

An address names one; a remote reads the bytes of its files from any index on and, where allowed, writes whole files.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol
from urllib.parse import quote, unquote, urlsplit

from genekb.core.addresses import is_web_address, public_url
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.core.plugins import require
from genekb.files.atomic import atomic_file, sha256_file, system_errors
from genekb.net.client import (
    OK,
    PARTIAL,
    RANGE_REFUSED,
    TOKEN_HINT,
    Absent,
    ask,
    blocks_of,
    check_reachable,
    hub_errors,
    open_client,
)
from genekb.net.retry import TryAgain

if TYPE_CHECKING:
    import httpx

Scheme = Literal["file", "http", "s3", "hf"]
_FORMS: Final = "a folder, file:///folder, https://host/path, s3://bucket/path or hf://datasets/owner/name"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_DIGITS: Final = re.compile(r"[0-9a-f]{8,64}")
_HUB_KINDS: Final = ("datasets", "models")


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Location of a shared artifact."""

    scheme: Scheme  # ``http``: https as well
    url: str  # without revision; of a folder its absolute path. It may hold a user and password, which are never shown
    # of a folder, server or bucket the digest or its first digits, of the Hub a branch, tag or commit; else the current
    revision: str = ""


def is_address(reference: str | Path) -> bool:
    """Whether a reference is an address rather than a name, a digest or a path."""
    return isinstance(reference, str) and "://" in reference


def is_relative(reference: str) -> bool:
    """Whether a reference is a path from some folder on: neither an address nor an absolute path."""
    return not is_address(reference) and not Path(reference).expanduser().is_absolute()


def at_digest(address: Address, digest: str) -> Address:
    """Address of the version with a digest; on the Hub, whose versions are commits and tags, as it is."""
    return address if address.scheme == "hf" else replace(address, revision=digest)


def parse_address(text: str, *, hub_kind: Literal["datasets", "models"] = "datasets") -> Address:
    """Parse an address; ``@`` and what follows it name a revision, of a path only if these are digits of a digest."""
    if not text.strip():
        raise SourceUnusable(f"the address is empty; give {_FORMS}")
    if "://" not in text:
        path, revision = _split_digest(text)
        folder = os.path.abspath(Path(path).expanduser())  # noqa: PTH100 - takes `..` out, and follows no link
        return Address(scheme="file", url=folder, revision=revision)
    scheme = text.partition("://")[0].lower()
    if scheme == "hf":
        return _hub(text, hub_kind)
    path, revision = _split_digest(text)
    if scheme == "file":
        parts = urlsplit(path)
        if parts.netloc not in {"", "localhost"} or not parts.path:
            raise SourceUnusable(f"{text!r} names no folder of this machine; give file:///folder with three slashes")
        return Address(scheme="file", url=unquote(parts.path).rstrip("/") or "/", revision=revision)
    if scheme in {"http", "https"} and is_web_address(path) and not urlsplit(path).query:
        return Address(scheme="http", url=path.rstrip("/"), revision=revision)
    if scheme == "s3" and _BUCKET.fullmatch(urlsplit(path).netloc):
        return Address(scheme="s3", url=path.rstrip("/"), revision=revision)
    raise SourceUnusable(f"{scheme}://... is no address that can be used; give {_FORMS}, without a query")


def _split_digest(text: str) -> tuple[str, str]:
    before, _, after = text.rstrip("/").rpartition("@")
    return (before, after) if before and _DIGITS.fullmatch(after) else (text, "")


def _hub(text: str, hub_kind: str) -> Address:
    body, _, revision = text.partition("://")[2].strip("/").partition("@")
    kind, _, name = body.partition("/")
    if kind not in _HUB_KINDS:
        kind, name = hub_kind, body
    parts = name.split("/")
    named = len(parts) == 2 and all(_HUB_NAME.fullmatch(part) for part in parts)  # noqa: PLR2004 - owner and name
    if not named or (revision and not _REVISION.fullmatch(revision)):
        raise SourceUnusable(f"{text!r} is not hf://{hub_kind}/owner/name[@revision]")
    return Address(scheme="hf", url=f"hf://{kind}/{name}", revision=revision)


_BLOCK: Final = 1 << 20
_OBJECT_BLOCK: Final = 8 << 20  # one request of an object store
_ABSENT: Final = frozenset({404, 410})


class Remote(Protocol):
    """A location that files are read from, and perhaps written to."""

    @property
    def name(self) -> str:
        """Address as it may be shown and recorded: without user, password and query."""

    def read(self, path: str, *, start: int = 0) -> Iterator[bytes]:
        """Give the bytes of a file from ``start`` on in blocks; ``Absent`` if there is none, else ``TryAgain``."""

    def write(self, local: Path, path: str, *, sha256: str = "") -> bool:
        """Write a file whole or not at all, unless one with this ``sha256`` is there; give whether it was."""


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

    def write(self, local: Path, path: str, *, sha256: str = "") -> bool:
        """See :class:`Remote`; what is there is read to compare it."""
        import shutil

        hint = "free space or choose another folder, then run the same command again"
        with system_errors(f"cannot write to {self.folder}", hint=hint):
            target = self.folder / path
            has_size = sha256 and target.is_file() and target.stat().st_size == local.stat().st_size
            if has_size and sha256_file(target) == sha256:
                return False
            with atomic_file(target) as part:
                shutil.copyfile(local, part)
            return True


@dataclass(frozen=True, kw_only=True, slots=True)
class WebRemote:
    """A folder of a web server; also what the Hub serves of one commit."""

    base: str  # address of the folder
    client: "httpx.Client"  # open HTTP client
    name: str  # address without user, password and query
    hint: str = "put user:password@ in front of the host in the address"  # where the server refuses

    def read(self, path: str, *, start: int = 0) -> Iterator[bytes]:
        """See :class:`Remote`."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        refusal = f"{self.name} answers with status {{status}} to {path}; check the address, or {self.hint}"
        url = f"{self.base}/{quote(path)}"
        with ask(self.client, "GET", url, headers, absent=_ABSENT, refusal=refusal) as response:
            if response.status_code == RANGE_REFUSED:
                return
            skipped = start if response.status_code == OK else 0  # a server that knows no ranges sends all of it
            range_sent = response.headers.get("Content-Range", "")
            if response.status_code == PARTIAL and not range_sent.startswith(f"bytes {start}-"):
                raise TryAgain("the server sent another range than was asked for")
            for block in blocks_of(response):
                yield block[skipped:]
                skipped = max(0, skipped - len(block))

    def write(self, local: Path, path: str, *, sha256: str = "") -> bool:
        """Refuse: a web server takes no files."""
        raise SourceUnusable(
            f"{self.name} is read only, {path} cannot be written; push to a folder that the server shows, s3:// or hf://"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketRemote:
    """A folder of an S3 bucket, through fsspec."""

    name: str  # ``s3://bucket/path``
    filesystem: Any  # open :class:`fsspec.AbstractFileSystem`

    def read(self, path: str, *, start: int = 0) -> Iterator[bytes]:
        """See :class:`Remote`."""
        with (
            self._errors(path),
            self.filesystem.open(f"{self.name}/{path}", block_size=_OBJECT_BLOCK, cache_type="none") as stream,
        ):
            stream.seek(start)
            while block := stream.read(_OBJECT_BLOCK):
                yield block

    def write(self, local: Path, path: str, *, sha256: str = "") -> bool:
        """See :class:`Remote`; the digest is kept as metadata of the object, which a change by others takes away."""
        if sha256 and self._digest(path) == sha256:
            return False
        try:
            with self._errors(path):
                self.filesystem.put_file(str(local), f"{self.name}/{path}", Metadata={"sha256": sha256})
            return True
        except Absent as error:
            raise NotAvailable(f"{self.name}: there is no such bucket; make it first") from error

    def _digest(self, path: str) -> str:
        """SHA-256 that was noted when an object was pushed; empty where there is none."""
        try:
            with self._errors(path):
                return str(self.filesystem.metadata(f"{self.name}/{path}").get("sha256", ""))
        except Absent:
            return ""

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Turn what the libraries raise into our errors; their messages may hold what a server echoes, so they go."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except FileNotFoundError as error:
            raise Absent(f"{self.name}/{path} is not there") from error
        except (PermissionError, NoCredentialsError) as error:
            raise NotAvailable(
                f"{self.name} refuses ({type(error).__name__}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
                "(and AWS_ENDPOINT_URL), or FSSPEC_S3_ANON=true for a public bucket"
            ) from None
        except (BotoCoreError, ClientError, OSError) as error:
            raise TryAgain(f"{self.name}: {type(error).__name__}") from None


@contextmanager
def open_remote(address: Address, *, timeout_s: float) -> Iterator[Remote]:
    """Open the location that an address names, until the block ends."""
    if address.scheme == "file":
        yield FolderRemote(folder=Path(address.url))
    elif address.scheme == "s3":
        require("s3fs", needed_by="s3:// needs")
        import s3fs

        settings = {"read_timeout": timeout_s, "connect_timeout": timeout_s, "retries": {"max_attempts": 2}}
        bucket = s3fs.S3FileSystem(config_kwargs=settings, use_listings_cache=False, skip_instance_cache=True)
        yield BucketRemote(name=address.url, filesystem=bucket)
    else:
        with open_client(timeout_s) as client:
            if address.scheme == "http":
                check_reachable(client, address.url, hint="check the address and the network")
                yield WebRemote(base=address.url, client=client, name=public_url(address.url))
            else:
                yield hub_remote(address, client)


def hub_remote(address: Address, client: "httpx.Client") -> WebRemote:
    """Open the commit that a branch, a tag or the main branch points to now: every file then comes from that one."""
    require("huggingface_hub", needed_by="hf:// needs")
    from huggingface_hub import HfApi, constants, get_token

    repository, repo_type = _repository(address)
    with hub_errors(_shown(address)):
        info = HfApi().repo_info(repository, repo_type=repo_type, revision=address.revision or None)
    prefix = "" if repo_type == "model" else f"{repo_type}s/"
    if token := get_token():
        client.headers["Authorization"] = f"Bearer {token}"
    return WebRemote(
        base=f"{constants.ENDPOINT}/{prefix}{repository}/resolve/{info.sha}",
        client=client,
        name=f"{address.url}@{info.sha}",
        hint=TOKEN_HINT,
    )


def push_to_hub(folder: Path, address: Address, *, digest: str, patterns: list[str]) -> str:
    """Make files the only content of a repository, by one commit tagged with the digest; give the commit."""
    require("huggingface_hub", needed_by="hf:// needs")
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # exported lazily

    if not sys.stderr.isatty():
        disable_progress_bars()
    repository, repo_type = _repository(address)
    with hub_errors(_shown(address)):
        api = HfApi()
        api.create_repo(repository, repo_type=repo_type, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            repo_type=repo_type,
            revision=address.revision or None,
            folder_path=folder,
            allow_patterns=patterns,
            delete_patterns="*",
            commit_message=f"{digest[:16]}",
        )
        api.create_tag(repository, repo_type=repo_type, tag=digest, revision=commit.oid, exist_ok=True)
    return commit.oid


def _repository(address: Address) -> tuple[str, str]:
    """Take ``owner/name`` and the Hub's word for the kind of repository out of an address."""
    kind, _, repository = address.url.removeprefix("hf://").partition("/")
    return repository, kind.removesuffix("s")


def _shown(address: Address) -> str:
    return address.url + (f"@{address.revision}" if address.revision else "")
