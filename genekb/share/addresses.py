"""Where shared artefacts lie: a folder, a web server, an S3 bucket, or a repository of the Hugging Face Hub."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from genekb.core.addresses import is_web_address
from genekb.core.errors import SourceUnusable

Scheme = Literal["file", "http", "s3", "hf"]
_FORMS: Final = "a folder, file:///folder, https://host/path, s3://bucket/path or hf://datasets/owner/name"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_DIGITS: Final = re.compile(r"[0-9a-f]{8,64}")
_HUB_KINDS: Final = ("datasets", "models")


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Location of a shared artefact."""

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
    """Parse an address; ``@`` and what follows it name a revision, of a path only if these are digits of a digest.

    ``hub_kind``: what ``hf://owner/name`` maps to. Raises ``SourceUnusable`` if it is no address of a known kind.
    """
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
