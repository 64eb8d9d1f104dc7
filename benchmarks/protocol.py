"""One protocol for every data set: the same settings, the same seeds, labels read for scoring alone."""

import hashlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

SEEDS = (0, 1, 2, 3, 4)
HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A labelled data set of ``datasets.toml``."""

    name: str
    path: Path
    taxon: str
    label_key: str
    labels: str
    study: bool


def data_folder() -> Path:
    """Folder of the real data: ``GENEKB_TEST_DATA``, else ``../shared/data`` beside the repository."""
    folder = Path(os.environ.get("GENEKB_TEST_DATA", HERE.parents[1] / "shared" / "data"))
    if not folder.is_dir():
        raise SystemExit(f"no real data in {folder}; set GENEKB_TEST_DATA")
    return folder


def load_datasets() -> list[DataSet]:
    """Read the list of data sets and check that each file is the one that was listed."""
    found = []
    for name, entry in tomllib.loads((HERE / "datasets.toml").read_text()).items():
        path = data_folder() / entry["file"]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != entry["sha256"]:
            raise SystemExit(f"{path} has sha256 {digest[:12]}, {entry['sha256'][:12]} is listed")
        found.append(
            DataSet(
                name=name,
                path=path,
                taxon=entry["taxon"],
                label_key=entry["label_key"],
                labels=entry["labels"],
                study=entry["study"],
            )
        )
    return found
