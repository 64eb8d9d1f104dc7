"""Clusters as a folder that the UCSC Cell Browser builds a page of: what a report shows, and the whole matrix."""

import gzip
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellmodel.core.arrays import CellByGene, row_blocks
from cellmodel.core.errors import InputUnusable
from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import ReadConfig
from cellmodel.io.records import check_records
from cellmodel.io.writers import FolderKind, check_targets, output
from cellmodel.pl._report.collect import VALUE_WORDS, report_data, shown_places
from cellmodel.pl._report.data import Layout, ReportData
from cellmodel.pp.blocks import open_cells

if TYPE_CHECKING:
    import pandas as pd

BROWSER: Final = FolderKind(
    name="cell browser",
    description="cellbrowser.conf",
    made_by="`cellmodel export cellbrowser`",
    remedy="export the cells again",
)
_QUICK: Final = 3  # genes of each cluster that are offered first
_HEAD_BYTES: Final = 200  # of the lines before the entries, which are known when all are written
_CLUSTERS: Final = "named cluster"  # column of the cells
_COORDS: Final = ("x", "y")
_MARKERS: Final = ("name", "log2_fold_change", "p_adjusted", "fraction_in", "fraction_out")


def write_cell_browser(
    path: Path,
    folder: Path,
    *,
    cluster_key: str = "cellmodel",
    read: ReadConfig | None = None,
    overwrite: bool = False,
    other_store: bool = False,
) -> dict[str, Any]:
    """Write the cells of a file as ``cbBuild`` takes them, and say what was written; a block of cells at a time.

    The values are those of the file. See :func:`cellmodel.pl._report.collect.report_file` for what markers and maps are
    and what is raised; ``InputUnusable`` also if cells share a name.
    """
    check_targets([BROWSER.target(folder)], inputs=[path], overwrite=overwrite)
    with open_cells(path, read, places=partial(shown_places, cluster_key)) as cells:
        return write_browser_of(cells, folder, cluster_key=cluster_key, overwrite=overwrite, other_store=other_store)


def write_browser_of(
    cells: AnyCells, folder: Path, *, cluster_key: str, overwrite: bool = False, other_store: bool = False
) -> dict[str, Any]:
    """Write cells that are read already; see :func:`write_cell_browser`."""
    check_targets([BROWSER.target(folder)], overwrite=overwrite)
    check_records(cells, key=cluster_key, other_store=other_store)
    if not cells.adata.obs_names.is_unique:
        raise InputUnusable(f"cells of {cells.source} share names; make them differ: adata.obs_names_make_unique()")
    data = report_data(cells, cluster_key=cluster_key, most_genes=1)  # of the genes, markers alone are needed
    with output(BROWSER.target(folder), overwrite=overwrite) as part:
        part.mkdir(parents=True)
        return _write(cells, data, part, name=folder.absolute().name)


def _write(cells: AnyCells, data: ReportData, part: Path, *, name: str) -> dict[str, Any]:
    labels = [_label(data, number) for number in range(len(data.cluster_names))]
    table = cells.adata.obs.drop(columns=_CLUSTERS, errors="ignore")
    groups = [str(key) for key in table if table[key].dtype.kind not in "fiu"]  # also where their names are numbers
    obs = table.apply(_plain)
    obs.insert(0, _CLUSTERS, np.array([*labels, ""], dtype=object)[data.clusters])  # -1 is the last one
    ids = _plain(cells.adata.obs_names.to_series())
    _write_table(obs.set_axis(ids, axis=0), part / "meta.tsv", index="cell")
    coords = [_write_layout(layout, ids, part) for layout in data.layouts]
    genes = _write_markers(data, labels, part)
    for kind, names in (("barcodes", ids), ("features", cells.names)):
        _gzip_lines(map(str, names), part / f"{kind}.tsv.gz")
    n_stored, is_whole = _write_matrix(cells, part / "matrix.mtx.gz")
    conf = {
        "name": re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "cells",
        "shortLabel": data.title,
        "exprMatrix": "matrix.mtx.gz",
        "matrixType": "int" if is_whole else "float",
        "unit": VALUE_WORDS[str(cells.kind)],
        "geneIdType": "raw",
        "meta": "meta.tsv",
        "coords": coords,
        "markers": [{"file": "markers.tsv", "shortLabel": "markers"}],
        "quickGenesFile": "quickGenes.tsv",
        **dict.fromkeys(("clusterField", "labelField", "defColorField"), _CLUSTERS),
        "enumFields": [_CLUSTERS, *groups],
    }
    lines = (f"{key} = {value!r}\n" for key, value in conf.items())
    (part / BROWSER.description).write_text("".join(lines), encoding="utf-8")
    return {
        "n_cells": cells.shape[0],
        "n_genes": cells.shape[1],
        "n_stored": n_stored,
        "values": conf["unit"],
        "clusters": labels,
        "maps": [each["shortLabel"] for each in coords],
        "quick_genes": genes,
    }


