"""Cells of three kinds in batches whose genes are scaled by factors of their own."""

import anndata
import numpy as np
import pandas as pd

N_KINDS = 3


def two_protocols(*, n_cells=240, n_genes=120, n_batches=2, effect=0.4, seed=0):
    """Counts with ``obs["batch"]``, ``b0`` and so on, and ``obs["kind"]``; ``effect`` 0: batches do not differ."""
    rng = np.random.default_rng(seed)
    kinds, batches = np.arange(n_cells) % N_KINDS, rng.integers(0, n_batches, n_cells)
    rates = np.tile(rng.gamma(2.0, 1.0, n_genes), (N_KINDS, 1))
    for kind in range(N_KINDS):
        rates[kind, 10 * kind : 10 * kind + 10] *= 5
    factors = np.exp(effect * rng.standard_normal((n_batches, n_genes)))
    counts = rng.poisson(rates[kinds] * factors[batches]).astype(np.float32)
    obs = pd.DataFrame(
        {"batch": [f"b{batch}" for batch in batches], "kind": [f"kind {kind}" for kind in kinds]},
        index=[f"cell{cell}" for cell in range(n_cells)],
    )
    return anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"G{gene}" for gene in range(n_genes)]))
