"""Which labelled files a benchmark runs on, and what is known of their labels."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cellmodel.core.errors import InputUnusable
from genekb.files import atomic as files

UNKNOWN: Final = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A labelled file."""

    name: str  # what tables call it
    path: Path
    label_key: str  # column of obs with an annotator's labels
    # where the labels come from, for grouping: ``clustering`` means that agreement with an earlier clustering is
    # measured
    origin: str = UNKNOWN


def find_datasets(folder: Path, *, listing: Path | None, label_key: str, names: tuple[str, ...] = ()) -> list[DataSet]:
    """List the data sets of a folder; all ``.h5ad`` files without a ``listing``.

    ``listing``: TOML with a table a data set: ``file`` (in the folder), ``label_key``, ``labels`` (their origin), and
    the ``sha256`` that the file must have. Raises ``InputUnusable`` if a file is missing or not the one that is listed.
    """
    if not folder.is_dir():
        raise InputUnusable(f"{folder} is not a folder; name one that holds .h5ad files")
    found = _listed(folder, listing, label_key) if listing else _all_files(folder, label_key)
    if not found:
        raise InputUnusable(f"{folder} holds no .h5ad file; name a folder that does")
    missing = sorted(set(names) - {one.name for one in found})
    if missing:
        raise InputUnusable(f"no data set is called {missing[0]!r}; there are {', '.join(one.name for one in found)}")
    return [one for one in found if not names or one.name in names]


def _all_files(folder: Path, label_key: str) -> list[DataSet]:
    return [DataSet(name=path.stem, path=path, label_key=label_key) for path in sorted(folder.glob("*.h5ad"))]


def _listed(folder: Path, listing: Path, label_key: str) -> list[DataSet]:
    try:
        entries = tomllib.loads(listing.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputUnusable(f"{listing} cannot be read as TOML: {error}") from error
    found = []
    for name, entry in entries.items():
        path = folder / entry.get("file", f"{name}.h5ad")
        if not path.is_file():
            raise InputUnusable(f"{path}, listed as {name!r} in {listing}, does not exist")
        digest = files.sha256_file(path) if "sha256" in entry else ""
        if digest != entry.get("sha256", ""):
            raise InputUnusable(f"{path} has sha256 {digest[:12]}..., {entry['sha256'][:12]}... is listed")
        found.append(
            DataSet(
                name=name, path=path, label_key=entry.get("label_key", label_key), origin=entry.get("labels", UNKNOWN)
            )
        )
    return found
