"""Cells that stay in their file: the matrix that is used, what it holds, and its log-normalised expression."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Int

from cellmodel.core.stages import Arrays, Stages
from cellmodel.io.backed import StoredMatrix, open_backed, read_coordinates
from cellmodel.io.cells import Cells, ReadConfig
from cellmodel.io.matrix import USABLE, decide_kind, name_genes, note_oddities
from cellmodel.io.value_kind import ValueKind, ValueReport, ValueTally
from cellmodel.io.writers import check_tables
from cellmodel.pp.scan import Scan, scan

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)
_OF_GENES_AND_CELLS: Final = tuple(field.name for field in fields(Scan) if field.name != "report")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BackedCells:
    """Cells as :class:`cellmodel.io.cells.Cells`, but for a matrix that is read in blocks."""

    adata: "AnnData"  # obs and var, without any matrix
    matrix: StoredMatrix
    scan: Scan  # what one pass over the matrix found
    names: tuple[str, ...]
    var_rows: Int[np.ndarray, " gene"] | None
    kind: ValueKind
    notes: tuple[str, ...]
    source: str

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes that are used."""
        return self.matrix.shape


AnyCells = Cells | BackedCells


def read_backed_cells(path: Path, read: ReadConfig, stages: Stages, *, with_coordinates: bool = False) -> BackedCells:
    """Choose the matrix of a file and read it once; ``obsm["spatial"]`` too, ``with_coordinates``.

    Raises ``InputUnusable`` if the file cannot be read in blocks of cells, or a layer or column is missing;
    ``NotCounts`` if the values are neither counts nor log-normalised; the message says how to overrule that.
    """
    source = str(path).encode(errors="backslashreplace").decode()
    backed = open_backed(path, read)
    adata = backed.adata
    if with_coordinates:
        read_coordinates(path, adata)
    check_tables(adata)
    notes: list[str] = []
    scan_of = cache(lambda place: _scan_stage(backed.matrix(place), read, stages))
    place = backed.matrices.choose(read, lambda place: scan_of(place).report, notes)
    matrix, found, is_raw = backed.matrix(place), scan_of(place), place == "raw/X"
    kind = decide_kind(
        found.report,
        declared_kind=read.values,
        where=f"{matrix.name} of {source}",
        notes=notes,
        hint=lambda: backed.matrices.hint(lambda place: _first_look(backed.matrix(place))),
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
    )


def _scan_stage(matrix: StoredMatrix, read: ReadConfig, stages: Stages) -> Scan:
    def make(arrays: Arrays) -> Mapping[str, Any]:
        kind = _first_look(matrix).kind if read.values == "auto" else ValueKind(read.values)
        found = scan(matrix, kind=kind)
        if read.values == "auto" and found.report.kind != kind and found.report.kind in USABLE:
            log.info("%s is %s beyond its first cells; it is read once more", matrix.name, found.report.kind)
            found = scan(matrix, kind=found.report.kind)
        for name in _OF_GENES_AND_CELLS:
            arrays.save(name, getattr(found, name))
        return asdict(found.report)

    stage = stages.run(f"scan of {matrix.place.replace('/', ' ')}", make)
    report = ValueReport(**{**stage.record, "kind": ValueKind(stage.record["kind"])})
    return Scan(report=report, **{name: np.array(stage.arrays[name]) for name in _OF_GENES_AND_CELLS})


def _first_look(matrix: StoredMatrix) -> ValueReport:
    """Inspect the values of the first cells."""
    tally = ValueTally()
    for block in matrix.blocks():
        tally.add(block)
        break
    return tally.report()
