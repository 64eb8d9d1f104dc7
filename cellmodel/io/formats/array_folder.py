"""Results kept as a folder of two files: arrays as safetensors, all else as JSON with the digest of the arrays.

Nothing in such a folder is ever executed. It takes its name when it is complete.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from cellmodel.core.errors import InputUnusable, LineageMismatch
from cellmodel.io.writers import FolderKind, output
from genekb.files import atomic as files
from genekb.files.limits import read_json

ARRAYS: Final = "arrays.safetensors"
Read = TypeVar("Read")


def write_folder(
    folder: Path, kind: FolderKind, arrays: Mapping[str, np.ndarray], content: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Write arrays and the description ``content``; ``InputUnusable`` if the folder may not be replaced."""
    with output(kind.target(folder), overwrite=overwrite) as part:
        part.mkdir(parents=True)
        path = part / ARRAYS
        files.write_arrays({name: np.ascontiguousarray(values) for name, values in arrays.items()}, path)
        promised = {"sha256": files.sha256_file(path), "n_bytes": path.stat().st_size}
        files.write_json({"format": kind.format, **content, **promised}, part / kind.description)


def read_folder(
    folder: Path, kind: FolderKind, make: Callable[[dict[str, Any], Path], Read], *, address: str = ""
) -> Read:
    """Check the bytes of a folder, and make what it holds of its description and the file of its arrays.

    ``make``: its ``ValueError``, ``KeyError`` and ``TypeError`` mean damage. ``address``: where the folder was pulled
    from, which errors then name in its place. Raises ``InputUnusable`` if it is of another kind, or of a later format;
    ``LineageMismatch`` if its bytes are not those that were written.
    """
    if not (folder / kind.description).is_file():
        raise InputUnusable(f"{folder} holds no {kind.description}; is it a folder that {kind.made_by} wrote?")
    where, hint = (address, "ask its owner to push it again") if address else (str(folder), kind.remedy)
    try:
        content = read_json(folder / kind.description)
        expected, found_format = content["sha256"], content["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(where, kind, hint, error) from error
    if found_format != kind.format:
        raise InputUnusable(
            f"{where} is a {kind.name} of format {found_format}, {kind.format} is read here; update the package"
        )
    if not (folder / ARRAYS).is_file() or files.sha256_file(folder / ARRAYS) != expected:
        raise LineageMismatch(f"{where}/{ARRAYS} is missing or not the file that was written; {hint}")
    try:
        return make(content, folder / ARRAYS)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(where, kind, hint, error) from error


def _damaged(where: str, kind: FolderKind, hint: str, error: Exception) -> LineageMismatch:
    reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:100]
    return LineageMismatch(f"{where}/{kind.description} is damaged ({reason}); {hint}")
