"""Predicted effects of held-out knock-outs, added to the mean of control cells, scored by cell-eval."""

import anndata
import numpy as np
import pandas as pd
from cell_eval import MetricsEvaluator

CONTROL, KEY = "non-targeting", "perturbation"
effects = anndata.read_h5ad("effects.h5ad")
cells = anndata.read_h5ad("cells.h5ad")[:, effects.var_names]
real = cells[cells.obs[KEY].isin([CONTROL, *effects.obs_names])].copy()
del real.layers["counts"]
control = real[real.obs[KEY] == CONTROL]
profiles = np.maximum(control.X.mean(axis=0).A1 + effects.X, 0)
pred = anndata.AnnData(
    np.vstack([control.X.toarray(), profiles]).astype(np.float32),
    obs=pd.DataFrame({KEY: [CONTROL] * control.n_obs + list(effects.obs_names)}, dtype="category"),
    var=real.var[[]],
)
pred.obs_names_make_unique()
evaluator = MetricsEvaluator(pred, real, control_pert=CONTROL, pert_col=KEY, skip_de=True, outdir="cell-eval")
_, means = evaluator.compute(profile="anndata", write_csv=False)
row = next(line for line in means.to_dicts() if line["statistic"] == "mean")
did = f"{effects.n_obs} held-out knock-outs: discrimination {row['discrimination_score_l1']:.2f}"
print(f"{did} (.5 by chance), Pearson of the effect {row['pearson_delta']:.2f}, MAE {row['mae']:.3f}")  # noqa: T201
