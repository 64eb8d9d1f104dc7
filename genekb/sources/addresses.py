"""Addresses on the web: whether one is usable, and what of it may be shown."""

from urllib.parse import urlsplit, urlunsplit


def is_web_address(url: str) -> bool:
    """Whether a text is ``http(s)://host``, with a port that is one, and whatever follows."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not close
        return False


def host_of(url: str) -> str:
    """Host and, where it is given, port."""
    return urlsplit(url).netloc.rpartition("@")[2]


def public_url(url: str) -> str:
    """Address without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, host_of(url), parts.path, "", ""))


def without_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """Take user and password out of an address, which a client would log."""
    parts = urlsplit(url)
    login = (parts.username, parts.password or "") if parts.username else None
    return urlunsplit(parts._replace(netloc=host_of(url))), login
