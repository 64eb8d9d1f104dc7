"""Fitted state of an encoder: a vocabulary and arrays beside the vectors, and whether they are those of the recipe."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genekb.core.errors import NotAvailable, StoreCorrupt
from genekb.encoders.base import EncoderSpec
from genekb.files.atomic import read_arrays, write_arrays
from genekb.files.limits import read_json

Arrays = Mapping[str, np.ndarray]


def _files(folder: Path, kind: str) -> tuple[Path, Path]:
    return folder / f"{kind}-vocabulary.json", folder / f"{kind}.safetensors"


def write_state(folder: Path, kind: str, vocabulary: Any, arrays: Arrays) -> None:
    """Write vocabulary and arrays of an encoder of a family."""
    words, numbers = _files(folder, kind)
    folder.mkdir(parents=True, exist_ok=True)
    words.write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    write_arrays(arrays, numbers)


def read_state(
    spec: EncoderSpec,
    folder: Path,
    *,
    revisions: Collection[str],
    form: type,
    digest: Callable[[Any, Arrays], str],
) -> tuple[Any, Arrays]:
    """Read vocabulary, which is a ``form``, and arrays, and check that they are those of the recipe.

    Raises ``NotAvailable`` if one is missing, or the revision is none of ``revisions``; ``StoreCorrupt`` if they are
    others, or damaged.
    """
    if spec.revision not in revisions:
        known = ", ".join(revisions)
        raise NotAvailable(
            f"{spec.encoder_id} is revision {spec.revision!r} of {spec.kind}, this genekb knows {known}; update genekb"
        )
    words, numbers = _files(folder, spec.kind)
    if not words.is_file() or not numbers.is_file():
        raise NotAvailable(f"{folder} lacks the fitted state of {spec.encoder_id}; build the store again")
    try:
        vocabulary, arrays = read_json(words), read_arrays(numbers)
        is_same = isinstance(vocabulary, form) and digest(vocabulary, arrays) == spec.state_sha256
    except (ValueError, KeyError) as error:
        raise StoreCorrupt(f"{folder}: the state of {spec.encoder_id} is damaged; build the store again") from error
    if not is_same:
        raise StoreCorrupt(f"{folder}: the state is not that of {spec.encoder_id}; build the store again")
    return vocabulary, arrays
