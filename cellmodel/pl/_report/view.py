"""What the template prints: clusters with their figures, charts, and words in place of codes."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cellmodel.pl._report.charts import LineChart, line_chart
from cellmodel.pl._report.data import ReportData, Row
from cellmodel.pl._report.style import badges, cluster_color, text_color

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