def _label(data: ReportData, number: int) -> str:
    """Cluster and its name, which another may have too."""
    cluster = data.cluster_names[number]
    name = data.names[number]["name"] if data.names else cluster
    return cluster if name == cluster else f"{cluster} {name}"


def _plain(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Text without what separates fields and lines; numbers as they are; empty where a value is missing."""
    if column.dtype.kind in "fiub":
        return column
    return column.astype(object).where(column.notna(), "").astype(str).str.replace(r'[\t\r\n"]+', " ", regex=True)


def _write_table(table: "pd.DataFrame", path: Path, *, index: str | None = None) -> None:
    table.to_csv(path, sep="\t", index=index is not None, index_label=index, float_format="%.8g", lineterminator="\n")


def _write_layout(layout: Layout, ids: "pd.Series[Any]", part: Path) -> dict[str, Any]:
    """Write the coordinates of one map, and give its entry: matplotlib draws the second axis up, the browser down."""
    import pandas as pd

    label = layout.name.split('"')[1] if '"' in layout.name else layout.name
    file = f"{re.sub(r'[^A-Za-z0-9]+', '_', label)}.coords.tsv"
    coordinates = dict(zip(_COORDS, layout.coordinates.T, strict=True))
    _write_table(pd.DataFrame(coordinates, index=ids.to_numpy()), part / file, index="cell")
    return {"file": file, "shortLabel": label, "flipY": not layout.is_tissue}


def _write_markers(data: ReportData, labels: Sequence[str], part: Path) -> list[str]:
    """Write the markers of each cluster, and the genes that are offered first."""
    import pandas as pd

    rows = [
        (label, *(row[column] for column in _MARKERS))
        for label, markers in zip(labels, data.markers, strict=True)
        for row in markers
    ]
    table = pd.DataFrame(rows, columns=["cluster", *_MARKERS]).rename(columns={"name": "gene"})
    _write_table(table, part / "markers.tsv")
    first = table[table["log2_fold_change"] > 0].groupby("cluster", sort=False).head(_QUICK)
    about = first.groupby("gene", sort=False)["cluster"].agg(lambda names: f"marker of {', '.join(names)}")
    _write_table(about.to_frame("description"), part / "quickGenes.tsv", index="symbol")
    return [str(gene) for gene in about.index]


def _gzip_lines(lines: Iterator[str], path: Path) -> None:
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        file.writelines(f"{line}\n".encode() for line in lines)


def _write_matrix(cells: AnyCells, path: Path) -> tuple[int, bool]:
    """Write genes by cells as Matrix Market in blocks of cells; the number of entries, and whether all are whole.

    The first lines say both, and are put before the entries at the end, in a gzip member of their own of fixed size.
    """
    n_cells, n_genes = cells.shape
    start = n_stored = 0
    is_whole = True
    with path.open("wb") as file:
        file.write(_head(n_genes, n_cells, 0, is_whole=True))
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as body:
            for block in row_blocks(cells.matrix):
                whole = bool((block.data == np.rint(block.data)).all())
                body.write(_entries(block, start=start, is_whole=whole))
                start, n_stored, is_whole = start + block.shape[0], n_stored + block.nnz, is_whole and whole
        file.seek(0)
        file.write(_head(n_genes, n_cells, n_stored, is_whole=is_whole))
    return n_stored, is_whole


def _head(n_genes: int, n_cells: int, n_stored: int, *, is_whole: bool) -> bytes:
    first = f"%%MatrixMarket matrix coordinate {'integer' if is_whole else 'real'} general\n"
    last = f"{n_genes} {n_cells} {n_stored}\n"
    between = "%".ljust(_HEAD_BYTES - len(first) - len(last) - 1) + "\n"
    return gzip.compress(f"{first}{between}{last}".encode(), compresslevel=0, mtime=0)


def _entries(block: CellByGene, *, start: int, is_whole: bool) -> bytes:
    """Lines of a block: gene, cell, value, both counted from one."""
    import pyarrow as pa
    from pyarrow import csv

    rows = np.repeat(np.arange(start + 1, start + 1 + block.shape[0], dtype=np.int64), np.diff(block.indptr))
    values = block.data.astype(np.int64) if is_whole else block.data
    columns = {"gene": block.indices.astype(np.int64) + 1, "cell": rows, "value": values}
    sink = pa.BufferOutputStream()
    csv.write_csv(pa.table(columns), sink, csv.WriteOptions(include_header=False, delimiter=" "))
    return sink.getvalue().to_pybytes()
