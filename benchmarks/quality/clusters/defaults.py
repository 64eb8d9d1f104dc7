"""What `cluster` does unless told otherwise: every choice made with one study left out, scored on that study alone.

    python -m benchmarks.quality.clusters.defaults --output results [--seeds 2] [--plain]

Needs the extras ``scanpy`` and ``scib``, for igraph. Where ``flowsom`` is installed (GPL-3; no part of any extra), its
clusters and Leiden's with the best silhouette stand beside the others. A setting is a representation (target, spike-
ins, z-scores), a metric, weights of the graph, a number of neighbors and one of components. In each Leiden is run at
four resolutions, and searched to the number of types. The grid is of the first seed, `cluster` and scanpy of all.
Labels score, and say k where k is given. The figure of a study is that of the setting that was best on the sets of all
other studies. Sets of more than 8,000 cells give 4,000. Rows are appended to ``defaults_rows.csv`` of the output: a run
that was cut goes on. ``--plain``: no grid, 20 minutes in place of an hour. Exits with 1 where a bar is missed.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from benchmarks.lib.protocol import (
    LISTINGS,
    DataSet,
    bar_line,
    command_line,
    compared,
    finish,
    load_datasets,
    markdown,
    read,
    study_of,
)
from cellmodel.bench.metrics import score
from cellmodel.cluster.algorithms import leiden, leiden_to_k
from cellmodel.core.arrays import CellGraph, Embedding, Labels
from cellmodel.core.config import GraphConfig, RunConfig
from cellmodel.io.cells import Cells
from cellmodel.io.matrix import ValueKind
from cellmodel.pp.features import principal_components
from cellmodel.pp.moments import detected_genes, highly_variable
from cellmodel.pp.neighbors import knn_graph, snn_weights
from cellmodel.pp.normalize import normalize_log1p
from cellmodel.tl._run.pipeline import run

if TYPE_CHECKING:
    from anndata import AnnData

RESOLUTIONS = (0.3, 0.5, 0.8, 1.0)
WIDEST, CLIP = 50, 10.0
N_RUNS, N_STEPS = 1, 10  # of Leiden: a tenth of what `cluster` may spend
SPIKE_INS = ("ERCC-", "ERCC_", "RNA_SPIKE")
ROLES = ("chose the rules before", "opened later", "opened last")  # of the lists of sets
SILHOUETTE_RESOLUTIONS = (0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0)
SHOWN = 12  # ways of a table, beside those of others
FIGURES = ("mean", "ari", "macro_f1", "n_clusters", "depth")


@dataclass(frozen=True, kw_only=True, order=True)
class Setting:
    """One way from counts to a graph; as it stands, that of the field."""

    genes: Literal["1e4", "median", "spike-ins", "z-scored"] = "1e4"  # with "spike-ins" these are kept
    metric: Literal["euclidean", "cosine"] = "euclidean"
    graph: Literal["umap", "snn"] = "umap"
    n_neighbors: int = 15
    n_components: int = 50

    def __str__(self) -> str:
        return f"{self.genes} {self.metric} {self.graph} nn{self.n_neighbors} pc{self.n_components}"


def ways() -> list[Setting]:
    """Change the genes alone, from a graph as scanpy's and from one of shared neighbors by cosine."""
    bases = (Setting(), Setting(metric="cosine", graph="snn"))
    return [replace(base, genes=genes) for base in bases for genes in ("median", "spike-ins", "z-scored")]


def crosses() -> list[Setting]:
    """Cross all of the graph."""
    names = ("graph", "metric", "n_neighbors", "n_components")
    levels = product(("umap", "snn"), ("euclidean", "cosine"), (15, 20, 30), (20, 30, 50))
    return [Setting(**dict(zip(names, each, strict=True))) for each in levels]  # type: ignore[arg-type]


def between(values: np.ndarray, labels: np.ndarray) -> float:
    """Share of the variance that lies between clusters."""
    codes = np.unique(labels, return_inverse=True)[1]
    means = np.bincount(codes, values) / np.bincount(codes)
    return float(np.var(means[codes]) / max(np.var(values), 1e-12))


