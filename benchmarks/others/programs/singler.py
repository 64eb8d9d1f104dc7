"""SingleR: correlation with the reference, all labels, and those that its rule of pruning leaves (3 MAD of delta)."""

import json
import sys
import time
from pathlib import Path

import anndata
import numpy as np
import singler


def pruned(labels: np.ndarray, delta: np.ndarray) -> list[str]:
    kept = labels.astype(object)
    for label in np.unique(labels):
        its = labels == label
        middle = np.median(delta[its])
        limit = middle - 3 * 1.4826 * np.median(np.abs(delta[its] - middle))
        kept[its & (delta < limit)] = "unassigned"
    return kept.tolist()


found = {}
for fold in sorted(Path().glob("fold_*")):
    reference, query = (anndata.read_h5ad(fold / f"{name}.h5ad") for name in ("reference", "query"))
    started = time.process_time()
    result = singler.annotate_single(
        query.X.T.tocsr().astype(float), reference.X.T.tocsr().astype(float), reference.obs["cell_type"].tolist(),
        test_features=query.var_names.tolist(), ref_features=reference.var_names.tolist(),
    )  # fmt: skip
    seconds = time.process_time() - started
    labels = np.array(result.column("best"), dtype=str)
    delta = np.nan_to_num(np.array(result.column("delta"), dtype=float), nan=np.inf)
    found[fold.name] = {
        "SingleR": {"labels": labels.tolist(), "seconds": seconds},
        "SingleR, pruned": {"labels": pruned(labels, delta), "seconds": seconds},
    }
Path("found.json").write_text(json.dumps(found))
sys.stdout.write(f"{len(found)} folds\n")
