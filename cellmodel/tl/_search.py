"""Score cells and rank clusters by free text."""

from dataclasses import KW_ONLY, asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import genekb
from cellmodel.annotate.search.cells import Found, SearchConfig, search_cells
from cellmodel.core.config import RunConfig
from cellmodel.core.stages import AnyStages
from cellmodel.core.tools import Kb, forwards_to, open_kb, tool
from cellmodel.io.cells import Cells
from cellmodel.tl._cluster import SHARED, cluster, split_settings
from cellmodel.tl._run.files import CellFiles, run_task
from cellmodel.tl._run.task import Slot, Task

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class SearchJob(Task[Found]):
    """Score cells and rank clusters by free text, see :func:`cellmodel.annotate.search.cells.search_cells`."""

    kb: genekb.Store
    config: RunConfig
    _: KW_ONLY
    search: SearchConfig

    def slots(self, key_added: str) -> list[Slot]:
        """Score of each cell, and record."""
        return [("obs", key_added), ("uns", key_added)]

    def compute(self, cells: Cells, stages: AnyStages) -> Found:
        """Search the cells."""
        return search_cells(cells, self.kb, self.config, search=self.search)

    def values(self, cells: Cells, result: Found, key_added: str) -> dict[Slot, Any]:
        """Scores, settings, clusters and genes."""
        record = {"params": asdict(self.search), "seed": self.config.seed} | result.to_dict()
        return {("obs", key_added): result.scores.astype(np.float32), ("uns", key_added): record}


@tool
@forwards_to(cluster, only=SHARED)
def search(
    adata: "AnnData | CellFiles",
    kb: Kb,
    query: str,
    *,
    use_types: bool = True,
    cluster_key: str | None = None,
    key_added: str = "cellmodel_search",
    other_store: bool = False,
    **settings: Any,
) -> "AnnData | Found | None":
    """Score cells and rank clusters by free text.

    Adds ``obs["<key>"]``, the score of each cell, and ``uns["<key>"]``: ranked clusters, genes with a sentence each.

    From the shell: ``cellmodel search``.

    Parameters
    ----------
    adata
        Counts or log-normalized expression; genes by any of their names; in memory, backed, or `CellFiles`.
    kb
        Store: its name, such as ``human``, its folder, or opened.
    query
        Free text, such as "cytotoxic T lymphocytes".
    use_types
        Whether a query that names a cell type brings the markers of that type.
    cluster_key
        Column of obs with the clusters; ``cellmodel`` if None and it is there, else cells alone are scored.
    key_added
        Name of the slots.
    other_store
        Whether the clusters or labels may be of another store or encoder; both are recorded then.
    settings
        Arguments of :func:`cluster`: encoder, where the values are, and the like.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, LineageMismatch, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata = anndata.read_h5ad("clustered.h5ad")
    >>> cm.tl.search(adata, "demo", "B lymphocytes")
    >>> adata.obs["cellmodel_search"].shape == (adata.n_obs,)
    True
    """
    wanted = SearchConfig(query=query, cluster_key=cluster_key, use_types=use_types, other_store=other_store)
    config, read, slots = split_settings(settings | {"key_added": key_added})
    return run_task(adata, SearchJob(open_kb(kb), config, search=wanted), read, **slots)