def components(cells: Cells, genes: str) -> Embedding:
    """Principal components of the variable genes."""
    matrix = cells.matrix
    if genes != "spike-ins":
        matrix = matrix[:, [not str(name).upper().startswith(SPIKE_INS) for name in cells.names]]
    matrix = matrix[:, detected_genes(matrix)]
    if cells.kind != ValueKind.LOG1P:
        target = float(np.median(np.asarray(matrix.sum(axis=1)))) if genes == "median" else 1e4
        matrix = normalize_log1p(matrix, target_sum=target)
    expression = matrix[:, highly_variable(matrix)]
    if genes == "z-scored":
        dense = expression.toarray().astype(np.float64)
        dense = (dense - dense.mean(axis=0)) / np.maximum(dense.std(axis=0, ddof=1), 1e-12)
        expression = sp.csr_matrix(np.minimum(dense, CLIP))
    return principal_components(expression, n_components=WIDEST)


def weights(points: Embedding, setting: Setting) -> CellGraph:
    """Weights of the graph of nearest cells."""
    knn = knn_graph(points, config=GraphConfig(n_neighbors=setting.n_neighbors, metric=setting.metric))
    if setting.graph == "snn":
        return snn_weights(knn)
    from scanpy.neighbors._connectivity import umap

    n_cells = len(points)
    order = np.argsort(knn.data.reshape(n_cells, -1), axis=1)
    distances, cells = (
        np.take_along_axis(each.reshape(n_cells, -1), order, axis=1) for each in (knn.data, knn.indices)
    )
    cells = np.hstack([np.arange(n_cells)[:, None], cells])  # each with itself
    distances = np.hstack([np.zeros((n_cells, 1)), distances]).astype(np.float32)
    return umap(cells, distances, n_obs=n_cells, n_neighbors=cells.shape[1]).tocsr()


def scored(labels: Labels, truth: np.ndarray, depth: np.ndarray) -> dict[str, float]:
    found = score(truth.tolist(), labels.tolist())
    row = {"mean": found.mean, "ari": found.ari, "macro_f1": found.macro_f1, "n_clusters": found.n_clusters}
    return row | {"depth": between(depth, labels), "depth_types": between(depth, truth), "n_types": found.n_types}


def ours(cells: Cells, k: int, seed: int, settings: list[Setting]) -> Iterator[tuple[str, str, Labels]]:
    """Give name, k or resolution, and clusters of every setting."""
    pcs = {genes: components(cells, genes) for genes in {each.genes for each in settings}}
    for setting in settings:
        graph = weights(pcs[setting.genes][:, : setting.n_components], setting)
        for resolution in RESOLUTIONS:
            yield str(setting), f"{resolution:g}", leiden(graph, resolution=resolution, seed=seed, n_runs=N_RUNS)
        yield str(setting), "k", leiden_to_k(graph, n_clusters=k, seed=seed, n_runs=N_RUNS, n_steps=N_STEPS)


def clustered(cells: Cells, k: int, seed: int) -> Iterator[tuple[str, str, Labels]]:
    """Give the clusters of `cluster`."""
    for named, number in (("k", k), ("auto", None)):
        config = RunConfig(knowledge="none", n_words=0, n_clusters=number, seed=seed)
        yield "cluster", named, run(cells, None, config).labels


def scanpy_graph(cells: Cells, seed: int) -> "AnnData":
    """Components and neighbors by scanpy's defaults."""
    import scanpy as sc

    adata = cells.adata.copy()
    sc.pp.filter_genes(adata, min_cells=3)
    if cells.kind != ValueKind.LOG1P:
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=min(2000, adata.n_vars))
    sc.pp.pca(adata, random_state=seed)
    sc.pp.neighbors(adata, random_state=seed)
    return adata


def peer(cells: Cells, k: int, seed: int) -> Iterator[tuple[str, str, Labels]]:
    """Give the clusters of scanpy by its defaults."""
    import scanpy as sc

    adata = scanpy_graph(cells, seed)

    def of(resolution: float) -> Labels:
        how = {"flavor": "igraph", "n_iterations": 2, "directed": False, "random_state": seed}
        sc.tl.leiden(adata, resolution=resolution, **how)
        return adata.obs["leiden"].astype(int).to_numpy()

    for resolution in RESOLUTIONS:
        yield "scanpy", f"{resolution:g}", of(resolution)
    low, high = 1e-3, 64.0
    tried: list[Labels] = []
    while len(tried) < N_STEPS and (not tried or tried[-1].max() + 1 != k):
        middle = float(np.sqrt(low * high))
        tried.append(of(middle))
        low, high = (middle, high) if tried[-1].max() + 1 < k else (low, middle)
    yield "scanpy", "k", min(tried, key=lambda labels: abs(labels.max() + 1 - k))


