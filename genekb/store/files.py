"""The files of a store against its manifest, and notes in JSON beside the stores, which are part of none of them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from genekb.core.errors import StoreCorrupt
from genekb.core.resources import raise_resource_fault
from genekb.files.atomic import sha256_file, write_json
from genekb.files.limits import check_footer, read_json, read_parquet
from genekb.store.manifest import Manifest, StoredFile


def read_notes(path: Path) -> dict[str, Any]:
    """Read a file of notes; one that is gone, damaged or could not be written again holds none."""
    try:
        content = read_json(path)
        json.dumps(content, ensure_ascii=False).encode()  # half a character could be written nowhere
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


ONLY_NAMES: Final = "only_names.txt"  # names of the genes that were given a text, where a list chose them
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


def file_fault(path: Path, file: StoredFile, *, only_size: bool = False) -> str:
    """Describe how a file differs from its entry in the manifest; empty if it does not."""
    if not path.is_file() or path.stat().st_size != file.n_bytes:
        return f"is missing or not {file.n_bytes} bytes long"
    if not only_size and sha256_file(path) != file.sha256:
        return "has other bytes than its manifest says"
    return ""


def check_files(folder: Path, manifest: Manifest, *, prefix: str = "", only_size: bool = False) -> None:
    """Compare the files whose path starts with ``prefix`` with the manifest; ``StoreCorrupt`` if one differs."""
    for file in files_here(folder, manifest):
        if not file.path.startswith(prefix):
            continue
        path = folder / file.path
        fault = file_fault(path, file, only_size=only_size)
        if fault:
            raise StoreCorrupt(f"{path} {fault}; build or pull the store again")
        if path.suffix == ".parquet" and not only_size:
            with _refused(path):
                check_footer(path, n_rows=file.n_rows)


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Report in one line what is wrong with a file of a store."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise_resource_fault(error)
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise StoreCorrupt(f"{path} is damaged ({reason}); build or pull the store again") from error


def read_columns(path: Path, schema: pa.Schema) -> pa.Table:
    """Read the columns of a schema from a store's Parquet file; ``StoreCorrupt`` if they are not so."""
    with _refused(path):
        found = pq.read_schema(path)
        for field in schema:
            kind = found.field(field.name).type if found.names.count(field.name) == 1 else None
            if kind != field.type:
                what = (
                    f"its column {field.name!r} is {kind}" if kind else f"it has no column {field.name!r}, or several"
                )
                raise StoreCorrupt(f"{path} is no file of this schema: {what}; build or pull the store again")
        table = read_parquet(path, columns=schema.names)
        table.validate(full=True)
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise StoreCorrupt(f"{path}: its column {field.name!r} has gaps; build or pull the store again")
    return table
