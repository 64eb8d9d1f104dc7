"""Vectors of a store as a memory-mapped matrix: a cache in the home, rebuilt from its Parquet when absent."""

import json
import logging
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genekb import schema
from genekb.core.errors import SourceUnusable, StoreCorrupt
from genekb.core.messages import counted, listed
from genekb.files.atomic import sha256_file, write_json
from genekb.genes.resolve import Resolution
from genekb.schema import FloatArray, IntArray
from genekb.store.files import check_files, read_columns
from genekb.store.manifest import Manifest

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
CACHE: Final = ".cache"  # beside the digest folders: nothing inside a store ever changes
STAMPS: Final = "stamps.json"  # of the cache's files: when they were written, and their SHA-256
_ARRAYS: Final = ("gene_ids", "rows", "vectors")
_ROWS_AT_ONCE: Final = 1 << 12
_TEXT_KEYS: Final = pa.schema([schema.TEXTS.field("gene_id"), schema.TEXTS.field("text_id")])


OnMissing = Literal["warn", "raise", "zero", "drop"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneVectorSelection:
    """Vectors of the genes that were asked for."""

    vectors: FloatArray  # (gene, dim) float32, in the order asked; a zero row where ``has_vector`` is false
    has_vector: NDArray[np.bool_]  # (gene,)
    gene_ids: IntArray  # (gene,) 0 where a name is no gene
    symbols: tuple[str, ...] = ()  # (gene,) names as they were asked for; empty where GeneIDs were
    missing: Mapping[str, str] = field(default_factory=dict)  # names without a vector, and why

    def named(
        self, resolution: Resolution, *, encoder_id: str, on_missing: OnMissing, where: str
    ) -> "GeneVectorSelection":
        """Name the rows by what was resolved to them, and do with those without a vector what was asked for."""
        symbols, is_usable = resolution.names, self.has_vector & np.any(self.vectors, axis=1)
        missing = {
            symbols[at]: f"no vector by {encoder_id}" if resolution.gene_ids[at] else str(resolution.status[at])
            for at in np.flatnonzero(~is_usable).tolist()
        }
        found = replace(self, symbols=symbols, missing=missing)
        if not missing or on_missing == "zero":
            return found
        if on_missing == "raise":
            raise SourceUnusable(f'{found.lacking(where)}; correct the names, or leave them out with on_missing="drop"')
        if on_missing == "warn":
            log.warning('%s; their rows are zeros: on_missing="drop" leaves them out', found.lacking(where))
            return found
        kept = np.array([name not in missing for name in symbols], dtype=bool)
        names = tuple(name for name in symbols if name not in missing)
        return replace(
            found, symbols=names, vectors=self.vectors[kept], has_vector=self.has_vector[kept],
            gene_ids=self.gene_ids[kept],
        )  # fmt: skip

    def lacking(self, where: str) -> str:
        """Say how many of the names have no vector, and the first of them with the reason."""
        n_asked = len({*self.symbols, *self.missing})
        first = listed([f"{name} ({why})" for name, why in self.missing.items()])
        return f"no vector in {where} for {len(self.missing):,} of {counted(n_asked, 'gene')}: {first}"

    def to_frame(self) -> "pd.DataFrame":
        """Give a row a gene, under the name that was asked for, or its GeneID."""
        import pandas as pd

        index = pd.Index(self.symbols, name="symbol") if self.symbols else pd.Index(self.gene_ids, name="gene_id")
        return pd.DataFrame(np.asarray(self.vectors), index=index)

    def __repr__(self) -> str:
        """Say how many genes there are, how many have a vector, of how many dimensions, and which have none."""
        n_genes, n_dims = self.vectors.shape
        known = f"{int(self.has_vector.sum()):,} with a vector of {n_dims} dimensions"
        missing = f"\n    missing: {listed(list(self.missing))}" if self.missing else ""
        return f"Vectors of {counted(n_genes, 'gene')}: {known}{missing}"


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorTable:
    """All vectors of one encoder, memory-mapped."""

    gene_ids: IntArray  # (gene,) GeneIDs that have a vector, ascending
    rows: IntArray  # (gene,) row of ``vectors`` of each gene; genes with equal texts share a row
    vectors: FloatArray  # (text, dim) float32, read-only; in the order of the first gene that has the text

    def locate(self, gene_ids: IntArray) -> tuple[IntArray, IntArray]:
        """Find genes: their positions in the argument, where they have a vector, and their rows of ``vectors``."""
        index = np.searchsorted(self.gene_ids, gene_ids)
        index[index == len(self.gene_ids)] = 0
        known = np.flatnonzero(self.gene_ids[index] == gene_ids) if len(self.gene_ids) else np.empty(0, np.int64)
        return known, self.rows[index[known]]

    def select(self, gene_ids: IntArray) -> GeneVectorSelection:
        """Vectors of genes, in any order; a view where they are a run of rows, else a copy."""
        known, rows = self.locate(gene_ids)
        has_vector = np.isin(np.arange(len(gene_ids)), known)
        if len(rows) and has_vector.all() and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            run = np.asarray(self.vectors[rows[0] : rows[-1] + 1])
            return GeneVectorSelection(vectors=run, has_vector=has_vector, gene_ids=gene_ids)
        vectors = np.zeros((len(gene_ids), self.vectors.shape[1]), dtype=np.float32)
        vectors[known] = self.vectors[rows]
        return GeneVectorSelection(vectors=vectors, has_vector=has_vector, gene_ids=gene_ids)

    def cosines(self, vector: FloatArray) -> FloatArray:
        """Cosine of a vector (dim,) with that of each gene, in the order of ``gene_ids``."""
        norms = np.empty(len(self.vectors), dtype=np.float32)
        for start in range(0, len(norms), _ROWS_AT_ONCE):  # squares of all would be as large as the table
            part = slice(start, start + _ROWS_AT_ONCE)
            norms[part] = np.linalg.norm(self.vectors[part], axis=1)
        norms *= np.linalg.norm(vector)
        per_text = (self.vectors @ vector) / np.maximum(norms, np.finfo(np.float32).tiny)
        return np.asarray(per_text[self.rows])


def open_vectors(folder: Path, manifest: Manifest, encoder_id: str, *, makes_cache: bool = True) -> VectorTable:
    """Map the vectors of an encoder into memory, making the cache first if needed, wanted and possible."""
    cache = folder.parent / CACHE / manifest.digest[:16] / encoder_id
    if not _is_whole(cache):
        table = read_vectors(folder, manifest, encoder_id)
        if not makes_cache or not _write_cache(cache, table):
            return table
    try:
        arrays = {name: np.load(cache / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
    except (OSError, ValueError):
        return read_vectors(folder, manifest, encoder_id)
    return VectorTable(**arrays)


def read_vectors(folder: Path, manifest: Manifest, encoder_id: str) -> VectorTable:
    """Read the vectors of an encoder from its Parquet files."""
    recipe = manifest.recipe(encoder_id)
    key = manifest.kind(encoder_id).keyed_by
    check_files(folder, manifest, prefix=f"embeddings/{encoder_id}/")
    dim, dtype = recipe["dim"], manifest.encoders[encoder_id].get("vector_dtype")
    try:
        shape = schema.embeddings(dim, str(dtype), key=key)
    except (KeyError, OverflowError) as error:
        raise StoreCorrupt(f"{folder}: vectors of {dim} values of type {dtype!r} cannot be; build again") from error
    columns = pa.schema([shape.field(key), shape.field("vector")])
    parts = (read_columns(path, columns) for path in vector_files(folder, manifest, encoder_id))
    table = pa.concat_tables([columns.empty_table(), *parts])
    keys, vectors = table[key], schema.vector_matrix(table["vector"])
    if len(keys) != len(vectors):
        raise StoreCorrupt(f"{folder}: {encoder_id} has {len(keys)} keys and {len(vectors)} vectors; build again")
    if key == "gene_id":
        return _in_order(schema.numbers(keys), np.arange(len(vectors)), vectors)
    texts = read_columns(folder / "texts.parquet", _TEXT_KEYS)
    rows = pc.index_in(texts["text_id"], keys)
    if rows.null_count:
        missing = texts["text_id"].filter(pc.is_null(rows))[0].as_py()
        raise StoreCorrupt(f"{folder}: text {missing[:12]} has no vector by {encoder_id}; build again")
    return _in_order(schema.numbers(texts["gene_id"]), schema.numbers(rows).astype(np.int64), vectors)


def vector_files(folder: Path, manifest: Manifest, encoder_id: str) -> list[Path]:
    """Parquet files of an encoder, in order; only files of the manifest."""
    pattern = f"embeddings/{encoder_id}/part-*.parquet"
    return sorted(folder / file.path for file in manifest.files if fnmatchcase(file.path, pattern))


def _in_order(gene_ids: IntArray, rows: IntArray, vectors: FloatArray) -> VectorTable:
    """Order genes by GeneID, and vectors by the first gene that has them: a run of genes is a run of rows."""
    order = np.argsort(gene_ids, kind="stable")
    used, first, inverse = np.unique(rows[order], return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first, kind="stable"), kind="stable")  # of each used row by its first gene
    by_gene = used[np.argsort(first, kind="stable")]
    vectors = vectors[by_gene]
    vectors.setflags(write=False)
    return VectorTable(gene_ids=gene_ids[order], rows=rank[inverse].astype(np.int64), vectors=vectors)


def _write_cache(cache: Path, table: VectorTable) -> bool:
    """Write the cache with one rename; False where it cannot be written, which only costs time."""
    shutil.rmtree(cache, ignore_errors=True)
    part = cache.with_name(f"{cache.name}.{uuid.uuid4().hex}.part")
    paths = {name: part / f"{name}.npy" for name in _ARRAYS}
    try:
        part.mkdir(parents=True)
        for name, path in paths.items():
            np.save(path, getattr(table, name), allow_pickle=False)
        write_json({name: _stamp(path) | {"sha256": sha256_file(path)} for name, path in paths.items()}, part / STAMPS)
        part.rename(cache)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        return _is_whole(cache)
    return True


def _is_whole(cache: Path) -> bool:
    """Whether the cache is as it was written; bytes are compared only if a file's time or size has changed."""
    try:
        stamps = json.loads((cache / STAMPS).read_text(encoding="utf-8"))
        for name in _ARRAYS:
            path, known = cache / f"{name}.npy", stamps[name]
            is_untouched = _stamp(path).items() <= known.items()
            if not is_untouched and sha256_file(path) != known["sha256"]:
                return False
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return True


def _stamp(path: Path) -> dict[str, int | str]:
    status = path.stat()
    return {"n_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
