"""The JSON of the map: coordinates, columns and expression of the cells that are drawn."""

import base64
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Int, UInt8

from cellmodel.core.colors import cluster_color, text_color
from cellmodel.pl.report.collect.data import GeneValues, ReportData
from cellmodel.pl.report.collect.genes import MOST_GENES
from cellmodel.pl.report.page.formats import badges
from cellmodel.pl.report.page.tree import tree_payload

if TYPE_CHECKING:
    from markupsafe import Markup

MAX_GENE_BYTES: Final = 6_700_000  # of all genes together, as they stand in the page
NO_CLUSTER: Final = "no cluster"
_MAX_COLORED = 60  # categories of one column that get a color and a line in the legend


def plot_payload(data: ReportData, rows: Int[np.ndarray, " drawn"], *, is_served: bool) -> "Markup":
    """JSON of the cells of some rows, safe inside a ``script`` element: ``<``, ``>`` and ``&`` are written as escapes.

    Expression is written in 256 steps: 0 is none, 1 to 255 are even steps up to the highest value of the gene.
    """
    from jinja2.utils import htmlsafe_json_dumps

    columns = [_clusters(data)]
    if data.confidence is not None:
        columns.append(_numbers("confidence", data.confidence))
    columns.extend(
        _column(name, np.asarray(values))
        | ({"query": data.queries[name]} if name in data.queries else {})
        | {"is_quality": bool(data.values and name in data.values.quality)}
        for name, values in data.colors.items()
    )
    payload = {
        "n_cells": len(data.clusters),
        "is_run": data.k_choice is not None,
        "layouts": [
            {
                "name": layout.name,
                "coordinates": _base64(layout.coordinates[rows], "<f4"),
                "is_tissue": layout.is_tissue,
                "image": None if layout.image is None else asdict(layout.image),
            }
            for layout in data.layouts
        ],
        "cell_ids": [str(data.cell_ids[row]) for row in rows.tolist()],
        "columns": [
            {**column, "values": _base64(column["values"][rows], "<u4" if column["kind"] == "categories" else "<f4")}
            for column in columns
        ],
        "genes": (genes := _genes(data.values)),
        **({"served": data.values.genes[len(genes) :]} if is_served and data.values else {}),
        **tree_payload(data),
    }
    if data.samples is not None:
        codes = np.where(data.samples.codes < 0, len(data.samples.names), data.samples.codes)[rows]
        payload |= {"sample_key": data.samples.key, "samples": _base64(codes, "<u4")}
    return htmlsafe_json_dumps(payload, allow_nan=False, separators=(",", ":"))


def _genes(values: GeneValues | None) -> list[dict[str, Any]]:
    """Take the genes that were asked for, and the first others that there is room for."""
    genes: list[dict[str, Any]] = []
    if values is None:
        return genes
    room = MAX_GENE_BYTES
    for at in range(min(len(values.genes), max(MOST_GENES, values.n_asked))):
        gene = packed_gene(values, at)
        room -= len(gene["values"])
        if room < 0 and at >= values.n_asked:
            break
        genes.append(gene)
    return genes


def packed_gene(values: GeneValues, at: int) -> dict[str, Any]:
    """Expression of one gene in even steps up to its highest value, see :func:`pack_steps`."""
    expression = values.expression
    entries = slice(*expression.indptr[at : at + 2])
    found, cells = expression.data[entries].astype(np.float64), expression.indices[entries]
    highest = float(found.max(initial=0.0))
    steps = np.ceil(255 * (found / (highest or 1.0))).astype(np.uint8)
    packed = pack_steps(cells[steps > 0], steps[steps > 0], n_cells=expression.shape[0])
    return {"name": values.genes[at], "highest": highest, "values": base64.b64encode(packed).decode("ascii")}


def pack_steps(cells: Int[np.ndarray, " entry"], steps: UInt8[np.ndarray, " entry"], *, n_cells: int) -> bytes:
    """Write the cells that are not zero, ascending: cells since the last one, as bytes that add up, then the step.

    A byte of 255 is followed by another one of the same distance. Where this is no shorter, a byte a cell is written;
    the length says which.
    """
    gaps: Int[np.ndarray, " entry"] = np.diff(cells.astype(np.int64), prepend=-1) - 1
    more = gaps // 255
    ends = np.cumsum(more + 2)
    n_bytes = int(ends[-1]) if len(ends) else 0
    if n_bytes >= n_cells:
        dense = np.zeros(n_cells, dtype=np.uint8)
        dense[cells] = steps
        return dense.tobytes()
    packed = np.full(n_bytes, 255, dtype=np.uint8)
    packed[ends - 2], packed[ends - 1] = gaps % 255, steps
    return packed.tobytes()


def _column(name: str, values: np.ndarray) -> dict[str, Any]:
    """Numbers or categories, by the kind of the array."""
    if values.dtype.kind in "fiu":
        return _numbers(name, values)
    found, codes, sizes = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    by_size = np.argsort(-sizes, kind="stable")
    rank = np.empty_like(by_size)
    rank[by_size] = np.arange(len(by_size))
    return _categories(name, rank[codes], names=found[by_size].tolist())


def _clusters(data: ReportData) -> dict[str, Any]:
    """Clusters, with the names that they were given; cells without one are a last category, which has no color."""
    has_none = data.clusters < 0
    column = _categories("cluster", data.clusters[~has_none], names=data.cluster_names)
    if data.names:
        column["titles"] = [f"{one['name']} (mixed)" if one["is_mixed"] else one["title"] for one in data.names]
    if has_none.any():
        column |= {"names": [*column["names"], NO_CLUSTER], "sizes": [*column["sizes"], int(has_none.sum())]}
    n_clusters = len(data.cluster_names)
    return column | {"n_none": int(has_none.sum()), "values": np.where(has_none, n_clusters, data.clusters)}


def _categories(name: str, codes: np.ndarray, *, names: Sequence[str]) -> dict[str, Any]:
    shown = min(len(names), _MAX_COLORED)
    colors = [cluster_color(index) for index in range(shown)]
    return {
        "name": name,
        "kind": "categories",
        "names": list(names),
        "badges": list(badges(tuple(names)))[:shown],
        "colors": colors,
        "inks": [text_color(color) for color in colors],
        "sizes": np.bincount(codes, minlength=len(names)).tolist(),
        "values": codes,
    }


def _numbers(name: str, values: np.ndarray) -> dict[str, Any]:
    """Numbers; what is not finite is missing."""
    numbers = values.astype(np.float64)
    return {"name": name, "kind": "numbers", "values": np.where(np.isfinite(numbers), numbers, np.nan)}


def _base64(values: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode("ascii")
