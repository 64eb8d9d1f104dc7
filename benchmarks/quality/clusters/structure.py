"""Notes on clusters: noise of ten kinds and single cell lines, which should carry the note, and sets of several types.

    python -m benchmarks.quality.clusters.structure --output results [--seeds 2]

Noise: Gaussian, heavy-tailed and uniform; Poisson counts of one profile, with even, varying and wide total counts.
Each cell line of mixology alone (the label draws the line here and nowhere else; a line may hold states). For every
data set: the clusters that `cluster` finds, how often they come back, and the p value of the note. Exits with 1 where
less than .95 of the noise carries the note, or more than .05 of the labeled sets do.
"""

import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.lib.protocol import LISTINGS, bar_line, command_line, finish, load_datasets, read, table
from cellmodel.cluster.algorithms import communities
from cellmodel.cluster.structure import SIGNIFICANT, check_structure
from cellmodel.core.arrays import CellByGene, Embedding
from cellmodel.core.config import RESOLUTION, GraphConfig, RunConfig
from cellmodel.io.cells import read_cells, read_obs_columns
from cellmodel.pp.features import make_features, principal_components
from cellmodel.pp.moments import detected_genes, highly_variable
from cellmodel.pp.neighbors import knn_graph, snn_weights
from cellmodel.pp.normalize import normalize_log1p

LINES = "mixology_celseq2_5cl"
N_CELLS, N_GENES, DEPTH = 1000, 3000, 3000


def components(counts: CellByGene, seed: int) -> tuple[Embedding, np.ndarray]:
    """Principal components of the cells, and their total counts."""
    counts = counts[:, detected_genes(counts)]
    expression = normalize_log1p(counts)
    pcs = principal_components(expression[:, highly_variable(expression)])
    return pcs, np.asarray(counts.sum(axis=1)).ravel()


def controls(seed: int) -> Iterator[tuple[str, Embedding, np.ndarray]]:
    """Make data without clusters: name, components, total counts."""
    rng = np.random.default_rng(seed)
    round_noise = rng.standard_normal((N_CELLS, 30))
    yield "Gaussian, round", round_noise, np.ones(N_CELLS)
    yield "Gaussian, long", round_noise * np.geomspace(10, 1, 30), np.ones(N_CELLS)
    profile = rng.dirichlet(np.exp(rng.normal(0, 1.5, N_GENES)))
    shapes = (("even", 0.05, N_CELLS), ("varying", 0.5, N_CELLS), ("varying, 200 cells", 0.5, 200), ("wide", 1.0, 400))
    for name, spread, n_cells in shapes:
        depths = DEPTH * rng.lognormal(0, spread, n_cells)
        counts = sp.csr_matrix(rng.poisson(depths[:, None] * profile).astype(np.float32))
        yield f"Poisson, depth {name}", *components(counts, seed)
    for name, noise in (
        ("Gaussian, one long axis", round_noise * np.r_[10, np.ones(29)]),
        ("Gaussian, 5 dimensions", round_noise[:, :5]),
        ("Student's t, 4 degrees of freedom", rng.standard_t(4, (N_CELLS, 30))),
        ("uniform, long", rng.uniform(-1, 1, (N_CELLS, 30)) * np.geomspace(6, 1, 30)),
    ):
        yield name, noise, np.ones(N_CELLS)


def lines(seed: int) -> Iterator[tuple[str, Embedding, np.ndarray]]:
    """Take each cell line alone."""
    (data,) = [each for each in load_datasets() if each.name == LINES]
    names = np.asarray(read_obs_columns(data.path, [data.label_key])[data.label_key])
    counts = read_cells(data.path).matrix
    for name in np.unique(names):
        yield f"cell line {name}", *components(counts[names == name], seed)


def labeled(seed: int) -> Iterator[tuple[str, Embedding, np.ndarray]]:
    """Take each labeled set."""
    for data in load_datasets(*LISTINGS):
        cells, _ = read(data)
        yield data.name, make_features(cells, RunConfig(seed=seed)).pcs, np.asarray(cells.matrix.sum(axis=1)).ravel()


def checked(name: str, pcs: Embedding, total_counts: np.ndarray, *, seed: int) -> dict[str, Any]:
    """Cluster and check the clusters; whether they are one or carry the note."""
    started = time.perf_counter()
    graph = snn_weights(knn_graph(pcs, config=GraphConfig()))
    labels = communities(graph, pcs, resolution=RESOLUTION, seed=seed)
    found = check_structure(labels, pcs=pcs, total_counts=total_counts, seed=seed, resolution=RESOLUTION)
    seconds, n_clusters = time.perf_counter() - started, int(labels.max()) + 1
    sys.stderr.write(f"{name}\n")
    has_note = n_clusters == 1 or found.p_value > SIGNIFICANT
    row = {"data": name, "seed": seed, "clusters": n_clusters, "repeats": found.repeats, "p": found.p_value}
    return row | {"seconds": seconds, "one or note": has_note}


def main() -> int:
    """Check noise, cell lines and labeled sets, and compare with the bars."""
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    rows = {
        make.__name__: [checked(*each, seed=seed) for seed in range(options.seeds) for each in make(seed)]
        for make in (controls, lines, labeled)
    }
    noise, one, several = (float(np.mean([row["one or note"] for row in each])) for each in rows.values())
    bars = [
        bar_line("noise that is one cluster or carries the note", noise, 0.95),
        bar_line("labeled sets that do", several, 0.05, at_most=True),
        f"- single cell lines that do: {one:.3f}, no bar",
    ]
    every = [row for each in rows.values() for row in each]
    return finish(options.output, "structure", every, lines=["# Notes on clusters", "", *table(every)], bars=bars)


if __name__ == "__main__":
    sys.exit(main())
