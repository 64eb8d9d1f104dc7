"""Where local model folders lay when a store was made with them: a note beside the stores, never part of one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from genekb.files import write_json

PLACES: Final = ".places.json"


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
    try:
        content = json.loads((name_folder / PLACES).read_text(encoding="utf-8"))
        json.dumps(content, ensure_ascii=False).encode()  # half a character could be written nowhere
    except (OSError, ValueError):  # a note that is gone or damaged costs the user a path to type, nothing else
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str)} if isinstance(content, dict) else {}
