"""Verify a store: every byte, every key, every vector."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genekb.core.errors import SchemaMismatch, StoreCorrupt
from genekb.core.messages import counted
from genekb.core.python import for_python
from genekb.files.atomic import user_path
from genekb.genes.texts import text_id
from genekb.genes.words import words_table
from genekb.schema import TABLES, WORDS, numbers
from genekb.store.files import absent_encoders, file_fault, files_here, read_columns
from genekb.store.home import find_store
from genekb.store.manifest import Manifest, read_manifest
from genekb.store.reader import Store
from genekb.store.vectors import open_vectors, read_vectors, vector_files


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What was checked, all faults, and encoders that were not pulled."""

    store_id: str
    n_files: int
    n_bytes: int
    n_vectors: int
    faults: tuple[str, ...]
    not_pulled: tuple[str, ...] = ()


def verify_store(folder: Path) -> Verification:
    """Check the manifest's digest, every file's size and SHA-256, every text's id, every vector and the cache."""
    manifest = read_manifest(folder)
    faults = _file_faults(folder, manifest)
    n_vectors = 0
    files, absent = files_here(folder, manifest), absent_encoders(folder, manifest)
    if not faults:
        faults = _table_faults(folder, manifest)
        for encoder_id in (key for key in manifest.encoders if key not in absent):
            n, found = _vector_faults(folder, manifest, encoder_id)
            n_vectors += n
            faults += found
    return Verification(
        store_id=f"{manifest.full_name}:{manifest.digest[:16]}",
        n_files=len(files),
        n_bytes=sum(file.n_bytes for file in files),
        n_vectors=n_vectors,
        faults=tuple(faults),
        not_pulled=absent,
    )


def _file_faults(folder: Path, manifest: Manifest) -> list[str]:
    faults = []
    if len(folder.name) == 64 and folder.name != manifest.digest:  # noqa: PLR2004 - hex digits of SHA-256
        faults.append(f"the folder is named {folder.name[:12]}, its manifest has digest {manifest.digest[:12]}")
    found = ((file.path, file_fault(folder / file.path, file)) for file in files_here(folder, manifest))
    return faults + [f"{path} {fault}" for path, fault in found if fault]


def _table_faults(folder: Path, manifest: Manifest) -> list[str]:
    """Check that every table has the columns of its schema, and every text the id of its content."""
    try:
        tables = {name: read_columns(folder / f"{name}.parquet", schema) for name, schema in TABLES.items()}
    except StoreCorrupt as error:
        return [str(error)]
    texts = tables["texts"]
    words = _columns(words_table(texts["text"], numbers(texts["gene_id"])))
    is_same = all(one.equals(other) for one, other in zip(_columns(tables["words"]), words, strict=True))
    faults = [] if is_same else ["words.parquet does not hold the words of the texts"]
    pairs = zip(texts["text_id"].to_pylist(), texts["text"].to_pylist(), strict=True)
    wrong = sum(text_id(text) != key for key, text in pairs)
    if wrong:
        faults.append(f"{counted(wrong, 'text does', plural='texts do')} not have the id of the content")
    return faults


def _columns(words: pa.Table) -> list[pa.Array]:
    """Columns of words without a dictionary, whose order says nothing."""
    gene_ids, sentences, listed = (words[name].combine_chunks() for name in WORDS.names)
    return [gene_ids, sentences, pc.list_value_length(listed), listed.flatten().dictionary_decode()]


def _vector_faults(folder: Path, manifest: Manifest, encoder_id: str) -> tuple[int, list[str]]:
    """Check that the vectors are finite and as many as the manifest says, and that the cache equals them."""
    faults = []
    try:
        stored = read_vectors(folder, manifest, encoder_id)
        cached = open_vectors(folder, manifest, encoder_id, makes_cache=False)
    except (StoreCorrupt, SchemaMismatch) as error:
        return 0, [str(error)]
    if not np.isfinite(stored.vectors).all():
        faults.append(f"{encoder_id} holds values that are not finite")
    if not all(
        np.array_equal(getattr(stored, name), getattr(cached, name)) for name in ("gene_ids", "rows", "vectors")
    ):
        faults.append(f"the cache of {encoder_id} differs from its files; delete the folder .cache")
    parts = vector_files(folder, manifest, encoder_id)
    n_vectors = sum(pq.read_metadata(path).num_rows for path in parts)
    expected = int(manifest.encoders[encoder_id]["n_vectors"])
    if n_vectors != expected:
        faults.append(f"{encoder_id} has {n_vectors} vectors, the manifest says {expected}")
    return n_vectors, faults


@for_python
def verify(store: str | Path | Store, *, home: str | Path | None = None) -> Verification:
    """Check every byte, key and vector of a store, as `genekb verify` does; ``StoreCorrupt`` if there is a fault.

    Parameters
    ----------
    store
        Name, digest, path, or opened.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.verify("demo").faults
    ()
    """
    found = verify_store(store.folder if isinstance(store, Store) else find_store(store, user_path(home)))
    if found.faults:
        raise StoreCorrupt(f"{found.store_id}: {'; '.join(map(str, found.faults[:3]))}; build or pull it again")
    return found
