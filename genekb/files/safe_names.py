"""Names and paths that others wrote, judged before any of them becomes a file's name."""

import re
from collections.abc import Iterable
from typing import Final

# A plain file name: no blank, no separator of any system, no drive, nothing hidden, nothing beyond ASCII. So names
# cannot differ by Unicode's forms or by characters that are not seen.
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,126}(?<!\.)"
_PATH: Final = re.compile(rf"{_PART}(/{_PART}){{0,7}}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)  # names that Windows keeps for itself


def is_plain_path(path: str) -> bool:
    """Whether a path, with ``/`` between its parts, stays below the folder it is taken from, on every system."""
    stems = (part.partition(".")[0] for part in path.split("/"))
    return bool(_PATH.fullmatch(path)) and not any(map(_DEVICE.fullmatch, stems))


def is_plain_name(name: str) -> bool:
    """Whether a name is that of one file or folder, see :func:`is_plain_path`."""
    return "/" not in name and is_plain_path(name)


def is_digest(text: str) -> bool:
    """Whether a text is a whole SHA-256 in hex."""
    return bool(_DIGEST.fullmatch(text))


def find_clash(paths: Iterable[str]) -> str:
    """Give the first path that a disk which ignores case would hold for one before it, or for its folder; else empty.

    ``paths``: as :func:`is_plain_path` accepts them.
    """
    files: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        parts = path.lower().split("/")
        above = {"/".join(parts[:n]) for n in range(1, len(parts))}
        name = "/".join(parts)
        if name in files | folders or above & files:
            return path
        files.add(name)
        folders |= above
    return ""
