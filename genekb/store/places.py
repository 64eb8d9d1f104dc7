"""Where local model folders lay when a store was made with them: a note beside the stores, never part of one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from genekb.files import write_json
from genekb.store.notes import read_notes

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
