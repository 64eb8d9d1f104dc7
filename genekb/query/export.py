"""Export vectors and tables of a store, atomically, in the forms of other programs: GenePT, GEARS, helical, Scouter."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genekb.core.errors import SourceUnusable
from genekb.core.python import for_python
from genekb.encoders.base import unit_or_zero
from genekb.encoders.imported.vectors import genes_beside
from genekb.files.atomic import write_arrays
from genekb.files.endings import check_ending, vector_format
from genekb.files.replace import Target, check_targets, output
from genekb.files.tables import read_list, write_table
from genekb.schema import TABLES, FloatArray, IntArray, rows_of, strings, vector_column
from genekb.share.open import open
from genekb.store.reader import Store

ExportKind = Literal["npy", "npz", "json", "word2vec", "safetensors", "duckdb", "parquet"]
TableProgram = Literal["gears", "genept", "helical", "scouter"]
Program = TableProgram | Literal["pertpy"]
N_SIMILAR: Final = 20  # genes that each gene is joined with in a graph for GEARS, as in its own graph
_DUCKDB: Final = "v1.0.0"  # oldest DuckDB that reads the file: Node's and R's are behind Python's
_CONTROLS: Final = frozenset({"ctrl", "control"})


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
class NamedVectors:
    """Vectors of genes under names: their symbols, or the names that were asked for, which may be older."""

    names: tuple[str, ...]
    gene_ids: IntArray  # (name,)
    vectors: FloatArray  # (name, dim)
    lineage: Mapping[str, str]  # store, encoder and licences, as text
    missing: Mapping[str, str]  # names or GeneIDs without a vector, and why; none has a row

    def distinct(self) -> "NamedVectors":
        """Leave out genes whose name a gene with a lower GeneID has, too."""
        first: dict[str, int] = {}
        for row in np.argsort(self.gene_ids, kind="stable").tolist():
            first.setdefault(self.names[row], row)
        rows = sorted(first.values())
        names = tuple(self.names[row] for row in rows)
        return replace(self, names=names, gene_ids=self.gene_ids[rows], vectors=self.vectors[rows])


def vector_lineage(store: Store, encoder_id: str) -> dict[str, str]:
    """Provenance of vectors as text: store, its digest, encoder, recipe and licences."""
    return {
        "store_id": store.store_id,
        "store_digest": store.manifest.digest,
        "encoder_id": encoder_id,
        "recipe": json.dumps(dict(store.manifest.recipe(encoder_id)), sort_keys=True),
        "licence": "; ".join(store.manifest.licences),
    }


def read_names(path: Path) -> tuple[str, ...]:
    """Read a list of genes, one a line, each once; of ``A+B``, a perturbation, both genes, and no gene of ``ctrl``."""
    parts = (part.strip() for line in read_list(path, "a list of genes") for part in line.split("+"))
    names = tuple(dict.fromkeys(part for part in parts if part and part not in _CONTROLS))
    if not names:
        raise SourceUnusable(f"{path} names no gene; write one name a line")
    return names


def named_vectors(
    store: Store, names: Sequence[str] | None = None, *, encoder: str | None = None, allow_missing: bool = False
) -> NamedVectors:
    """Find vectors of genes by name, of all by symbol if left out; ``SourceUnusable`` for names without one."""
    encoder_id = store.gene_encoder_id(encoder)
    if names is None:
        return vectors_of(store, None, encoder=encoder_id).distinct()
    found = store.vectors(names, encoder=encoder_id, on_missing="drop")
    if found.missing and not (allow_missing and found.symbols):
        hint = ", or leave these genes out with allow_missing=True" if found.symbols else ""
        raise SourceUnusable(f"{found.lacking(store.store_id)}; correct the names{hint}")
    return NamedVectors(
        names=found.symbols,
        gene_ids=found.gene_ids,
        vectors=np.asarray(found.vectors, dtype=np.float32),
        lineage=vector_lineage(store, encoder_id),
        missing=found.missing,
    )


def vectors_of(store: Store, gene_ids: IntArray | Sequence[int] | None, *, encoder: str | None = None) -> NamedVectors:
    """Read the vectors of genes by GeneID, in that order, of all if None; ``SourceUnusable`` if none has one."""
    encoder_id = store.gene_encoder_id(encoder)
    wanted = store.vector_table(encoder_id).gene_ids if gene_ids is None else np.asarray(gene_ids, dtype=np.int64)
    selection = store.vectors(wanted, encoder=encoder_id)
    has_vector = selection.has_vector
    if not has_vector.any():
        raise SourceUnusable(f"none of {len(wanted)} genes has a vector by {encoder_id} in {store.store_id}")
    symbols = rows_of(store.table("genes"), wanted[has_vector])["symbol"].to_pylist()
    return NamedVectors(
        names=tuple(symbols),
        gene_ids=wanted[has_vector],
        vectors=selection.vectors if has_vector.all() else selection.vectors[has_vector],
        lineage=vector_lineage(store, encoder_id),
        missing={str(gene): f"no vector by {encoder_id}" for gene in wanted[~has_vector].tolist()},
    )


def gene_ids_of(
    store: Store, names: Sequence[str], *, encoder: str | None = None, allow_missing: bool = False
) -> tuple[IntArray, Mapping[str, str]]:
    """Give the GeneIDs of names, each once, and the names without a vector, see :func:`named_vectors`."""
    found = named_vectors(store, names, encoder=encoder, allow_missing=allow_missing)
    _, first = np.unique(found.gene_ids, return_index=True)
    return found.gene_ids[np.sort(first)], found.missing


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
    found = every = vectors_of(store, gene_ids, encoder=encoder)
    if kind in {"json", "word2vec"}:
        found = every.distinct()
    for file in beside:  # before the matrix, which is never without its list of genes
        rows = zip(found.gene_ids.tolist(), found.names, strict=True)
        _write_rows(file, [("gene_id", "symbol"), *rows], delimiter="\t", overwrite=overwrite)
    with _opened(path, overwrite=overwrite) as part:
        _WRITERS[kind](found, part)
    return ExportResult(
        files=(path, *beside),
        encoders=(found.lineage["encoder_id"],),
        n_genes=len(found.names),
        n_without_vector=0 if gene_ids is None else len(gene_ids) - len(every.names),
        n_duplicate_symbols=len(every.names) - len(found.names),
    )


def _opened(path: Path, *, overwrite: bool) -> AbstractContextManager[Path]:
    """Open a temporary sibling to write to; the folders above are made if they are missing."""
    return output(Target(path, makes_parents=True), overwrite=overwrite)


def _write_rows(path: Path, rows: Iterable[Sequence[object]], *, delimiter: str = ",", overwrite: bool) -> None:
    with _opened(path, overwrite=overwrite) as part, part.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(rows)


def _write_npy(found: NamedVectors, path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(found.vectors), allow_pickle=False)


def _write_npz(found: NamedVectors, path: Path) -> None:
    arrays: dict[str, Any] = {
        "vectors": found.vectors,
        "symbols": np.array(found.names, dtype=str),
        "gene_ids": np.asarray(found.gene_ids),
    }
    save_arrays(arrays, path, lineage=found.lineage)


def save_arrays(arrays: Mapping[str, Any], path: Path, *, lineage: Mapping[str, str]) -> None:
    """Write arrays and their lineage, as texts, as ``.npz``; no array needs a pickle."""
    whole = {**arrays, **{key: np.array(text) for key, text in lineage.items()}}
    with path.open("wb") as stream:
        np.savez(stream, **whole)


def _write_json(found: NamedVectors, path: Path, *, start: str = "[", end: str = "]") -> None:
    with path.open("w", encoding="utf-8") as stream:
        for number, (symbol, vector) in enumerate(zip(found.names, found.vectors, strict=True)):
            key = f"{', ' if number else '{'}{json.dumps(symbol, ensure_ascii=False)}"
            stream.write(f"{key}: {start}{', '.join(_digits(vector))}{end}")
        stream.write("}\n")


def _write_helical(found: NamedVectors, path: Path) -> None:
    upper = replace(found, names=tuple(map(str.upper, found.names))).distinct()
    _write_json(upper, path, start='{"embeddings": [', end="]}")


def _write_word2vec(found: NamedVectors, path: Path) -> None:
    odd = next((symbol for symbol in found.names if len(symbol.split()) != 1), None)
    if odd is not None:
        raise SourceUnusable(f"word2vec text parts names by blanks, and the symbol {odd!r} has one; write .npz")
    with path.open("w", encoding="utf-8") as stream:
        stream.write(f"{len(found.names)} {found.vectors.shape[1]}\n")
        rows = zip(found.names, found.vectors, strict=True)
        stream.writelines(f"{symbol} {' '.join(_digits(vector))}\n" for symbol, vector in rows)


def _write_safetensors(found: NamedVectors, path: Path) -> None:
    vectors, gene_ids = np.ascontiguousarray(found.vectors), np.ascontiguousarray(found.gene_ids)
    write_arrays({"vectors": vectors, "gene_ids": gene_ids}, path, metadata=found.lineage)


def _write_parquet(found: NamedVectors, path: Path) -> None:
    columns = {"gene_id": found.gene_ids, "symbol": strings(found.names), "vector": vector_column(found.vectors)}
    table = pa.table(columns).replace_schema_metadata(dict(found.lineage))
    pq.write_table(table, path, compression="zstd", use_dictionary=["symbol"])


_WRITERS: Final = {
    "npy": _write_npy,
    "npz": _write_npz,
    "json": _write_json,
    "word2vec": _write_word2vec,
    "safetensors": _write_safetensors,
    "parquet": _write_parquet,
}
_FILES_OF: Final[Mapping[str, Sequence[Callable[[NamedVectors, Path], None]]]] = {
    "genept": (_write_json, _write_npz),
    "helical": (_write_helical,),
}


def _digits(vector: FloatArray) -> list[str]:
    """Write numbers as text, with the fewest digits that identify a float32."""
    return pc.cast(pa.array(vector), pa.string()).to_pylist()


def _export_duckdb(store: Store, path: Path, *, encoder: str | None, overwrite: bool) -> ExportResult:
    import duckdb

    ids = [store.encoder_id(encoder)] if encoder else list(store.encoder_ids)
    with _opened(path, overwrite=overwrite) as part:
        try:
            with duckdb.connect(str(part), config={"storage_compatibility_version": _DUCKDB}) as connection:
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
        found = vectors_of(store, None, encoder=encoder_id)
        vectors = pa.table({"gene_id": found.gene_ids, "vector": vector_column(found.vectors)})
        name = str(store.manifest.recipe(encoder_id)["name"]).replace('"', "")
        create(f'"vectors_{name}"', vectors, f"gene_id, vector::float[{found.vectors.shape[1]}] as vector")
    about = [{"encoder_id": encoder_id, **vector_lineage(store, encoder_id)} for encoder_id in ids]
    if about:
        create("lineage", pa.Table.from_pylist(about))


def check_form(path: Path, program: Program, *, are_named: bool) -> None:
    """Raise ``ValueError`` if a file has not the ending that a program's form has, or a graph is to join all genes."""
    check_ending(path, program, error=ValueError)
    if program == "gears" and not are_named:
        raise ValueError("a graph for GEARS joins the genes that are perturbed; list them with `genes`")


