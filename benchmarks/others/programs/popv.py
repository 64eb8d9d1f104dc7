"""popV: the votes of its methods that need no ontology and no trained model; its consensus, and that of most votes."""

import json
import sys
import time
from pathlib import Path

import anndata
import numpy as np
import popv

METHODS = ["CELLTYPIST", "KNN_HARMONY", "KNN_BBKNN", "KNN_SCANORAMA", "Random_Forest", "Support_Vector"]
popv.settings.compute_umap_embedding = False
found = {}
for fold in sorted(Path().glob("fold_*")):
    reference, query = (anndata.read_h5ad(fold / f"{name}.h5ad") for name in ("reference", "query"))
    for adata in (reference, query):
        adata.X = np.round(adata.layers["counts"].copy())
        adata.obs["batch"] = adata.obs["batch"].astype(str).astype("category")
    started = time.process_time()
    process = popv.preprocessing.Process_Query(
        query, reference, ref_labels_key="cell_type", ref_batch_key="batch", query_batch_key="batch",
        cl_obo_folder=False, prediction_mode="retrain", unknown_celltype_label="unknown", hvg=None,
        save_path_trained_models=f"{fold.name}_models/",
    )  # fmt: skip
    adata = process.adata
    popv.annotation.annotate_data(adata, methods=METHODS)
    seconds = time.process_time() - started
    its = adata[adata.obs["_dataset"] == "query"].obs
    its = its.loc[[name if name in its.index else f"{name}_query" for name in query.obs_names]]
    labels, votes = its["popv_majority_vote_prediction"].astype(str), its["popv_majority_vote_score"].astype(float)
    found[fold.name] = {
        "popV": {"labels": labels.tolist(), "seconds": seconds},
        "popV, more than half of the votes": {
            "labels": np.where(votes > len(METHODS) / 2, labels, "unassigned").tolist(),
            "seconds": seconds,
        },
    }
Path("found.json").write_text(json.dumps(found))
sys.stdout.write(f"{len(found)} folds\n")
