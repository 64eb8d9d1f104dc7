"""What travels: the files that a head file promises, and the place of one version of them.

A folder that is shared holds versions side by side, ``<digest>/...``, and ``current``, which names one of them: the way
in which a name's folder in a home is laid out, so that such a folder can be served as it is. A folder that holds the
head file itself (a repository of the Hub, a store that was copied) is one version.
"""

from dataclasses import dataclass
from typing import Final

from genekb.core.errors import NotAvailable, StoreCorrupt
from genekb.files.safe_names import is_digest
from genekb.share.addresses import Address
from genekb.share.remotes import Remote
from genekb.share.transfer import Patience, read_small
from genekb.store.home import CURRENT

_HEAD_LIMIT: Final = 64 << 20
_SMALL: Final = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One version at a place."""

    head: bytes  # bytes of the head file
    prefix: str  # folder of the place in which the version lies: empty, or ending with a slash
    expected: str  # digest, or its first digits, that the version must have; empty if any


def find_version(remote: Remote, address: Address, *, head: str, patience: Patience) -> Found:
    """Find the version that an address names: the current one, or the one of a digest.

    Raises ``NotAvailable`` if there is none, or the first digits of a digest are not those of the current one (nothing
    can be listed).
    """
    wanted = address.revision if address.scheme != "hf" else ""
    pointer = read_small(remote, CURRENT, limit=_SMALL, patience=patience)
    current = pointer.decode("ascii", errors="replace").strip() if pointer else ""
    if pointer and not is_digest(current):
        raise StoreCorrupt(f"{remote.name}/{CURRENT} holds no digest; it is none of ours")
    digest = current if current.startswith(wanted) else wanted
    if is_digest(digest):
        content = read_small(remote, f"{digest}/{head}", limit=_HEAD_LIMIT, patience=patience)
        if content is not None:
            return Found(head=content, prefix=f"{digest}/", expected=digest)
    content = None if pointer else read_small(remote, head, limit=_HEAD_LIMIT, patience=patience)
    if content is not None:
        return Found(head=content, prefix="", expected=wanted)
    if wanted:
        raise NotAvailable(
            f"{remote.name} has no version {wanted}"
            + (f" (current there: {current})" if current else "")
            + ("; give all 64 digits of its digest" if not is_digest(wanted) else "")
        )
    raise NotAvailable(f"{remote.name} holds neither {CURRENT} nor {head}; is the address that of a name's folder?")


def check_digest(digest: str, found: Found, remote: Remote) -> None:
    """Refuse a version that is not the one that was asked for.

    Raises ``StoreCorrupt`` if its digest is another.
    """
    if not digest.startswith(found.expected):
        raise StoreCorrupt(
            f"{remote.name} gives {digest} where {found.expected} was asked for; do not use it, ask its owner"
        )