def export_for(found: NamedVectors, path: Path, *, program: TableProgram, overwrite: bool = False) -> int:
    """Write vectors for a program; returns the number of edges of a graph.

    - ``genept``: one JSON object, name to list of numbers, as the dict in GenePT's pickles, and beside it
      ``<stem>.npz`` with the same genes: ``vectors``, ``symbols``, ``gene_ids``, store, encoder and licences.
    - ``helical``: one JSON object, name in capitals to ``{"embeddings": [...]}``, as its model GenePT reads it.
    - ``scouter``: a table, ``gene`` and a column a dimension, for ``pandas.read_csv(path, index_col=0)``.
    - ``gears``: a graph in place of that of GO, columns ``source``, ``target``, ``importance``: each gene with itself
      (1) and with the :data:`N_SIMILAR` genes of the largest cosine above 0.

    Genes that were left out are listed beside it, in ``<stem>.missing.tsv``. Raises ``OutputUnusable`` if a file exists
    and may not be replaced; ``SourceUnusable`` if a graph would have fewer than two genes.
    """
    files = output_files(found, path, program)
    check_targets([Target(file, makes_parents=True) for file in files], overwrite=overwrite)
    edges = list(_similar_genes(found)) if program == "gears" else []
    write_missing(found, path, overwrite=overwrite)
    if program in _FILES_OF:
        for file, write in zip((path, path.with_suffix(".npz")), _FILES_OF[program], strict=False):
            with _opened(file, overwrite=overwrite) as part:
                write(found, part)
        return 0
    rows: Iterable[Sequence[object]] = [("source", "target", "importance"), *edges]
    if program == "scouter":
        header = ["gene", *(f"dim_{number}" for number in range(found.vectors.shape[1]))]
        rows = chain([header], ([name, *_digits(row)] for name, row in zip(found.names, found.vectors, strict=True)))
    _write_rows(path, rows, overwrite=overwrite)
    return len(edges)


