"""What the template prints: clusters with their figures, charts as numbers for SVG, and words in place of codes."""

import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from cellmodel.pl._report.data import ReportData, Row
from cellmodel.pl._report.style import badges, cluster_color, plain_number, text_color

WIDTH, HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 14.0, 12.0, 40.0
_N_TICKS = 5
_MAX_DOTS = 40  # more points than this are drawn as a line alone


@dataclass(frozen=True, kw_only=True, slots=True)
class LineChart:
    """One curve in the coordinates of an SVG of WIDTH by HEIGHT."""

    title: str  # title, x_label, y_label, summary: texts; the summary says in words what the curve does
    x_label: str
    y_label: str
    summary: str
    path: str  # the ``d`` of the line
    dots: tuple[tuple[float, float], ...]  # (x, y) of each point, if they are few
    marked: tuple[float, float] | None  # (x, y) of the point to stress, or None
    x_ticks: tuple[tuple[float, str], ...]  # x_ticks, y_ticks: (position, text)
    y_ticks: tuple[tuple[float, str], ...]
    frame: tuple[float, float, float, float]  # (left, top, right, bottom) of the plot


def line_chart(
    points: Sequence[tuple[float, float]], *, title: str, x_label: str, y_label: str, marked_x: float | None = None
) -> LineChart:
    """Lay out a curve; points whose y is not finite are left out, ``ValueError`` if none is left.

    ``points``: (x, y) in the order of the line. ``marked_x``: the x of the point to stress.
    """
    finite = [(float(x), float(y)) for x, y in points if math.isfinite(y)]
    if not finite:
        raise ValueError(f"the chart {title!r} has no finite point; leave it out")
    x_values, y_values = zip(*finite, strict=True)
    x_ticks, y_ticks = _ticks(min(x_values), max(x_values)), _ticks(min(y_values), max(y_values))
    x_range = (min(x_values), max(x_values))
    y_range = (min(y_ticks[0], *y_values), max(y_ticks[-1], *y_values))

    def place_x(x: float) -> float:
        return round(_scale(x, x_range, (_LEFT + 8, WIDTH - _RIGHT - 8)), 1)

    def place_y(y: float) -> float:
        return round(_scale(y, y_range, (HEIGHT - _BOTTOM, _TOP)), 1)

    places = [(place_x(x), place_y(y)) for x, y in finite]
    return LineChart(
        title=title,
        x_label=x_label,
        y_label=y_label,
        summary=_summary(finite, x_label=x_label, y_label=y_label),
        path="M" + "L".join(f"{x} {y}" for x, y in places),
        dots=tuple(places) if len(places) <= _MAX_DOTS else (),
        marked=next((place for place, (x, _) in zip(places, finite, strict=True) if x == marked_x), None),
        x_ticks=tuple((place_x(x), plain_number(x)) for x in x_ticks if x_range[0] <= x <= x_range[1]),
        y_ticks=tuple((place_y(y), plain_number(y)) for y in y_ticks),
        frame=(_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM),
    )


def _scale(value: float, source: tuple[float, float], target: tuple[float, float]) -> float:
    """Map a range linearly onto another; a range without width goes to the middle."""
    low, high = source
    share = (value - low) / (high - low) if high > low else 0.5
    return target[0] + share * (target[1] - target[0])


def _ticks(low: float, high: float) -> list[float]:
    """Round values (1, 2, 2.5 or 5 times a power of ten apart) that enclose a range."""
    rough = (high - low) / (_N_TICKS - 1)
    if rough < sys.float_info.min:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _summary(points: list[tuple[float, float]], *, x_label: str, y_label: str) -> str:
    (first_x, first_y), (last_x, last_y) = points[0], points[-1]
    best_x, best_y = max(points, key=lambda point: point[1])
    return (
        f"{y_label}: {plain_number(first_y)} at {x_label} {plain_number(first_x)}, {plain_number(last_y)} at "
        f"{plain_number(last_x)}; highest {plain_number(best_y)} at {plain_number(best_x)}."
    )


