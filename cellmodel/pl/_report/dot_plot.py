"""The dot plot of markers: which share of each cluster expresses a gene, and how much, as numbers for an SVG."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from cellmodel.pl._report.data import ReportData
from cellmodel.pl._report.view import ClusterView

_MOST_GENES: Final = 40  # more columns are wider than the page
_MOST_PER_CLUSTER: Final = 5
_STEP, _TOP, _BOTTOM = 20.0, 14.0, 108.0
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
    highest_mean: float  # what the strongest shade stands for
    sizes: tuple[tuple[float, float], ...]  # sizes, shades: (radius, fraction) and (opacity, mean) of the legend
    shades: tuple[tuple[float, float], ...]


def dot_plot(data: ReportData, clusters: tuple[ClusterView, ...]) -> DotPlot | None:
    """Lay out the strongest markers of each cluster; None if there are none, or their expression is not known.

    A gene stands where the first cluster that it marks has it, so that the plot runs down its diagonal.
    """
    genes = _chosen(data, clusters)
    if data.expression is None or not genes:
        return None
    place = {gene: column for column, gene in enumerate(data.expression.genes)}
    values = data.expression.values[:, [place[gene] for gene in genes]]
    fractions, means = by_cluster(values, data.clusters, n_clusters=len(clusters))
    highest = float(means.max())
    xs = [round((at + 0.5) * _STEP, 1) for at in range(len(genes))]
    ys = [round(_TOP + (at + 0.5) * _STEP, 1) for at in range(len(clusters))]
    titles = min(max(len(cluster.title) for cluster in clusters), _MOST_LETTERS)
    return DotPlot(
        width=round(len(genes) * _STEP + 12 + titles * _LETTER, 1),
        height=_TOP + len(clusters) * _STEP + _BOTTOM,
        rows_height=_TOP + len(clusters) * _STEP,
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
