"""Values that a report shows, as plain arrays and rows of tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float, Int

from cellmodel.cluster.structure import Tree

Row = Mapping[str, Any]  # one row of a stored table, by column


MAX_DRAWN: Final = 50_000  # cells; a page with more is slow on a phone, and the points cover each other
_MIN_DRAWN_PER_CLUSTER = 50


def drawn_cells(clusters: Int[np.ndarray, " cell"], *, limit: int = MAX_DRAWN) -> Int[np.ndarray, " drawn"]:
    """Rows of the cells to draw, ascending: all, or about ``limit``, evenly from every cluster.

    The first 50 of each cluster come on top. ``clusters``: 0 .. k-1; -1 is no cluster.
    """
    if len(clusters) <= limit:
        return np.arange(len(clusters))
    order = np.argsort(clusters, kind="stable")
    starts = np.searchsorted(clusters[order], clusters[order])
    first = order[np.arange(len(order)) - starts < _MIN_DRAWN_PER_CLUSTER]
    even = order[np.linspace(0, len(order) - 1, limit).astype(np.int64)]
    return np.union1d(first, even)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GeneValues:
    """Log-normalized expression of the genes that a report offers, and figures of each cell."""

    # that can color the map, in the order in which they are kept where there is no room for all
    genes: tuple[str, ...]
    # (drawn cell, gene), of the cells that :func:`drawn_cells` gives; rows of a gene ascending
    expression: sp.csc_matrix
    fractions: Float[np.ndarray, "cluster gene"]  # of the cells of a cluster that express a gene
    means: Float[np.ndarray, "cluster gene"]  # over all cells of a cluster
    # by the names of scanpy: total_counts, n_genes_by_counts, pct_counts_mt, and cell_cycle; what the values give
    quality: Mapping[str, Float[np.ndarray, " cell"]] = field(default_factory=dict)
    n_asked: int = 0  # of the first genes, which are kept whatever room they take


@dataclass(frozen=True, kw_only=True, slots=True)
class TissueImage:
    """Picture behind the cells of a tissue; its upper left corner is the origin of their coordinates."""

    uri: str  # of the image itself, as data
    width: float  # in units of the coordinates
    height: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layout:
    """Coordinates that a map of the cells can have."""

    name: str  # what they are: "UMAP", "first two principal components"
    coordinates: Float[np.ndarray, "cell axis"]  # two axes
    is_tissue: bool = False  # places: drawn to scale, the second axis down
    image: TissueImage | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Samples:
    """Samples of the cells, each in each of its conditions where these are known."""

    key: str  # column of obs with the samples
    condition_key: str  # column of obs with the conditions; empty where none is known
    names: tuple[tuple[str, str], ...]  # sample and condition, the latter empty where none is known
    codes: Int[np.ndarray, " cell"]  # place of each cell in ``names``; -1 for a cell without a sample


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TreeData:
    """Tree of the clusters, the numbers of groups of its levels, and the rows of its splits as recorded."""

    tree: Tree
    levels: tuple[int, ...]
    splits: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReportData:
    """Everything that a report shows. Row *i* of every array is cell *i*.

    Raises ``ValueError`` if a coordinate is not finite, or a confidence or a fraction is outside [0, 1].
    """

    title: str  # heading of the page
    # what was read, before any filter: source, n_cells, n_genes, kind (of values, in words), notes, and files, see
    # :func:`.tables.read_files`
    input: Row
    # as recorded: n_names, n_resolved, share_genes, share_hvgs, share_counts, by_status and losses (tables); None if no
    # store was used
    coverage: Row | None
    layouts: tuple[Layout, ...]  # maps to choose from, at least one; the first is shown
    cell_ids: Sequence[str]  # one per cell
    clusters: np.ndarray  # (cell,) integers 0 .. k-1; -1 for a cell without a cluster
    cluster_names: tuple[str, ...]  # name of each cluster; its length is k
    confidence: np.ndarray | None  # (cell,), NaN for a cell without a cluster; None if the head gives none
    # how the number of clusters was chosen and how well they hold up, as recorded: n_clusters, method, repeats,
    # p_value; None if the clusters are of no run, of which nothing is known
    k_choice: Row | None
    # further columns, (cell,) each, to color the plot by: numbers (NaN where missing) by a scale, all else by category
    colors: Mapping[str, np.ndarray] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()  # columns that were not offered as colors, each with the reason
    queries: Mapping[str, str] = field(default_factory=dict)  # query text, by the column of ``colors`` with its scores
    searches: tuple[Row, ...] = ()  # of `cellmodel search`, one a query, see :func:`.tables.read_searches`
    values: GeneValues | None = None  # None if other values were read than those that were clustered
    # per cluster, rows of tables; empty if the command was not run; evidence None for a cluster that was not compared
    gene_ids: Mapping[str, int] = field(default_factory=dict)  # NCBI GeneID of genes that have one, by their names here
    names: tuple[Row, ...] = ()
    evidence: tuple[Row | None, ...] = ()
    markers: tuple[tuple[Row, ...], ...] = ()
    words: tuple[tuple[Row, ...], ...] = ()
    tree: TreeData | None = None  # of the clusters of a run
    samples: Samples | None = None  # of the cells, see :mod:`cellmodel.pl.report.collect.samples`, as the next three
    mixing: Row | None = None  # same-batch neighbors of a run
    composition: Row | None = None  # shares of clusters, compared between conditions
    effects: tuple[Row, ...] = ()  # genes that differ between conditions inside the clusters
    history: pd.DataFrame = field(default_factory=pd.DataFrame)  # loss per epoch of each training term
    knowledge: pd.DataFrame = field(default_factory=pd.DataFrame)  # knowledge, neighbor_agreement: real and controls
    # command, versions, seed, store id, encoder id, settings: label to value, in the order to show
    provenance: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()  # what the result cannot say, one sentence each

    def __post_init__(self) -> None:
        """Check the values that a file may hold in any range."""
        if not all(np.isfinite(layout.coordinates).all() for layout in self.layouts):
            raise ValueError("coordinates hold NaN or infinity; such cells cannot be drawn")
        confidence = None if self.confidence is None else self.confidence[self.clusters >= 0]
        if confidence is not None and not ((confidence >= 0) & (confidence <= 1)).all():
            raise ValueError(f"confidence must lie in [0, 1], got {confidence.min()} to {confidence.max()}")
        for name in ("share_genes", "share_hvgs"):
            if self.coverage is not None and not 0 <= self.coverage[name] <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {self.coverage[name]}")
