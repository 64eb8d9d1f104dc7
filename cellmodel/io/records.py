"""Which slot of an AnnData holds which result: written by a run, read back by the report and by later commands."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from jaxtyping import Int

from cellmodel.io.value_kind import ValueKind
from genekb.core.versions import installed_version

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

VERSIONED: Final = ("genekb-cellmodel", "numpy", "scipy", "scikit-learn", "scikit-network", "torch", "anndata")
# Tables of a record of a run, and the columns that are read again
_TABLES: Final[dict[tuple[str, ...], frozenset[str]]] = {
    ("markers",): frozenset({"cluster", "name", "log2_fold_change", "p_adjusted", "fraction_in", "fraction_out"}),
    ("words",): frozenset({"cluster", "term", "score", "p_value", "p_adjusted", "gene", "weight", "sentence"}),
    ("knowledge",): frozenset({"knowledge", "neighbour_agreement"}),
    ("history",): frozenset(),
    ("n_clusters", "curve"): frozenset(),
}


class CellTable(Protocol):
    """What is written beside a run's result: of cells in memory, or in their file."""

    @property
    def adata(self) -> "AnnData":
        """Where the result goes."""

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes that were used."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the genes."""

    @property
    def var_rows(self) -> Int[np.ndarray, " gene"] | None:
        """Row of var of each gene; None for those of ``.raw``."""

    @property
    def kind(self) -> ValueKind:
        """What the values are."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found, chosen and done."""

    @property
    def source(self) -> str:
        """File, or where else they are."""


def input_record(cells: CellTable) -> dict[str, Any]:
    """Versions that work on the cells, and what was read: the part of a record that needs no run."""
    return {
        "versions": {name: installed_version(name) for name in VERSIONED},
        "input": {
            "source": cells.source.rsplit("/", 1)[-1],
            "value_kind": str(cells.kind),
            "notes": list(cells.notes),
            "n_cells": cells.shape[0],
            "n_genes": cells.shape[1],
        },
    }


def run_record(uns: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """Record of the run that made clusters; None where there is none that is whole: ``uns`` may hold anything."""
    record = uns.get(key)
    if not isinstance(record, Mapping) or not {"seed", "recipe"} <= record.keys():
        return None
    tables = [stored_table(record, *path, columns=columns) for path, columns in _TABLES.items()]
    parts = [record.get(name) for name in ("input", "params", "versions", "n_clusters")]
    is_whole = all(table is not None for table in tables) and all(isinstance(part, Mapping) for part in parts)
    return record if is_whole else None


def stored_table(record: object, *path: str, columns: Collection[str] = ()) -> "pd.DataFrame | None":
    """Find a table inside nested records; None where it is missing, no table, or has rows and lacks a column."""
    import pandas as pd

    for part in path:
        if not isinstance(record, Mapping) or part not in record:
            return None
        record = record[part]
    if not isinstance(record, pd.DataFrame) or (len(record) and not set(columns) <= set(record)):
        return None
    return record
