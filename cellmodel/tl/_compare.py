"""Match the clusters of two sets of cells, as a table and a picture."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cellmodel.annotate.match_clusters import UNMATCHED, CellComparison, ClusterMatch, CompareConfig, compare_clustered
from cellmodel.annotate.shared_genes import GenesBy
from cellmodel.core.tools import Kb, forwards_to, open_kb, path_of, tool
from cellmodel.explain.groups import clustered
from cellmodel.io.cells import cells_from_anndata, read_cells
from cellmodel.io.records import check_lineage, lineage_record
from cellmodel.io.writers import check_targets
from cellmodel.pl._canvas import check_format
from cellmodel.tl._cluster import SHARED, cluster, split_settings
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


@tool
@forwards_to(cluster, "copy", only=SHARED)
def compare(
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
    other_store: bool = False,
    overwrite: bool = False,
    **settings: Any,
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
    other_store
        Whether the clusters or labels may be of another store or encoder; both are recorded then.
    overwrite
        Whether files of these names may be replaced.
    settings
        Arguments of :func:`cluster`: encoder, where the values are, seed, and the like.

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
    files = [Path(each) if isinstance(each, str | Path) else None for each in (a, b)]
    check_targets(
        [Target(path) for path in (table, picture) if path], inputs=list(filter(None, files)), overwrite=overwrite
    )
    (config, read, _), store = split_settings(settings), open_kb(kb)
    stores, keys = (store, store if kb_b is None else open_kb(kb_b)), (cluster_key, cluster_key_b or cluster_key)
    cells = [
        cells_from_anndata(each, read, source=f"{name} in memory") if path is None else read_cells(path, read)
        for each, path, name in zip((a, b), files, ("a", "b"), strict=True)
    ]
    # the encoder is that of the first store, so that a second store has chosen none
    chosen = config if stores[0].store_id == stores[1].store_id else None
    made_with = (
        check_lineage(cells[0], stores[0], config, key=keys[0], other_store=other_store),
        check_lineage(cells[1], stores[1], chosen, key=keys[1], other_store=other_store, kb_argument="kb_b"),
    )
    sides = [
        clustered(each, side_kb, config, cluster_key=key)
        for each, side_kb, key in zip(cells, stores, keys, strict=True)
    ]
    how = CompareConfig(n_permutations=permutations)
    compared = compare_clustered(*sides, stores=stores, config=config, compare=how, genes_by=genes_by)
    log.info("%s", compared.note)
    compared = replace(compared, made_with=made_with)
    frame = pd.DataFrame([_match_row(match) for match in compared.matches])
    frame.attrs |= _record(compared)
    if table is not None:
        write_table(table, list(frame.columns), frame.itertuples(index=False), digits=6, overwrite=overwrite)
    if picture is not None:
        left, right = (path.stem if path else name for path, name in zip(files, ("a", "b"), strict=True))
        _draw(compared, picture, titles=(left, right), overwrite=overwrite)
    return frame


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
