"""Vectors of a store as a memory-mapped matrix: a cache beside the store, rebuilt from its Parquet when absent."""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from genekb.errors import StoreCorrupt
from genekb.store.manifest import Manifest
from genekb.types import FloatArray, IntArray

CACHE: Final = ".cache"  # beside the digest folders: nothing inside a store ever changes


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorTable:
    """All vectors of one encoder, memory-mapped.

    Parameters
    ----------
    gene_ids
        (gene,) GeneIDs that have a vector, ascending.
    rows
        (gene,) row of ``vectors`` of each gene; genes with equal texts share a row.
    vectors
        (text, dim) float32, read-only; rows ordered by text_id.
    """

    gene_ids: IntArray
    rows: IntArray
    vectors: FloatArray

    def locate(self, gene_ids: IntArray) -> tuple[IntArray, IntArray]:
        """Find the rows of some genes.

        Returns
        -------
        Positions in ``gene_ids`` of the argument that have a vector, and their rows of ``vectors``.
        """
        place = np.searchsorted(self.gene_ids, gene_ids)
        place[place == len(self.gene_ids)] = 0
        known = np.flatnonzero(self.gene_ids[place] == gene_ids) if len(self.gene_ids) else np.empty(0, np.int64)
        return known, self.rows[place[known]]


def open_vectors(folder: Path, manifest: Manifest, encoder_id: str) -> VectorTable:
    """Map the vectors of an encoder into memory, making the cache first if needed and possible.

    Raises
    ------
    StoreCorrupt
        If the Parquet files do not hold a vector for every text.
    """
    cache = folder.parent / CACHE / manifest.digest[:16] / encoder_id
    names = ("gene_ids", "rows", "vectors")
    if not (cache / "vectors.npy").is_file():
        table = _read_vectors(folder, manifest, encoder_id)
        if not _write_cache(cache, table):
            return table
    try:
        arrays = {name: np.load(cache / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
    except (OSError, ValueError):
        shutil.rmtree(cache, ignore_errors=True)  # a cache that cannot be read is made again
        return _read_vectors(folder, manifest, encoder_id)
    return VectorTable(**arrays)


def _read_vectors(folder: Path, manifest: Manifest, encoder_id: str) -> VectorTable:
    dim = int(manifest.encoders[encoder_id]["recipe"]["dim"])
    parts = sorted((folder / "embeddings" / encoder_id).glob("part-*.parquet"))
    tables = [pq.read_table(path, columns=["text_id", "vector"]) for path in parts]
    text_ids = [key for table in tables for key in table["text_id"].to_pylist()]
    blocks = [
        chunk.flatten().to_numpy(zero_copy_only=False) for table in tables for chunk in table["vector"].iterchunks()
    ]
    vectors = np.concatenate(blocks).astype(np.float32).reshape(-1, dim) if blocks else np.empty((0, dim), np.float32)
    texts = pq.read_table(folder / "texts.parquet", columns=["gene_id", "text_id"])
    row_of = {key: row for row, key in enumerate(text_ids)}
    try:
        rows = np.array([row_of[key] for key in texts["text_id"].to_pylist()], dtype=np.int64)
    except KeyError as error:
        raise StoreCorrupt(f"{folder}: text {str(error)[1:13]} has no vector by {encoder_id}; build again") from error
    return VectorTable(gene_ids=texts["gene_id"].to_numpy(), rows=rows, vectors=vectors)


def _write_cache(cache: Path, table: VectorTable) -> bool:
    """Write the cache with one rename; False where the place cannot be written, which costs time and nothing else."""
    part = cache.with_name(f"{cache.name}.{uuid.uuid4().hex}.part")
    try:
        part.mkdir(parents=True)
        for name in ("gene_ids", "rows", "vectors"):
            np.save(part / f"{name}.npy", getattr(table, name), allow_pickle=False)
        part.rename(cache)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        return (cache / "vectors.npy").is_file()
    return True
