"""Integrated batches: clusters and scIB scores on six sets of several batches, beside scanpy without and with Harmony.

    python -m benchmarks.quality.clusters.batches --home HOME --output results [--seeds 3]

Needs the extras ``scanpy`` and ``scib``, and a store ``human``. Each set is clustered with as many clusters as it has
types; labels give that number and the scores, nothing else. Kang's cells are integrated by donor, and their condition
is kept. A random split gives each cell a batch at random, of the sizes of the real ones: nothing is to be lost. Scores
are kept in ``batches_rows.json`` of the output: a run that was cut goes on. Exits with 1 where a bar is missed.

    python -m benchmarks.quality.clusters.batches --home HOME --output results --missing-type

Each type with 20 cells or more in a batch is taken out of all other batches, one type at a time, so that one batch
alone has it; how much of it ends in clusters of its own, by Harmony's theta (kept in ``missing_rows.json``).
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import genekb
from benchmarks.lib.protocol import KeptRows, bar_line, command_line, data_folder, finish, markdown, sections, values_of
from cellmodel.bench.integration import plain_harmony, score_integration
from cellmodel.bench.metrics import score
from cellmodel.core.arrays import Embedding, Labels
from cellmodel.core.config import BatchConfig, Knowledge, RunConfig
from cellmodel.core.random import generator
from cellmodel.io.cells import Cells, ReadConfig, cells_from_anndata
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.tl._run.pipeline import run

SETS = {  # column of obs with the batch
    "panc8_500": "batch",
    "mixology_3cl_3protocols": "batch",
    "mixology_celseq2_dropseq_5cl": "batch",
    "pbmc_10x_3chemistries": "batch",
    "kang_2donors_ctrl_stim": "donor",
    "segerstolpe_3donors": "batch",
}
PLAIN, HARMONY = "scanpy PCA, Leiden", "scanpy PCA, Harmony, Leiden"
WITHIN = "scanpy PCA of genes by batch, Harmony, Leiden"
OURS, NO_KEY, RANDOM = "batch key", "no batch key", "random split"
SCORES = ("overall", "bio", "batch")
RANDOM_KEY = "random_split"
N_COMPONENTS, N_NEIGHBORS, MOST_STEPS = 30, 15, 25
BAR_OVERALL, BAR_RANDOM = 0.01, -0.005
THETAS = (None, 2.0, 6.0)  # of Harmony; None leaves cells where they are
MISSING = {
    "own": "Share of the type in clusters that are mostly of it",
    "near": "Share of its nearest cells that are of it",
    "clusters": "All clusters: mean of ACC, NMI and ARI",
}
LEAST_CELLS = 20  # of a type that is taken out of all batches but one
Row = dict[str, Any]
Found = tuple[Labels | None, Mapping[str, Embedding]]  # clusters, embeddings


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """A set, its labels and its batches."""

    name: str
    cells: Cells
    labels: np.ndarray
    batches: np.ndarray
    key: str

    @cached_property
    def pcs(self) -> Embedding:
        """Principal components by scanpy's steps."""
        return self._components(None)

    @cached_property
    def pcs_within(self) -> Embedding:
        """The same, of genes that are chosen within batches."""
        return self._components(self.key)

    def _components(self, batch_key: str | None) -> Embedding:
        import scanpy as sc

        adata = self.cells.adata.copy()
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
        sc.pp.highly_variable_genes(adata, n_top_genes=min(2000, adata.n_vars), batch_key=batch_key)
        sc.pp.pca(adata, n_comps=N_COMPONENTS, random_state=0)
        return np.asarray(adata.obsm["X_pca"], dtype=np.float32)

    @property
    def n_types(self) -> int:
        """Number of labels."""
        return len(np.unique(self.labels))


def load(name: str) -> Data:
    adata = read_anndata(data_folder() / "batches" / f"{name}.h5ad")
    labels, batches = (adata.obs[key].astype(str).to_numpy() for key in ("cell_type", SETS[name]))
    adata.obs[RANDOM_KEY] = generator(0, "random split").permutation(batches)
    cells = cells_from_anndata(adata, ReadConfig(values=values_of(name)), source=name)
    return Data(name=name, cells=cells, labels=labels, batches=batches, key=SETS[name])


