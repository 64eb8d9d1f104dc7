"""The tree of the clusters of a run, read from a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellmodel.cluster.structure import Tree
from cellmodel.explain.groups import stored_tree
from cellmodel.io.records import stored_table

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TreeData:
    """Tree of the clusters, the numbers of groups of its levels, and the rows of its splits as recorded."""

    tree: Tree
    levels: tuple[int, ...]
    splits: tuple[Row, ...]


def read_tree(uns: Mapping[str, Any], *, cluster_key: str, clusters: Sequence[str]) -> TreeData | None:
    """Read the tree of the clusters of a run; None where there is none of just these clusters."""
    stored = stored_tree(uns, cluster_key, clusters)
    splits = stored_table(uns.get(cluster_key), "tree", "splits")
    if stored is None or splits is None:
        return None
    rows: Any = splits.to_dict("records")
    return TreeData(tree=stored[0], levels=stored[1], splits=tuple(rows))
