"""Addresses on the web: whether one is usable, and what of it may be shown."""

import re
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

# User and password of an address inside a text, also one that went through a path, which keeps a single slash. The
# second form is a password with a bare slash, number sign or question mark: what follows the colon is no port.
_LOGIN: Final = re.compile(
    r"(?<=\w\w)(:/{1,2})(?!/)(?:[^\s/?#]{0,2000}@|(?!\[)[^\s/?#@:]{0,200}:(?!\d*(?:[^\w%@]|$))\S{0,2000}@)",
    re.IGNORECASE,
)
_SECRET_VALUE: Final = re.compile(
    r"([?&;#][\w.~-]*(?:token|sig|signature|secret|password|passwd|pwd|credential|auth|key|keyid)=)[^\s&#;\"'<>]+",
    re.IGNORECASE,
)
_BEGINNING: Final = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Take user, password and secret values of a query out of every address in a text; every message passes here."""
    if "@" in text and ":/" in text:
        text = _LOGIN.sub(r"\1", text)
    return _SECRET_VALUE.sub(r"\1...", text) if "=" in text else text


def looks_like_address(text: str) -> bool:
    """Whether a text begins as an address does, ``scheme://``, also one that went through a path: ``scheme:/``."""
    return _BEGINNING.match(text) is not None


def is_web_address(url: str) -> bool:
    """Whether a text is ``http(s)://host``, with a host and a port that are ones, and whatever follows but blanks."""
    import httpx

    try:
        parts, parsed = urlsplit(url), httpx.URL(url)
        parsed.raw_host.decode().encode("idna")  # as the system's look-up of the host does
        is_plain = not re.search(r"\s", url) and parts.scheme in {"http", "https"}
        return is_plain and bool(parts.hostname and parsed.host) and parts.port != 0
    except (ValueError, httpx.InvalidURL):  # a port that is no number, brackets that do not close, a label too long
        return False


def host_of(url: str) -> str:
    """Host and, where it is given, port."""
    return urlsplit(url).netloc.rpartition("@")[2]


def public_url(url: str) -> str:
    """Address without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, host_of(url), parts.path, "", ""))


def without_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """Take user and password, decoded, out of an address, which a client would log."""
    parts = urlsplit(url)
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return urlunsplit(parts._replace(netloc=host_of(url))), login
