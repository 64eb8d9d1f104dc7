"""What the template prints: clusters with their figures, charts as numbers for SVG, and words in place of codes."""

import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from cellmodel.cluster.structure import structure_notes
from cellmodel.core.colors import cluster_color, text_color
from cellmodel.pl.report.collect.data import ReportData, Row
from cellmodel.pl.report.collect.tables import NO_NAME
from cellmodel.pl.report.page.formats import badges, plain_number
from cellmodel.pl.report.page.samples import MOST_BARS, sample_view
from cellmodel.pl.report.page.tree import tree_view

WIDTH, HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 14.0, 12.0, 40.0
_N_TICKS = 5
_MAX_DOTS = 40  # more points than this are drawn as a line alone


def line_chart(points: Sequence[tuple[float, float]], *, title: str, x_label: str, y_label: str) -> Row:
    """Lay out a curve in an SVG of WIDTH by HEIGHT; points whose y is not finite are left out.

    ``points``: (x, y) in the order of the line. Returns texts, the ``d`` of the path, positions of dots (of few
    points), ticks as (position, text), and the frame as (left, top, right, bottom). ``ValueError`` if no point is
    finite.
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

    positions = [(place_x(x), place_y(y)) for x, y in finite]
    return {
        "title": title,
        "x_label": x_label,
        "y_label": y_label,
        "summary": _summary(finite, x_label=x_label, y_label=y_label),
        "is_area": False,
        "path": "M" + "L".join(f"{x} {y}" for x, y in positions),
        "dots": tuple(positions) if len(positions) <= _MAX_DOTS else (),
        "x_ticks": [(place_x(x), plain_number(x)) for x in x_ticks if x_range[0] <= x <= x_range[1]],
        "y_ticks": [(place_y(y), plain_number(y)) for y in y_ticks],
        "frame": (_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM),
    }


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


QUALITY: Final = {  # figures of a cell
    "total_counts": "Total counts",
    "n_genes_by_counts": "Genes",
    "pct_counts_mt": "Mitochondrial, % of counts",
    "cell_cycle": "Cell cycle score",
}
_LOGARITHMIC: Final = ("total_counts", "n_genes_by_counts")
_N_BINS: Final = 40
SIGNIFICANT: Final = 0.05  # adjusted p below which a marker or a word is shown as a finding
_CHIPS, _WORD_CHIPS = 8, 6
STATUS_WORDS: Final = {
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
    "protein": "antibody of a protein",
    "complex": "antibody of a complex of several proteins",
    "ortholog": "symbol of an orthologue",
    "ambiguous": "ambiguous: could be several genes",
    "unknown": "unknown to the store",
}


def page_view(data: ReportData) -> dict[str, Any]:
    """Values that the template prints beside the data."""
    clusters, in_cluster = cluster_views(data), data.clusters >= 0
    return {
        "clusters": clusters,
        "dot_plot": dot_plot(data, clusters),
        "found": found_sentence(clusters),
        "quality": quality_view(data),
        "mean_confidence": math.nan if data.confidence is None else float(data.confidence[in_cluster].mean()),
        "n_clustered": int(in_cluster.sum()),
        "structure": structure_notes(data.k_choice),
        "training_charts": training_charts(data),
        "tree": tree_view(data, clusters),
        "samples": sample_view(data, clusters),
        "badges": {cluster["name"]: cluster for cluster in clusters},
        "name_figures": _name_figures(data),
        "status_words": STATUS_WORDS,
        "significant": SIGNIFICANT,
        "chart_size": (WIDTH, HEIGHT),
    }


def _name_figures(data: ReportData) -> list[str]:
    """Labels of the figures of any name, in the order of first appearance."""
    return list(dict.fromkeys(label for name in data.names for label in name["figures"]))


def cluster_views(data: ReportData) -> list[Row]:
    """Clusters in the order of their labels: what was found of each, its size, its colors and its labels.

    ``badge``: short label. ``title``: beside it, the name given by `cellmodel annotate`, else ``name`` where the badge
    differs. ``confidence``: mean; NaN if there is none. ``top_markers``, ``top_words``: the significant ones.
    """
    n_clusters, rows = len(data.cluster_names), np.flatnonzero(data.clusters >= 0)
    clusters = data.clusters[rows]
    sizes = np.bincount(clusters, minlength=n_clusters)
    sums = np.full(n_clusters, np.nan)
    if data.confidence is not None:
        sums = np.bincount(clusters, weights=data.confidence[rows], minlength=n_clusters)
    means = np.divide(sums, sizes, out=np.full(n_clusters, np.nan), where=sizes > 0)
    labels, none = _name_figures(data), (None,) * n_clusters
    found = {part: getattr(data, part) or none for part in ("names", "evidence", "markers", "words")}
    return [
        {
            "index": index,
            "name": name,
            "badge": badge,
            "color": (color := cluster_color(index)),
            "ink": text_color(color),
            "title": named["title"] if named else ("" if name == badge else name),
            "named": named,
            "figures": [named["figures"].get(label, math.nan) for label in labels] if named else (),
            "evidence": evidence,
            "n_cells": int(size),
            "share": float(size / len(data.clusters)),
            "confidence": float(mean),
            "markers": markers or (),
            "words": words or (),
            "top_markers": [one for one in _significant(markers) if one["log2_fold_change"] > 0][:_CHIPS],
            "top_words": _significant(words)[:_WORD_CHIPS],
        }
        for index, (name, badge, size, mean, named, evidence, markers, words) in enumerate(
            zip(data.cluster_names, badges(data.cluster_names), sizes, means, *found.values(), strict=True)
        )
    ]


def found_sentence(clusters: Sequence[Row]) -> Row | None:
    """Types that were found, the most cells first, as (name, share), and how many clusters have none."""
    named = [(cluster["named"], cluster["share"]) for cluster in clusters if cluster["named"]]
    if not named:
        return None
    shares: dict[str, float] = {}
    sure = [(name["name"], share) for name, share in named if not name["reason"] and name["name"] != NO_NAME]
    for name, share in sure:
        shares[name] = shares.get(name, 0.0) + share
    return {"types": sorted(shares.items(), key=lambda one: -one[1]), "n_unnamed": len(named) - len(sure)}


def quality_view(data: ReportData) -> Row | None:
    """Histograms of the figures of all cells, and their quartiles by cluster and by sample; None if there are none.

    ``labels`` by column; ``groups``: title, and rows of name, index of the cluster or None, number of cells, and (low,
    median, high) of each figure.
    """
    quality = (
        {name: data.values.quality[name] for name in QUALITY if name in data.values.quality} if data.values else {}
    )
    if not quality:
        return None
    found = [("Cluster", _quartiles(quality, data.clusters, data.cluster_names, is_cluster=True))]
    if data.samples is not None:
        names = [" · ".join(filter(None, name)) for name in data.samples.names]
        found.append(("Sample", _quartiles(quality, data.samples.codes, names)[:MOST_BARS]))
    return {
        "labels": {name: QUALITY[name] for name in quality},
        "charts": [_histogram(values, name) for name, values in quality.items()],
        "groups": found,
    }


def _quartiles(
    quality: Mapping[str, np.ndarray], codes: np.ndarray, names: Sequence[str], *, is_cluster: bool = False
) -> list[Row]:
    members = [np.flatnonzero(codes == at) for at in range(len(names))]
    return [
        {
            "name": name,
            "index": at if is_cluster else None,
            "n_cells": len(rows),
            "quartiles": [
                np.percentile(values[rows], (25, 50, 75)).tolist() if len(rows) else [math.nan] * 3
                for values in quality.values()
            ],
        }
        for at, (name, rows) in enumerate(zip(names, members, strict=True))
    ]


def _histogram(values: np.ndarray, name: str) -> Row:
    """Outline of the numbers of cells in bins of a figure, of its logarithm where it is of counts."""
    is_log = name in _LOGARITHMIC
    numbers = np.log10(np.maximum(values, 1)) if is_log else values
    sizes, ends = np.histogram(numbers, bins=_N_BINS)
    steps = [(end, size) for left, right, size in zip(ends, ends[1:], sizes, strict=False) for end in (left, right)]
    points = [(ends[0], 0), *steps, (ends[-1], 0)]
    x_label = f"{QUALITY[name].lower()}{', log10' if is_log else ''}"
    return {
        **line_chart(points, title=QUALITY[name], x_label=x_label, y_label="Cells"),
        "is_area": True,
        "summary": "Median {}, from {} to {}.".format(
            *(f"{value:,.0f}" if is_log else f"{value:.3g}" for value in np.percentile(values, (50, 0, 100)))
        ),
    }


def _significant(rows: Sequence[Row] | None) -> list[Row]:
    return [row for row in rows or () if row["p_adjusted"] <= SIGNIFICANT]


def training_charts(data: ReportData) -> list[Row]:
    """One curve for each term of the objective that has a finite loss, since their sizes differ."""
    return [
        line_chart(
            list(enumerate(losses, start=1)), title=f"Mean loss by epoch: {term}", x_label="epoch", y_label="Loss"
        )
        for term, losses in data.history.items()
        if np.isfinite(losses).any()
    ]


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
_STEP, _ABOVE, _BELOW = 20.0, 34.0, 108.0
_MOST_RADIUS, _LEAST_RADIUS = 9.0, 1.2
_LETTER, _MOST_LETTERS = 6.8, 30  # of the titles on the right
_LEAST_OPACITY: Final = 0.12


def dot_plot(data: ReportData, clusters: Sequence[Row]) -> Row | None:
    """Lay out the strongest markers of each cluster; None if there are none, or their expression is not known.

    A gene stands with the first cluster that it marks, so that the plot runs down its diagonal; brackets above the
    columns name that cluster. The shade of a dot is its mean over the highest mean of its gene. Returns the size of the
    SVG (``rows_height``: of its part above the names of the genes), (position, cluster) of the rows, (position, gene)
    of the columns, a dot for each cluster and gene, and (radius, fraction) and (opacity, mean) of the legend.
    """
    by_gene = _chosen(data, clusters)
    if data.values is None or not by_gene:
        return None
    genes = list(by_gene)
    column_of = {gene: column for column, gene in enumerate(data.values.genes)}
    chosen = [column_of[gene] for gene in genes]
    fractions, means = data.values.fractions[:, chosen], data.values.means[:, chosen]
    highest = means.max(axis=0).tolist()
    columns = [(round((at + 0.5) * _STEP, 1), gene) for at, gene in enumerate(genes)]
    rows = [(round(_ABOVE + (at + 0.5) * _STEP, 1), cluster) for at, cluster in enumerate(clusters)]
    titles = min(max(len(cluster["title"]) for cluster in clusters), _MOST_LETTERS)
    return {
        "width": round(len(genes) * _STEP + 12 + titles * _LETTER, 1),
        "height": _ABOVE + len(clusters) * _STEP + _BELOW,
        "rows_height": _ABOVE + len(clusters) * _STEP,
        "rows": rows,
        "columns": columns,
        "dots": [
            {
                "cluster": cluster["name"],
                "gene": gene,
                "fraction": fraction,
                "mean": mean,
                "x": x,
                "y": y,
                "radius": _radius(fraction),
                "opacity": _opacity(mean, most),
            }
            for (y, cluster), of_cluster in zip(rows, np.dstack([fractions, means]).tolist(), strict=True)
            for (x, gene), (fraction, mean), most in zip(columns, of_cluster, highest, strict=True)
        ],
        "brackets": _brackets(by_gene, clusters),
        "sizes": [(_radius(part), part) for part in (0.1, 0.25, 0.5, 1.0)],
        "shades": [(_opacity(part, 1.0), part) for part in (0.0, 0.25, 0.5, 0.75, 1.0)],
    }


def _brackets(by_gene: dict[str, int], clusters: Sequence[Row]) -> list[tuple[float, float, Row]]:
    """Left and right end of the columns of each cluster that has some, and the cluster."""
    owners = list(by_gene.values())
    ends = {at: (owners.index(at), owners.index(at) + owners.count(at)) for at in dict.fromkeys(owners)}
    return [(first * _STEP + 3, end * _STEP - 3, clusters[at]) for at, (first, end) in ends.items()]


def _chosen(data: ReportData, clusters: Sequence[Row]) -> dict[str, int]:
    """Genes to show, each with the cluster that it stands with: as many of each cluster as there is room for."""
    known = set(data.values.genes if data.values else ())
    per_cluster = max(1, min(_MOST_PER_CLUSTER, _MOST_GENES // len(clusters)))
    chosen: dict[str, int] = {}
    for at, cluster in enumerate(clusters):
        names = [marker["name"] for marker in cluster["top_markers"]]
        chosen |= dict.fromkeys([name for name in names if name in known and name not in chosen][:per_cluster], at)
    return chosen


def _radius(fraction: float) -> float:
    """Radius of a dot whose area grows with the fraction of cells; 0 where no cell expresses the gene."""
    return round(max(_MOST_RADIUS * fraction**0.5, _LEAST_RADIUS), 2) if fraction > 0 else 0.0


def _opacity(mean: float, highest: float) -> float:
    return round(_LEAST_OPACITY + (1 - _LEAST_OPACITY) * (mean / highest if highest > 0 else 0.0), 3)