def output_files(found: NamedVectors, path: Path, program: Program | None = None) -> tuple[Path, ...]:
    """Give the files that an export writes: the one that was asked for, what belongs to it, and what it lacks."""
    arrays = [path.with_suffix(".npz")] if program == "genept" else []
    return (path, *arrays, *([_missing(path)] if found.missing else []))


def _missing(path: Path) -> Path:
    return path.with_name(f"{path.stem}.missing.tsv")


def write_missing(found: NamedVectors, path: Path, *, overwrite: bool = False) -> None:
    """Write the names that an export lacks, and why, beside it."""
    if found.missing:
        write_table(_missing(path), ("name", "reason"), found.missing.items(), overwrite=overwrite)


def _similar_genes(found: NamedVectors) -> Iterator[tuple[str, str, float]]:
    """Yield edges from the most similar genes to each gene, and from the gene itself."""
    from genekb.query.compare import nearest_rows

    n_genes = len(found.names)
    if n_genes < 2:  # noqa: PLR2004 - a graph joins two genes
        raise SourceUnusable("a graph for GEARS needs at least 2 genes with a vector; name more with `genes`")
    unit = unit_or_zero(found.vectors)
    nearest = nearest_rows(unit, n_neighbors=min(N_SIMILAR, n_genes - 1))
    for row, target in enumerate(found.names):
        yield target, target, 1.0
        cosines = unit[nearest[row]] @ unit[row]
        for place in np.argsort(-cosines, kind="stable").tolist():
            if cosines[place] > 0:
                yield found.names[nearest[row][place]], target, round(float(cosines[place]), 6)


