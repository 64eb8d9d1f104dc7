"""Backed cells: the matrix of their file chosen and read once, block by block."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from jaxtyping import Int

from cellmodel.core.arrays import CellBlocks
from cellmodel.core.stages import AnyStages, Arrays, InputStages, Stages
from cellmodel.io.backed import (
    BACKED_ABOVE,
    AnyCells,
    BackedCells,
    BackedFile,
    BackedMatrix,
    Scan,
    open_backed,
)
from cellmodel.io.cells import ObsCategories, ReadConfig, count_entries, obs_categories, read_cells
from cellmodel.io.formats.anndata import notes_on
from cellmodel.io.matrix import (
    USABLE,
    ValueKind,
    ValueReport,
    decide_kind,
    gene_labels,
    inspect_values,
    name_genes,
    note_oddities,
)
from cellmodel.io.quality import mitochondrial_genes
from cellmodel.io.writers import check_tables
from cellmodel.pp.moments import scan

log = logging.getLogger(__name__)
_OF_GENES_AND_CELLS: Final = tuple(field.name for field in fields(Scan) if field.name != "report")


def read_backed_cells(
    backed: BackedFile, read: ReadConfig, stages: Stages | InputStages, *, batch_key: str | None = None
) -> BackedCells:
    """Choose the matrix of a file and read it once; raises as :func:`cellmodel.io.cells.read_cells`.

    ``batch_key``: column of obs with the batches within which moments are taken, too; ``InputUnusable`` if it is none.
    """
    source = str(backed.path).encode(errors="backslashreplace").decode()
    adata = backed.adata
    check_tables(adata)
    batches = None if batch_key is None else obs_categories(adata, batch_key, source=source)
    notes = list(notes_on(backed.path))
    matrix_of = cache(lambda place: backed.matrix(place, stages))
    tables = {"raw/X": backed.raw_var}

    @cache
    def scan_of(place: str) -> Scan:
        matrix = matrix_of(place)
        labels = gene_labels(tables.get(place, adata.var), read.gene_key, source=str(matrix.path), notes=[])
        mito = mitochondrial_genes(labels[matrix.columns].tolist())
        name = f"scan of {place.replace('/', ' ')}"
        return _scan_stage(name, stages, lambda: _scan_as_found(matrix, read, batches, mito))

    place = backed.matrices.choose(read, lambda place: scan_of(place).report, notes)
    matrix, found, is_raw = matrix_of(place), scan_of(place), place == "raw/X"
    kind = decide_kind(
        found.report,
        declared_kind=read.values,
        where=f"{matrix.name} of {source}",
        notes=notes,
        hint=lambda: backed.matrices.hint(lambda place: _first_look(matrix_of(place))),
    )
    names = name_genes(backed.raw_var if is_raw else adata.var, read.gene_key, source=source, notes=notes)
    note_oddities(notes, genes=names.tolist(), cells=adata.obs_names, totals=found.totals, depth=found.depth)
    notes.append(f"read out of core, {matrix.n_stored:,} stored values")
    return BackedCells(
        adata=adata,
        matrix=matrix,
        scan=found,
        names=tuple(names.tolist()),
        var_rows=None if is_raw else matrix.columns,
        kind=kind,
        notes=tuple(notes),
        source=source,
        sample_key=backed.sample_key,
    )


@contextmanager
def open_cells(
    path: Path, read: ReadConfig | None = None, *, places: Callable[[Mapping[str, Sequence[str]]], Iterable[str]]
) -> Iterator[AnyCells]:
    """Read cells for a job that writes nothing back: backed, in a folder that is removed, where the file is large.

    ``places``: of the keys of each part of the file, which to read of backed cells, as ``obsm/X_umap``.
    """
    read = read or ReadConfig()
    if count_entries(path, read) <= BACKED_ABOVE:
        yield read_cells(path, read)
        return
    backed = open_backed(path, read)
    backed.load(places(backed.keys))
    with TemporaryDirectory(prefix="cellmodel-") as folder:
        yield read_backed_cells(backed, read, Stages(Path(folder) / "work", key={"cells": str(path)}))


def scan_again(
    matrix: CellBlocks,
    names: Sequence[str],
    kind: ValueKind,
    stages: AnyStages,
    *,
    batches: ObsCategories | None = None,
    name: str = "scan",
) -> Scan:
    """Read backed values once more: of the genes that several files share, or of the cells that are kept."""
    mito = mitochondrial_genes(names)
    return _scan_stage(name, stages, lambda: scan(matrix, kind=kind, batches=batches, mito=mito))


def _scan_as_found(
    matrix: BackedMatrix, read: ReadConfig, batches: ObsCategories | None, mito: Int[np.ndarray, " mito"]
) -> Scan:
    """Scan for the kind of the first cells, and once more where the others are of another."""
    kind = _first_look(matrix).kind if read.values == "auto" else ValueKind(read.values)
    found = scan(matrix, kind=kind, batches=batches, mito=mito)
    if read.values == "auto" and found.report.kind != kind and found.report.kind in USABLE:
        log.info("%s is %s beyond its first cells; it is read once more", matrix.name, found.report.kind)
        found = scan(matrix, kind=found.report.kind, batches=batches, mito=mito)
    return found


def _scan_stage(name: str, stages: AnyStages, make_scan: Callable[[], Scan]) -> Scan:
    """Scan, or take up what an earlier run found."""

    def make(arrays: Arrays) -> Mapping[str, Any]:
        found = make_scan()
        for figure in _OF_GENES_AND_CELLS:
            if getattr(found, figure) is not None:
                arrays.save(figure, getattr(found, figure))
        return asdict(found.report)

    stage = stages.run(name, make)
    report = ValueReport(**{**stage.record, "kind": ValueKind(stage.record["kind"])})
    return Scan(report=report, **{name: np.array(values) for name, values in stage.arrays.items()})


def _first_look(matrix: BackedMatrix) -> ValueReport:
    """Inspect the values of the first cells."""
    return inspect_values(next(matrix.blocks()))
