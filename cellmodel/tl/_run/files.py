"""Several cell files as one set of cells: matched by their genes, and worked on as one file is."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from cellmodel.core.arrays import CellByGene
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import InputStages, Stages
from cellmodel.core.tools import path_of
from cellmodel.io.backed import AnyCells, BackedCells, BackedFile, JoinedMatrix, check_in_blocks, open_backed
from cellmodel.io.cells import Cells, FileRecord, ReadConfig, obs_categories, read_cells
from cellmodel.io.concat import (
    AUTO,
    SAMPLE,
    JoinConfig,
    check_files,
    check_kinds,
    file_names,
    join_matrices,
    join_tables,
    read_sheet,
    sources_of,
    with_genes,
)
from cellmodel.io.matrix import note_oddities
from cellmodel.io.writers import WriteConfig, claim_slots
from cellmodel.pp.blocks import read_backed_cells, scan_again
from cellmodel.pp.gene_match import GeneTable, SharedGenes, match_genes
from cellmodel.tl._run.task import (
    Result,
    StreamConfig,
    Task,
    check_job,
    run_in_memory,
    run_in_stages,
    run_on_anndata,
    run_on_file,
    stages_of,
)
from genekb.files.endings import ENDINGS, TABLE

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class CellFiles:
    """Cells in files, which a tool takes in place of an AnnData: it gives what it found, and writes the cells.

    Parameters
    ----------
    paths
        Files of cells; several are joined by the genes that all of them have.
    sheet
        Table in place of ``paths``: columns ``file``, ``sample``, and more that become columns of obs.
    output
        Annotated cells to write, .h5ad or .zarr; of some tools, a table of the result, .tsv or .csv.
    in_place
        Whether the cells are written into their own file.
    transpose
        Whether rows of a .csv or .tsv are genes.
    sample_key
        Of several files, the column of obs with the sample of each cell; ``auto``: each file is a sample, in a column
        ``sample``.
    out_of_core
        Whether the matrix stays in its file (``yes``, ``no``); ``auto``: where it is large.
    work_dir
        Out of core, folder for the stages of the run; beside the output if None.
    command
        What was typed, kept in the record.

    Examples
    --------
    >>> import cellmodel as cm
    >>> found = cm.tl.search(cm.tl.CellFiles(["clustered.h5ad"]), "demo", "B lymphocytes")
    """

    paths: Sequence[Path] = ()  # text will do, here and below
    _: KW_ONLY
    sheet: Path | None = None
    output: Path | None = None
    in_place: bool = False
    transpose: bool = False
    sample_key: str = AUTO
    out_of_core: str = "auto"
    work_dir: Path | None = None
    command: str = ""

    def __post_init__(self) -> None:
        """Take paths as text."""
        object.__setattr__(self, "paths", tuple(map(Path, self.paths)))
        for name in ("sheet", "output", "work_dir"):
            object.__setattr__(self, name, path_of(getattr(self, name)))

    @property
    def written(self) -> str:
        """What is written; empty if nothing is."""
        return str(self.paths[0] if self.in_place else self.output or "")

    def write(self, key_added: str, *, overwrite: bool) -> WriteConfig | None:
        """Say how annotated cells are written; None where none are."""
        output = self.paths[0] if self.in_place else None if table_of(self) else self.output
        if output is None:
            return None
        return WriteConfig(
            output=output, in_place=self.in_place, key_added=key_added, overwrite=overwrite, command=self.command
        )


def table_of(cells: "AnnData | CellFiles") -> Path | None:
    """Give the output of files, where that is a table."""
    output = cells.output if isinstance(cells, CellFiles) else None
    return output if output is not None and output.suffix in ENDINGS[TABLE] else None


def run_task(
    cells: "AnnData | CellFiles",
    task: Task[Result],
    read: ReadConfig,
    *,
    key_added: str,
    overwrite: bool = False,
    copy: bool = False,
) -> "AnnData | Result | None":
    """Do a task on an AnnData, see :func:`run_on_anndata`, of which a copy is given; or on files: what was found."""
    if not isinstance(cells, CellFiles):
        return run_on_anndata(cells, task, read, key_added=key_added, overwrite=overwrite, copy=copy)
    return run_on_files(cells, task, replace(read, transpose=cells.transpose), key_added=key_added, overwrite=overwrite)


def run_on_files(files: CellFiles, task: Task[Result], read: ReadConfig, *, key_added: str, overwrite: bool) -> Result:
    """Do a task on the cells of all files, and write them as one; see :func:`cellmodel.tl._run.task.run_on_file`.

    What is written: the tables of cells one below the other, and as X the values that were used, of the genes that all
    files have.
    """
    if bool(files.paths) == (files.sheet is not None):
        raise ValueError("give files of cells, or a sheet that names them: one of the two")
    sheet = None if files.sheet is None else read_sheet(files.sheet)
    paths, stream = tuple(files.paths), StreamConfig(mode=files.out_of_core, work=files.work_dir)
    write = files.write(key_added, overwrite=overwrite)
    if sheet is not None:
        paths = sheet.paths
    elif len(paths) == 1:
        if files.sample_key != AUTO:
            raise InputUnusable(
                f'sample_key="{files.sample_key}" names the samples of several files, and {paths[0]} is one; '
                "leave it out, or give `batch_key`"
            )
        return run_on_file(paths[0], task, read=read, write=write, stream=stream, overwrite=overwrite)
    if write is None:
        raise InputUnusable(f"{len(paths)} files become one; give `output`, a file for their cells")
    join = JoinConfig(sample_key=files.sample_key, sheet=sheet, overwrite=overwrite)
    joined = _JoinedFiles(paths, read, join, task)
    check_files(paths, joined.join)
    if "spatial" in task.reads.obsm:
        raise InputUnusable(
            "coordinates of several files are of several sections, which are no neighbors; leave `spatial` out, or "
            "cluster one file at a time"
        )
    if not check_job(paths, task, read=read, write=write, stream=stream):
        return run_in_memory(_read(joined), task, sources=paths, write=write)
    for path in paths:
        check_in_blocks(path)
    backed = [open_backed(path, read, obsm=task.reads.obsm) for path in paths]
    claim_slots(_joined(joined, backed)[0], task.slots(write.key_added), overwrite=write.overwrite)
    stages = stages_of(paths, task, read=read, write=write, stream=stream, join=asdict(joined.join))
    return run_in_stages(lambda: _read_backed(joined, backed, stages), task, sources=paths, write=write, stages=stages)


@dataclass(frozen=True, slots=True)
class _JoinedFiles:
    """Files that become one set of cells for a task."""

    paths: tuple[Path, ...]
    read: ReadConfig
    join: JoinConfig
    task: Task[Any]


def _joined(files: _JoinedFiles, parts: Sequence[AnyCells | BackedFile]) -> tuple["AnnData", list[str]]:
    """Join the tables of the cells, and give the notes on them."""
    notes: list[str] = []
    return join_tables([part.adata for part in parts], paths=files.paths, join=files.join, notes=notes), notes


def _read(files: _JoinedFiles) -> Cells:
    """Read all files; of the matrices of each, the one that is used is kept."""
    import anndata

    parts = []
    for path in files.paths:  # the matrices that are not used are dropped before the next file is read
        cells = read_cells(path, files.read)
        parts.append(replace(cells, adata=anndata.AnnData(obs=cells.adata.obs, obsm=dict(cells.adata.obsm))))
    adata, notes = _joined(files, parts)
    shared, facts = _match(files, parts, [_sums(cells.matrix, axis=0) for cells in parts], notes)
    matrix = join_matrices([cells.matrix for cells in parts], shared.columns)
    totals, depth = _sums(matrix, axis=0), _sums(matrix, axis=1)
    note_oddities(notes, genes=shared.names, cells=adata.obs_names, totals=totals, depth=depth)
    return Cells(adata=with_genes(adata, shared.names, matrix), matrix=matrix, notes=tuple(notes), **facts)


def _sums(matrix: CellByGene, *, axis: int) -> Float[np.ndarray, " sum"]:
    return np.asarray(matrix.sum(axis=axis)).ravel()


def _read_backed(files: _JoinedFiles, backed: Sequence[BackedFile], stages: Stages) -> BackedCells:
    """Read each file once, match their genes, and read them once more for the figures of these."""
    parts = [
        read_backed_cells(each, files.read, InputStages(stages=stages, name=f"file {number}"))
        for number, each in enumerate(backed, 1)
    ]
    adata, notes = _joined(files, parts)
    shared, facts = _match(files, parts, [cells.scan.totals for cells in parts], notes)
    matrix = JoinedMatrix(matrices=tuple(each.matrix for each in parts), columns=shared.columns)
    batch_key = files.task.reads.batch_key
    batches = None if batch_key is None else obs_categories(adata, batch_key, source=facts["source"])
    scan = scan_again(matrix, shared.names, facts["kind"], stages, batches=batches)
    note_oddities(notes, genes=shared.names, cells=adata.obs_names, totals=scan.totals, depth=scan.depth)
    return BackedCells(adata=with_genes(adata, shared.names), matrix=matrix, scan=scan, notes=tuple(notes), **facts)


def _match(
    files: _JoinedFiles, parts: Sequence[AnyCells], totals: Sequence[Float[np.ndarray, " gene"]], notes: list[str]
) -> tuple[SharedGenes, dict[str, Any]]:
    """Match the genes of all files, and give what is common to cells in memory and backed."""
    kind = check_kinds(parts)
    tables = [
        GeneTable(source=cells.source, names=cells.names, totals=each)
        for cells, each in zip(parts, totals, strict=True)
    ]
    reads = files.task.reads
    shared = match_genes(tables, reads.kb, use_orthologs=reads.use_orthologs)
    records = tuple(_record(files, number, parts[number], shared, totals[number]) for number in range(len(parts)))
    of_files = [f"{record.file}: {note}" for record, cells in zip(records, parts, strict=True) for note in cells.notes]
    by_id = f", {shared.n_by_id:,} of them by id under different names" if shared.n_by_id else ""
    notes[:0] = [f"{len(shared.names):,} genes are shared by {len(parts)} files{by_id}", *map(str, records), *of_files]
    facts = {
        "names": shared.names,
        "var_rows": np.arange(len(shared.names)),
        "kind": kind,
        "source": sources_of(files.paths, files.join),
        "files": records,
        "sample_key": SAMPLE if files.join.sample_key == AUTO else files.join.sample_key,
    }
    return shared, facts


def _record(
    files: _JoinedFiles, number: int, cells: AnyCells, shared: SharedGenes, totals: Float[np.ndarray, " gene"]
) -> FileRecord:
    kept = shared.columns[number]
    samples = files.join.samples(files.paths) or [""] * len(files.paths)
    every = float(totals.sum(dtype=np.float64)) or 1.0
    return FileRecord(
        file=file_names(files.paths, files.join)[number],
        sample=samples[number],
        n_cells=cells.shape[0],
        n_genes=cells.shape[1],
        n_lost=cells.shape[1] - len(kept),
        share_lost=max(0.0, 1 - float(totals[kept].sum(dtype=np.float64)) / every),
        n_resolved=shared.n_resolved[number] if shared.n_resolved else 0,
        species=shared.species[number] if shared.species else "",
        by_ortholog=shared.by_ortholog[number],
    )
