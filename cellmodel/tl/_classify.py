"""Transfer labels of a reference to cells."""

import logging
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import genekb
from cellmodel.annotate.cell_types import UNASSIGNED
from cellmodel.annotate.label_transfer import Transfer, TransferConfig, transfer_labels
from cellmodel.core.config import RunConfig
from cellmodel.core.stages import AnyStages
from cellmodel.io.cells import Cells, ReadConfig, read_cells
from cellmodel.io.records import input_record, lineage_record
from cellmodel.tl._run.task import Slot, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransferJob(Task[Transfer]):
    """Transfer labels of a reference, see :func:`cellmodel.annotate.label_transfer.transfer_labels`.

    ``read``: where the values and the gene names of a reference in a file are.
    """

    kb: genekb.Store
    config: RunConfig
    _: KW_ONLY
    reference: Path | Cells
    transfer: TransferConfig
    read: ReadConfig = field(default_factory=ReadConfig)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """File of the reference."""
        return (self.reference,) if isinstance(self.reference, Path) else ()

    def slots(self, key_added: str) -> list[Slot]:
        """Labels, their confidence and probabilities, and the record."""
        columns = [("obs", key_added), ("obs", f"{key_added}_confidence")]
        return [*columns, ("obsm", f"{key_added}_probabilities"), ("uns", key_added)]

    def compute(self, cells: Cells, stages: AnyStages) -> Transfer:
        """Read the reference, and transfer its labels."""
        reference = self.reference
        labelled = read_cells(reference, self.read) if isinstance(reference, Path) else reference
        for each in (cells, labelled):
            for note in each.notes:
                log.info("%s: %s", each.source, note)
        return transfer_labels(cells, labelled, self.kb, self.config, transfer=self.transfer)

    def values(self, cells: Cells, result: Transfer, key_added: str) -> dict[Slot, Any]:
        """Labels and figures of the cells, and what they were made with."""
        import pandas as pd

        figures = result.prediction
        return {
            ("obs", key_added): pd.Categorical(result.labels, categories=[*result.names, UNASSIGNED]),
            ("obs", f"{key_added}_confidence"): figures.confidence.astype(np.float32),
            ("obsm", f"{key_added}_probabilities"): figures.probabilities.astype(np.float32),
            ("uns", key_added): _record(cells, result),
        }


def _record(cells: Cells, found: Transfer) -> dict[str, Any]:
    import pandas as pd

    counts, settings = found.n_query, asdict(found.transfer)
    genes_by = settings["meeting"] = settings.pop("genes_by")  # as files have named it from the first
    return {
        "params": {"run": found.config.to_dict(), "transfer": settings},
        "seed": found.config.seed,
        **asdict(found.lineage),
        **lineage_record(found.made_with),
        "reference": found.reference,
        "classes": list(found.names),
        "counts": pd.DataFrame(
            {"class": list(counts), "n_reference": [*found.n_reference, 0], "n_query": list(counts.values())}
        ),
        "n_unlabelled": found.n_unlabelled,
        "unassigned_below": found.limit,
        "genes": {"meeting": genes_by, "n_genes": found.n_genes, "note": found.note},
        "input": input_record(cells)["input"],
    }
