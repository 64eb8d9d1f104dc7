"""The manifest of a store: contents, provenance, and the digest that identifies it."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import EllipsisType
from typing import Any, Final

from genekb.core.errors import NotAvailable, SchemaMismatch, StoreCorrupt
from genekb.core.messages import known_names, listed
from genekb.core.resources import raise_resource_fault
from genekb.encoders.kinds import EncoderKind, kind_of
from genekb.files.atomic import TEMPORARY, canonical_json, find_clash, is_plain_name, is_plain_path
from genekb.files.limits import parse_json, read_json
from genekb.genes.taxa import taxon_name
from genekb.schema import SCHEMA_VERSION, TABLES

Shape = type | list["Shape"] | dict[str | EllipsisType, "Shape"]
_NAMES: Final = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth"}
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = f"{MANIFEST}.minisig"  # beside it, where its maker signed it
_NOT_IN_DIGEST: Final = ("created_at", "created_by")  # who and when: not what
_TABLES_OF_TEXTS: Final = ("genes.parquet", "names.parquet", "texts.parquet")
_SHAPE: Final[Shape] = {
    **dict.fromkeys(("name", "release", "selection", "parent"), str),
    **dict.fromkeys(("n_genes", "n_texts", "n_unique_texts", "n_ortholog_texts"), int),
    "taxa": [int],
    "sources": [dict],
    "dropped": {...: int},
    "template": {"number": int},
    "encoders": {...: {"recipe": {"name": str, "kind": str, "dim": int}, "n_vectors": int}},
    "files": [{"path": str, "n_bytes": int, "n_rows": int, "sha256": str}],
    "licences": [str],
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """One file of a store: POSIX path below the store's folder, size, rows (0 where it has none) and SHA-256."""

    path: str
    n_bytes: int
    n_rows: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a store promises."""

    name: str  # name, release: e.g. ``human`` and ``2022-11``
    release: str
    taxa: tuple[int, ...] = ()  # NCBI taxonomy identifiers of its genes
    sources: tuple[Mapping[str, Any], ...]  # files that were read: name, size, SHA-256, rows read and kept
    dropped: Mapping[str, int]  # source rows left out, by reason
    selection: str  # which genes were given a text
    template: Mapping[str, Any]  # number and name of the text template
    n_genes: int = 0  # n_genes, n_texts, n_unique_texts, n_ortholog_texts: sizes
    n_texts: int = 0
    n_unique_texts: int = 0
    n_ortholog_texts: int = 0
    # recipe and counts of each encoder, by encoder_id
    encoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: tuple[StoredFile, ...] = ()  # every file but the manifest
    licences: tuple[str, ...]  # terms of the sources
    parent: str = ""  # digest of the store that this one was made from, or empty
    # what an update needs to make the texts again: type of gene, digest of the list of names, stored type
    options: Mapping[str, Any] = field(default_factory=dict)
    created_at: str = ""  # created_at, created_by: UTC time and code version; not part of the digest
    created_by: str = ""
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def full_name(self) -> str:
        """``NAME@RELEASE``."""
        return f"{self.name}@{self.release}"

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the manifest without time and code version."""
        content = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _NOT_IN_DIGEST}
        content["files"] = [{each.name: getattr(file, each.name) for each in fields(file)} for file in self.files]
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()

    def content_id(self, encoder_id: str = "") -> str:
        """Identify the genes, names, texts, and vectors of an encoder: ``TABLES:VECTORS``, 16 hex digits each."""
        tables = [file for file in self.files if file.path in _TABLES_OF_TEXTS]
        vectors = [file for file in self.files if encoder_id and is_of(file, encoder_id)]
        return f"{_content_digest(tables)}:{_content_digest(vectors)}"

    def recipe(self, encoder_id: str) -> Mapping[str, Any]:
        """Recipe of an encoder, as JSON types."""
        found: Mapping[str, Any] = self.encoders[encoder_id]["recipe"]
        return found

    def encoders_named(self, name: str, *, among: Iterable[str]) -> list[str]:
        """Ids of the encoders ``among`` some that have an id or short name."""
        return [key for key in among if name in {key, self.recipe(key)["name"]}]

    def find_encoder(self, name: str, *, where: str, hint: str, among: Sequence[str] | None = None) -> str:
        """Find the id of the one encoder of an id or short name; ``NotAvailable`` if there is none, or several."""
        ids = tuple(self.encoders) if among is None else among
        found = self.encoders_named(name, among=ids)
        if len(found) == 1:
            return found[0]
        what = f"several encoders named {name!r}" if found else f"no encoder {name!r}"
        raise NotAvailable(f"{where} has {what} (it has: {known_names(name, ids)}); {hint}")

    def kind(self, encoder_id: str) -> EncoderKind:
        """Properties of the family of an encoder."""
        return kind_of(self.recipe(encoder_id))

    def facts(self, *, not_pulled: Collection[str] = ()) -> dict[str, str]:
        """Say what the store is, in a line each; ``not_pulled``: encoders that are not here."""
        recipes = {key: self.recipe(key) for key in self.encoders if key not in not_pulled}
        encoders = [f"{recipe['name']} ({recipe['dim']} dimensions)" for recipe in recipes.values()]
        return {
            "genes": f"{self.n_genes:,}, {self.n_texts:,} with a text",
            "species": listed([taxon_name(tax_id) for tax_id in self.taxa]),
            "encoders": listed([*encoders, *(f"{key} (not pulled)" for key in not_pulled)]) or "none",
        }

    def to_json(self) -> str:
        """Write the manifest as indented JSON, the digest first."""
        return json.dumps({"digest": self.digest, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


def is_of(file: StoredFile, encoder_id: str) -> bool:
    """Whether a file belongs to an encoder."""
    return file.path.startswith(f"embeddings/{encoder_id}/")


def _content_digest(files: Iterable[StoredFile]) -> str:
    """First 16 hex digits of the SHA-256 over paths and digests of files; empty for no file."""
    rows = sorted((file.path, file.sha256) for file in files)
    return hashlib.sha256(canonical_json(rows).encode()).hexdigest()[:16] if rows else ""


def read_manifest(folder: Path) -> Manifest:
    """Read and check a manifest; ``StoreCorrupt`` if it is damaged, ``SchemaMismatch`` if of an unknown version."""
    path = folder / MANIFEST
    if not path.is_file():
        raise StoreCorrupt(f"{folder} is no store: it has no {MANIFEST}; `genekb info` shows the stores of a home")
    return _read(lambda: read_json(path), name=str(path), hint="build or pull the store again")


def parse_manifest(content: bytes, *, address: str) -> Manifest:
    """Check the bytes of a manifest from an address, as :func:`read_manifest` does."""
    hint = "ask its owner to push the store again, or pull it from elsewhere"
    return _read(lambda: parse_json(content), name=address, hint=hint)


def _read(parse: Callable[[], Any], *, name: str, hint: str) -> Manifest:
    """Make a manifest of parsed JSON; ``name``: its path or address; ``hint``: what to do where it is damaged."""
    try:
        content = parse()
        _check_shape(content, {"schema_version": int, "digest": str})
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            hint = "update genekb" if version > SCHEMA_VERSION else "build the store again"
            raise SchemaMismatch(f"{name} has schema version {version}, this genekb reads {SCHEMA_VERSION}; {hint}")
        manifest = _checked(content)
    except (OSError, TypeError, ValueError, RecursionError) as error:  # an unknown key, nested too deeply, ...
        raise_resource_fault(error)
        raise StoreCorrupt(f"{name} is damaged ({str(error)[:200]}); {hint}") from error
    _check_names(manifest, name)
    return manifest


def _checked(content: dict[str, Any]) -> Manifest:
    """Make a manifest whose content has the digest that it claims; ``ValueError`` if it has not."""
    digest = content.pop("digest")
    _check_shape(content, _SHAPE)
    content["files"] = [StoredFile(**entry) for entry in content["files"]]
    for key in ("taxa", "sources", "licences", "files"):
        content[key] = tuple(content[key])
    manifest = Manifest(**content)
    found = manifest.digest
    if found != digest:
        raise ValueError(f"its content has digest {found[:12]}, it claims {digest[:12]}")
    listed = {file.path for file in manifest.files}
    for name in TABLES:
        if f"{name}.parquet" not in listed:
            raise ValueError(f"it lists no {name}.parquet")
    return manifest


def _check_shape(value: Any, shape: Shape, name: str = "manifest") -> None:
    """Raise ``ValueError`` for JSON of another shape: a type, ``[item]``, or needed keys (``...``: all)."""
    needed = shape if isinstance(shape, type) else type(shape)
    is_of_type = isinstance(value, needed) and not (needed is int and isinstance(value, bool))
    if not is_of_type:
        found = "null" if value is None else _NAMES.get(type(value), "something else")
        raise ValueError(f"{name} is {found}, {_NAMES[needed]} is needed")
    if needed is int and value < 0:
        raise ValueError(f"{name} is {str(value)[:20]}, a number from 0 on is needed")
    if isinstance(shape, list):
        for number, item in enumerate(value):
            _check_shape(item, shape[0], f"{name}[{number}]")
    elif isinstance(shape, dict):
        for key, inner in shape.items():
            for each in list(value) if isinstance(key, EllipsisType) else [key]:
                if each not in value:
                    raise ValueError(f"{name} has no {each!r}")
                _check_shape(value[each], inner, f"{name}.{each[:40]}")


def _check_names(manifest: Manifest, name: str) -> None:
    """Refuse paths outside the store, and names that a file system may take for the same."""
    for file in manifest.files:
        if not is_plain_path(file.path) or file.path.endswith(TEMPORARY) or file.path in {MANIFEST, SIGNATURE}:
            what = f"{file.path[:80]!r}, which is no plain path below the store"
            raise StoreCorrupt(f"{name} names {what}; do not use this store")
    clash = find_clash(file.path for file in manifest.files)
    if clash:
        raise StoreCorrupt(f"{name} names {clash!r} twice, or a file and a folder alike; do not use this store")
    names = [manifest.name, manifest.release or "none", *manifest.encoders]
    names += [entry["recipe"]["name"] for entry in manifest.encoders.values()]
    unfit = next((name for name in names if not is_plain_name(name)), None)
    if unfit is not None:
        raise StoreCorrupt(f"{name} holds the name {unfit[:80]!r}, which is no plain name; do not use this store")
