"""The report as a tool: `cm.report(adata, "report.html")`, and as a page that is served: `cm.view("out.h5ad")`."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellmodel.core.config import Values
from cellmodel.core.tools import forwards_to, tool
from cellmodel.io.cells import ReadConfig, cells_from_anndata
from cellmodel.io.writers import check_targets
from cellmodel.pl.report.serve import serve_report
from cellmodel.pl.report.write import report_cells
from genekb.core.python import for_python
from genekb.files.replace import Target

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)


@for_python
def view(
    path: str | Path,
    *,
    cluster_key: str = "cellmodel",
    sample_key: str | None = None,
    port: int = 0,
    browser: bool = True,
    layer: str | None = None,
    use_raw: bool = False,
    gene_key: str | None = None,
    values: Values = "auto",
    other_store: bool = False,
) -> None:
    """Show the report of a file of cells in the browser, with every gene, as `cellmodel view` does, until Ctrl-C.

    Nothing is written.

    Parameters
    ----------
    path
        Cells with clusters.
    cluster_key
        Column of obs with the clusters.
    sample_key
        Column of obs with the sample of each cell; that of the run's files or batches, if None.
    port
        Port of 127.0.0.1; any that is free if 0.
    browser
        Whether the page is opened in the browser.
    layer
        Layer that holds the values; found by what the matrices hold if None.
    use_raw
        Whether the values are those of ``.raw``.
    gene_key
        Column of var with the gene names; the index of var if None.
    values
        What the values are: ``counts``, ``linear``, ``log1p``; found by what the matrices hold if ``auto``.
    other_store
        Whether names and evidence may be of another store than the clusters.

    Raises
    ------
    InputUnusable
        As the report does, or if the port is taken.
    """
    import webbrowser

    read = ReadConfig(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    with (
        suppress(KeyboardInterrupt),
        serve_report(
            Path(path), cluster_key=cluster_key, sample_key=sample_key, read=read, port=port, other_store=other_store
        ) as (address, server),
    ):
        log.warning("%s (Ctrl-C ends it)", address)
        if browser:
            webbrowser.open(address)
        server.serve_forever()


@tool
@forwards_to(view, "port", "browser")
def report(
    adata: "AnnData",
    path: str | Path,
    *,
    cluster_key: str | None = None,
    sample_key: str | None = None,
    key_added: str = "cellmodel",
    genes: str | Path | Sequence[str] = (),
    overwrite: bool = False,
    **settings: Any,
) -> Path:
    """Write the HTML report of the clusters of cells, whoever made them, and give its path.

    From the shell: ``cellmodel report``.

    Parameters
    ----------
    adata
        Counts or log-normalized expression; genes by any of their names; in memory or backed.
    path
        HTML file to write.
    cluster_key
        Column of obs with the clusters; that of ``key_added`` if None.
    sample_key
        Column of obs with the sample of each cell; that of the run's files or batches, if None.
    key_added
        Name of the slots of a run.
    genes
        Names of genes that can color the map, beside markers, all that the report names, those of cell types and
        variable ones; a file with one a line; or ``all``.
    overwrite
        Whether that file may be replaced.
    settings
        Arguments of :func:`view`: where the values are, and ``other_store``.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, LineageMismatch, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> cm.report(adata, "clusters.html").name
    'clusters.html'
    """
    page, other_store = Path(path), settings.pop("other_store", False)
    check_targets([Target(page)], overwrite=overwrite)
    cells = cells_from_anndata(adata, ReadConfig(**settings))
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
