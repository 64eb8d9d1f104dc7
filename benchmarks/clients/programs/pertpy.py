"""The space of perturbations in pertpy: clusters of it, and a class of perturbations transferred to a held-out one."""

import anndata
import pertpy
import scanpy as sc

space = anndata.read_h5ad("space.h5ad")
pathway = {"IFNGR1": "interferon", "IFNGR2": "interferon", "JAK2": "interferon", "STAT1": "interferon"}
space.obs["pathway"] = [pathway.get(name, "other") for name in space.obs["perturbation"]]
space.obs.loc["STAT1", "pathway"] = "unknown"
sc.pp.neighbors(space, use_rep="X", n_neighbors=4)
pertpy.tl.PseudobulkSpace().label_transfer(space, target_column="pathway")
clusters = pertpy.tl.KMeansSpace().compute(space, n_clusters=4, copy=True)
by_cells = pertpy.tl.PseudobulkSpace().compute(anndata.read_h5ad("cells.h5ad"), target_col="perturbation")
shared = by_cells.obs_names.intersection(space.obs_names)
did = f"{space.n_obs} perturbations, {len(shared)} in pertpy's own space of the cells; STAT1's class is transferred as "
print(f"{did}{space.obs.loc['STAT1', 'pathway']}; {clusters.obs['k-means'].nunique()} clusters")  # noqa: T201
