"""What a report reads from the values: expression of the genes that can be chosen, and the quality of the cells."""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.core.arrays import CellByGene, Labels, ahead, row_blocks
from cellmodel.core.errors import InputUnusable
from cellmodel.io.backed import AnyCells, Scan
from cellmodel.io.matrix import ValueKind
from cellmodel.io.quality import N_GENES, PCT_MITO, TOTAL_COUNTS, figures_of_block, mitochondrial_genes
from cellmodel.pl.report.collect.data import GeneValues, Row
from cellmodel.pp.features import scan_cells
from cellmodel.pp.moments import GeneSums, variable_by_moments, without_zeros
from cellmodel.pp.normalize import log_values
from genekb.files.tables import read_list

Genes = str | Path | Sequence[str]  # names, a file of them, or ``all``

MOST_GENES: Final = 3_000  # whose expression the report holds; fewer where the cells are many
GENES_PER_CLUSTER: Final = 10
_MIN_CELLS: Final = 3  # with a value above zero, for a gene to be offered as variable
_LEAST_TOTAL: Final = 1e-12  # of a cell
_N_VARIABLE: Final = 2_000
_LEAST_CYCLE: Final = 5  # genes of the cell cycle, for a score
# genes of replication and mitosis, whose expression says which cells divide
_CYCLE: Final = frozenset(
    (
        *("MCM2", "MCM4", "MCM5", "MCM6", "PCNA", "TYMS", "RRM1", "RRM2", "GINS2", "CDC6", "CDC45", "UHRF1"),
        *("MKI67", "TOP2A", "CDK1", "CCNB1", "CCNB2", "CCNA2", "NUSAP1", "TPX2", "BIRC5", "UBE2C", "CENPF", "AURKB"),
    )
)


def columns_by_name(cells: AnyCells) -> dict[str, int]:
    """Column of each gene whose name occurs once."""
    times = Counter(cells.names)
    return {name: column for column, name in enumerate(cells.names) if times[name] == 1}


def asked_genes(cells: AnyCells, genes: Genes) -> tuple[str, ...]:
    """Names of the genes that are asked for, refused where the cells do not have them; ``InputUnusable``.

    ``genes``: names, a file with one a line, or ``all``.
    """
    known = columns_by_name(cells)
    if genes == "all":
        return tuple(known)
    asked = (
        tuple(read_list(Path(genes), "names of genes", error=InputUnusable))
        if isinstance(genes, str | Path)
        else tuple(genes)
    )
    missing = [name for name in asked if name not in known]
    if missing:
        near = difflib.get_close_matches(missing[0], known, n=3, cutoff=0.6)
        hint = f"; near it: {', '.join(near)}" if near else ""
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")  # noqa: PLR2004
        raise InputUnusable(f"`genes`: {shown} not among the gene names of {cells.source}{hint}")
    return asked


def read_genes(
    cells: AnyCells,
    clusters: Labels,
    *,
    n_clusters: int,
    drawn: Int[np.ndarray, " row"],
    asked: Sequence[str],
    more: Iterable[str],
    most: int | None,
) -> GeneValues:
    """Read genes in one pass: those asked for, those of ``more`` that the cells have, then the most variable.

    ``most``: how many genes, and all that are asked for; all genes if None. ``drawn``: rows of the cells on the map,
    ascending. ``clusters``: -1 for a cell without one.
    """
    column_of, scanned = columns_by_name(cells), scan_cells(cells)
    variable = (cells.names[column] for column in _most_variable(scanned))
    rest = column_of if most is None else ()
    genes = [name for name in dict.fromkeys((*asked, *more, *variable, *rest)) if name in column_of]
    columns = [column_of[name] for name in genes[: None if most is None else max(most, len(asked))]]
    values = _read_values(cells, scanned, columns, clusters, n_clusters=n_clusters, drawn=drawn)
    return replace(values, n_asked=len(asked))


def _most_variable(scanned: Scan) -> list[int]:
    """Columns of the highly variable genes, those of the highest variance first."""
    detected = np.flatnonzero((scanned.n_cells >= _MIN_CELLS) & (scanned.variance > 0))
    if not len(detected):
        return []
    variance = scanned.variance[detected]
    chosen = detected[variable_by_moments(scanned.mean[detected], variance, n_top=_N_VARIABLE)]
    return [int(column) for column in chosen[np.argsort(-scanned.variance[chosen], kind="stable")]]


