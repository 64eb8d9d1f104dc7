"""Notes in JSON beside the stores: what is convenient to know, and part of none of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from genekb.files.atomic import write_json
from genekb.files.limits import read_json
from genekb.store.manifest import Manifest, StoredFile


def read_notes(path: Path) -> dict[str, Any]:
    """Read a file of notes; one that is gone, damaged or could not be written again holds none."""
    try:
        content = read_json(path)
        json.dumps(content, ensure_ascii=False).encode()  # half a character could be written nowhere
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


PULLED: Final = ".pulled.json"  # without it, what was not pulled counts as lost, and may be pulled again


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a store was pulled from."""

    url: str  # address without user and password, with the commit on the Hub
    encoders: tuple[str, ...]  # ids of the encoders that were pulled


def read_origin(folder: Path) -> Origin | None:
    """Give where the store in a folder was pulled from; None for one that was made here."""
    entry = read_notes(folder.parent / PULLED).get(folder.name)
    try:
        return Origin(url=str(entry["url"]), encoders=tuple(map(str, entry["encoders"]))) if entry else None
    except (KeyError, TypeError):
        return None


def note_origin(folder: Path, origin: Origin) -> None:
    """Note where the store in a folder comes from."""
    path = folder.parent / PULLED
    write_json(read_notes(path) | {folder.name: asdict(origin)}, path)


def absent_encoders(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """List the encoders that were left where a store was pulled from; one that was lost is not among them."""
    origin = read_origin(folder)
    if origin is None:
        return ()
    return tuple(
        key for key in manifest.encoders if key not in origin.encoders and not (folder / "embeddings" / key).exists()
    )


def files_here(folder: Path, manifest: Manifest) -> tuple[StoredFile, ...]:
    """Files that must lie in a store's folder: all but those of encoders that were not pulled."""
    absent = tuple(f"embeddings/{key}/" for key in absent_encoders(folder, manifest))
    return tuple(file for file in manifest.files if not (absent and file.path.startswith(absent)))


PLACES: Final = ".places.json"  # without it, a user types a path again, nothing else


def remember_places(name_folder: Path, places: Mapping[str, Path | None]) -> None:
    """Note the folder of each encoder that was loaded from one; encoders without a folder are passed over."""
    found = {encoder_id: str(path) for encoder_id, path in places.items() if path is not None}
    if found:
        write_json(_read(name_folder) | found, name_folder / PLACES)


def recall_place(name_folder: Path, encoder_id: str) -> Path | None:
    """Give the folder that was noted for an encoder, if there is one."""
    path = _read(name_folder).get(encoder_id)
    return Path(path) if path else None


def _read(name_folder: Path) -> dict[str, str]:
    return {key: value for key, value in read_notes(name_folder / PLACES).items() if isinstance(value, str)}
