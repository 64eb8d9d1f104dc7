"""Export vectors and tables of a store to the formats of other programs, atomically."""

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genekb.core.errors import SourceUnusable
from genekb.encoders.imported.vectors import genes_beside
from genekb.files.atomic import write_arrays
from genekb.files.replace import Target, check_targets, output
from genekb.schema import TABLES, FloatArray, IntArray, rows_of, vector_column
from genekb.store.reader import Store

_NAMES: Final = ("gene_id", "symbol")
ExportKind = Literal["npy", "npz", "json", "word2vec", "safetensors", "duckdb", "parquet"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportResult:
    """What was written."""

    files: tuple[Path, ...]  # the file that was asked for first, then what lies beside it
    encoders: tuple[str, ...]  # encoder ids whose vectors it holds
    n_genes: int  # genes with a vector in it; in a DuckDB file, all genes
    n_without_vector: int = 0  # genes that were asked for and have no vector
    # genes left out of JSON or word2vec text because a gene with a lower GeneID has the same symbol
    n_duplicate_symbols: int = 0
    # encoders that a DuckDB file lacks because they were not pulled; none where one was named
    not_pulled: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Matrix:
    """Vectors of genes, and what they are."""

    genes: pa.Table  # rows of the table of genes, in the order of ``vectors``
    vectors: FloatArray  # (gene, dim)
    lineage: Mapping[str, str]  # store, encoder and licences, as text
    n_without_vector: int  # genes that were asked for and have none


def export_store(
    store: Store,
    path: Path,
    *,
    kind: ExportKind,
    encoder: str | None = None,
    gene_ids: IntArray | Sequence[int] | None = None,
    overwrite: bool = False,
) -> ExportResult:
    """Write vectors of a store, or all of it as one DuckDB file.

    - ``npy``: the matrix, and beside it ``<stem>.genes.tsv`` with gene_id and symbol of each row.
    - ``npz``: ``vectors``, ``symbols``, ``gene_ids``, and store, encoder and licences as texts; no pickle.
    - ``json``: one object, symbol to list of numbers, as GenePT users load it.
    - ``word2vec``: text, a line of two counts, then a symbol and its numbers a line, as gensim loads it.
    - ``safetensors``: ``vectors`` and ``gene_ids``; store, encoder and licences in its metadata.
    - ``parquet``: gene_id, symbol, vector; the same metadata in its schema.
    - ``duckdb``: the store's tables, and ``vectors_<name>`` (gene_id, vector) of one encoder, or of all
      that are here.

    ``gene_ids``: genes to write, in this order; all that have a vector, ascending, if left out; not for ``duckdb``.
    Raises ``OutputUnusable`` if the file exists and may not be replaced, or cannot be written; ``SourceUnusable`` if
    none of the genes has a vector; ``NotAvailable`` if the store has no such encoder.
    """
    beside = (genes_beside(path),) if kind == "npy" else ()
    targets = [Target(file, makes_parents=True) for file in (path, *beside)]
    check_targets(targets, inputs=[store.folder], overwrite=overwrite)
    if kind == "duckdb":
        if gene_ids is not None:
            raise ValueError("a DuckDB file holds the whole store; choose genes from it with SQL")
        return _export_duckdb(store, path, encoder=encoder, overwrite=overwrite)
    matrix = _read_matrix(store, encoder=encoder, gene_ids=gene_ids)
    for file in beside:  # before the matrix, which is never without its list of genes
        with opened(file, overwrite=overwrite) as part, part.open("w", encoding="utf-8", newline="") as stream:
            rows = zip(*(matrix.genes[name].to_pylist() for name in _NAMES), strict=True)
            csv.writer(stream, delimiter="\t", lineterminator="\n").writerows([_NAMES, *rows])
    with opened(path, overwrite=overwrite) as part:
        _write(matrix, part, kind)
    n_genes = len(_rows_by_symbol(matrix)) if kind in {"json", "word2vec"} else matrix.genes.num_rows
    return ExportResult(
        files=(path, *beside),
        encoders=(matrix.lineage["encoder_id"],),
        n_genes=n_genes,
        n_without_vector=matrix.n_without_vector,
        n_duplicate_symbols=matrix.genes.num_rows - n_genes,
    )


def _read_matrix(
    store: Store, *, encoder: str | None = None, gene_ids: IntArray | Sequence[int] | None = None
) -> _Matrix:
    """Read the vectors of genes; genes without one are left out and counted."""
    encoder_id = store.gene_encoder_id(encoder)
    wanted = store.vector_table(encoder_id).gene_ids if gene_ids is None else np.asarray(gene_ids, dtype=np.int64)
    selection = store.vectors(wanted, encoder=encoder_id)
    if not selection.has_vector.any():
        raise SourceUnusable(f"none of {len(wanted)} genes has a vector by {encoder_id} in {store.store_id}")
    found = wanted[selection.has_vector]
    vectors = selection.vectors if selection.has_vector.all() else selection.vectors[selection.has_vector]
    return _Matrix(
        genes=rows_of(store.table("genes"), found),
        vectors=vectors,
        lineage=vector_lineage(store, encoder_id),
        n_without_vector=len(wanted) - len(found),
    )


def vector_lineage(store: Store, encoder_id: str) -> dict[str, str]:
    """Provenance of vectors as text: store, its digest, encoder, recipe and licences."""
    return {
        "store_id": store.store_id,
        "store_digest": store.manifest.digest,
        "encoder_id": encoder_id,
        "recipe": json.dumps(dict(store.manifest.recipe(encoder_id)), sort_keys=True),
        "licence": "; ".join(store.manifest.licences),
    }


def opened(path: Path, *, overwrite: bool) -> AbstractContextManager[Path]:
    """Open a temporary sibling to write to; the folders above are made if they are missing."""
    return output(Target(path, makes_parents=True), overwrite=overwrite)


def _write(matrix: _Matrix, path: Path, kind: str) -> None:
    if kind in {"json", "word2vec"}:
        rows = _rows_by_symbol(matrix)
        named = list(rows), matrix.vectors[list(rows.values())]
        write_json(*named, path) if kind == "json" else _write_word2vec(*named, path)
    elif kind == "parquet":
        table = matrix.genes.select(["gene_id", "symbol"]).append_column("vector", vector_column(matrix.vectors))
        table = table.replace_schema_metadata(dict(matrix.lineage))
        pq.write_table(table, path, compression="zstd", use_dictionary=["symbol"])
    elif kind == "safetensors":
        arrays = {"vectors": matrix.vectors, "gene_ids": matrix.genes["gene_id"].to_numpy()}
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_arrays(arrays, path, metadata=matrix.lineage)
    elif kind == "npz":
        write_npz(matrix.genes["symbol"].to_pylist(), matrix.genes["gene_id"], matrix.vectors, matrix.lineage, path)
    else:
        with path.open("wb") as stream:
            np.save(stream, np.ascontiguousarray(matrix.vectors), allow_pickle=False)


def write_npz(
    symbols: Sequence[str], gene_ids: Any, vectors: FloatArray, lineage: Mapping[str, str], path: Path
) -> None:
    """Write vectors, the names and GeneIDs of their rows, and where they come from; no array needs a pickle."""
    arrays: dict[str, Any] = {
        "vectors": vectors,
        "symbols": np.array(symbols, dtype=str),
        "gene_ids": np.asarray(gene_ids),
        **{key: np.array(text) for key, text in lineage.items()},
    }
    with path.open("wb") as stream:
        np.savez(stream, **arrays)


def write_json(symbols: Sequence[str], vectors: FloatArray, path: Path) -> None:
    """Write one object, distinct symbol to list of numbers."""
    with path.open("w", encoding="utf-8") as stream:
        for number, (symbol, vector) in enumerate(zip(symbols, vectors, strict=True)):
            start = ", " if number else "{"
            stream.write(f"{start}{json.dumps(symbol, ensure_ascii=False)}: [{', '.join(digits(vector))}]")
        stream.write("}\n")


def _write_word2vec(symbols: Sequence[str], vectors: FloatArray, path: Path) -> None:
    odd = next((symbol for symbol in symbols if len(symbol.split()) != 1), None)
    if odd is not None:
        raise SourceUnusable(f"word2vec text parts names by blanks, and the symbol {odd!r} has one; write .npz")
    with path.open("w", encoding="utf-8") as stream:
        stream.write(f"{len(symbols)} {vectors.shape[1]}\n")
        rows = zip(symbols, vectors, strict=True)
        stream.writelines(f"{symbol} {' '.join(digits(vector))}\n" for symbol, vector in rows)


def _rows_by_symbol(matrix: _Matrix) -> dict[str, int]:
    """Row of each symbol, in the order of the matrix; of genes with the same symbol the lowest GeneID."""
    first: dict[str, int] = {}
    symbols = matrix.genes["symbol"].to_pylist()
    for row in np.argsort(matrix.genes["gene_id"].to_numpy(), kind="stable").tolist():
        first.setdefault(symbols[row], row)
    return dict(sorted(first.items(), key=lambda item: item[1]))


def digits(vector: FloatArray) -> list[str]:
    """Write numbers as text, with the fewest digits that identify a float32."""
    return pc.cast(pa.array(vector), pa.string()).to_pylist()


def _export_duckdb(store: Store, path: Path, *, encoder: str | None, overwrite: bool) -> ExportResult:
    import duckdb

    ids = [store.encoder_id(encoder)] if encoder else list(store.encoder_ids)
    with opened(path, overwrite=overwrite) as part:
        try:
            with duckdb.connect(str(part)) as connection:
                _fill(connection, store, ids)
        except duckdb.IOException as error:
            raise OSError(str(error).splitlines()[0]) from error
        finally:
            part.with_name(f"{part.name}.wal").unlink(missing_ok=True)
    return ExportResult(
        files=(path,),
        encoders=tuple(ids),
        n_genes=store.manifest.n_genes,
        not_pulled=() if encoder else store.not_pulled,
    )


def _fill(connection: Any, store: Store, ids: Sequence[str]) -> None:
    """Create the tables; vectors belong to genes there, so that a join needs no text."""

    def create(name: str, table: pa.Table, columns: str = "*") -> None:
        connection.register("source", table)
        connection.execute(f"create table {name} as select {columns} from source")
        connection.unregister("source")

    for name in TABLES:
        if (store.folder / f"{name}.parquet").is_file():
            create(name, store.table(name))
    for encoder_id in ids:
        matrix = _read_matrix(store, encoder=encoder_id)
        vectors = pa.table({"gene_id": matrix.genes["gene_id"], "vector": vector_column(matrix.vectors)})
        name = str(store.manifest.recipe(encoder_id)["name"]).replace('"', "")
        dim = matrix.vectors.shape[1]
        create(f'"vectors_{name}"', vectors, f"gene_id, vector::float[{dim}] as vector")
    about = [{"encoder_id": encoder_id, **vector_lineage(store, encoder_id)} for encoder_id in ids]
    if about:
        create("lineage", pa.Table.from_pylist(about))
