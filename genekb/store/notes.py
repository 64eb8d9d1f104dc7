"""Notes in JSON beside the stores: what is convenient to know, and part of none of them."""

import json
from pathlib import Path
from typing import Any

from genekb.limits import read_json


def read_notes(path: Path) -> dict[str, Any]:
    """Read a file of notes; one that is gone, damaged or could not be written again holds none."""
    try:
        content = read_json(path)
        json.dumps(content, ensure_ascii=False).encode()  # half a character could be written nowhere
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
