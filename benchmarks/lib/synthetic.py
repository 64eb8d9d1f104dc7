"""Many cells made of few real ones: real counts resampled with noise, written block by block.

    python -m benchmarks.lib.synthetic kang_ctrl_stim_12261 cells.h5ad --n-cells 100000 [--batches 50]

Each synthetic cell lies at a random place between a real cell drawn at random and one of its nearest others (as in
SMOTE, Chawla et al. 2002), and its counts are drawn anew: Poisson, about that mean times a random depth, with a share
of molecules from the profile of all cells. Without the second cell, copies of one cell would be clusters of their own.
The number of cells grows and that of the cell types does not, so this says how time grows and not how well large data
are clustered. ``obs["cell_type"]`` is that of the first cell, for scoring. With batches, each cell is of one at random,
in ``obs["batch"]``, and a batch multiplies the mean of every gene by a factor of its own.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from benchmarks.lib.protocol import load_datasets
from cellmodel.core import random as seeding
from cellmodel.core.config import GraphConfig
from cellmodel.pp.features import principal_components
from cellmodel.pp.neighbors import knn_graph
from cellmodel.pp.normalize import normalize_log1p

BLOCK = 20_000  # cells made and written at once: bounds memory
DEPTH_SD = 0.3  # of the log of the depth factor
AMBIENT = 0.05  # share of a cell's molecules that come from the profile of all cells
BATCH_SD = 0.5  # of the log of the factor of a gene in a batch


def synthetic_cells(
    counts: sp.csr_matrix, *, n_cells: int, seed: int, n_batches: int = 0
) -> Iterator[tuple[sp.csr_matrix, np.ndarray, np.ndarray]]:
    """Draw cells in blocks: their counts, the row of the real cell that each was made of, and its batch."""
    factors = _batch_factors(n_batches, counts.shape[1], seed)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    profile = np.cumsum(np.asarray(counts.sum(axis=0)).ravel())
    near = _nearest(counts, seed)
    for block, start in enumerate(range(0, n_cells, BLOCK)):
        rng = seeding.generator(seed, f"synthetic cells {block}")
        sources = rng.integers(0, counts.shape[0], min(BLOCK, n_cells - start))
        others = near[sources, rng.integers(0, near.shape[1], len(sources))]
        share = rng.random(len(sources)) / 2  # of the other cell: the type is that of the nearer one
        depth = rng.lognormal(-(DEPTH_SD**2) / 2, DEPTH_SD, len(sources))  # of mean 1
        own = _scaled(counts[sources], 1 - share) + _scaled(counts[others], share * totals[sources] / totals[others])
        own = _scaled(own.tocsr(), (1 - AMBIENT) * depth)
        batch = seeding.generator(seed, f"batches {block}").integers(0, len(factors), len(sources))
        own.data *= factors[np.repeat(batch, np.diff(own.indptr)), own.indices]
        own.data = rng.poisson(own.data).astype(np.float32)
        cells = (own + _ambient(rng.poisson(AMBIENT * depth * totals[sources]), profile, rng)).tocsr()
        cells.eliminate_zeros()
        cells.sort_indices()
        yield cells, sources, batch


def _batch_factors(n_batches: int, n_genes: int, seed: int) -> np.ndarray:
    """Factor of each gene in each batch; 1 in the only one."""
    if not n_batches:
        return np.ones((1, n_genes))
    return seeding.generator(seed, "factors of batches").lognormal(-(BATCH_SD**2) / 2, BATCH_SD, (n_batches, n_genes))


def _nearest(counts: sp.csr_matrix, seed: int) -> np.ndarray:
    """Rows of the nearest other cells of each."""
    pcs = principal_components(normalize_log1p(counts))
    graph = knn_graph(pcs, config=GraphConfig())
    return graph.indices.reshape(len(pcs), -1)


def _scaled(cells: sp.csr_matrix, factor: np.ndarray) -> sp.csr_matrix:
    """Rows times a factor each."""
    return sp.csr_matrix(
        (cells.data * np.repeat(factor, np.diff(cells.indptr)), cells.indices, cells.indptr), cells.shape
    )


def _ambient(n_molecules: np.ndarray, profile: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
    """Molecules of any gene, by how often it occurs in all cells; ``profile`` is cumulative."""
    genes = np.searchsorted(profile, rng.random(n_molecules.sum()) * profile[-1], side="right")
    starts = np.concatenate([[0], np.cumsum(n_molecules)])
    drawn = sp.csr_matrix(
        (np.ones(len(genes), dtype=np.float32), genes, starts), shape=(len(n_molecules), len(profile))
    )
    drawn.sum_duplicates()
    return drawn


def write_synthetic(
    source: ad.AnnData, path: Path, *, n_cells: int, seed: int, label_key: str, n_batches: int = 0
) -> None:
    """Write an h5ad of synthetic cells with the genes of the source; it never sits in memory whole."""
    counts = sp.csr_matrix(source.X, dtype=np.float32)
    sources, batches = [], []
    with h5py.File(path, "w") as file:
        for cells, rows, batch in synthetic_cells(counts, n_cells=n_cells, seed=seed, n_batches=n_batches):
            if sources:
                ad.io.sparse_dataset(file["X"]).append(cells)
            else:  # with cells, by which the chunks are sized: a chunk each would take gigabytes to read
                ad.io.write_elem(file, "/", ad.AnnData(cells, var=source.var.copy()))
            sources.append(rows)
            batches.append(batch)
        rows = np.concatenate(sources)
        names = pd.Index([f"cell{number}" for number in range(n_cells)], dtype=str)
        obs = pd.DataFrame({"cell_type": source.obs[label_key].to_numpy()[rows], "source": rows}, index=names)
        if n_batches:
            obs["batch"] = pd.Categorical([f"batch{number}" for number in np.concatenate(batches)])
        ad.io.write_elem(file, "obs", obs.astype({"cell_type": "category"}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="Data set of counts, by its name in datasets.toml.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--n-cells", type=int, default=100_000)
    parser.add_argument("--batches", type=int, default=0, help="Batches of the cells; none if 0.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chosen = {one.name: one for one in load_datasets()}[options.source]
    write_synthetic(
        ad.read_h5ad(chosen.path),
        options.path,
        n_cells=options.n_cells,
        seed=options.seed,
        label_key=chosen.label_key,
        n_batches=options.batches,
    )


if __name__ == "__main__":
    main()
