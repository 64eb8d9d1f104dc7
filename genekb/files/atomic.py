"""Files written whole or not at all, digests that identify them, and names that are safe; quick to import."""

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from genekb.core.errors import NotAvailable

if TYPE_CHECKING:
    import numpy as np

TEMPORARY: Final = ".part"


@contextmanager
def system_errors(what: str, *, hint: str) -> Iterator[None]:
    """Report an error of the system as ``NotAvailable``: what cannot be done, why, and a hint."""
    try:
        yield
    except OSError as error:
        raise NotAvailable(f"{what}: {error.strerror or type(error).__name__}; {hint}") from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; it takes its place, synced to disk, when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + TEMPORARY)
    try:
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file's bytes, or the names in a folder, on disk, so that they survive a power failure."""
    # Windows opens no folder, and some network disks sync none
    with suppress(OSError) if path.is_dir() else nullcontext():
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def share_file(source: Path, target: Path) -> None:
    """Give a file a second name by a hard link, or copy it where the disk has none; what has the name is replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + TEMPORARY)
    part.unlink(missing_ok=True)
    try:
        part.hardlink_to(source.resolve())
    except OSError:  # another disk, one without links, or a file of another user
        shutil.copyfile(source, part)
    part.replace(target)
    part.unlink(missing_ok=True)  # a rename between two names of one file leaves both


def write_text(text: str, path: Path) -> None:
    """Write a text file."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(content: Any, path: Path) -> None:
    """Write a value as indented JSON with sorted keys."""
    write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", path)


def write_toml(content: Mapping[str, Any], path: Path, *, header: str, argument: str) -> None:
    """Write a value as TOML below a comment; the error names the argument that gives another file."""
    import tomli_w

    with system_errors(f"{path} cannot be written", hint=f"give another `{argument}`"):
        write_text(header + tomli_w.dumps(content), path)


def write_arrays(arrays: "Mapping[str, np.ndarray]", path: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays as safetensors."""
    from safetensors.numpy import save_file

    with atomic_file(path) as part:
        part.touch()
        mode = stat.S_IMODE(part.stat().st_mode)
        save_file(dict(arrays), part, metadata=dict(metadata) if metadata else None)
        part.chmod(mode)  # safetensors puts a file there that only its owner can read


def read_arrays(path: Path) -> "dict[str, np.ndarray]":
    """Read arrays from safetensors; ``ValueError`` if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    with path.open("rb"):  # safetensors calls a file missing that this user may not open
        pass
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def canonical_json(content: Any) -> str:
    """JSON with sorted keys and no blanks: equal content, equal bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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
    """Give the first plain path that a disk which ignores case would hold for one before, or its folder; else empty."""
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


def user_path(path: str | Path | None) -> Path | None:
    """Take a path as a person writes it."""
    return None if path is None else Path(path).expanduser()
