"""The table of vectors as the embedding of perturbed genes: two epochs of Scouter."""

import anndata
import pandas as pd
from scouter import Scouter, ScouterData

embedding = pd.read_csv("vectors.csv", index_col=0)
embedding.loc["ctrl"] = 0.0
data = ScouterData(anndata.read_h5ad("cells.h5ad"), embedding, key_label="condition", key_var_genename="gene_name")
data.setup_ad("embd_index")
data.gene_ranks()
data.get_dropout_non_zero_genes()
data.split_Train_Val_Test(seed=1)
model = Scouter(data, device="cpu")
model.model_init(n_encoder=(64,), n_out_encoder=16, n_decoder=(64,))
model.train(n_epochs=2, batch_size=64)
unseen = data.test_conds[0]
predicted = model.pred([unseen])[unseen]
n_genes = predicted.shape[1]
did = f"{len(data.matched_genes) - 1} perturbed genes found; 2 epochs; {n_genes} genes predicted for {unseen}"
print(did)  # noqa: T201
