"""The report as a tool: `cm.report(adata, "report.html")`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cellmodel.core.tools import tool
from cellmodel.io.cells import ReadConfig, cells_from_anndata
from cellmodel.io.writers import check_targets
from cellmodel.pl._report.collect import report_cells
from genekb.files.replace import Target

if TYPE_CHECKING:
    from anndata import AnnData


@tool
def report(
    adata: "AnnData",
    path: str | Path,
    *,
    cluster_key: str | None = None,
    sample_key: str | None = None,
    key_added: str = "cellmodel",
    genes: Sequence[str] = (),
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    other_store: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write the HTML report of the clusters of cells, whoever made them, and give its path.

    Parameters
    ----------
    path
        HTML file to write.
    cluster_key
        Column of obs with the clusters; that of ``key_added`` if None.
    sample_key
        Column of obs with the sample of each cell; that of the run's files or batches, if None.
    key_added
        Name of the slots of a run.
    genes
        Names of genes that can colour the map, beside markers, all that the report names, and variable ones.
    other_store
        Whether names and evidence may be of another store than the clusters.
    overwrite
        Whether that file may be replaced.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> cm.report(adata, "clusters.html").name
    'clusters.html'
    """
    page = Path(path)
    check_targets([Target(page)], overwrite=overwrite)
    cells = cells_from_anndata(adata, ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key))
    report_cells(
        cells,
        page,
        cluster_key=cluster_key or key_added,
        sample_key=sample_key,
        genes=genes,
        overwrite=overwrite,
        other_store=other_store,
    )
    return page