def rivals(cells: Cells, k: int, seed: int) -> Iterator[tuple[str, str, Labels]]:
    """Give the clusters of two others with a name, on scanpy's components: FlowSOM, and Leiden picked by silhouette."""
    import flowsom
    import scanpy as sc
    from anndata import AnnData
    from sklearn.metrics import silhouette_score

    adata = scanpy_graph(cells, seed)
    points = adata.obsm["X_pca"]
    best = (-2.0, np.zeros(len(points), dtype=np.int64))
    for resolution in SILHOUETTE_RESOLUTIONS:
        sc.tl.leiden(adata, resolution=resolution, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
        labels = adata.obs["leiden"].astype(int).to_numpy()
        if labels.max() > 0:
            best = max(best, (float(silhouette_score(points, labels)), labels), key=lambda each: each[0])
    yield "silhouette", "auto", best[1]
    frame = AnnData(points.copy(), var=pd.DataFrame(index=[f"PC{column}" for column in range(points.shape[1])]))
    made = flowsom.FlowSOM(frame, cols_to_use=list(frame.var_names), n_clusters=k, seed=seed).get_cell_data()
    yield "flowsom", "k", made.obs["metaclustering"].astype(int).to_numpy()


def measure(path: Path, data: DataSet, seed: int, settings: Sequence[Setting]) -> None:
    """Append the rows of a set that are missing."""
    kept = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["set", "seed", "setting"])
    has = set(kept.loc[(kept["set"] == data.name) & (kept["seed"] == seed), "setting"])
    missing = [each for each in settings if str(each) not in has]
    parts = [partial(ours, settings=missing)] if missing else []
    others = [(peer, "scanpy"), (clustered, "cluster"), *([(rivals, "silhouette")] if find_spec("flowsom") else [])]
    parts += [each for each, name in others if name not in has]
    if not parts:
        return
    cells, truth = read(data)
    k, depth = len(np.unique(truth)), np.log1p(np.asarray(cells.matrix.sum(axis=1)).ravel())
    rows = [
        {"set": data.name, "seed": seed, "setting": setting, "at": at} | scored(labels, truth, depth)
        for part in parts
        for setting, at, labels in part(cells, k, seed)
    ]
    pd.DataFrame(rows).to_csv(path, mode="a", header=not len(kept), index=False)


def left_out(rows: pd.DataFrame, ways: list[str]) -> tuple[pd.DataFrame, Counter[str]]:
    """Figures of each set in the way that was best without its study, and which ways these were."""
    studies = rows["set"].map(study_of)
    found, chosen = [], []
    for study in studies.unique():
        rest = rows[(studies != study) & rows["way"].isin(ways)]
        chosen.append(rest.groupby("way")["mean"].mean().idxmax())
        found.append(rows[(studies == study) & (rows["way"] == chosen[-1])])
    return pd.concat(found), Counter(chosen)


def figures(kept: pd.DataFrame) -> pd.DataFrame:
    """Mean figures of each set in each way over the seeds."""
    rows = kept.assign(way=kept["setting"] + " @" + kept["at"])
    return rows.groupby(["set", "way"], as_index=False)[[*FIGURES, "depth", "depth_types"]].mean()


