"""Match the clusters of two sets of cells, as a table and a picture."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import genekb
from cellmodel.annotate.match_clusters import UNMATCHED, CellComparison, ClusterMatch, CompareConfig, compare_clustered
from cellmodel.annotate.shared_genes import GenesBy
from cellmodel.core.config import RunConfig, Values, settings_of
from cellmodel.core.tools import Kb, open_kb, tool
from cellmodel.explain.groups import clustered
from cellmodel.io.cells import Cells, ReadConfig, cells_from_anndata, read_cells
from cellmodel.io.records import check_lineage
from cellmodel.io.writers import check_targets
from cellmodel.pl._canvas import check_format
from genekb.files.replace import Target
from genekb.files.tables import write_table

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

log = logging.getLogger(__name__)
# columns of the table of matches: of a match, of its best pair, and genes set apart by blanks
_MATCH: Final = ("side", "cluster", "n_cells", "match", "is_reciprocal", "by_meaning", "by_markers")
_BEST: Final = ("best", "meaning", "p_meaning", "markers", "n_shared", "p_markers_adjusted")
_GENES: Final = ("shared_markers", "own_genes", "other_genes")


@dataclass(frozen=True, kw_only=True, slots=True)
class SideFile:
    """A file of clustered cells, and how it is read."""

    path: Path  # the cells
    kb: genekb.Store  # store that knows their genes
    cluster_key: str = "cellmodel"  # column of obs with the clusters
    read: ReadConfig = field(default_factory=ReadConfig)  # where the values and the gene names are
    # whether the clusters may have been made with another store, see :func:`cellmodel.io.records.check_lineage`
    other_store: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Side:
    """Clustered cells, and the store that knows their genes."""

    cells: Cells
    kb: genekb.Store
    cluster_key: str = "cellmodel"
    other_store: bool = False  # as :class:`SideFile` has it


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareOutputs:
    """Where a comparison goes: a table of the matches, .tsv or .csv, and a plot of them; None to leave one out."""

    table: Path | None = None
    plot: Path | None = None
    overwrite: bool = False

    def check(self, *, inputs: Sequence[Path]) -> None:
        """Check that outputs can be written, before any work is done."""
        if self.plot is not None:
            check_format(self.plot)
        targets = [Target(path) for path in (self.table, self.plot) if path]
        check_targets(targets, inputs=inputs, overwrite=self.overwrite)


def compare_files(
    a: SideFile,
    b: SideFile,
    config: RunConfig,
    *,
    compare: CompareConfig | None = None,
    genes_by: GenesBy | None = None,
    outputs: CompareOutputs | None = None,
) -> CellComparison:
    """Match the clusters of two files, and write what is asked for.

    ``config``: its encoder, coverage and seed are used. ``genes_by``: how genes are matched; by GeneID within a species
    and by orthologue across two if None. By ``text``, no gene has to be shared, and clusters are matched by meaning
    alone. Raises ``InputUnusable`` if a file has no clusters; ``AlignmentTooLow`` if too few genes are known to the
    stores, or shared; ``LineageMismatch`` if the clusters of a file were made with another store; ``InputUnusable`` and
    ``NotAvailable``, before any work, if an output cannot be written or matplotlib is missing.
    """
    outputs = outputs or CompareOutputs()
    outputs.check(inputs=(a.path, b.path))
    one, other = (
        Side(
            cells=read_cells(each.path, each.read),
            kb=each.kb,
            cluster_key=each.cluster_key,
            other_store=each.other_store,
        )
        for each in (a, b)
    )
    compared = compare_sides(one, other, config, compare=compare, genes_by=genes_by)
    log.info("%s", compared.note)
    if outputs.table is not None:
        rows = [match_row(match) for match in compared.matches]
        write_table(outputs.table, list(rows[0]), map(dict.values, rows), digits=6, overwrite=outputs.overwrite)
    if outputs.plot is not None:
        _draw(compared, outputs.plot, titles=(a.path.stem, b.path.stem), overwrite=outputs.overwrite)
    return compared


def compare_sides(
    a: Side, b: Side, config: RunConfig, *, compare: CompareConfig | None = None, genes_by: GenesBy | None = None
) -> CellComparison:
    """Match the clusters of two sets of cells, see :func:`compare_files`."""
    # the encoder is that of the first store, so that a second store has chosen none
    chosen = config if a.kb.store_id == b.kb.store_id else None
    made_with = (
        check_lineage(a.cells, a.kb, config, key=a.cluster_key, other_store=a.other_store),
        check_lineage(b.cells, b.kb, chosen, key=b.cluster_key, other_store=b.other_store, kb_argument="kb_b"),
    )
    first = clustered(a.cells, a.kb, config, cluster_key=a.cluster_key)
    second = clustered(b.cells, b.kb, config, cluster_key=b.cluster_key)
    compared = compare_clustered(first, second, stores=(a.kb, b.kb), config=config, compare=compare, genes_by=genes_by)
    return replace(compared, made_with=made_with)


@tool
def compare(  # noqa: PLR0913 - those of the command
    a: "AnnData",
    b: "AnnData",
    kb: Kb,
    *,
    kb_b: Kb | None = None,
    cluster_key: str = "cellmodel",
    cluster_key_b: str | None = None,
    genes_by: GenesBy | None = None,
    permutations: int = 200,
    plot: str | Path | None = None,
    config: RunConfig | None = None,
    encoder: str | None = None,
    min_coverage: float = 0.3,
    orthologs: bool = False,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    values: Values = "auto",
    other_store: bool = False,
    overwrite: bool = False,
    random_state: int = 0,
) -> "pd.DataFrame":
    """Match the clusters of two sets of cells, of one species or of two, by shared markers and the meaning of genes.

    Both are left as they are.

    From the shell: ``cellmodel compare``.

    Parameters
    ----------
    a
        Cells with clusters.
    b
        Cells with clusters.
    kb
        Store: its name, such as ``human``, its folder, or opened.
    kb_b
        Store of the second, if that is of another species.
    cluster_key
        Column of obs with the clusters.
    cluster_key_b
        The same of the second, if it is another there.
    genes_by
        ``ids``, ``orthologs`` or ``text``; ids within a species and orthologs across two if None.
    permutations
        Permutations of the genes, for the p values.
    plot
        Sankey diagram of the matches to write: .svg, .png or .pdf.
    config
        All further settings of a run; an argument that is not at its default wins over it.
    encoder
        Encoder of the store; its first one if None.
    min_coverage
        Fraction of the genes that must have a text, in [0, 1].
    orthologs
        Whether symbols of the orthologous gene of another species may map to a gene.
    layer
        Layer that holds the values; found by what the matrices hold if None.
    use_raw
        Whether the values are those of ``.raw``.
    gene_key
        Column of var with the gene names; the index of var if None.
    values
        What the values are: ``counts``, ``linear``, ``log1p``; found by what the matrices hold if ``auto``.
    other_store
        Whether the clusters or labels may be of another store or encoder; both are recorded then.
    overwrite
        Whether that file may be replaced.
    random_state
        The run's one seed.

    Returns
    -------
    pandas.DataFrame
        A row for each cluster of either side: ``side``, ``cluster``, ``n_cells``, ``match`` (``unmatched`` without
        one), ``is_reciprocal``, ``by_meaning``, ``by_markers``, the figures of the best pair, and genes.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, LineageMismatch, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> a, b = anndata.read_h5ad("clustered.h5ad"), anndata.read_h5ad("clustered.h5ad")
    >>> found = cm.tl.compare(a, b, "demo", genes_by="text", permutations=20)
    >>> found["cluster"].equals(found["best"])
    True
    """
    import pandas as pd

    outputs = CompareOutputs(plot=None if plot is None else Path(plot), overwrite=overwrite)
    outputs.check(inputs=())
    read, store = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values), open_kb(kb)
    stores, keys = (store, store if kb_b is None else open_kb(kb_b)), (cluster_key, cluster_key_b or cluster_key)
    one, other = (
        Side(
            cells=cells_from_anndata(each, read, source=source),
            kb=stores[at],
            cluster_key=keys[at],
            other_store=other_store,
        )
        for at, (each, source) in enumerate(((a, "a in memory"), (b, "b in memory")))
    )
    chosen = settings_of(
        config, encoder=encoder, min_coverage=min_coverage, orthologs=orthologs, random_state=random_state,
    )  # fmt: skip
    how = CompareConfig(n_permutations=permutations)
    compared = compare_sides(one, other, chosen, compare=how, genes_by=genes_by)
    log.info("%s", compared.note)
    if outputs.plot is not None:
        _draw(compared, outputs.plot, titles=("a", "b"), overwrite=overwrite)
    return pd.DataFrame([match_row(match) for match in compared.matches])


def match_row(match: ClusterMatch) -> dict[str, object]:
    """One match as a flat row: what was matched, the figures of the best pair, and the genes behind it."""
    row, best = asdict(match), asdict(match.best)
    best |= {"best": best["b" if match.side == "a" else "a"], "p_meaning": best[f"p_meaning_{match.side}"]}
    return {
        **{key: row[key] for key in _MATCH},
        **{key: best[key] for key in _BEST},
        **{key: " ".join(row[key]) for key in _GENES},
    }


def _draw(compared: CellComparison, path: Path, *, titles: tuple[str, str], overwrite: bool) -> None:
    """Draw the matches as flows from the clusters of one file to those of the other."""
    import pandas as pd

    from cellmodel.pl._canvas import draw_file
    from cellmodel.pl._sankey import draw_flows

    left, right = (list(dict.fromkeys(getattr(pair, side) for pair in compared.pairs)) for side in ("a", "b"))
    weights = pd.DataFrame(0.0, index=left, columns=right)
    is_strong = pd.DataFrame(data=False, index=left, columns=right)
    for match in compared.matches:
        if match.match != UNMATCHED:
            weights.loc[match.best.a, match.best.b] = 1.0
            is_strong.loc[match.best.a, match.best.b] = match.is_reciprocal
    draw_file(lambda: draw_flows(weights, is_strong=is_strong, titles=titles), path, overwrite=overwrite)
