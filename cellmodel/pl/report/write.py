"""Write the HTML report of the clusters in a file or an AnnData."""

from functools import partial
from pathlib import Path

from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import ReadConfig
from cellmodel.io.records import check_records
from cellmodel.io.writers import check_targets
from cellmodel.pl.report.collect.frames import report_data, shown_places
from cellmodel.pl.report.collect.genes import Genes
from cellmodel.pp.blocks import open_cells
from genekb.files.replace import Target


def report_file(
    path: Path,
    output: Path,
    *,
    cluster_key: str | None = None,
    sample_key: str | None = None,
    key_added: str = "cellmodel",
    genes: Genes = (),
    read: ReadConfig | None = None,
    overwrite: bool = False,
    other_store: bool = False,
) -> None:
    """Write the report of the clusters in a file, whoever made them.

    ``cluster_key``: column of obs with the clusters: of `cellmodel cluster`, scanpy, Seurat or an annotator; that of
    ``key_added``, the slots of a run, if None. Cells without a value are in no cluster. ``sample_key``: column of obs
    with the sample of each cell; that of the run's files or batches, or of a comparison between samples, if None.
    ``genes``: names of genes that can color the map, beside markers, all that the report names, those of cell types and
    variable ones; a file with one a line; or ``all``.
    ``other_store``: whether names and evidence may come from another store than the clusters; else ``LineageMismatch``.
    Raises ``InputUnusable`` if a column is missing or holds no groups, or the output cannot be written; the latter
    before any work.
    """
    check_targets([Target(output)], inputs=[path], overwrite=overwrite)
    key = cluster_key or key_added
    with open_cells(path, read, places=partial(shown_places, key)) as cells:
        report_cells(
            cells,
            output,
            cluster_key=key,
            sample_key=sample_key,
            genes=genes,
            overwrite=overwrite,
            other_store=other_store,
        )


def report_cells(
    cells: AnyCells,
    output: Path,
    *,
    cluster_key: str,
    sample_key: str | None = None,
    genes: Genes = (),
    overwrite: bool = False,
    other_store: bool = False,
) -> None:
    """Check the records of cells, and write their report; see :func:`report_file`."""
    check_records(cells, key=cluster_key, other_store=other_store)
    write_report_of(cells, output, cluster_key=cluster_key, sample_key=sample_key, genes=genes, overwrite=overwrite)


def write_report_of(
    cells: AnyCells,
    output: Path,
    *,
    cluster_key: str = "cellmodel",
    sample_key: str | None = None,
    genes: Genes = (),
    overwrite: bool = False,
) -> None:
    """Write the report of clusters of cells that are read already; see :func:`report_file`."""
    from cellmodel.pl.report.page.render import write_report

    data = report_data(cells, cluster_key=cluster_key, sample_key=sample_key, genes=genes)
    write_report(data, output, overwrite=overwrite)
