"""Label the test cells of OpenProblems by the training cells."""

import anndata as ad
import pandas as pd

import cellmodel as cm

## VIASH START
par = {
    "input_train": "resources_test/task_label_projection/cxg_immune_cell_atlas/train.h5ad",
    "input_test": "resources_test/task_label_projection/cxg_immune_cell_atlas/test.h5ad",
    "output": "output.h5ad",
    "kb": "human",
}
meta = {"name": "cellmodel"}
## VIASH END

train, test = (ad.read_h5ad(par[name]) for name in ("input_train", "input_test"))
# every cell must have a label, so that none is left unassigned
cm.tl.classify(test, train, par["kb"], label_key="label", layer="counts", batch_key="batch", unassigned_below=0.0)
output = ad.AnnData(
    obs=pd.DataFrame({"label_pred": test.obs["cellmodel_class"].astype(str)}, index=test.obs_names),
    uns={
        "dataset_id": train.uns["dataset_id"],
        "normalization_id": train.uns["normalization_id"],
        "method_id": meta["name"],
    },
)
output.write_h5ad(par["output"], compression="gzip")
