"""Where a pulled store came from, and which of its encoders came along: a note beside the stores, never part of one."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from genekb.files import write_json
from genekb.store.manifest import Manifest, StoredFile
from genekb.store.notes import read_notes

PULLED: Final = ".pulled.json"  # without it, what was not pulled counts as lost, and may be pulled again


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a store was pulled from.

    Parameters
    ----------
    url
        Address without user and password, with the commit where the place has commits.
    encoders
        Ids of the encoders that were pulled.
    """

    url: str
    encoders: tuple[str, ...]


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
