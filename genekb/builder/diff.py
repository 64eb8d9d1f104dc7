"""Differences between two stores, and the lineage of a store."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genekb.core.errors import GeneKBError, SourceUnusable
from genekb.core.python import for_python
from genekb.schema import FloatArray, IntArray
from genekb.share.open import open
from genekb.store.card import model_name
from genekb.store.files import read_origin
from genekb.store.home import find_by_digest, find_home
from genekb.store.manifest import Manifest, read_manifest
from genekb.store.reader import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Renamed:
    """A gene whose current symbol changed."""

    gene_id: int
    old: str
    new: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Retired:
    """A gene that is gone, and the GeneID that replaces it, where the new names have it (else 0)."""

    gene_id: int
    symbol: str
    replaced_by: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """Genes and texts that differ; every list is ordered by GeneID."""

    added: tuple[int, ...]  # added, retired, renamed: genes that are new, gone, or under another symbol
    retired: tuple[Retired, ...]
    renamed: tuple[Renamed, ...]
    text_changed: tuple[int, ...]  # genes in both whose text is another
    # text_gained, text_lost: genes in both that have a text only in the new, or only in the old
    text_gained: tuple[int, ...]
    text_lost: tuple[int, ...]
    n_unchanged: int  # genes in both with the same symbol and the same text, or none in either

    def counts(self) -> dict[str, int]:
        """Give the number of each kind of change."""
        return {
            "genes_added": len(self.added),
            "genes_retired": len(self.retired),
            "genes_retired_with_successor": sum(gene.replaced_by > 0 for gene in self.retired),
            "genes_renamed": len(self.renamed),
            "texts_changed": len(self.text_changed),
            "texts_gained": len(self.text_gained),
            "texts_lost": len(self.text_lost),
            "genes_unchanged": self.n_unchanged,
        }


def find_changes(old: Mapping[str, pa.Table], new: Mapping[str, pa.Table]) -> Changes:
    """Compare ``genes``, ``names`` and ``texts`` of two stores, or of a store and a planned one."""
    old_symbol, new_symbol = _column(old["genes"], "symbol"), _column(new["genes"], "symbol")
    old_text, new_text = _column(old["texts"], "text_id"), _column(new["texts"], "text_id")
    both = sorted(old_symbol.keys() & new_symbol.keys())
    gone = sorted(old_symbol.keys() - new_symbol.keys())
    successors = _successors(new["names"], gone)
    renamed = [gene for gene in both if old_symbol[gene] != new_symbol[gene]]
    differs = [gene for gene in both if old_text.get(gene) != new_text.get(gene)]
    return Changes(
        added=tuple(sorted(new_symbol.keys() - old_symbol.keys())),
        retired=tuple(
            Retired(gene_id=gene, symbol=old_symbol[gene], replaced_by=successors.get(gene, 0)) for gene in gone
        ),
        renamed=tuple(Renamed(gene_id=gene, old=old_symbol[gene], new=new_symbol[gene]) for gene in renamed),
        text_changed=tuple(gene for gene in differs if gene in old_text and gene in new_text),
        text_gained=tuple(gene for gene in differs if gene not in old_text),
        text_lost=tuple(gene for gene in differs if gene not in new_text),
        n_unchanged=len(set(both) - set(renamed) - set(differs)),
    )


def _column(table: pa.Table, name: str) -> dict[int, str]:
    return dict(zip(table["gene_id"].to_pylist(), table[name].to_pylist(), strict=True))


def _successors(names: pa.Table, gone: list[int]) -> dict[int, int]:
    is_gone = pc.field("name").isin(pa.array(map(str, gone), pa.string()))
    rows = names.filter((pc.field("kind") == "retired_id") & is_gone).to_pylist()
    return {int(row["name"]): row["gene_id"] for row in rows}


_QUANTILES: Final = (0.5, 0.9, 0.99)
_SAME: Final = 1e-4  # cosine distance that float16 alone explains


@dataclass(frozen=True, kw_only=True, slots=True)
class WordDiff:
    """A changed text: what is gone stands in ``[-...-]``, what is new in ``{+...+}``."""

    gene_id: int
    symbol: str
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """Cosine distances between the vectors of one encoder in both stores."""

    encoder: str  # name of the encoder
    # whether both stores have it by the same recipe; else the distances also say how the recipes differ
    same_recipe: bool
    # n_genes, n_moved: genes with a vector in both, and how many of them moved by more than float16 explains
    n_genes: int
    n_moved: int
    mean: float  # mean, median, q90, q99: cosine distance of the genes that moved; 0 where none did
    median: float
    q90: float
    q99: float
    farthest: tuple[tuple[int, str, float], ...]  # GeneID, symbol and cosine distance of those that moved most


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreDiff:
    """The difference of two stores."""

    old: str  # old, new: identities of the stores
    new: str
    changes: Changes  # genes and texts
    words: tuple[WordDiff, ...]  # changed texts, word by word, in the order of GeneIDs, at most as many as asked for
    moved: tuple[Moved, ...]  # for each encoder that both have by name and dimension
    only_in_old: tuple[str, ...]  # only_in_old, only_in_new: encoders of one store alone, or of another dimension
    only_in_new: tuple[str, ...]
    # encoders that both have, whose vectors are not compared: in one of the stores they were not pulled
    not_pulled: tuple[str, ...] = ()


def diff_stores(old: Store, new: Store, *, n_examples: int = 20) -> StoreDiff:
    """Compare two stores.

    Parameters
    ----------
    n_examples
        How many changed texts, and how many genes that moved, to show.

    Raises
    ------
    SourceUnusable
        If they have no species in common.
    """
    taxa = [", ".join(map(str, store.manifest.taxa)) for store in (old, new)]
    if not set(old.manifest.taxa) & set(new.manifest.taxa):
        raise SourceUnusable(
            f"{old.store_id} has genes of tax_id {taxa[0]}, {new.store_id} of {taxa[1]}; give two stores of one species"
        )
    names = ("genes", "names", "texts")
    changes = find_changes({name: old.table(name) for name in names}, {name: new.table(name) for name in names})
    before, after = _encoders(old), _encoders(new)
    common = [key for key in before if key in after]
    absent = {
        key: ids[key] for store, ids in ((old, before), (new, after)) for key in common if ids[key] in store.not_pulled
    }
    return StoreDiff(
        old=old.store_id,
        new=new.store_id,
        changes=changes,
        words=_word_diffs(old, new, gene_ids=changes.text_changed[:n_examples]),
        moved=tuple(
            _moved(old, new, ids=(before[key], after[key]), n_examples=n_examples)
            for key in common
            if key not in absent
        ),
        only_in_old=tuple(before[key] for key in before if key not in after),
        only_in_new=tuple(after[key] for key in after if key not in before),
        not_pulled=tuple(absent.values()),
    )


def word_diff(old: str, new: str) -> str:
    """Write a changed text with what is gone in ``[-...-]`` and what is new in ``{+...+}``."""
    before, after = old.split(), new.split()
    pieces = []
    for kind, a, b, c, d in SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(" ".join(before[a:b]))
            continue
        if a < b:
            pieces.append(f"[-{' '.join(before[a:b])}-]")
        if c < d:
            pieces.append(f"{{+{' '.join(after[c:d])}+}}")
    return " ".join(pieces)


def _encoders(store: Store) -> dict[tuple[str, int], str]:
    recipes = {key: store.manifest.recipe(key) for key in store.manifest.encoders}
    return {(recipe["name"], recipe["dim"]): key for key, recipe in recipes.items()}


def _word_diffs(old: Store, new: Store, *, gene_ids: tuple[int, ...]) -> tuple[WordDiff, ...]:
    symbols = _column(new.table("genes"), "symbol")
    texts = zip(gene_ids, old.texts(gene_ids), new.texts(gene_ids), strict=True)
    return tuple(
        WordDiff(gene_id=gene_id, symbol=symbols[gene_id], words=word_diff(before or "", after or ""))
        for gene_id, before, after in texts
    )


def _moved(old: Store, new: Store, *, ids: tuple[str, str], n_examples: int) -> Moved:
    genes: IntArray = np.intersect1d(old.vector_table(ids[0]).gene_ids, new.vector_table(ids[1]).gene_ids)
    before, after = old.vectors(genes, encoder=ids[0]).vectors, new.vectors(genes, encoder=ids[1]).vectors
    norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosine = np.einsum("ij,ij->i", before, after) / np.maximum(norms, np.finfo(np.float32).tiny)
    distance: FloatArray = np.asarray(1 - cosine, dtype=np.float32)
    moved = distance[distance > _SAME]
    quantiles = np.quantile(moved, _QUANTILES) if len(moved) else np.zeros(len(_QUANTILES))
    symbols = _column(new.table("genes"), "symbol")
    order = np.argsort(-distance, kind="stable")[: min(n_examples, len(moved))]
    return Moved(
        encoder=str(new.manifest.recipe(ids[1])["name"]),
        same_recipe=ids[0] == ids[1],
        n_genes=len(genes),
        n_moved=len(moved),
        mean=float(moved.mean()) if len(moved) else 0.0,
        median=float(quantiles[0]),
        q90=float(quantiles[1]),
        q99=float(quantiles[2]),
        farthest=tuple((int(genes[row]), symbols[int(genes[row])], float(distance[row])) for row in order),
    )


@for_python
def diff(old: str | Store, new: str | Store, *, limit: int = 10, home: str | Path | None = None) -> StoreDiff:
    """Compare two stores, as `genekb diff` does: genes, texts word by word, how far vectors moved.

    Parameters
    ----------
    old, new
        Name, digest, path, or opened.
    limit
        Examples of each kind to show.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.diff("demo", "demo").changes.text_changed
    ()
    """
    return diff_stores(open(old, home=home), open(new, home=home), n_examples=limit)


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
