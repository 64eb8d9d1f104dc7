"""Labels carried over from a reference to a query: cells in, classes with their confidence out, written where asked."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import genekb
from cellmodel.annotate.label_transfer import UNASSIGNED, Transfer, TransferConfig, transfer_labels
from cellmodel.core.config import RunConfig
from cellmodel.io.cells import Cells, ReadConfig, claim_slots, read_cells
from cellmodel.io.lineage import lineage_record
from cellmodel.io.outputs import WriteConfig, check_outputs
from cellmodel.io.writers import h5ad_safe, write_cells

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def transfer_slots(key_added: str) -> list[tuple[str, str]]:
    """List the slots that a transfer writes, so that they can be claimed before any work is done."""
    in_obs = [("obs", key_added), ("obs", f"{key_added}_confidence")]
    return [*in_obs, ("obsm", f"{key_added}_probabilities"), ("uns", key_added)]


def write_transfer(cells: Cells, found: Transfer, *, key_added: str, overwrite: bool = False) -> None:
    """Write classes, confidence and probabilities into the AnnData of the query; nothing else of it is touched.

    Raises ``SlotTaken`` if a slot exists and ``overwrite`` is not set.
    """
    import pandas as pd

    adata = cells.adata
    claim_slots(adata, transfer_slots(key_added), overwrite=overwrite)
    adata.obs[key_added] = pd.Categorical(found.labels, categories=[*found.names, UNASSIGNED])
    adata.obs[f"{key_added}_confidence"] = found.prediction.confidence.astype(np.float32)
    adata.obsm[f"{key_added}_probabilities"] = found.prediction.probabilities.astype(np.float32)
    adata.uns[key_added] = h5ad_safe(_record(cells, found))


def _record(cells: Cells, found: Transfer) -> dict[str, Any]:
    params = {"run": found.config.to_dict(), "transfer": asdict(found.transfer)}
    return {
        "params": params,
        "seed": found.config.seed,
        "store_id": found.store_id,
        "encoder_id": found.encoder_id,
        "content_id": found.content_id,
        **lineage_record(found.made_with),
        "reference": found.reference,
        "classes": list(found.names),
        "counts": _count_frame(found),
        "n_unlabelled": found.n_unlabelled,
        "unassigned_below": found.limit,
        "genes": {"meeting": found.transfer.meeting, "n_genes": found.n_genes, "note": found.note},
        "input": {"source": cells.source.rsplit("/", 1)[-1], "value_kind": str(cells.kind), "notes": list(cells.notes)},
    }


def _count_frame(found: Transfer) -> "pd.DataFrame":
    import pandas as pd

    counts = found.n_query
    return pd.DataFrame(
        {"class": list(counts), "n_reference": [*found.n_reference, 0], "n_query": list(counts.values())}
    )


def transfer_file(
    path: Path,
    reference: Path,
    kb: genekb.Store,
    config: RunConfig,
    *,
    transfer: TransferConfig,
    read: ReadConfig,
    write: WriteConfig,
) -> Transfer:
    """Read query and reference, carry the labels over, and write the query with its classes.

    ``read``: where the values and the gene names are, in both files. Raises ``InputUnusable`` if an input cannot be
    used, or the output exists and may not be replaced; this is found before any work.
    """
    check_outputs(write, inputs=(path, reference))
    query = read_cells(path, read)
    claim_slots(query.adata, transfer_slots(write.key_added), overwrite=write.overwrite)
    labelled = read_cells(reference, read)
    for cells in (query, labelled):
        for note in cells.notes:
            log.info("%s: %s", cells.source, note)
    found = transfer_labels(query, labelled, kb, config, transfer=transfer)
    write_transfer(query, found, key_added=write.key_added, overwrite=write.overwrite)
    write_cells(query.adata, write.output, source=path, overwrite=write.overwrite)
    return found
