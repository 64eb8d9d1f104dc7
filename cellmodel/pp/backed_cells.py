"""Cells that stay in their file: the matrix that is used, what it holds, and its log-normalised expression."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Int

from cellmodel.core.stages import Stages, save_array
from cellmodel.io.backed import StoredMatrix, open_stored, read_table, read_tables, stored_matrices
from cellmodel.io.cells import ReadConfig
from cellmodel.io.matrix import USABLE, decide_kind, name_genes, note_oddities
from cellmodel.io.value_kind import ValueKind, ValueReport, ValueTally
from cellmodel.io.writers import check_tables
from cellmodel.pp.scan import LogExpression, Scan, scan

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)
_OF_GENES_AND_CELLS: Final = tuple(field.name for field in fields(Scan) if field.name != "report")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredCells:
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

    def expression(self, columns: Int[np.ndarray, " gene"] | None = None) -> LogExpression:
        """Give log-normalised expression of some genes, or of all."""
        return LogExpression(matrix=self.matrix, kind=self.kind, columns=columns)


def read_stored_cells(path: Path, read: ReadConfig, stages: Stages) -> StoredCells:
    """Choose the matrix of a file and read it once.

    Raises ``InputUnusable`` if the file cannot be read in blocks of cells, or a layer or column is missing;
    ``NotCounts`` if the values are neither counts nor log-normalised; the message says how to overrule that.
    """
    source = str(path).encode(errors="backslashreplace").decode()
    matrices = stored_matrices(path, read)
    adata = read_tables(path)
    check_tables(adata)
    matrix, found, notes = _scanned(matrices, read, stages)
    kind = decide_kind(
        found.report,
        said=read.values,
        where=f"{matrix.name} of {source}",
        notes=notes,
        way_out=lambda: _way_out(path),
    )
    is_raw = matrix.place.startswith("raw")
    names = name_genes(_raw_var(path) if is_raw else adata.var, read.gene_key, source=source, notes=notes)
    note_oddities(notes, genes=names.tolist(), cells=adata.obs_names, totals=found.totals, depth=found.depth)
    notes.append(f"read out of core, {matrix.n_stored:,} stored values")
    return StoredCells(
        adata=adata,
        matrix=matrix,
        scan=found,
        names=tuple(names.tolist()),
        var_rows=None if is_raw else matrix.columns,
        kind=kind,
        notes=tuple(notes),
        source=source,
    )


def _raw_var(path: Path) -> Any:
    with open_stored(path) as file:
        return read_table(path, file, "raw/var")


def _way_out(path: Path) -> str:
    """Propose what else there is; what it holds is not read."""
    with open_stored(path) as file:
        layers = ", ".join(file["layers"]) if "layers" in file else ""
    return f"name a layer with --layer ({layers})" if layers else "give the file with raw counts"


def _scanned(matrices: list[StoredMatrix], read: ReadConfig, stages: Stages) -> tuple[StoredMatrix, Scan, list[str]]:
    """Choose as for cells in memory: counts in ``layers["counts"]``, else X, else ``.raw`` where X is scaled."""
    notes: list[str] = []
    if len(matrices) > 1 and matrices[0].place == "layers/counts":
        found = _scan_stage(matrices[0], read, stages)
        if found.report.kind == ValueKind.COUNTS:
            return matrices[0], found, ["layer 'counts' is used"]
        notes.append(f"layer 'counts' holds no counts ({found.report}); X is used instead")
        matrices = matrices[1:]
    found = _scan_stage(matrices[0], read, stages)
    if found.report.kind == ValueKind.SCALED and read.values == "auto" and len(matrices) > 1:
        raw = _scan_stage(matrices[1], read, stages)
        if raw.report.kind in USABLE:
            notes.append(f"X is scaled ({found.report}); .raw is used instead")
            return matrices[1], raw, notes
    return matrices[0], found, notes


def _scan_stage(matrix: StoredMatrix, read: ReadConfig, stages: Stages) -> Scan:
    def make(folder: Path) -> Mapping[str, Any]:
        kind = _first_look(matrix) if read.values == "auto" else ValueKind(read.values)
        found = scan(matrix, kind=kind)
        if read.values == "auto" and found.report.kind != kind and found.report.kind in USABLE:
            log.info("%s is %s beyond its first cells; it is read once more", matrix.name, found.report.kind)
            found = scan(matrix, kind=found.report.kind)
        for name in _OF_GENES_AND_CELLS:
            save_array(folder, name, getattr(found, name))
        return asdict(found.report)

    stage = stages.run(f"scan of {matrix.place.replace('/', ' ')}", make)
    report = ValueReport(**{**stage.record, "kind": ValueKind(stage.record["kind"])})
    return Scan(report=report, **{name: np.array(stage.arrays[name]) for name in _OF_GENES_AND_CELLS})


def _first_look(matrix: StoredMatrix) -> ValueKind:
    """Kind of the values of the first cells."""
    tally = ValueTally()
    for block in matrix.blocks():
        tally.add(block)
        break
    return tally.report().kind
