"""Names of the genes of a file, as far as coverage by a store asks for them; a list needs no package of cells."""

from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from cellmodel.core.errors import InputUnusable, NotAvailable
from cellmodel.io.guard import KINDS, check_there
from genekb.core.plugins import require
from genekb.files.tables import read_list, table_format

LISTS: Final = (".txt", ".list")  # a name a line


def read_gene_totals(path: Path, *, gene_key: str | None = None) -> tuple[tuple[str, ...], Float[np.ndarray, " gene"]]:
    """Read the genes that a run would use, or a plain list of names, and the total of each; ones for a list.

    No kind of values is refused: names can be looked up before the values are in order. Raises ``NotAvailable`` if the
    packages that read cells are not installed.
    """
    check_there(path, kinds=KINDS)
    if path.is_file() and table_format(path) in LISTS:
        names = tuple(read_list(path, "a list of genes", error=InputUnusable))
        if not names:
            raise InputUnusable(f"{path} holds no name; give one gene a line")
        return names, np.ones(len(names))
    instead = "give a list of names, one a line (.txt)"
    require("anndata", needed_by=f"{path}: reading cells needs", instead=instead, error=NotAvailable)
    from cellmodel.io.cells import total_genes

    return total_genes(path, gene_key=gene_key)
