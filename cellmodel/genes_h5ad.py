"""Gene vectors of a store as an AnnData file: a row a gene, so that genes can be clustered and drawn like cells."""

from pathlib import Path
from typing import Final

import numpy as np

import genekb
from cellmodel.errors import InputUnusable
from cellmodel.writers import h5ad_safe, write_cells

_COLUMNS: Final = ("symbol", "name", "type", "tax_id")


def write_genes_h5ad(store: genekb.Store, path: Path, *, encoder: str | None = None, overwrite: bool = False) -> int:
    """Write the genes that have a vector: obs holds who they are, X their vectors, uns where both come from.

    Parameters
    ----------
    encoder
        As for :meth:`genekb.Store.encoder_id`.

    Returns
    -------
    Number of genes written.

    Raises
    ------
    InputUnusable
        If the suffix is not .h5ad, the file exists and may not be replaced, or the disk refuses.
    NotAvailable
        If the store has no such encoder.
    """
    import pandas as pd
    from anndata import AnnData

    if path.suffix != ".h5ad":
        raise InputUnusable(f"{path} ends with {path.suffix!r}; genes are written as .h5ad")
    encoder_id = store.encoder_id(encoder)
    gene_ids = store.vector_table(encoder_id).gene_ids
    genes = store.table("genes").to_pandas().set_index("gene_id").loc[np.asarray(gene_ids), list(_COLUMNS)]
    genes.index = pd.Index(genes.index.astype(str), name="gene_id")
    vectors = np.array(store.vectors(gene_ids, encoder=encoder_id).vectors, dtype=np.float32)
    dims = pd.DataFrame(index=[f"dim_{number}" for number in range(vectors.shape[1])])
    adata = AnnData(X=vectors, obs=genes.fillna(""), var=dims)
    adata.uns["genekb"] = h5ad_safe(
        {
            "store_id": store.store_id,
            "store_digest": store.manifest.digest,
            "encoder_id": encoder_id,
            "recipe": dict(store.manifest.encoders[encoder_id]["recipe"]),
            "licences": list(store.manifest.licences),
        }
    )
    write_cells(adata, path, overwrite=overwrite)
    return len(gene_ids)
