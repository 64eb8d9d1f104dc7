"""Match the clusters of two sets of cells, as a table and a picture."""

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import genekb
from cellmodel.annotate.match_clusters import UNMATCHED, CellComparison, ClusterMatch, CompareConfig, compare_clustered
from cellmodel.annotate.shared_genes import GenesBy
from cellmodel.core.config import RunConfig, Values, settings_of
from cellmodel.core.tools import Kb, open_kb, path_of, tool
from cellmodel.explain.groups import clustered
from cellmodel.io.cells import Cells, ReadConfig, cells_from_anndata, read_cells
from cellmodel.io.records import check_lineage, lineage_record
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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Side:
    """Clustered cells, and the store that knows their genes."""

    cells: Cells
    kb: genekb.Store
    cluster_key: str = "cellmodel"
    # whether the clusters may have been made with another store, see :func:`cellmodel.io.records.check_lineage`
    other_store: bool = False


def compare_sides(
    a: Side, b: Side, config: RunConfig, *, compare: CompareConfig | None = None, genes_by: GenesBy | None = None
) -> CellComparison:
    """Match the clusters of two sets of cells.

    ``config``: its encoder, coverage and seed are used. ``genes_by``: how genes are matched; by GeneID within a species
    and by orthologue across two if None. By ``text``, no gene has to be shared, and clusters are matched by meaning
    alone. Raises ``InputUnusable`` if there are no clusters; ``AlignmentTooLow`` if too few genes are known to the
    stores, or shared; ``LineageMismatch`` if the clusters were made with another store.
    """
    # the encoder is that of the first store, so that a second store has chosen none
    chosen = config if a.kb.store_id == b.kb.store_id else None
    made_with = (
        check_lineage(a.cells, a.kb, config, key=a.cluster_key, other_store=a.other_store),
        check_lineage(b.cells, b.kb, chosen, key=b.cluster_key, other_store=b.other_store, kb_argument="kb_b"),
    )
    first = clustered(a.cells, a.kb, config, cluster_key=a.cluster_key)
    second = clustered(b.cells, b.kb, config, cluster_key=b.cluster_key)
    compared = compare_clustered(first, second, stores=(a.kb, b.kb), config=config, compare=compare, genes_by=genes_by)
    log.info("%s", compared.note)
    return replace(compared, made_with=made_with)


@tool
def compare(  # noqa: PLR0913 - those of the command
    a: "AnnData | str | Path",
    b: "AnnData | str | Path",
    kb: Kb,
    *,
    kb_b: Kb | None = None,
    cluster_key: str = "cellmodel",
    cluster_key_b: str | None = None,
    genes_by: GenesBy | None = None,
    permutations: int = 200,
    output: str | Path | None = None,
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
        Cells with clusters, or a file of them.
    b
        Cells with clusters, or a file of them.
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
    output
        Table of the matches to write: .tsv or .csv.
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
        Whether files of these names may be replaced.
    random_state
        The run's one seed.

    Returns
    -------
    pandas.DataFrame
        A row for each cluster of either side: ``side``, ``cluster``, ``n_cells``, ``match`` (``unmatched`` without
        one), ``is_reciprocal``, ``by_meaning``, ``by_markers``, the figures of the best pair, and genes. Its ``attrs``
        have stores, genes, and the figures of all ``pairs``.

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

    table, picture = path_of(output), path_of(plot)
    if picture is not None:
        check_format(picture)
    inputs = [Path(each) for each in (a, b) if isinstance(each, str | Path)]
    check_targets([Target(path) for path in (table, picture) if path], inputs=inputs, overwrite=overwrite)
    read, store = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values), open_kb(kb)
    stores, keys = (store, store if kb_b is None else open_kb(kb_b)), (cluster_key, cluster_key_b or cluster_key)
    one, other = (
        Side(cells=_cells(each, read, name=name), kb=side_kb, cluster_key=key, other_store=other_store)
        for each, name, side_kb, key in zip((a, b), ("a", "b"), stores, keys, strict=True)
    )
    chosen = settings_of(
        config, encoder=encoder, min_coverage=min_coverage, orthologs=orthologs, random_state=random_state,
    )  # fmt: skip
    how = CompareConfig(n_permutations=permutations)
    compared = compare_sides(one, other, chosen, compare=how, genes_by=genes_by)
    frame = pd.DataFrame([_match_row(match) for match in compared.matches])
    frame.attrs |= _record(compared)
    if table is not None:
        write_table(table, list(frame.columns), frame.itertuples(index=False), digits=6, overwrite=overwrite)
    if picture is not None:
        left, right = (Path(each).stem if isinstance(each, str | Path) else name for each, name in ((a, "a"), (b, "b")))
        _draw(compared, picture, titles=(left, right), overwrite=overwrite)
    return frame


def _cells(given: "AnnData | str | Path", read: ReadConfig, *, name: str) -> Cells:
    if isinstance(given, str | Path):
        return read_cells(Path(given), read)
    return cells_from_anndata(given, read, source=f"{name} in memory")


def _record(found: CellComparison) -> dict[str, Any]:
    """Give stores, genes, and the figures of all pairs."""
    return {
        "genes_by": found.genes_by,
        "n_genes": list(found.n_genes),
        "n_shared_genes": found.n_shared,
        "encoder": found.encoder_id,
        "store_ids": list(found.store_ids),
        "clusters_from": [lineage_record(made).get("clusters_from") for made in found.made_with],
        "note": found.note,
        "pairs": [asdict(pair) for pair in found.pairs],
    }


def _match_row(match: ClusterMatch) -> dict[str, object]:
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
