"""Lineage of a store: its sources and encoders, and those of the stores that it was made from."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from genekb.core.errors import GeneKBError
from genekb.store.card import model_name
from genekb.store.files import read_origin
from genekb.store.home import find_by_digest, find_home
from genekb.store.manifest import Manifest, read_manifest
from genekb.store.reader import Store

How = Literal["update", "encode", "import"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Derivation:
    """What a store changed from its parent."""

    how: How  # the command that makes such a store
    encoders_added: tuple[str, ...]  # encoders_added, encoders_left_out: encoder ids
    encoders_left_out: tuple[str, ...]
    # sources_replaced, sources_added, sources_left_out: names of files; one is replaced where its bytes are others
    sources_replaced: tuple[str, ...]
    sources_added: tuple[str, ...]
    sources_left_out: tuple[str, ...]
    n_texts_kept: int  # n_texts_kept, n_texts_new, n_texts_gone: distinct texts
    n_texts_new: int
    n_texts_gone: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """A store in a lineage."""

    digest: str  # all 64 digits
    # manifest, folder: None where the store is not on this machine, or cannot be trusted
    manifest: Manifest | None = None
    folder: Path | None = None
    problem: str = ""  # why there is no manifest; empty where there is one
    # how it was made from the next generation; None without a parent, or where that is not here
    derivation: Derivation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Provenance of the store as JSON types, without its parent."""
        if self.manifest is None:
            return {"digest": self.digest, "here": False, "problem": self.problem}
        manifest = self.manifest
        origin = read_origin(self.folder) if self.folder else None
        return {
            "digest": self.digest,
            "here": True,
            "store": manifest.full_name,
            "made_at": manifest.created_at,
            "made_by": manifest.created_by,
            "pulled_from": origin.url if origin else "",
            "schema_version": manifest.schema_version,
            "sources": [dict(row) for row in manifest.sources],
            "selection": manifest.selection,
            "template": dict(manifest.template),
            "encoders": [_describe_encoder(manifest, encoder_id) for encoder_id in manifest.encoders],
            "from_parent": asdict(self.derivation) if self.derivation else None,
        }


def trace_lineage(folder: Path, *, home: Path | None = None) -> tuple[Generation, ...]:
    """Follow a store to its parent, the parent's parent, and so on; the store comes first.

    ``home``: searched for parents, besides the home of the store. The last generation has no parent, or is missing or
    damaged here. Raises ``StoreCorrupt``, ``SchemaMismatch`` if the store itself is damaged.
    """
    store = Store(folder)
    generations: list[Generation] = []
    while True:
        digest, wanted = store.manifest.digest, store.manifest.parent
        if not wanted:
            return (*generations, Generation(digest=digest, manifest=store.manifest, folder=store.folder))
        try:
            found = _find_folder(wanted, near=store.folder, home=home)
            parent = Store(found) if found else None
            derivation = _compare(store, parent) if parent else None
        except GeneKBError as error:
            parent, derivation, problem = None, None, str(error)
        else:
            problem = "not on this machine"
        generations.append(
            Generation(digest=digest, manifest=store.manifest, folder=store.folder, derivation=derivation)
        )
        if parent is None:
            return (*generations, Generation(digest=wanted, problem=problem))
        store = parent


def lineage_tree(generations: Iterable[Generation]) -> dict[str, Any]:
    """Nest generations as JSON types: each store holds its ``parent``, the oldest None."""
    nested: dict[str, Any] | None = None
    for generation in reversed(tuple(generations)):
        nested = generation.to_dict() | {"parent": nested}
    return nested or {}


def find_content_id(store_id: str, encoder_id: str = "", *, near: Path | None = None) -> str:
    """Find :meth:`genekb.store.manifest.Manifest.content_id` of ``NAME@RELEASE:digest``; empty if it is not here.

    ``near``: folder of a store beside which it is looked for, besides the home.
    """
    try:
        folder = _find_folder(store_id.partition(":")[2], near=near, home=None)
        return read_manifest(folder).content_id(encoder_id) if folder else ""
    except GeneKBError:
        return ""


def _find_folder(digest: str, *, near: Path | None, home: Path | None) -> Path | None:
    """Find the store of a digest, beside another or in the home."""
    places = ([near.parent.parent] if near else []) + [find_home(home) / "stores"]
    found = (folder for stores in places for folder in find_by_digest(stores, digest))
    return next((folder for folder in found if read_manifest(folder).digest.startswith(digest)), None)


def _compare(child: Store, parent: Store) -> Derivation:
    new, old = child.manifest, parent.manifest
    added = [encoder_id for encoder_id in new.encoders if encoder_id not in old.encoders]
    left_out = [encoder_id for encoder_id in old.encoders if encoder_id not in new.encoders]
    before = {str(row["name"]): row["sha256"] for row in old.sources}
    after = {str(row["name"]): row["sha256"] for row in new.sources}
    texts, old_texts = (set(store.table("texts")["text_id"].to_pylist()) for store in (child, parent))
    return Derivation(
        how=_how(new, old, added, is_same=before == after and texts == old_texts and not left_out),
        encoders_added=tuple(added),
        encoders_left_out=tuple(left_out),
        sources_replaced=tuple(name for name in after if name in before and after[name] != before[name]),
        sources_added=tuple(name for name in after if name not in before),
        sources_left_out=tuple(name for name in before if name not in after),
        n_texts_kept=len(texts & old_texts),
        n_texts_new=len(texts - old_texts),
        n_texts_gone=len(old_texts - texts),
    )


def _how(new: Manifest, old: Manifest, added: list[str], *, is_same: bool) -> How:
    """Command that made the child: an import or encode keeps name, sources and all vectors, and adds to them."""
    if not is_same or not added or (new.name, new.release) != (old.name, old.release):
        return "update"
    return "import" if new.kind(added[-1]).is_imported else "encode"


def _describe_encoder(manifest: Manifest, encoder_id: str) -> dict[str, Any]:
    entry = manifest.encoders[encoder_id]
    recipe = entry["recipe"]
    made_from = ""
    kind = manifest.kind(encoder_id)
    if kind.is_imported:
        made_from = f"the file {model_name(recipe)} ({recipe['revision']}, sha256 {recipe['weights_sha256'][:16]})"
    return {
        "encoder_id": encoder_id,
        "kind": recipe["kind"],
        "model": model_name(recipe),
        "revision": recipe["revision"],
        "n_vectors": entry["n_vectors"],
        "made_from": made_from,
    }
