"""What the template prints: clusters with their figures, charts, and words in place of codes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cellmodel.pl._report.charts import LineChart, line_chart
from cellmodel.pl._report.data import ReportData, ReportMarker, ReportName, ReportWord
from cellmodel.pl._report.evidence import ReportEvidence
from cellmodel.pl._report.style import badges, cluster_color, text_color

SIGNIFICANT: Final = 0.05  # adjusted p below which a marker or a word is shown as a finding
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

    index: int  # index, badge, name, color, ink: its label, short label, name, colour and the colour of text on it
    badge: str
    name: str
    color: str
    ink: str
    title: str  # what stands beside the badge: what it was named, else its name where the badge does not hold it
    named: ReportName | None  # what it was named; None if no names were asked for
    evidence: ReportEvidence | None  # what sets it apart; None if that was not looked for
    # n_cells, share, confidence: its size, as a share of all cells, and its mean confidence (NaN if there is none)
    n_cells: int
    share: float
    confidence: float
    markers: tuple[ReportMarker, ...]  # markers, words: all of them
    words: tuple[ReportWord, ...]
    top_markers: tuple[ReportMarker, ...]  # top_markers, top_words: those that stand out from chance, for the card
    top_words: tuple[ReportWord, ...]


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
                title=named.title if named else ("" if name == short[index] else name),
                named=named,
                evidence=data.evidence[index] if data.evidence else None,
                n_cells=int(sizes[index]),
                share=float(sizes[index] / len(data.clusters)),
                confidence=float(means[index]),
                markers=markers,
                words=words,
                top_markers=tuple(m for m in markers if m.log2_fold_change > 0 and m.p_adjusted <= SIGNIFICANT)[
                    :_CHIPS
                ],
                top_words=tuple(word for word in words if word.p_adjusted <= SIGNIFICANT)[:_WORD_CHIPS],
            )
        )
    return tuple(views)


def k_chart(data: ReportData) -> LineChart | None:
    """Curve of the numbers of clusters that were tried; None if none was."""
    if data.k_choice is None or not any(np.isfinite(score) for _, score in data.k_choice.curve):
        return None
    return line_chart(
        sorted((float(k), score) for k, score in data.k_choice.curve),
        title=f"{data.k_choice.score_name.capitalize()} by {data.k_choice.x_name}",
        x_label=data.k_choice.x_name,
        y_label=data.k_choice.score_name,
        marked_x=float(data.k_choice.chosen if data.k_choice.chosen_x is None else data.k_choice.chosen_x),
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


def figure_names(data: ReportData) -> tuple[str, ...]:
    """Columns of the knowledge table: every figure of any row, in the order of first appearance."""
    return tuple(dict.fromkeys(name for _, figures in data.knowledge.rows for name in figures))


def share_names(data: ReportData) -> frozenset[str]:
    """Columns of the knowledge table in which every figure can be drawn as a share."""
    return frozenset(
        name
        for name in figure_names(data)
        if all(0 <= figures[name] <= 1 for _, figures in data.knowledge.rows if name in figures)
    )


def name_figures(data: ReportData) -> tuple[str, ...]:
    """List what the names of any cluster rest on, in the order of first appearance."""
    return tuple(dict.fromkeys(label for name in data.names for label in name.figures))


def figures_of(name: ReportName, wanted: Sequence[str]) -> list[float]:
    """Take the figures of one name that are wanted, in their order; NaN where there is none."""
    return [name.figures.get(label, float("nan")) for label in wanted]


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