def _read_values(
    cells: AnyCells,
    scanned: Scan,
    columns: list[int],
    clusters: Labels,
    *,
    n_clusters: int,
    drawn: Int[np.ndarray, " row"],
) -> GeneValues:
    """Read all values once: genes on the map and in each cluster, and figures of each cell."""
    sums = GeneSums(len(columns), n_groups=n_clusters)
    is_drawn = np.zeros(len(clusters), dtype=bool)
    is_drawn[drawn] = True
    mito = mitochondrial_genes(cells.names)
    cycle = np.flatnonzero([name.upper() in _CYCLE for name in cells.names])
    on_map, (percent, dividing) = [], np.zeros((2, len(clusters)))
    wanted, place = np.unique(np.array(columns, dtype=np.int64), return_inverse=True)  # read as they lie in the file
    chosen = None if len(wanted) == len(cells.names) else wanted
    start = 0
    for block in ahead(row_blocks(cells.matrix)):
        rows = slice(start, start := start + block.shape[0])
        if len(mito):
            linear = block.expm1() if cells.kind == ValueKind.LOG1P else block
            _, of_mito = figures_of_block(linear, mito)
            percent[rows] = 100 * of_mito / np.maximum(linear.sum(axis=1, dtype=np.float64).A1, _LEAST_TOTAL)
        if len(cycle) >= _LEAST_CYCLE:
            dividing[rows] = log_values(block, cells.kind, cycle).mean(axis=1).A1
        expression = log_values(block, cells.kind, chosen)
        _add(sums, expression, clusters[rows])
        on_map.append(expression[is_drawn[rows]].astype(np.float32))
    quality = {TOTAL_COUNTS: scanned.depth} if cells.kind == ValueKind.COUNTS else {}
    quality[N_GENES] = scanned.n_genes.astype(np.float64)
    quality |= {PCT_MITO: percent} if len(mito) else {}
    quality |= {"cell_cycle": dividing} if len(cycle) >= _LEAST_CYCLE else {}
    fractions, means = _shares(sums)
    return GeneValues(
        genes=tuple(cells.names[column] for column in columns),
        expression=sp.vstack(on_map, format="csc")[:, place],
        fractions=fractions[:, place],
        means=means[:, place],
        quality=quality,
    )


def by_cluster(
    values: CellByGene, clusters: Labels, *, n_clusters: int
) -> tuple[Float[np.ndarray, "cluster gene"], Float[np.ndarray, "cluster gene"]]:
    """Fraction of cells that express a gene, and mean expression over all cells; 0 for an empty cluster.

    A cell whose cluster is -1 has none.
    """
    sums = GeneSums(values.shape[1], n_groups=n_clusters)
    _add(sums, values, clusters)
    return _shares(sums)


def _add(sums: GeneSums, expression: CellByGene, clusters: Labels) -> None:
    rows = np.flatnonzero(clusters >= 0)
    sums.add(without_zeros(expression[rows]), clusters[rows])


def _shares(sums: GeneSums) -> tuple[Float[np.ndarray, "cluster gene"], Float[np.ndarray, "cluster gene"]]:
    n_cells = np.maximum(sums.n_cells, 1)[:, None]
    return sums.n_expressing / n_cells, sums.values / n_cells


def genes_named_in(rows: Iterable[Row | None]) -> Iterator[str]:
    """Names of genes in rows of names, themes, words, contributions and searches, in their order."""
    for row in rows:
        for key, value in (row or {}).items():
            if key in ("gene", "genes"):
                yield from _gene_names(value)
            elif isinstance(value, Sequence) and not isinstance(value, str):
                yield from genes_named_in(part for part in value if isinstance(part, Mapping))


def _gene_names(value: Any) -> Iterator[str]:
    """Names as a text, a text with commas, a list of texts, or a list of (name, ...)."""
    if isinstance(value, str):
        yield from (name.strip() for name in value.split(","))
    else:
        yield from (str(name if isinstance(name, str) else name[0]) for name in value)
