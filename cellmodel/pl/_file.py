"""A figure from a file: checked first, drawn, saved."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cellmodel import pl
from cellmodel.core.errors import InputUnusable
from cellmodel.core.tools import names_of
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.io.records import stored_table
from cellmodel.io.writers import check_targets
from cellmodel.pl._canvas import check_format, draw_file
from genekb.files.replace import Target

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Kind = Literal["umap", "embedding", "dotplot", "confusion", "sankey", "heatmap", "composition"]


def plot_file(
    path: Path,
    output: Path,
    *,
    kind: Kind,
    key_added: str = "cellmodel",
    color: str | None = None,
    basis: str = "X_cellmodel_expr",
    split_by: str | None = None,
    rows: str | None = None,
    columns: str | None = None,
    genes: str = "3",
    random_state: int = 0,
    overwrite: bool = False,
) -> None:
    """Draw a figure of an annotated file; the output and what has to be installed are checked before any work.

    Parameters
    ----------
    path
        Cells annotated by `cellmodel cluster`, or by `cellmodel attribute`.
    output
        Figure to write: .svg, .png or .pdf.
    kind
        What is drawn.
    key_added
        Name under which results are stored.
    color
        umap, embedding: column of obs or gene; the clusters if None.
    basis
        embedding: slot of obsm.
    split_by
        umap, embedding: column of obs; a small map for each of its values.
    rows
        confusion, sankey, dotplot: column of obs; the clusters if None.
    columns
        confusion, sankey: the other column of obs.
    genes
        dotplot, heatmap: genes of each cluster; dotplot: or their names, with commas between.
    random_state
        umap: seed of one that has to be made.
    overwrite
        Whether that file may be replaced.

    Raises
    ------
    InputUnusable
        If the file does not hold what is drawn, or the figure cannot be written.
    ValueError
        If arguments do not go together.
    """
    n_genes = int(genes) if genes.isdecimal() else 0
    names = () if n_genes else names_of(genes)
    if kind in {"confusion", "sankey"} and columns is None:
        raise ValueError(f'kind="{kind}" needs `columns`, the column of obs to hold the clusters against')
    if split_by is not None and kind not in {"umap", "embedding"}:
        raise ValueError(f'kind="{kind}" draws no map; `split_by` goes with `kind` umap or embedding')
    if not n_genes and (kind != "dotplot" or genes.isdecimal()):
        raise ValueError('`genes` is a number >= 1; kind="dotplot" takes names of genes, too')
    check_format(output)
    check_targets([Target(output)], inputs=(path,), overwrite=overwrite)
    adata, key = read_anndata(path), key_added
    pair = (rows or key, columns or key)
    draw: Mapping[Kind, Callable[[], Any]] = {
        "umap": lambda: pl.umap(adata, color=color, split_by=split_by, key=key, random_state=random_state),
        "embedding": lambda: pl.embedding(adata, basis, color=color or key, split_by=split_by),
        "dotplot": lambda: pl.dotplot(adata, names or None, rows or key, n_genes=n_genes),
        "confusion": lambda: pl.confusion(adata, *pair),
        "sankey": lambda: pl.sankey(adata, *pair),
        "composition": lambda: pl.composition(adata, key=f"{key}_composition"),
        "heatmap": lambda: pl.heatmap(_contributions(adata.uns, path, key=f"{key}_attribution"), n_genes=n_genes),
    }

    def draw_one() -> "Axes":
        axes = draw[kind]()
        return axes[0] if isinstance(axes, list) else axes

    draw_file(draw_one, output, overwrite=overwrite)


def _contributions(uns: Mapping[str, Any], path: Path, *, key: str) -> "pd.DataFrame":
    """Table of contributions that `cellmodel attribute` writes; a group of a condition is named by both."""
    table = stored_table(uns, key, "contributions")
    if table is None:
        raise InputUnusable(f'{path} holds no contributions in uns["{key}"]; run `cellmodel attribute` first')
    if "condition" not in table or not table["condition"].astype(bool).any():
        return table
    return table.assign(cluster=table["cluster"].astype(str) + ", " + table["condition"].astype(str))
