"""Vectors of genes in the forms that other programs read: GenePT's users, and GEARS, Scouter, pertpy."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from genekb.core.errors import SourceUnusable
from genekb.core.messages import counted, listed
from genekb.core.python import for_python
from genekb.encoders.base import unit_or_zero
from genekb.files.endings import check_ending, vector_format
from genekb.files.replace import Target, check_targets
from genekb.files.tables import read_list, write_table
from genekb.query.export import (
    ExportKind,
    ExportResult,
    digits,
    export_store,
    opened,
    vector_lineage,
    write_json,
    write_npz,
)
from genekb.schema import FloatArray, IntArray, rows_of
from genekb.share.open import open
from genekb.store.reader import Store

TableProgram = Literal["gears", "genept", "scouter"]
Program = TableProgram | Literal["pertpy"]
N_SIMILAR: Final = 20  # genes that each gene is joined with in a graph for GEARS, as in its own graph
_CONTROLS: Final = frozenset({"ctrl", "control"})


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedVectors:
    """Vectors under the names that were asked for, which may be older than the symbols of the store."""

    names: tuple[str, ...]
    gene_ids: IntArray  # (name,)
    vectors: FloatArray  # (name, dim)
    lineage: Mapping[str, str]  # store, encoder and licences, as text
    missing: Mapping[str, str]  # names without a vector, and why; none has a row


def read_names(path: Path) -> tuple[str, ...]:
    """Read a list of genes, one a line, each once; of ``A+B``, a perturbation, both genes, and no gene of ``ctrl``.

    Raises ``SourceUnusable`` if there is no such file, it is no text, or it names no gene.
    """
    parts = (part.strip() for line in read_list(path, "a list of genes") for part in line.split("+"))
    names = tuple(dict.fromkeys(part for part in parts if part and part not in _CONTROLS))
    if not names:
        raise SourceUnusable(f"{path} names no gene; write one name a line")
    return names


def named_vectors(
    store: Store, names: Sequence[str] | None = None, *, encoder: str | None = None, allow_missing: bool = False
) -> NamedVectors:
    """Find the vectors of genes by name; of all genes by symbol, of equal symbols the lowest GeneID, if left out.

    Raises ``SourceUnusable`` for names without a vector, which it lists, unless they may be missing; and if none has
    one.
    """
    encoder_id = store.gene_encoder_id(encoder)
    if names is None:
        names, gene_ids = _by_symbol(store, store.vector_table(encoder_id).gene_ids)
        missing: dict[str, str] = {}
    else:
        gene_ids, missing = _resolve(store, names, encoder_id)
        _check_missing(store, names, missing, allow_missing=allow_missing)
        names = [name for name in names if name not in missing]
    return NamedVectors(
        names=tuple(names),
        gene_ids=gene_ids,
        vectors=np.asarray(store.vectors(gene_ids, encoder=encoder_id).vectors, dtype=np.float32),
        lineage=vector_lineage(store, encoder_id),
        missing=missing,
    )


def _by_symbol(store: Store, gene_ids: IntArray) -> tuple[list[str], IntArray]:
    """Symbols of genes, each once, with the lowest GeneID that has it."""
    every = np.sort(gene_ids)
    first: dict[str, int] = {}
    for symbol, gene in zip(rows_of(store.table("genes"), every)["symbol"].to_pylist(), every.tolist(), strict=True):
        first.setdefault(symbol, gene)
    return list(first), np.array(list(first.values()), dtype=np.int64)


def _resolve(store: Store, names: Sequence[str], encoder_id: str) -> tuple[IntArray, dict[str, str]]:
    """GeneIDs of the names that have a vector, and why the others have none."""
    resolution = store.resolve(names)
    found = store.vectors(resolution.gene_ids, encoder=encoder_id)
    usable = found.has_vector & (np.linalg.norm(found.vectors, axis=1) > 0)
    why = [
        f"no vector by {encoder_id}" if gene else status
        for gene, status in zip(resolution.gene_ids.tolist(), resolution.status.tolist(), strict=True)
    ]
    missing = {name: reason for name, reason, is_here in zip(names, why, usable, strict=True) if not is_here}
    return resolution.gene_ids[usable], missing


def _check_missing(store: Store, names: Sequence[str], missing: Mapping[str, str], *, allow_missing: bool) -> None:
    first = listed([f"{name} ({why})" for name, why in missing.items()])
    if len(missing) == len(names):
        raise SourceUnusable(f"none of {counted(len(names), 'name')} has a vector in {store.store_id}: {first}")
    if missing and not allow_missing:
        raise SourceUnusable(
            f"{len(missing):,} of {len(names):,} genes have no vector in {store.store_id}: {first}; "
            "correct the names, or leave these genes out with allow_missing=True"
        )


def check_form(path: Path, program: Program, *, are_named: bool) -> None:
    """Raise ``ValueError`` if a file has not the ending that a program's form has, or a graph is to join all genes."""
    check_ending(path, program, error=ValueError)
    if program == "gears" and not are_named:
        raise ValueError("a graph for GEARS joins the genes that are perturbed; list them with `genes`")


def export_for(found: NamedVectors, path: Path, *, program: TableProgram, overwrite: bool = False) -> int:
    """Write vectors for a program; returns the number of edges of a graph.

    - ``genept``: one JSON object, name to list of numbers, as the dict in GenePT's pickles, and beside it
      ``<stem>.npz`` with the same genes: ``vectors``, ``symbols``, ``gene_ids``, store, encoder and licences.
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
    if program == "genept":
        with opened(path.with_suffix(".npz"), overwrite=overwrite) as part:
            write_npz(found.names, found.gene_ids, found.vectors, found.lineage, part)
        with opened(path, overwrite=overwrite) as part:
            write_json(found.names, found.vectors, part)
        return 0
    rows: Iterable[Sequence[object]] = [("source", "target", "importance"), *edges]
    if program == "scouter":
        header = ["gene", *(f"dim_{number}" for number in range(found.vectors.shape[1]))]
        rows = chain([header], ([name, *digits(row)] for name, row in zip(found.names, found.vectors, strict=True)))
    with opened(path, overwrite=overwrite) as part, part.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
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
        A program's own form, see :func:`export_for`: graph (.csv), .json + .npz, table (.csv).
    genes
        Genes to write; all with a vector if None.
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
    gene_ids = None if genes is None else store.gene_ids(list(genes))
    return export_store(store, file, kind=kind, encoder=encoder, gene_ids=gene_ids, overwrite=overwrite)
