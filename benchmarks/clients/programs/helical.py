"""The dict of GenePT in helical's form: cells as means of the vectors of their genes."""

import anndata
import numpy as np
from helical.models.genept.genept_config import GenePTConfig
from helical.models.genept.model import GenePT

configuration = GenePTConfig()
configuration.config |= {"embeddings_path": "helical.json", "list_of_files_to_download": []}
model = GenePT(configuration)
adata = anndata.read_h5ad("cells.h5ad")
adata.X = adata.layers["counts"].copy()
adata.var["highly_variable"] = True
embedding = np.asarray(model.get_embeddings(adata))
found = sum(gene.upper() in model.embeddings for gene in adata.var_names)
assert np.allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-3)
print(f"{found} of {adata.n_vars} genes found; {embedding.shape[0]} cells in {embedding.shape[1]} dimensions")  # noqa: T201