SIGNIFICANT: Final = 0.05  # adjusted p below which a marker or a word is shown as a finding
KNOWLEDGE_CAPTION: Final = (
    "The clusters come from expression alone. The figure is the share of each cell's 15 nearest cells in the text view "
    "that are in its cluster: how much of these clusters the gene texts alone can see. 'shuffled' deals the texts out "
    "to other genes, 'random' draws directions without meaning, 'chance' deals the clusters out at random. Only what "
    "'real' has above all three is knowledge."
)
CURVE_NAME: Final = "stability beyond chance"
_CHIPS, _WORD_CHIPS = 8, 6
_STATUS_IN_WORDS: Final = {
    "gene_id": "NCBI GeneID",
    "ensembl": "Ensembl identifier",
    "hgnc": "HGNC identifier",
    "mgi": "MGI identifier",
    "flybase": "FlyBase identifier",
    "rgd": "RGD identifier",
    "zfin": "ZFIN identifier",
    "symbol": "current official symbol",
    "authority_symbol": "symbol of the nomenclature authority",
    "retired_id": "retired GeneID",
    "retired_symbol": "retired symbol",
    "locus_tag": "locus tag",
    "alias": "alias of one gene alone",
    "mangled": "name that another program has changed",
    "mitochondrial": "mitochondrial gene under another name",
    "date": "date that a spreadsheet has made of a symbol",
    "ortholog": "symbol of an orthologue",
    "ambiguous": "ambiguous: could be several genes",
    "unknown": "unknown to the store",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterView:
    """One cluster as the page shows it."""

    index: int
    badge: str  # short label
    name: str
    color: str
    ink: str  # colour of text on ``color``
    title: str  # beside the badge: the name given by `cellmodel annotate`, else ``name`` where the badge differs
    named: Row | None  # rows of :class:`ReportData`; None or empty if the command was not run
    evidence: Row | None
    n_cells: int
    share: float  # of all cells
    confidence: float  # mean; NaN if there is none
    markers: tuple[Row, ...]
    words: tuple[Row, ...]
    top_markers: tuple[Row, ...]  # top_markers, top_words: the significant ones, for the card
    top_words: tuple[Row, ...]


def cluster_views(data: ReportData) -> tuple[ClusterView, ...]:
    """Clusters in the order of their labels."""
    n_clusters = len(data.cluster_names)
    rows = np.flatnonzero(data.clusters >= 0)
    clusters = data.clusters[rows]
    sizes = np.bincount(clusters, minlength=n_clusters)
    sums = np.full(n_clusters, np.nan)
    if data.confidence is not None:
        sums = np.bincount(clusters, weights=data.confidence[rows], minlength=n_clusters)
    means = np.divide(sums, sizes, out=np.full(n_clusters, np.nan), where=sizes > 0)
    short = badges(data.cluster_names)
    views = []
    for index, name in enumerate(data.cluster_names):
        markers = data.markers[index] if data.markers else ()
        words = data.words[index] if data.words else ()
        color = cluster_color(index)
        named = data.names[index] if data.names else None
        views.append(
            ClusterView(
                index=index,
                badge=short[index],
                name=name,
                color=color,
                ink=text_color(color),
                title=named["title"] if named else ("" if name == short[index] else name),
                named=named,
                evidence=data.evidence[index] if data.evidence else None,
                n_cells=int(sizes[index]),
                share=float(sizes[index] / len(data.clusters)),
                confidence=float(means[index]),
                markers=markers,
                words=words,
                top_markers=tuple(one for one in _significant(markers) if one["log2_fold_change"] > 0)[:_CHIPS],
                top_words=tuple(_significant(words))[:_WORD_CHIPS],
            )
        )
    return tuple(views)


def _significant(rows: Sequence[Row]) -> Iterator[Row]:
    return (row for row in rows if row["p_adjusted"] <= SIGNIFICANT)


def k_chart(data: ReportData) -> LineChart | None:
    """Curve of the numbers of clusters that were tried; None if none was."""
    if data.k_choice is None or not any(np.isfinite(score) for _, score in data.k_choice.curve):
        return None
    return line_chart(
        sorted(data.k_choice.curve),
        title=f"{CURVE_NAME.capitalize()} by k",
        x_label="k",
        y_label=CURVE_NAME,
        marked_x=float(data.k_choice.chosen),
    )


def training_charts(data: ReportData) -> tuple[LineChart, ...]:
    """One curve for each term of the objective that has a finite loss, since their sizes differ."""
    return tuple(
        line_chart(
            [(float(epoch), loss) for epoch, loss in enumerate(losses, start=1)],
            title=f"Mean loss by epoch: {term}",
            x_label="epoch",
            y_label="Loss",
        )
        for term, losses in data.history.items()
        if any(np.isfinite(loss) for loss in losses)
    )


def name_figures(data: ReportData) -> tuple[str, ...]:
    """Labels of the figures of any name, in the order of first appearance."""
    return tuple(dict.fromkeys(label for name in data.names for label in name["figures"]))


def figures_of(name: Row, wanted: Sequence[str]) -> list[float]:
    """Figures of one name by label; NaN where there is none."""
    return [name["figures"].get(label, float("nan")) for label in wanted]


def status_in_words(status: str) -> str:
    """How a name was found, for a reader; a status unknown here stays as it is."""
    return _STATUS_IN_WORDS.get(status, status)


def split_at_term(sentence: str, term: str) -> Sequence[tuple[str, bool]]:
    """Cut a sentence into pieces that are, or are not, the term, in whatever case, with a plural s or hyphens."""
    words = term.split()
    if not words:
        return [(sentence, False)]
    term_in_text = r"[\W_]+".join(map(re.escape, words))
    pieces = re.split(rf"((?<!\w){term_in_text}s?(?!\w))", sentence, flags=re.IGNORECASE)
    return [(piece, bool(at % 2)) for at, piece in enumerate(pieces) if piece]


_MOST_GENES: Final = 40  # more columns are wider than the page
_MOST_PER_CLUSTER: Final = 5
_STEP, _ABOVE, _BELOW = 20.0, 14.0, 108.0
_MOST_RADIUS, _LEAST_RADIUS = 9.0, 1.2
_LETTER, _MOST_LETTERS = 6.8, 30  # of the titles on the right
_LEAST_OPACITY: Final = 0.12


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """One gene in one cluster: its place, size and shade, and the figures behind them."""

    cluster: str
    gene: str
    fraction: float
    mean: float
    x: float
    y: float
    radius: float
    opacity: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DotPlot:
    """Clusters in rows, genes in columns."""

    width: float  # width, height, rows_height: of the SVG, and of its part above the names of the genes
    height: float
    rows_height: float
    rows: tuple[tuple[float, ClusterView], ...]  # rows, columns: (position, cluster) and (position, gene)
    columns: tuple[tuple[float, str], ...]
    dots: tuple[Dot, ...]  # row by row; one for each cluster and gene, also where no cell expresses it
    highest_mean: float  # mean of the strongest shade
    sizes: tuple[tuple[float, float], ...]  # sizes, shades: (radius, fraction) and (opacity, mean) of the legend
    shades: tuple[tuple[float, float], ...]


def dot_plot(data: ReportData, clusters: tuple[ClusterView, ...]) -> DotPlot | None:
    """Lay out the strongest markers of each cluster; None if there are none, or their expression is not known.

    A gene stands with the first cluster that it marks, so that the plot runs down its diagonal.
    """
    genes = _chosen(data, clusters)
    if data.expression is None or not genes:
        return None
    place = {gene: column for column, gene in enumerate(data.expression.genes)}
    values = data.expression.values[:, [place[gene] for gene in genes]]
    fractions, means = by_cluster(values, data.clusters, n_clusters=len(clusters))
    highest = float(means.max())
    xs = [round((at + 0.5) * _STEP, 1) for at in range(len(genes))]
    ys = [round(_ABOVE + (at + 0.5) * _STEP, 1) for at in range(len(clusters))]
    titles = min(max(len(cluster.title) for cluster in clusters), _MOST_LETTERS)
    return DotPlot(
        width=round(len(genes) * _STEP + 12 + titles * _LETTER, 1),
        height=_ABOVE + len(clusters) * _STEP + _BELOW,
        rows_height=_ABOVE + len(clusters) * _STEP,
        rows=tuple(zip(ys, clusters, strict=True)),
        columns=tuple(zip(xs, genes, strict=True)),
        dots=tuple(
            Dot(
                cluster=cluster.name,
                gene=gene,
                fraction=float(fractions[row, column]),
                mean=float(means[row, column]),
                x=xs[column],
                y=ys[row],
                radius=_radius(float(fractions[row, column])),
                opacity=_opacity(float(means[row, column]), highest),
            )
            for row, cluster in enumerate(clusters)
            for column, gene in enumerate(genes)
        ),
        highest_mean=highest,
        sizes=tuple((_radius(share), share) for share in (0.1, 0.25, 0.5, 1.0)),
        shades=tuple((_opacity(share * highest, highest), share * highest) for share in (0.0, 0.25, 0.5, 0.75, 1.0)),
    )


def _chosen(data: ReportData, clusters: tuple[ClusterView, ...]) -> list[str]:
    """Names of the genes to show: as many of each cluster as there is room for, each once."""
    known = set() if data.expression is None else set(data.expression.genes)
    per_cluster = max(1, min(_MOST_PER_CLUSTER, _MOST_GENES // len(clusters)))
    chosen: dict[str, None] = {}
    for cluster in clusters:
        names = [marker["name"] for marker in cluster.top_markers]
        chosen |= dict.fromkeys([name for name in names if name in known and name not in chosen][:per_cluster])
    return list(chosen)


def by_cluster(
    values: sp.csc_matrix, clusters: np.ndarray, *, n_clusters: int
) -> tuple[Float[np.ndarray, "cluster gene"], Float[np.ndarray, "cluster gene"]]:
    """Share of the cells that express a gene, and their mean expression over all cells; 0 for an empty cluster.

    A cell whose cluster is -1 has none.
    """
    rows = np.flatnonzero(clusters >= 0)
    ones = (np.ones(len(rows)), (clusters[rows], rows))
    members = sp.csr_matrix(ones, shape=(n_clusters, len(clusters)))
    sizes = np.maximum(np.bincount(clusters[rows], minlength=n_clusters), 1)[:, None]
    expression = sp.csr_matrix(values, dtype=np.float64)
    return (members @ (expression > 0)).toarray() / sizes, (members @ expression).toarray() / sizes


def _radius(fraction: float) -> float:
    """Radius of a dot whose area grows with the share of cells; 0 where no cell expresses the gene."""
    return round(max(_MOST_RADIUS * fraction**0.5, _LEAST_RADIUS), 2) if fraction > 0 else 0.0


def _opacity(mean: float, highest: float) -> float:
    return round(_LEAST_OPACITY + (1 - _LEAST_OPACITY) * (mean / highest if highest > 0 else 0.0), 3)
