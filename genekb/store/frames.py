"""A store as people see it: facts in a line each, genes and vectors as tables of pandas."""

from typing import TYPE_CHECKING

import numpy as np

from genekb import schema
from genekb.core.messages import listed
from genekb.core.plugins import require
from genekb.genes.taxa import taxon_name

if TYPE_CHECKING:
    import pandas as pd

    from genekb.store.reader import Store

_SHOWN = ["gene_id", "symbol", "name", "type", "tax_id", "aliases"]


def store_facts(store: "Store") -> dict[str, str]:
    """Say what a store is, in a line each."""
    manifest = store.manifest
    encoders = [f"{each['name']} ({each['dim']} dimensions)" for each in map(manifest.recipe, store.encoder_ids)]
    return {
        "genes": f"{manifest.n_genes:,}, {manifest.n_texts:,} with a text",
        "species": listed([taxon_name(tax_id) for tax_id in manifest.taxa]),
        "encoders": listed([*encoders, *(f"{key} (not pulled)" for key in store.not_pulled)]) or "none",
        "folder": str(store.folder),
    }


def gene_frame(store: "Store") -> "pd.DataFrame":
    """Give the genes and their texts by GeneID; see :meth:`genekb.Store.to_frame`."""
    require("pandas", needed_by="tables in Python need")
    genes = store.table("genes").select(_SHOWN).to_pandas()
    return genes.assign(text=store.texts(genes["gene_id"].to_numpy())).set_index("gene_id")


def vector_frame(store: "Store", encoder: str) -> "pd.DataFrame":
    """Give the vectors of an encoder by symbol; see :meth:`genekb.Store.to_frame`."""
    require("pandas", needed_by="tables in Python need")
    import pandas as pd

    table = store.vector_table(encoder)
    symbols = schema.rows_of(store.table("genes"), table.gene_ids)["symbol"].to_pylist()
    return pd.DataFrame(np.asarray(table.vectors)[table.rows], index=pd.Index(symbols, name="symbol"))
