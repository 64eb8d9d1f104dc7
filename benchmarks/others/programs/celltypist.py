"""CellTypist: a model trained on the reference; best match, and the match with a probability above its .5."""

import json
import sys
import time
from pathlib import Path

import anndata
import celltypist

found = {}
for fold in sorted(Path().glob("fold_*")):
    reference, query = (anndata.read_h5ad(fold / f"{name}.h5ad") for name in ("reference", "query"))
    started = time.process_time()
    model = celltypist.train(reference, labels="cell_type", check_expression=False, n_jobs=1)
    best = celltypist.annotate(query, model=model).predicted_labels["predicted_labels"]
    sure = celltypist.annotate(query, model=model, mode="prob match", p_thres=0.5).predicted_labels["predicted_labels"]
    seconds = time.process_time() - started
    found[fold.name] = {
        "CellTypist, best match": {"labels": best.tolist(), "seconds": seconds},
        "CellTypist, probability match": {
            "labels": ["unassigned" if label == "Unassigned" else label for label in sure],
            "seconds": seconds,
        },
    }
Path("found.json").write_text(json.dumps(found))
sys.stdout.write(f"{len(found)} folds\n")
