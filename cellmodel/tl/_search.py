"""Words against cells: free text ranks clusters and scores cells, with the genes responsible and what texts say."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

import genekb
from cellmodel.annotate.search import Found, SearchConfig, search_cells
from cellmodel.core.config import RunConfig
from cellmodel.io.cells import Cells, ReadConfig, claim_slots, read_cells
from cellmodel.io.outputs import WriteConfig, check_outputs
from cellmodel.io.writers import h5ad_safe, write_cells


def search_into(
    cells: Cells, kb: genekb.Store, config: RunConfig, *, search: SearchConfig, key_added: str, overwrite: bool = False
) -> Found:
    """Search, and write ``obs["<key>"]``, the score of each cell, and ``uns["<key>"]``.

    Raises ``SlotTaken`` if a slot exists and ``overwrite`` is not set; ``InputUnusable``, ``AlignmentTooLow``,
    ``NotAvailable``, ``LineageMismatch``: see :func:`search_cells`.
    """
    adata = cells.adata
    claim_slots(adata, [("obs", key_added), ("uns", key_added)], overwrite=overwrite)
    found = search_cells(cells, kb, config, search=search)
    adata.obs[key_added] = found.scores.astype(np.float32)
    adata.uns[key_added] = h5ad_safe({"params": asdict(search), "seed": config.seed} | found.to_dict())
    return found


def search_file(
    path: Path,
    kb: genekb.Store,
    config: RunConfig,
    *,
    search: SearchConfig,
    read: ReadConfig,
    write: WriteConfig | None = None,
) -> Found:
    """Search the cells of a file, and write them with their scores if ``write`` says where.

    Raises ``InputUnusable`` if the input cannot be used, or the output exists and may not be replaced; this is found
    before any work.
    """
    if write is None:
        return search_cells(read_cells(path, read), kb, config, search=search)
    check_outputs(write, inputs=(path,))
    cells = read_cells(path, read)
    found = search_into(cells, kb, config, search=search, key_added=write.key_added, overwrite=write.overwrite)
    write_cells(cells.adata, write.output, source=path, overwrite=write.overwrite)
    return found
