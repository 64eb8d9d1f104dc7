"""What a message says of a name that is not there, and of numbers of things."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

MOST_NAMES: Final = 12
_SUFFIX: Final = re.compile(r"@.*|-[0-9a-f]{12}$")


def known_names(wanted: str, names: Iterable[object]) -> str:
    """List the names that there are, and the one that was probably meant: ``lsa-256, minilm; did you mean 'minilm'?``.

    At most :data:`MOST_NAMES` are listed; ``none`` where there is none.
    """
    known = [str(name) for name in names]
    listed = ", ".join(known[:MOST_NAMES]) or "none"
    if len(known) > MOST_NAMES:
        listed += f", and {len(known) - MOST_NAMES:,} more"
    return listed + did_you_mean(wanted, known)


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """Name the one of the known names that was probably meant: ``; did you mean 'minilm'?``, or nothing."""
    by_stem = {_stem(name): name for name in known}
    near = get_close_matches(_stem(wanted), by_stem, n=1)
    return f"; did you mean {by_stem[near[0]]!r}?" if near else ""


def _stem(name: str) -> str:
    """Name as people type it: lower case, without the release of a store or the digest of an encoder."""
    return _SUFFIX.sub("", name.lower())


def counted(number: int, noun: str, *, plural: str = "") -> str:
    """Write a number with its noun in singular or plural: ``1 gene``, ``2,323 genes``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
