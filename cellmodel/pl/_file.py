"""A figure from a file: checked first, drawn, saved."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cellmodel import pl
from cellmodel.core.errors import InputUnusable
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.io.records import stored_table
from cellmodel.io.writers import check_targets
from cellmodel.pl._canvas import check_format, draw_file
from genekb.files.replace import Target

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Kind = Literal["umap", "embedding", "dotplot", "confusion", "sankey", "heatmap", "composition"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlotChoice:
    """What is drawn."""

    kind: Kind  # name of the plot
    # name of a run's slots; contributions are those of ``uns["<key>_attribution"]``, shares of
    # ``uns["<key>_composition"]``
    key: str = "cellmodel"
    color: str | None = None  # color, basis: of ``umap`` and ``embedding``; the clusters if no color is given
    basis: str = "X_cellmodel_expr"
    split_by: str | None = None  # column of obs: a small map of ``umap`` or ``embedding`` for each of its values
    # rows, columns: columns of obs for ``confusion`` and ``sankey``; the clusters if no rows are given
    rows: str | None = None
    columns: str | None = None
    n_genes: int = 3  # genes of each cluster in ``dotplot`` and ``heatmap``
    genes: tuple[str, ...] = ()  # of ``dotplot``, in place of these; its rows are those of ``rows``, too
    seed: int = 0  # of a UMAP that has to be made


def plot_file(path: Path, output: Path, choice: PlotChoice, *, overwrite: bool = False) -> None:
    """Draw a figure of an annotated file; the output and what has to be installed are checked before any work.

    Raises ``InputUnusable`` if the file does not hold what is drawn, or the figure cannot be written.
    """
    check_format(output)
    check_targets([Target(output)], inputs=(path,), overwrite=overwrite)
    adata, key, split_by = read_anndata(path), choice.key, choice.split_by
    pair = (choice.rows or key, choice.columns or key)
    draw: Mapping[Kind, Callable[[], Any]] = {
        "umap": lambda: pl.umap(adata, color=choice.color, split_by=split_by, key=key, random_state=choice.seed),
        "embedding": lambda: pl.embedding(adata, choice.basis, color=choice.color or key, split_by=split_by),
        "dotplot": lambda: pl.dotplot(adata, choice.genes or None, choice.rows or key, n_genes=choice.n_genes),
        "confusion": lambda: pl.confusion(adata, *pair),
        "sankey": lambda: pl.sankey(adata, *pair),
        "composition": lambda: pl.composition(adata, key=f"{key}_composition"),
        "heatmap": lambda: pl.heatmap(
            _contributions(adata.uns, path, key=f"{key}_attribution"), n_genes=choice.n_genes
        ),
    }

    def draw_one() -> "Axes":
        axes = draw[choice.kind]()
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