def leiden_to_k(z: Embedding, k: int, seed: int) -> Labels:
    """Leiden by scanpy, its resolution halved in until it gives ``k`` clusters, or the nearest number that it gives."""
    import anndata
    import scanpy as sc

    adata = anndata.AnnData(obsm={"X_z": z}, shape=(len(z), 0))
    sc.pp.neighbors(adata, n_neighbors=N_NEIGHBORS, use_rep="X_z", random_state=seed)
    low, high, resolution = 0.0, 4.0, 1.0
    found: list[tuple[int, Labels]] = []
    for _ in range(MOST_STEPS):
        sc.tl.leiden(adata, resolution=resolution, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
        labels = adata.obs["leiden"].astype(int).to_numpy()
        n_found = len(np.unique(labels))
        found.append((abs(n_found - k), labels))
        if n_found == k:
            break
        low, high = (resolution, high) if n_found < k else (low, resolution)
        resolution = (low + high) / 2
    return min(found, key=lambda each: each[0])[1]


class Scored:
    """Scores by set, method and seed, kept in a file as they are made."""

    def __init__(self, path: Path) -> None:
        self.rows = KeptRows(path)

    def add(self, data: Data, method: str, seed: int, make: Callable[[], Found]) -> None:
        """Score clusters and embeddings, unless that was done."""

        def row() -> Row:
            labels, embeddings = make()
            found = None if labels is None else score(data.labels.tolist(), labels.tolist())
            scib = score_integration(
                embeddings, y_true=data.labels.tolist(), batches=data.batches.tolist(), before=data.pcs
            )
            of_clusters = {} if found is None else asdict(found) | {"mean": found.mean}
            return of_clusters | {each.embedding: asdict(each) for each in scib}

        self.rows.add(f"{data.name}|{method}|{seed}", row)

    def mean(self, method: str, *path: str, names: Iterable[str] = SETS) -> float:
        """Mean over sets of the mean over seeds."""
        return float(np.mean([self.of_set(name, method, *path) for name in names]))

    def of_set(self, name: str, method: str, *path: str) -> float:
        """Mean over seeds; NaN where nothing was scored."""
        values = []
        for key, row in self.rows.items():
            if key.startswith(f"{name}|{method}|"):
                value: Any = row
                for part in path:
                    value = value.get(part, np.nan) if isinstance(value, Mapping) else np.nan
                values.append(value)
        scored = [value for value in values if np.isfinite(value)]
        return float(np.mean(scored)) if scored else float("nan")


def measure(data: Data, kb: genekb.Store, scored: Scored, seed: int) -> None:
    """All methods on one set; scIB's scores of what does not depend on batches, or on text alone, for one seed."""

    def scanpy(z: Embedding, *, scib: bool) -> Found:
        return leiden_to_k(z, data.n_types, seed), {"z": z} if scib else {}

    def ours(knowledge: Knowledge, key: str | None, *, scib: bool) -> Found:
        config = RunConfig(
            knowledge=knowledge,
            batch=None if key is None else BatchConfig(key=key),
            n_clusters=data.n_types,
            n_words=0,
            seed=seed,
        )
        found = run(data.cells, kb, config)
        made = found.representation
        views = {"z": made.z} if knowledge == "none" else {"joint": made.z_joint, "text": made.z_text}
        return found.labels, {name: view for name, view in views.items() if scib and view is not None}

    is_first = seed == 0
    scored.add(data, PLAIN, seed, lambda: scanpy(data.pcs, scib=is_first))
    scored.add(data, HARMONY, seed, lambda: scanpy(plain_harmony(data.pcs, data.batches, seed=seed), scib=True))
    scored.add(data, WITHIN, seed, lambda: scanpy(plain_harmony(data.pcs_within, data.batches, seed=seed), scib=True))
    scored.add(data, f"{NO_KEY}, none", seed, lambda: ours("none", None, scib=is_first))
    scored.add(data, f"{RANDOM}, none", seed, lambda: ours("none", RANDOM_KEY, scib=False))
    scored.add(data, f"{OURS}, none", seed, lambda: ours("none", data.key, scib=True))
    if is_first:
        scored.add(data, f"{OURS}, real", seed, lambda: ours("real", data.key, scib=True))
        scored.add(data, f"{OURS}, shuffled", seed, lambda: ours("shuffled", data.key, scib=True))


def table(scored: Scored, title: str, rows: Sequence[tuple[str, str, tuple[str, ...]]]) -> list[str]:
    """One row a method: its value on each set, and their mean."""
    body = [
        [shown, *(scored.of_set(name, method, *path) for name in SETS), scored.mean(method, *path)]
        for shown, method, path in rows
    ]
    return sections({title: markdown((title, *SETS, "mean"), body)})


METHODS = (
    (PLAIN, PLAIN),
    (HARMONY, HARMONY),
    (WITHIN, WITHIN),
    ("fused, no batch key", f"{NO_KEY}, none"),
    ("fused, batch key", f"{OURS}, none"),
)


def pages(scored: Scored) -> list[str]:
    """All tables."""
    clusters = [(shown, method, ("mean",)) for shown, method in METHODS]
    clusters.append(("fused, random split as batch", f"{RANDOM}, none", ("mean",)))
    lines = table(scored, "Clusters, k given: mean of ACC, NMI and ARI", clusters)
    for name in SCORES:
        rows = [(shown, method, ("z", name)) for shown, method in METHODS]
        for view, kind in product(("joint", "text"), ("real", "shuffled")):
            rows.append(
                (f"{'joint space' if view == 'joint' else 'text view'}, {kind}", f"{OURS}, {kind}", (view, name))
            )
        lines += table(scored, f"scIB, {name}", rows)
    return lines


def bars(scored: Scored) -> list[str]:
    """Compare with the bars; one line each."""
    plain = scored.mean(f"{NO_KEY}, none", "mean")
    best = max(scored.mean(HARMONY, "mean"), scored.mean(WITHIN, "mean"), plain)
    found = scored.mean(f"{OURS}, none", "mean")
    overall = max(scored.mean(method, "z", "overall") for method in (HARMONY, WITHIN))
    return [
        bar_line(
            "overall of the embedding minus that of the better Harmony",
            scored.mean(f"{OURS}, none", "z", "overall") - overall,
            BAR_OVERALL,
        ),
        bar_line("clusters minus the better of Harmony with Leiden and no batch key", found - best, 0.0),
        bar_line(
            "clusters, random split minus no batch key", scored.mean(f"{RANDOM}, none", "mean") - plain, BAR_RANDOM
        ),
    ]


def without_elsewhere(data: Data, kind: str) -> np.ndarray | None:
    """Rows of all cells but those of a type outside the batch that has most of it; None where that changes nothing."""
    its = data.labels == kind
    names, sizes = np.unique(data.batches[its], return_counts=True)
    rows = np.flatnonzero(~its | (data.batches == names[sizes.argmax()]))
    return rows if sizes.max() >= LEAST_CELLS and len(rows) < len(its) else None


def keep_alone(data: Data, kind: str, rows: np.ndarray, theta: float | None) -> Row:
    """Measure what becomes of a type of one batch, by as many clusters as there are types and by its nearest cells."""
    from sklearn.neighbors import NearestNeighbors

    read = ReadConfig(values=values_of(data.name))
    cells = cells_from_anndata(data.cells.adata[rows].copy(), read, source=data.name)
    labels, its = data.labels[rows], data.labels[rows] == kind
    integration = {"integration": "none"} if theta is None else {"theta": theta}
    batch = BatchConfig(key=data.key, **integration)
    found = run(cells, None, RunConfig(knowledge="none", n_words=0, batch=batch, n_clusters=len(np.unique(labels))))
    sizes, own = np.bincount(found.labels), np.bincount(found.labels[its], minlength=found.labels.max() + 1)
    z = found.representation.z
    near = NearestNeighbors(n_neighbors=N_NEIGHBORS + 1, metric="cosine").fit(z).kneighbors(z[its])[1][:, 1:]
    return {
        "n": int(its.sum()),
        "own": float(own[2 * own > sizes].sum() / its.sum()),
        "near": float(its[near].mean()),
        "clusters": score(labels.tolist(), found.labels.tolist()).mean,
    }


def missing_types(output: Path) -> int:
    """Write tables of what becomes of types that one batch alone has."""
    rows = KeptRows(output / "missing_rows.json")
    for name in SETS:
        data = load(name)
        for kind in np.unique(data.labels).tolist():
            kept = without_elsewhere(data, kind)
            for theta in THETAS if kept is not None else ():
                rows.add(f"{name}|{kind}|{theta}", partial(keep_alone, data, kind, kept, theta))
    parts = {}
    for what, title in MISSING.items():
        body = []
        for shown in THETAS:
            of = {
                name: [rows[key][what] for key in rows if (*key.split("|"),)[::2] == (name, f"{shown}")]
                for name in SETS
            }
            means = [float(np.mean(values)) for values in of.values()]
            body.append(["not integrated" if shown is None else f"theta {shown:g}", *means, float(np.mean(means))])
        parts[title] = markdown(("a type of one batch", *SETS, "mean"), body)
    return finish(output, "missing_types", rows, lines=["# Types that one batch alone has", "", *sections(parts)])


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--missing-type", action="store_true", help="types that one batch alone has, by Harmony's theta"
    )
    options = parser.parse_args()
    if options.missing_type:
        return missing_types(options.output)
    kb = genekb.open("human", home=options.home)
    scored = Scored(options.output / "batches_rows.json")
    for name in SETS:
        data = load(name)
        for seed in range(options.seeds):
            measure(data, kb, scored, seed)
    return finish(
        options.output, "batches", scored.rows, lines=["# Integrated batches", "", *pages(scored)], bars=bars(scored)
    )


if __name__ == "__main__":
    sys.exit(main())
