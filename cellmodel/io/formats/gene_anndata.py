"""Gene vectors of a store as an AnnData file: a row a gene, so that genes can be clustered and drawn like cells."""

from pathlib import Path
from typing import Final

import numpy as np
import scipy.sparse as sp

import genekb
from cellmodel.core.errors import InputUnusable
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.io.records import h5ad_safe
from cellmodel.io.writers import check_targets, write_cells
from genekb.encoders.imported.files import NAME_COLUMNS, GeneRows
from genekb.encoders.imported.vectors import ForeignVectors, Keys, foreign_vectors
from genekb.files.endings import check_ending
from genekb.files.replace import Target
from genekb.query.export import NamedVectors, output_files, write_missing

_COLUMNS: Final = ("symbol", "name", "type", "tax_id")


def write_genes_h5ad(store: genekb.Store, path: Path, *, encoder: str | None = None, overwrite: bool = False) -> int:
    """Write the genes that have a vector: obs holds who they are, X their vectors, uns where both come from.

    ``encoder``: as for :meth:`genekb.Store.encoder_id`. Returns the number of genes.
    """
    import pandas as pd
    from anndata import AnnData

    check_ending(path, "h5ad", error=InputUnusable)
    check_targets([Target(path)], inputs=[store.folder], overwrite=overwrite)
    encoder_id = store.gene_encoder_id(encoder)
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


def write_perturbations_h5ad(found: NamedVectors, path: Path, *, overwrite: bool = False) -> int:
    """Write vectors as a perturbation space of pertpy: a row a perturbed gene, its name in obs["perturbation"].

    Returns the number of genes. Genes that were left out are listed beside it.
    """
    import pandas as pd
    from anndata import AnnData

    check_ending(path, "pertpy", error=InputUnusable)
    check_targets([Target(file) for file in output_files(found, path)], overwrite=overwrite)
    write_missing(found, path, overwrite=overwrite)
    names = pd.Index(found.names, name="gene")
    obs = pd.DataFrame({"perturbation": list(found.names), "gene_id": np.asarray(found.gene_ids)}, index=names)
    dims = pd.DataFrame(index=[f"dim_{number}" for number in range(found.vectors.shape[1])])
    adata = AnnData(X=found.vectors, obs=obs, var=dims)
    adata.uns["genekb"] = h5ad_safe(dict(found.lineage))
    write_cells(adata, path, overwrite=overwrite)
    return len(names)


def read_genes_h5ad(
    path: Path, *, names: Path | None = None, column: str | None = None, keys: Keys = "auto"
) -> ForeignVectors:
    """Read vectors of genes from an AnnData file with a row a gene, as :func:`write_genes_h5ad` writes it.

    ``names``, ``keys``: as for :func:`genekb.encoders.imported.vectors.read_foreign`. ``column``: column of obs that
    holds the names; the index if left out.
    """
    adata = read_anndata(path)
    obs = adata.obs.assign(**{str(adata.obs.index.name or "index"): adata.obs_names})
    columns = [column or str(adata.obs.index.name or "index"), *(name for name in NAME_COLUMNS if name in obs)]
    if columns[0] not in obs:
        raise InputUnusable(
            f"{path} has no column {columns[0]!r} in obs; it has {', '.join(map(str, adata.obs)) or 'none'}"
        )
    rows = GeneRows(
        columns={name: obs[name].astype(str).tolist() for name in columns},
        matrix=adata.X.toarray() if sp.issparse(adata.X) else np.asarray(adata.X),
    )
    return foreign_vectors(rows, path=path, kind="h5ad", names=names, keys=keys)
