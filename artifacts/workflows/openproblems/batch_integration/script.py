"""Integrate the batches of a dataset of OpenProblems."""

import anndata as ad

import cellmodel as cm

## VIASH START
par = {
    "input": "resources_test/task_batch_integration/cxg_immune_cell_atlas/dataset.h5ad",
    "output": "output.h5ad",
    "kb": "human",
}
meta = {"name": "cellmodel"}
## VIASH END

adata = ad.read_h5ad(par["input"])
cm.tl.embed(adata, par["kb"], batch_key="batch", layer="counts")
output = ad.AnnData(
    obs=adata.obs[[]],
    var=adata.var[[]],
    obsm={"X_emb": adata.obsm["X_cellmodel"]},
    uns={
        "dataset_id": adata.uns["dataset_id"],
        "normalization_id": adata.uns["normalization_id"],
        "method_id": meta["name"],
    },
)
output.write_h5ad(par["output"], compression="gzip")
