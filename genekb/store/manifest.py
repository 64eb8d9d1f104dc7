"""The manifest: what a store holds, from what it was made, and the digest that identifies it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from genekb.errors import SchemaMismatch, StoreCorrupt
from genekb.files import canonical_json
from genekb.schema import READABLE_VERSIONS, SCHEMA_VERSION

MANIFEST: Final = "manifest.json"
_NOT_IN_DIGEST: Final = ("created_at", "created_by")  # who and when: not what
_NEW_IN_VERSION_2: Final = ("options",)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """One file of a store: POSIX path below the store's folder, size, rows (0 where it has none) and SHA-256."""

    path: str
    n_bytes: int
    n_rows: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a store promises.

    Parameters
    ----------
    name, release
        E.g. ``human`` and ``2022-11``.
    taxa
        NCBI taxonomy identifiers of its genes.
    sources
        Files that were read: name, size, SHA-256, rows read and kept.
    dropped
        Source rows left out, by reason.
    selection
        Which genes were given a text.
    template
        Number and name of the text template.
    n_genes, n_texts, n_unique_texts, n_ortholog_texts
        Sizes.
    encoders
        Recipe and counts of each encoder, by encoder_id.
    files
        Every file but the manifest.
    licences
        Terms of the sources.
    parent
        Digest of the store that this one was made from, or empty.
    options
        What an update needs to make the texts again: type of gene, digest of the list of names, stored type.
    created_at, created_by
        UTC time and code version; not part of the digest.
    """

    name: str
    release: str
    taxa: tuple[int, ...]
    sources: tuple[Mapping[str, Any], ...]
    dropped: Mapping[str, int]
    selection: str
    template: Mapping[str, Any]
    n_genes: int
    n_texts: int
    n_unique_texts: int
    n_ortholog_texts: int
    encoders: Mapping[str, Mapping[str, Any]]
    files: tuple[StoredFile, ...]
    licences: tuple[str, ...]
    parent: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    created_at: str = ""
    created_by: str = ""
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that the manifest says, time and code version left out."""
        left_out = _NOT_IN_DIGEST + (_NEW_IN_VERSION_2 if self.schema_version == 1 else ())
        content = {key: value for key, value in asdict(self).items() if key not in left_out}
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()

    def to_json(self) -> str:
        """Write the manifest as indented JSON, the digest on top for the reader's eye."""
        return json.dumps({"digest": self.digest, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read and check a manifest; the schema version is looked at first.

    Raises
    ------
    StoreCorrupt
        If there is none, it is no manifest, its digest is not its content's, or it names a path outside the store.
    SchemaMismatch
        If it was written with a schema version that this reader does not know.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise StoreCorrupt(f"{folder} is no store: it has no {MANIFEST}; `genekb list` shows the stores of a home")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(f"{path} is damaged ({error}); build or pull the store again") from error
    if version not in READABLE_VERSIONS:
        readable = ", ".join(map(str, READABLE_VERSIONS))
        raise SchemaMismatch(f"{path} has schema version {version}, this genekb reads {readable}; update genekb")
    return _parse(content, path)


def _parse(content: dict[str, Any], path: Path) -> Manifest:
    digest = content.pop("digest", "")
    try:
        files = tuple(StoredFile(**entry) for entry in content.pop("files"))
        for key in ("taxa", "sources", "licences"):
            content[key] = tuple(content[key])
        manifest = Manifest(**content, files=files)
    except (KeyError, TypeError) as error:
        raise StoreCorrupt(f"{path} is damaged ({error}); build or pull the store again") from error
    if manifest.digest != digest:
        raise StoreCorrupt(
            f"{path}: its content has digest {manifest.digest[:12]}, it claims {digest[:12]}; build again"
        )
    for file in manifest.files:
        parts = PurePosixPath(file.path)
        if parts.is_absolute() or ".." in parts.parts or "\\" in file.path:
            raise StoreCorrupt(f"{path} names {file.path!r}, which lies outside the store; do not use this store")
    return manifest
