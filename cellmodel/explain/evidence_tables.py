"""Evidence as flat tables, which fit a slot of an AnnData and a folder of .tsv files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cellmodel.explain.evidence import Evidence, GroupEvidence
from cellmodel.io.writers import output
from genekb.core.messages import table_text
from genekb.files.replace import Target

if TYPE_CHECKING:
    import pandas as pd

FILES: Final = ("markers", "contributions", "themes", "enrichment")
_TESTED: Final = ("p_value", "p_adjusted")
_COLUMNS: Final = {
    "groups": ("n_cells", "n_against", "distance", "distance_p", "n_genes"),
    "markers": (
        "gene", "t", *_TESTED, "log2_fold_change", "fraction_in", "fraction_out", "mean_in", "mean_out",
    ),
    "contributions": ("gene", "gene_id", "difference", "contribution", "share", "p_value", "term", "sentence"),
    "themes": (
        "theme", "source", "also", "share", "score", *_TESTED, "n_genes", "gene", "contribution", "sentence",
    ),
    "enrichment": (
        "set", "set_id", "source", *_TESTED, "fold", "n_shared", "n_set", "n_group", "n_measured", "genes",
    ),
}  # fmt: skip
Row = tuple[Any, ...]


def evidence_frames(evidence: Evidence) -> "dict[str, pd.DataFrame]":
    """Lay evidence out flat; every row names its cluster, condition and what they are compared with.

    Returns ``groups`` (a row a group), ``markers``, ``contributions`` (every gene that was used), ``themes`` (a row a
    theme and gene) and ``enrichment`` (a row a set).
    """
    import pandas as pd

    makers: dict[str, Callable[[GroupEvidence], Iterator[Row]]] = {
        "groups": _group_rows,
        "markers": _marker_rows,
        "contributions": _contribution_rows,
        "themes": _theme_rows,
        "enrichment": lambda group: _enrichment_rows(group, evidence.symbols),
    }
    return {
        name: pd.DataFrame(
            [(*_of_group(group), *row) for group in evidence.groups for row in make(group)],
            columns=["cluster", "condition", "against", *_COLUMNS[name]],
        )
        for name, make in makers.items()
    }


def table_targets(folder: Path) -> list[Target]:
    """Give the targets of the tables and of their folder, for :func:`cellmodel.io.writers.check_targets`."""
    return [Target(folder, kind="shared"), *(Target(path) for path in _paths(folder).values() if folder.is_dir())]


def write_tables(evidence: Evidence, folder: Path, *, overwrite: bool = False) -> None:
    """Write ``markers.tsv``, ``contributions.tsv``, ``themes.tsv`` and ``enrichment.tsv``; the folder is made.

    Raises ``InputUnusable`` if a table exists and may not be replaced, or the disk refuses.
    """
    frames = evidence_frames(evidence)
    folder.mkdir(exist_ok=True)
    for name, path in _paths(folder).items():
        frame = frames[name]
        text = table_text(path, list(frame.columns), frame.itertuples(index=False))
        with output(Target(path), overwrite=overwrite) as part:
            part.write_text(text, encoding="utf-8")


def _paths(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.tsv" for name in FILES}


def _of_group(group: GroupEvidence) -> Row:
    return group.contrast.cluster, group.contrast.condition, group.contrast.against


def _group_rows(group: GroupEvidence) -> Iterator[Row]:
    sizes = (group.contrast.n_cells, group.contrast.n_against)
    yield (*sizes, group.distance, group.distance_p, len(group.contributions))


def _marker_rows(group: GroupEvidence) -> Iterator[Row]:
    for marker in group.markers:
        yield marker.name, *(getattr(marker, column) for column in _COLUMNS["markers"][1:])


def _contribution_rows(group: GroupEvidence) -> Iterator[Row]:
    for gene in group.contributions:
        share = gene.contribution / group.distance if group.distance else 0.0
        amounts = (gene.difference, gene.contribution, share, gene.p_value)
        yield gene.name, gene.gene_id, *amounts, gene.term, gene.sentence


def _theme_rows(group: GroupEvidence) -> Iterator[Row]:
    for theme in group.themes:
        named = (theme.term, theme.source, ", ".join(theme.also), theme.share, theme.score)
        for gene in theme.genes:
            carried = (theme.n_genes, gene.name, gene.contribution, gene.sentence)
            yield *named, theme.p_value, theme.p_adjusted, *carried


def _enrichment_rows(group: GroupEvidence, symbols: dict[int, str]) -> Iterator[Row]:
    for found in group.enriched:
        named = (found.gene_set.name, found.gene_set.set_id, found.gene_set.source)
        counts = (len(found.gene_ids), found.n_set, found.n_group, found.n_measured)
        genes = ", ".join(symbols[gene] for gene in found.gene_ids)
        yield *named, found.p_value, found.p_adjusted, found.fold, *counts, genes
