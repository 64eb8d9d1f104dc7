"""Several cell files as one set of cells: matched by their genes, and worked on as one file is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

import genekb
from cellmodel.core.arrays import CellByGene
from cellmodel.core.errors import InputUnusable
from cellmodel.core.stages import InputStages, Stages
from cellmodel.io.backed import AnyCells, BackedCells, BackedFile, JoinedMatrix, check_in_blocks, open_backed
from cellmodel.io.cells import Cells, FileRecord, ReadConfig, claim_slots, obs_categories, read_cells
from cellmodel.io.concat import (
    AUTO,
    SAMPLE,
    JoinConfig,
    check_files,
    check_kinds,
    file_names,
    join_matrices,
    join_tables,
    name_samples,
    sources_of,
    with_genes,
)
from cellmodel.io.matrix import note_oddities
from cellmodel.io.writers import WriteConfig
from cellmodel.pp.blocks import read_backed_cells, scan_again
from cellmodel.pp.gene_match import GeneTable, SharedGenes, match_genes
from cellmodel.tl._run.task import (
    Result,
    StreamConfig,
    Task,
    check_job,
    run_in_memory,
    run_in_stages,
    run_on_file,
    stages_of,
)

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, kw_only=True, slots=True)
class CellFiles:
    """Cell files, and how they become one set of cells."""

    paths: tuple[Path, ...]
    read: ReadConfig
    join: JoinConfig
    kb: genekb.Store | None = None  # by which genes with different names are matched
    use_orthologs: bool = False  # whether symbols of another species map to a gene in every file


def run_on_files(
    files: CellFiles, task: Task[Result], *, write: WriteConfig, stream: StreamConfig | None = None
) -> Result:
    """Do a task on the cells of all files, and write them as one; see :func:`cellmodel.tl._run.task.run_on_file`.

    What is written: the tables of cells one below the other, and as X the values that were used, of the genes that all
    files have.
    """
    paths, stream = files.paths, stream or StreamConfig()
    if len(paths) == 1:
        if files.join.sample_key != AUTO:
            raise InputUnusable(
                f'sample_key="{files.join.sample_key}" names the samples of several files, and {paths[0]} is one; '
                "leave it out, or give `batch_key`"
            )
        return run_on_file(paths[0], task, read=files.read, write=write, stream=stream)
    check_files(paths, files.join)
    if "spatial" in task.obsm:
        raise InputUnusable(
            "coordinates of several files are of several sections, which are no neighbors; leave `spatial` out, or "
            "cluster one file at a time"
        )
    if not check_job(paths, task, read=files.read, write=write, stream=stream):
        return run_in_memory(_read(files), task, sources=paths, write=write)
    for path in paths:
        check_in_blocks(path)
    backed = [open_backed(path, files.read, obsm=task.obsm) for path in paths]
    claim_slots(_joined(files, backed)[0], task.slots(write.key_added), overwrite=write.overwrite)
    stages = stages_of(paths, task, read=files.read, write=write, stream=stream, join=asdict(files.join))
    return run_in_stages(
        lambda: _read_backed(files, backed, stages, batch_key=task.batch_key),
        task,
        sources=paths,
        write=write,
        stages=stages,
    )


def _joined(files: CellFiles, parts: Sequence[AnyCells | BackedFile]) -> tuple["AnnData", list[str]]:
    """Join the tables of the cells, and give the notes on them."""
    notes: list[str] = []
    return join_tables([part.adata for part in parts], paths=files.paths, join=files.join, notes=notes), notes


def _read(files: CellFiles) -> Cells:
    """Read all files; of the matrices of each, the one that is used is kept."""
    parts = [_used_alone(read_cells(path, files.read)) for path in files.paths]
    adata, notes = _joined(files, parts)
    shared, facts = _match(files, parts, [_sums(cells.matrix, axis=0) for cells in parts], notes)
    matrix = join_matrices([cells.matrix for cells in parts], shared.columns)
    totals, depth = _sums(matrix, axis=0), _sums(matrix, axis=1)
    note_oddities(notes, genes=shared.names, cells=adata.obs_names, totals=totals, depth=depth)
    return Cells(adata=with_genes(adata, shared.names, matrix), matrix=matrix, notes=tuple(notes), **facts)


def _used_alone(cells: Cells) -> Cells:
    """Drop the matrices that are not used, before the next file is read."""
    import anndata

    return replace(cells, adata=anndata.AnnData(obs=cells.adata.obs, obsm=dict(cells.adata.obsm)))


def _sums(matrix: CellByGene, *, axis: int) -> Float[np.ndarray, " sum"]:
    return np.asarray(matrix.sum(axis=axis)).ravel()


def _read_backed(
    files: CellFiles, backed: Sequence[BackedFile], stages: Stages, *, batch_key: str | None
) -> BackedCells:
    """Read each file once, match their genes, and read them once more for the figures of these."""
    parts = [
        read_backed_cells(each, files.read, InputStages(stages=stages, name=f"file {number}"))
        for number, each in enumerate(backed, 1)
    ]
    adata, notes = _joined(files, parts)
    shared, facts = _match(files, parts, [cells.scan.totals for cells in parts], notes)
    matrix = JoinedMatrix(matrices=tuple(each.matrix for each in parts), columns=shared.columns)
    batches = None if batch_key is None else obs_categories(adata, batch_key, source=facts["source"])
    scan = scan_again(matrix, shared.names, facts["kind"], stages, batches=batches)
    note_oddities(notes, genes=shared.names, cells=adata.obs_names, totals=scan.totals, depth=scan.depth)
    return BackedCells(adata=with_genes(adata, shared.names), matrix=matrix, scan=scan, notes=tuple(notes), **facts)


def _match(
    files: CellFiles, parts: Sequence[AnyCells], totals: Sequence[Float[np.ndarray, " gene"]], notes: list[str]
) -> tuple[SharedGenes, dict[str, Any]]:
    """Match the genes of all files, and give what is common to cells in memory and backed."""
    kind = check_kinds(parts)
    tables = [
        GeneTable(source=cells.source, names=cells.names, totals=each)
        for cells, each in zip(parts, totals, strict=True)
    ]
    shared = match_genes(tables, files.kb, use_orthologs=files.use_orthologs)
    records = tuple(_record(files, number, parts[number], shared, totals[number]) for number in range(len(parts)))
    of_files = [f"{record.file}: {note}" for record, cells in zip(records, parts, strict=True) for note in cells.notes]
    by_id = f", {shared.n_by_id:,} of them by id under different names" if shared.n_by_id else ""
    notes[:0] = [f"{len(shared.names):,} genes are shared by {len(parts)} files{by_id}", *map(str, records), *of_files]
    facts = {
        "names": shared.names,
        "var_rows": np.arange(len(shared.names)),
        "kind": kind,
        "source": sources_of(files.paths),
        "files": records,
        "sample_key": SAMPLE if files.join.sample_key == AUTO else files.join.sample_key,
    }
    return shared, facts


def _record(
    files: CellFiles, number: int, cells: AnyCells, shared: SharedGenes, totals: Float[np.ndarray, " gene"]
) -> FileRecord:
    kept = shared.columns[number]
    samples = name_samples(files.paths) if files.join.sample_key == AUTO else [""] * len(files.paths)
    every = float(totals.sum(dtype=np.float64)) or 1.0
    return FileRecord(
        file=file_names(files.paths)[number],
        sample=samples[number],
        n_cells=cells.shape[0],
        n_genes=cells.shape[1],
        n_lost=cells.shape[1] - len(kept),
        share_lost=max(0.0, 1 - float(totals[kept].sum(dtype=np.float64)) / every),
        n_resolved=shared.n_resolved[number] if shared.n_resolved else 0,
        species=shared.species[number] if shared.species else "",
        by_ortholog=shared.by_ortholog[number],
    )
