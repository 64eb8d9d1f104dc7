"""What a report shows: plain values only, so that a report can be made from any source of clusters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from cellmodel.annotate.marker_overlap import display_name
from cellmodel.cluster.n_clusters import NO_STRUCTURE
from cellmodel.pl._report.evidence import ReportEvidence


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSummary:
    """What was read."""

    source: str  # file, as the user named it
    n_cells: int  # n_cells, n_genes: size of the matrix as it was read, before any filter
    n_genes: int
    values: str  # kind of values found, in words: "raw counts"
    notes: tuple[str, ...] = ()  # what was found, assumed or left out, one sentence each; empty if nothing was


@dataclass(frozen=True, kw_only=True, slots=True)
class CoverageSummary:
    """How much of the genes the store knows; shares lie in [0, 1]."""

    n_names: int  # n_names, n_resolved: gene names given, and those that stand for one gene
    n_resolved: int
    # share_genes, share_hvgs, share_counts: share with a text: of all names, of the highly variable ones, of the counts
    share_genes: float
    share_hvgs: float
    share_counts: float
    by_status: tuple[tuple[str, int, float], ...] = ()  # (how the name was found, number of names, share of counts)
    losses: tuple[tuple[str, str, float], ...] = ()  # (name, why it has no text, share of counts), largest first

    def __post_init__(self) -> None:
        """Check that shares are shares."""
        for name in ("share_genes", "share_hvgs", "share_counts"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportMarker:
    """A gene that one cluster expresses more than the rest; fractions of expressing cells lie in [0, 1]."""

    name: str
    log2_fold_change: float
    p_adjusted: float
    fraction_in: float
    fraction_out: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReportExpression:
    """Expression of the genes that can colour the map and that the dot plot shows."""

    genes: tuple[str, ...]  # their names, the most telling first
    values: sp.csc_matrix  # (cell, gene) log-normalised, not negative; row *i* is cell *i* of the report

    def __post_init__(self) -> None:
        """Check that every gene has its column."""
        if self.values.shape[1] != len(self.genes):
            raise ValueError(f"{len(self.genes)} gene names for {self.values.shape[1]} columns of expression")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportName:
    """What one cluster was named."""

    name: str  # the cell type, or that there is none
    best: str = ""  # best, runner_up: the two types that fit best, whether or not they are weak; empty if there is none
    runner_up: str = ""
    reason: str = ""  # why ``best`` is rejected; empty where it is the name
    # what the name rests on, by what each figure is: "adjusted p"
    figures: Mapping[str, float] = field(default_factory=dict)
    genes: tuple[str, ...] = ()  # genes that speak for ``best``

    @property
    def title(self) -> str:
        """Name as it is shown, an unassigned one with its best type and why it is rejected."""
        return display_name(self.name, best=self.best, reason=self.reason)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportWord:
    """A term that leading genes of a cluster share."""

    term: str  # the word or phrase
    score: float  # how far above chance; higher is stronger
    # p_value, p_adjusted: of the term looked at alone; and adjusted for the search over all terms, which is the one to
    # judge by
    p_value: float
    p_adjusted: float
    genes: tuple[tuple[str, float, str], ...] = ()  # (gene, weight, source sentence), strongest first


@dataclass(frozen=True, kw_only=True, slots=True)
class KChoice:
    """How the number of clusters was chosen."""

    chosen: int  # the number
    how: str  # in words: "given with --n-clusters", "estimated: null-adjusted stability"
    x_name: str = "k"  # x_name, score_name: what the two axes of the curve are
    score_name: str = "score"
    chosen_x: float | None = None  # where on the curve the choice was made; the number itself if None
    curve: tuple[tuple[float, float], ...] = ()  # (x, score) of whatever was tried; empty if k was given

    @property
    def has_structure(self) -> bool:
        """Whether the cells are more than one cluster, or were not tested."""
        return not self.how.startswith(NO_STRUCTURE)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnowledgeEffect:
    """What the text of the genes did to the result."""

    caption: str  # what the figures are, and how to read them
    # (knowledge: real, shuffled, random, none; its figures by name). A figure that does not exist for a row is left out
    # of its mapping
    rows: tuple[tuple[str, Mapping[str, float]], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReportData:
    """Everything that a report shows. Row *i* of every array is cell *i*.

    Raises ``ValueError`` if there is no cell, lengths differ, a cluster has no name, or a value is outside its range.
    """

    title: str  # heading of the page
    # input, coverage: what was read, and how much of it the store knows; no coverage if no store was used
    input: InputSummary
    coverage: CoverageSummary | None
    embedding: np.ndarray  # (cell, 2) coordinates of the plot, finite
    embedding_name: str  # what they are: "UMAP", "first two principal components"
    cell_ids: Sequence[str]  # one per cell
    clusters: np.ndarray  # (cell,) integers 0 .. k-1; -1 for a cell without a cluster
    cluster_names: tuple[str, ...]  # name of each cluster; its length is k
    confidence: np.ndarray | None  # (cell,) in [0, 1], NaN for a cell without a cluster; None if the head gives none
    # how the number of clusters was chosen; None if the clusters are of no run, of which nothing is known
    k_choice: KChoice | None
    # further columns, (cell,) each, to colour the plot by. Numbers (NaN where missing) are drawn on a scale, anything
    # else is taken for categories
    colors: Mapping[str, np.ndarray] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()  # columns that were not offered as colours, each with the reason
    # the text that was asked for, by the column of ``colors`` that holds its scores
    queries: Mapping[str, str] = field(default_factory=dict)
    expression: ReportExpression | None = None  # genes that can colour the plot; None if none is shown
    names: tuple[ReportName, ...] = ()  # per cluster, what it was named; empty if no names were asked for
    # per cluster, what sets it apart, None where that was not looked at; empty if it was not looked for
    evidence: tuple[ReportEvidence | None, ...] = ()
    # markers, words: per cluster, best first; empty if they were not looked for
    markers: tuple[tuple[ReportMarker, ...], ...] = ()
    words: tuple[tuple[ReportWord, ...], ...] = ()
    # loss per epoch of each term of the objective; empty if nothing was trained
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    # real beside shuffled, random and no knowledge; without rows if it was not measured
    knowledge: KnowledgeEffect = KnowledgeEffect(caption="")
    # command, versions, seed, store id, encoder id, settings: label to value, in the order to show
    provenance: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()  # what the result cannot say, one sentence each

    def __post_init__(self) -> None:
        """Check lengths and ranges."""
        _check_cells(self)
        n_clusters = len(self.cluster_names)
        if int(self.clusters.min()) < -1 or not 0 <= int(self.clusters.max()) < n_clusters:
            raise ValueError(
                f"clusters run from {self.clusters.min()} to {self.clusters.max()}, but {n_clusters} names are given; "
                "number clusters from 0 and name each"
            )
        for name in ("names", "evidence", "markers", "words"):
            if len(getattr(self, name)) not in (0, n_clusters):
                raise ValueError(f"{name} of {len(getattr(self, name))} clusters for {n_clusters} cluster names")
        if not np.isfinite(self.embedding).all():
            raise ValueError("embedding holds NaN or infinity; such cells cannot be drawn")
        confidence = None if self.confidence is None else self.confidence[self.clusters >= 0]
        if confidence is not None and not ((confidence >= 0) & (confidence <= 1)).all():
            raise ValueError(f"confidence must lie in [0, 1], got {confidence.min()} to {confidence.max()}")
        if len({len(losses) for losses in self.history.values()}) > 1:
            raise ValueError(f"the terms {', '.join(self.history)} of the history differ in their number of epochs")


def _check_cells(data: ReportData) -> None:
    """Check that everything per cell is there for every cell."""
    n_cells = len(data.cell_ids)
    if n_cells == 0:
        raise ValueError("a report needs at least 1 cell, got 0")
    if data.embedding.shape != (n_cells, 2):
        raise ValueError(f"embedding of shape {data.embedding.shape} for {n_cells} cells; ({n_cells}, 2) is needed")
    if data.expression is not None and data.expression.values.shape[0] != n_cells:
        raise ValueError(f"expression of {data.expression.values.shape[0]} cells for {n_cells} cells")
    columns: dict[str, np.ndarray] = {"clusters": data.clusters, **data.colors}
    if data.confidence is not None:
        columns["confidence"] = data.confidence
    for name, values in columns.items():
        if np.shape(values) != (n_cells,):
            raise ValueError(f"{name!r} of shape {np.shape(values)} for {n_cells} cells; one value per cell is needed")
