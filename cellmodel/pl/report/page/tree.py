"""The tree of the clusters, laid out as an SVG, and as numbers for the script."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Final

from cellmodel.annotate.cell_types import UNASSIGNED
from cellmodel.annotate.levels import shared_name
from cellmodel.cluster.structure import Tree, group_name
from cellmodel.pl.report.collect.data import ReportData, Row
from cellmodel.pl.report.collect.tables import NO_NAME

_LEFT, _TREE_WIDTH, _ROW, _TOP = 30.0, 330.0, 27.0, 16.0
_BADGE, _LETTER, _MOST_LETTERS = 40.0, 6.9, 90  # room for the badges, and for the titles of the clusters
_MARKERS: Final = 6  # of a side that are shown


def tree_payload(data: ReportData) -> dict[str, Any]:
    """Clusters on both sides of each split, root first, and the names of groups of clusters, for the script."""
    if data.tree is None:
        return {}
    splits = data.tree.tree.splits
    groups = {group for split in splits for group in (split.left, split.right)}
    names = {",".join(map(str, group)): name for group in sorted(groups) if (name := _shared(data, group))}
    return {"tree": {"splits": [(split.left, split.right) for split in splits], "names": names}}


def _shared(data: ReportData, group: Sequence[int]) -> str:
    """Name that the clusters of a group share; empty where clusters have no names."""
    if not data.names:
        return ""
    own = [data.names[cluster] for cluster in group]
    names = [one["name"] if one["name"] != NO_NAME else UNASSIGNED for one in own]
    return shared_name(names, [one["parent"] for one in own])


def tree_view(data: ReportData, clusters: Sequence[Row]) -> Row | None:
    """Lay the tree out, root on the left, with height as the distance from the right; None where there is none.

    Returns the size of the SVG, ``leaves`` as (y, cluster), ``branches`` as (path, clusters below), ``nodes`` as
    (x, y, split), where the clusters begin, and the ``rows`` of the table.
    """
    if data.tree is None:
        return None
    tree = data.tree.tree
    order = _leaf_order(tree)
    right, highest = _LEFT + _TREE_WIDTH, tree.splits[0].height or 1.0
    place: dict[tuple[int, ...], tuple[float, float]] = {
        (leaf,): (right, round(_TOP + (at + 0.5) * _ROW, 1)) for at, leaf in enumerate(order)
    }
    for split in reversed(tree.splits):
        y = (place[split.left][1] + place[split.right][1]) / 2
        place[split.clusters] = (round(right - _TREE_WIDTH * split.height / highest, 1), round(y, 1))
    rows = [_row(number, data, split) for number, split in enumerate(data.tree.splits, 1)]
    branches = [
        (f"M{place[split.clusters][0]} {place[split.clusters][1]}V{place[side][1]}H{place[side][0]}", side)
        for split in tree.splits
        for side in (split.left, split.right)
    ]
    letters = max(min(len(cluster["title"]), _MOST_LETTERS) for cluster in clusters)
    return {
        "width": round(right + _BADGE + (letters + 9) * _LETTER, 1),
        "height": 2 * _TOP + _ROW * len(order),
        "right": right,
        "leaves": [(place[(leaf,)][1], clusters[leaf]) for leaf in order],
        "branches": [(path, ",".join(map(str, side))) for path, side in branches],
        "nodes": [(*place[split.clusters], row) for split, row in zip(tree.splits, rows, strict=True)],
        "levels": data.tree.levels,
        "rows": rows,
    }


def _leaf_order(tree: Tree) -> tuple[int, ...]:
    """Clusters from top to bottom, so that no two branches cross."""
    order: dict[tuple[int, ...], tuple[int, ...]] = {(cluster,): (cluster,) for cluster in range(tree.n_clusters)}
    for split in reversed(tree.splits):
        order[split.clusters] = order[split.left] + order[split.right]
    return order[tuple(range(tree.n_clusters))]


def _row(number: int, data: ReportData, stored: Row) -> Row:
    """Row of the table: support, height, and of both sides the names, the cells and the markers."""
    assert data.tree is not None
    split = data.tree.tree.splits[number - 1]
    sides = []
    for side, group in (("left", split.left), ("right", split.right)):
        names = [name for name in str(stored.get(f"markers_{side}") or "").split(", ") if name]
        sides.append(
            {
                "name": group_name(data.cluster_names, group),
                "title": _shared(data, group),
                "n_markers": int(found) if isinstance(found := stored.get(f"n_markers_{side}"), Integral) else 0,
                "markers": names[:_MARKERS],
            }
        )
    return {"number": number, "support": split.support, "height": split.height, "sides": sides}
