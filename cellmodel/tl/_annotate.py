"""Names for the clusters of a file from a user's marker genes: read, named, written beside the clusters."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import genekb
from cellmodel.annotate.candidates import Panel
from cellmodel.annotate.marker_overlap import Naming, name_cells
from cellmodel.annotate.name_cells import NamedCells, TypeChoice, name_types
from cellmodel.core.config import RunConfig
from cellmodel.explain.groups import group_cells
from cellmodel.io.cells import Cells, ReadConfig, claim_slots, read_cells
from cellmodel.io.lineage import lineage_record
from cellmodel.io.outputs import WriteConfig, check_outputs
from cellmodel.io.writers import h5ad_safe, write_cells


def annotate_file(path: Path, panel: Panel, *, cluster_key: str, read: ReadConfig, write: WriteConfig) -> Naming:
    """Name the clusters of a file and write ``obs["<key>"]`` and the evidence, ``uns["<key>"]``.

    Raises ``InputUnusable`` if the column of clusters is missing, or an output cannot be written.
    """
    import pandas as pd

    check_outputs(write, inputs=(path,))
    cells = read_cells(path, read)
    adata, key = cells.adata, write.key_added
    grouped = group_cells(cells, cluster_key)
    claim_slots(adata, [("obs", key), ("uns", key)], overwrite=write.overwrite)
    found = name_cells(cells, grouped, panel)
    filled = np.full(adata.n_obs, None, dtype=object)
    filled[grouped.rows] = [found.names[label].name for label in grouped.labels.tolist()]
    adata.obs[key] = pd.Categorical(filled)
    adata.uns[key] = h5ad_safe({"cluster_key": cluster_key, "names": _frame(found)})
    write_cells(adata, write.output, source=path, overwrite=write.overwrite)
    return found


def _frame(found: Naming) -> object:
    import pandas as pd

    rows = [
        asdict(one) | {"cluster": cluster, "n_cells": n_cells, "genes": ", ".join(one.genes)}
        for cluster, n_cells, one in zip(found.clusters, found.n_cells, found.names, strict=True)
    ]
    return pd.DataFrame(rows)


def annotate_types(
    cells: Cells, kb: genekb.Store, config: RunConfig, *, choice: TypeChoice, key_added: str, overwrite: bool = False
) -> NamedCells:
    """Name clusters and cells, and write ``obs["<key>"]``, ``obs["<key>_cell"]``, its score, and ``uns["<key>"]``.

    Cells without a cluster get no name.

    Raises ``SlotTaken`` if a slot exists and ``overwrite`` is not set; ``InputUnusable``, ``AlignmentTooLow``,
    ``NotAvailable``, ``LineageMismatch``: see :func:`name_types`.
    """
    import pandas as pd

    adata = cells.adata
    in_obs = (key_added, f"{key_added}_cell", f"{key_added}_cell_score")
    claim_slots(adata, [*(("obs", column) for column in in_obs), ("uns", key_added)], overwrite=overwrite)
    named = name_types(cells, kb, config, choice=choice)
    rows = named.found.rows
    of_cluster = [named.names[label].name for label in named.found.labels.tolist()]
    for column, values in zip(in_obs, (of_cluster, named.cell_names), strict=False):
        filled = np.full(adata.n_obs, None, dtype=object)
        filled[rows] = values
        adata.obs[column] = pd.Categorical(filled)
    scores = np.full(adata.n_obs, np.nan, dtype=np.float32)
    scores[rows] = named.cell_scores
    adata.obs[in_obs[2]] = scores
    adata.uns[key_added] = h5ad_safe(_record(named, choice, seed=config.seed))
    return named


def _record(named: NamedCells, choice: TypeChoice, *, seed: int) -> dict[str, Any]:
    import pandas as pd

    rows = named.rows()
    for row, one in zip(rows, named.names, strict=True):
        row["genes"] = ", ".join(gene.name for gene in one.genes)
    return {
        "cluster_key": choice.cluster_key,
        "names": pd.DataFrame(rows),
        "params": asdict(choice.naming),
        "n_candidates": named.n_candidates,
        "seed": seed,
        "store_id": named.store_id,
        "encoder_id": named.encoder_id,
        "content_id": named.content_id,
        **lineage_record(named.made_with),
    }


def annotate_types_file(
    path: Path, kb: genekb.Store, config: RunConfig, *, choice: TypeChoice, read: ReadConfig, write: WriteConfig
) -> NamedCells:
    """Name the clusters of a file and write it with the names.

    Raises ``InputUnusable`` if the input cannot be used, or the output exists and may not be replaced; this is found
    before any work.
    """
    check_outputs(write, inputs=(path,))
    cells = read_cells(path, read)
    named = annotate_types(cells, kb, config, choice=choice, key_added=write.key_added, overwrite=write.overwrite)
    write_cells(cells.adata, write.output, source=path, overwrite=write.overwrite)
    return named