@for_python
def export(
    kb: str | Store,
    path: str | Path,
    *,
    encoder: str | None = None,
    format: ExportKind | None = None,
    program: TableProgram | None = None,
    genes: Sequence[str] | None = None,
    order: Sequence[str] | None = None,
    allow_missing: bool = False,
    overwrite: bool = False,
) -> ExportResult:
    """Write vectors of a store to a file, as `genekb export` does; see :func:`export_store`.

    Parameters
    ----------
    kb
        Name, digest, path, or opened.
    path
        File to write.
    encoder
        Encoder of the store; its first one if None.
    format
        By the file's suffix if None.
    program
        A program's own form, see :func:`export_for`: graph (.csv), .json + .npz, .json, table (.csv).
    genes
        Genes to write; all with a vector if None.
    order
        Tokens of a model: a row each, with a mask (.npz or .safetensors).
    allow_missing
        Leave out, and list, genes of ``genes`` without a vector.
    overwrite
        Whether existing files may be replaced.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.export("demo", "vectors.npz", genes=["CD3D", "MS4A1"]).n_genes
    2
    >>> [file.name for file in gk.export("demo", "genept.json", program="genept").files]
    ['genept.json', 'genept.npz']
    """
    store, file = open(kb), Path(path)
    if order is not None:
        from genekb.query.vocabulary import export_ordered

        if format or program or genes is not None:
            raise ValueError("`order` goes without `format`, `program` and `genes`; it gives the rows itself")
        return export_ordered(store, file, order, encoder=encoder, overwrite=overwrite)
    if program is not None:
        check_form(file, program, are_named=genes is not None)
        found = named_vectors(store, genes, encoder=encoder, allow_missing=allow_missing)
        export_for(found, file, program=program, overwrite=overwrite)
        return ExportResult(
            files=output_files(found, file, program),
            encoders=(found.lineage["encoder_id"],),
            n_genes=len(found.names),
            n_without_vector=len(found.missing),
        )
    kind: Any = format or vector_format(file)
    gene_ids: IntArray | None = None
    missing: Mapping[str, str] = {}
    if genes is not None:
        gene_ids, missing = gene_ids_of(store, genes, encoder=encoder, allow_missing=allow_missing)
    result = export_store(store, file, kind=kind, encoder=encoder, gene_ids=gene_ids, overwrite=overwrite)
    return replace(result, n_without_vector=len(missing))
