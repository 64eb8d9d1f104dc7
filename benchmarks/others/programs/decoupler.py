"""decoupler: activities of the types of a marker table by univariate linear models, the best of each cluster."""

import json
import sys
import time
from pathlib import Path

import anndata
import decoupler as dc
import pandas as pd

found = {}
for path in sorted(Path().glob("*.h5ad")):
    adata = anndata.read_h5ad(path)
    markers = pd.read_csv(path.with_suffix(".csv"))
    started = time.process_time()
    dc.mt.ulm(data=adata, net=markers, tmin=3)
    ranked = dc.tl.rankby_group(dc.pp.get_obsm(adata, key="score_ulm"), groupby="label", reference="rest")
    ranked = ranked[ranked["stat"] > 0].sort_values("stat", ascending=False)
    best = ranked.groupby("group", observed=True).head(1).set_index("group")
    names = {str(group): str(row["name"]) for group, row in best.iterrows()}
    found[path.stem] = {"names": names, "seconds": time.process_time() - started}
Path("found.json").write_text(json.dumps(found))
sys.stdout.write(f"{len(found)} sets\n")