def report(kept: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Lay out figures of studies left out beside scanpy's, and compare with the bars."""
    rows = figures(kept)
    whole = rows.groupby("way").filter(lambda each: len(each) == rows["set"].nunique())
    means = whole.groupby("way")[[*FIGURES]].mean().sort_values("mean", ascending=False)
    depth, n_one = rows.groupby("set")["depth_types"].first().mean(), (rows["n_clusters"] == 1).sum()
    lines, bars = [f"Of the variance of depth {depth:.3f} lies between types. Rows of one cluster: {n_one}", ""], []
    for shown, at in (("k given", ["k"]), ("k estimated", [f"{each:g}" for each in RESOLUTIONS])):
        of_way = means[means.index.str.split(" @").str[-1].isin([*at, "auto"] if len(at) > 1 else at)]
        ways = [f"{each} @{resolution}" for each in crosses() for resolution in at]
        plain = [
            way for way in ways if "nn15" in way and way.endswith(("@k", "@0.5"))
        ]  # neighbors, resolution: the field's
        body = []
        for named, some in (("all", ways), ("metric, graph, components", plain)):
            found, chosen = left_out(whole, some)
            body.append((f"best of {named} without the study", *found[[*FIGURES]].mean()))
            lines += [f"{shown}, {named}: " + "; ".join(f"{way} ({n})" for way, n in chosen.most_common()), ""]
        peers = of_way[of_way.index.str.startswith(("scanpy", "cluster", "silhouette", "flowsom"))]
        shown_ways = of_way[of_way.index.isin([*peers.index, *of_way.index[:SHOWN]])]
        lines += [*markdown(("way", *FIGURES), [*body, *shown_ways.itertuples(name=None)]), ""]
        best = peers.loc[peers.index.isin([f"scanpy @{each}" for each in ("k", "0.5", "1")]), "mean"].max()
        bars.append(bar_line(f"{shown}, studies left out, minus scanpy", body[1][1] - best, 0.0))
    return [*lines, *by_role(rows), *by_set(rows)], bars


PEERS = ("cluster @k", "scanpy @k", "cluster @auto", "scanpy @0.5", "scanpy @1")


def by_role(rows: pd.DataFrame) -> list[str]:
    """Lay out means of `cluster` and of scanpy by what the sets took part in, and by the origin of their labels."""
    lines = ["## By role and by labels", ""]
    roles = {
        role: {data.name for data in load_datasets(listing)} for role, listing in zip(ROLES, LISTINGS, strict=True)
    }
    origin = {data.name: data.labels == "clustering" for data in load_datasets(*LISTINGS)}
    roles |= {"labels of a clustering": {name for name in origin if origin[name]}}
    roles |= {"labels of sorting, protein, line, time": {name for name in origin if not origin[name]}}
    body = []
    for role, names in {"all": set(origin), **roles}.items():
        part = rows[rows["set"].isin(names)]
        means = part.groupby("way")[["mean", "ari", "macro_f1"]].mean()
        body += [(role, part["set"].nunique(), way, *means.loc[way]) for way in PEERS]
    lines += [*markdown(("sets", "n", "way", "mean", "ARI", "macro-F1"), body), ""]
    for ours, other in (PEERS[:2], PEERS[2:4], (PEERS[2], PEERS[4])):
        pair = (rows[rows["way"] == way].groupby(rows["set"].map(study_of))["mean"].mean() for way in (ours, other))
        difference, n_higher, p = compared(*(each.to_dict() for each in pair))
        lines.append(f"{ours} minus {other}, by study: {difference:+.3f}, higher in {n_higher}, Wilcoxon p {p:.3f}")
    return [*lines, ""]


def by_set(rows: pd.DataFrame) -> list[str]:
    """Lay out the mean of ACC, NMI and ARI of each set, and the share of depth between clusters and between types."""
    means, depth = (rows.pivot_table(index="set", columns="way", values=what) for what in ("mean", "depth"))
    types = rows.groupby("set")["depth_types"].first()
    shown = (PEERS[2], PEERS[3])
    body = [(name, *means.loc[name, [*PEERS]], *depth.loc[name, [*shown]], types[name]) for name in means.index]
    names = ("data", *PEERS, *(f"depth, {way}" for way in shown), "depth, types")
    return ["## By set", "", *markdown(names, body)]


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--plain", action="store_true", help="`cluster` and scanpy alone")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "defaults_rows.csv"
    for seed, data in product(range(options.seeds), load_datasets(*LISTINGS)):
        measure(path, data, seed, () if seed or options.plain else [*ways(), *crosses()])
    rows = pd.read_csv(path, dtype={"at": str})
    lines, bars = ([*by_role(figures(rows)), *by_set(figures(rows))], []) if options.plain else report(rows)
    title = f"# Defaults of clustering, beside scanpy {version('scanpy')}"
    return finish(options.output, "defaults", [], lines=[title, "", *lines], bars=bars)


if __name__ == "__main__":
    sys.exit(main())
