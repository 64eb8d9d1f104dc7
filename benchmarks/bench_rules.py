"""The rule that chooses clusters, cross-fitted over open data sets, beside scanpy; means for two kinds of data.

    python benchmarks/bench_rules.py --output results [--seeds 5] [--sets unseen_sets.toml]

Needs the extra ``scanpy``. Of each set and seed all partitions that `fused` compares are scored; a rule then picks one
without labels. Rules and their settings are compared on one half of the sets and the choice is scored on the other,
over ten fixed splits that keep cells of one study together: that figure comes first. The two kinds of data are those of
``kinds.py``, which was written before any rule was scored. k is the number of types, or is estimated (the median of
three graphs at resolution .3; the test for structure is that of ``bench_n_clusters.py``). scanpy: genes in three
cells, log1p of 10,000 a cell, 2,000 genes, 30 components, 15 neighbours, Leiden. Sets of more than 8,000 cells give
4,000. Scores are kept in ``rules_rows.json`` of the output: a run that was cut goes on. Exits with 1 where a bar is
missed.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from kinds import describe
from protocol import DataSet, KeptRows, bar_line, command_line, finish, load_datasets, markdown

from cellmodel.bench.metrics import score
from cellmodel.cluster.ensemble import candidates
from cellmodel.cluster.n_clusters import StabilityConfig, estimate_n_clusters
from cellmodel.core.arrays import Embedding, Labels
from cellmodel.core.config import EnsembleConfig, GraphConfig, RunConfig
from cellmodel.io.cells import Cells, ReadConfig, cells_from_anndata
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.pp.features import make_features
from cellmodel.pp.neighbors import knn_graph, snn_weights
from cellmodel.pp.normalize import fit_components

ESTIMATE = StabilityConfig(numbers=(2,), n_parts=2)  # as the default, without a curve
LISTINGS = ("datasets.toml", "open_sets.toml")
STUDIES = ("mixology", "kang", "segerstolpe", "baron")  # of which several sets hold cells
WHOLE, DRAWN = 8_000, 4_000
N_COMPONENTS, N_NEIGHBORS, MOST_STEPS, N_SPLITS = 30, 15, 20, 10
FIRST, SECOND = "unequal and apart", "near, equal or graded"
Row = dict[str, Any]
Rule = Callable[[Sequence[Row]], Row]


def read(data: DataSet) -> tuple[Cells, np.ndarray]:
    """Read cells and labels; fractions of counts are rounded."""
    adata = read_anndata(data.path)
    if adata.n_obs > WHOLE:
        adata = adata[np.sort(np.random.default_rng(0).choice(adata.n_obs, DRAWN, replace=False))].copy()
    if data.values == "linear":
        adata.X.data = np.round(adata.X.data)
    cells = cells_from_anndata(adata, ReadConfig(values=data.values), source=data.name)
    return cells, adata.obs[data.label_key].astype(str).to_numpy()


def scores(truth: np.ndarray, labels: Labels) -> Row:
    found = score(truth.tolist(), labels.tolist())
    return {"mean": found.mean, "macro_f1": found.macro_f1, "n_clusters": found.n_clusters}


def scanpy_rows(cells: Cells, truth: np.ndarray, seed: int) -> dict[str, Row]:
    """Leiden by scanpy at two resolutions, and searched to the number of types."""
    import scanpy as sc

    adata = cells.adata.copy()
    sc.pp.filter_genes(adata, min_cells=3)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=min(2000, adata.n_vars))
    sc.pp.pca(adata, n_comps=N_COMPONENTS, random_state=seed)
    sc.pp.neighbors(adata, n_neighbors=N_NEIGHBORS, random_state=seed)

    @cache
    def leiden(resolution: float) -> Row:
        sc.tl.leiden(adata, resolution=resolution, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
        return scores(truth, adata.obs["leiden"].astype(int).to_numpy())

    wanted, low, high, resolution, tried = len(np.unique(truth)), 0.0, 4.0, 1.0, []
    for _ in range(MOST_STEPS):
        tried.append(leiden(resolution))
        n_found = tried[-1]["n_clusters"]
        if n_found == wanted:
            break
        low, high = (resolution, high) if n_found < wanted else (low, resolution)
        resolution = (low + high) / 2
    searched = min(tried, key=lambda row: abs(row["n_clusters"] - wanted))
    return {"searched": searched, "0.5": leiden(0.5), "1": leiden(1.0)}


def measure(data: DataSet, seed: int) -> Row:
    """Score all candidates with k given and estimated, and scanpy."""
    cells, truth = read(data)
    features = make_features(cells, RunConfig(seed=seed))
    fitted = fit_components(features.expression, n_components=max(EnsembleConfig().widths(N_COMPONENTS)), seed=seed)
    wide = fitted(features.expression)
    graph = snn_weights(knn_graph(features.pcs, config=GraphConfig()))
    described = describe(features.pcs)
    depth = np.asarray(cells.matrix.sum(axis=1)).ravel()
    estimate = estimate_n_clusters(graph, pcs=features.pcs, depth=depth, seed=seed, config=ESTIMATE).n_clusters
    row: Row = {"kind": described.kind, "n_types": len(np.unique(truth)), "estimate": estimate}
    row |= {"inequality": described.inequality, "crossing": described.crossing}
    row["given"] = candidate_rows(wide, truth, row["n_types"], seed)
    same = estimate == row["n_types"]
    row["estimated"] = row["given"] if same else candidate_rows(wide, truth, estimate, seed)
    return row | {"scanpy": scanpy_rows(cells, truth, seed)}


def candidate_rows(wide: Embedding, truth: np.ndarray, k: int, seed: int) -> list[Row]:
    return [
        scores(truth, each.labels)
        | {"method": each.method, "width": each.n_components}
        | {"separation": each.separation, "modularity": each.modularity}
        for each in candidates(wide, n_components=N_COMPONENTS, n_clusters=k, seed=seed)
    ]


def most(score_of: Callable[[Row], float], *methods: str) -> Rule:
    """Pick the highest score, among the candidates of some methods where these gave any."""

    def rule(rows: Sequence[Row]) -> Row:
        kept = [row for row in rows if not methods or row["method"] in methods] or rows
        return max(kept, key=score_of)

    return rule


def with_bonus(bonus: float) -> Rule:
    """Let communities stand unless the other method lies farther apart by more than the bonus."""
    return most(lambda row: row["separation"] + bonus * (row["method"] == "communities"))


def with_modularity(weight: float) -> Rule:
    return most(lambda row: row["separation"] + weight * row["modularity"])


SEPARATED, WARD = "both methods, most separated", "micro-Ward alone, most separated"
DEFAULT, LEIDEN = "both methods, + 0.1 modularity", "Leiden searched to k, 30"  # the first is that of `fused`
RULES: Mapping[str, Rule] = {
    SEPARATED: with_bonus(0.0),
    **{f"both methods, communities + {bonus}": with_bonus(bonus) for bonus in (0.01, 0.02, 0.03, 0.05)},
    **{f"both methods, + {weight} modularity": with_modularity(weight) for weight in (0.05, 0.1, 0.2, 0.5)},
    WARD: most(lambda row: row["separation"], "micro-ward"),
    "Leiden searched to k, most separated": most(lambda row: row["separation"], "communities"),
    LEIDEN: most(lambda row: -abs(row["width"] - N_COMPONENTS), "communities"),
}
ORACLE = "best of the partitions by label (no rule)"
By = dict[str, dict[str, float]]  # by name of the rule or method, by data set


def by_set(rows: Mapping[str, Row], names: Sequence[str], pick: Callable[[Row], Row], what: str) -> dict[str, float]:
    """Mean over seeds of each set."""
    return {name: float(np.mean([pick(rows[key])[what] for key in keys(rows, name)])) for name in names}


def keys(rows: Mapping[str, Row], name: str) -> list[str]:
    return [key for key in rows if key.rsplit("|", 1)[0] == name]


def tables(rows: Mapping[str, Row], names: Sequence[str], k: str, what: str) -> By:
    """Figure of each rule and of scanpy, by data set."""
    found = {rule: by_set(rows, names, lambda row, rule=rule: RULES[rule](row[k]), what) for rule in RULES}
    for shown, key in (
        ("scanpy, Leiden searched to k", "searched"),
        ("scanpy, r = 0.5", "0.5"),
        ("scanpy, r = 1", "1"),
    ):
        found[shown] = by_set(rows, names, lambda row, key=key: row["scanpy"][key], what)
    found[ORACLE] = by_set(rows, names, lambda row: max(row[k], key=lambda each: each["mean"]), what)
    return found


def halves(names: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """Split the sets at random, those of one study together."""
    study = {name: next((each for each in STUDIES if name.startswith(each)), name) for name in names}
    studies = sorted(set(study.values()))
    found = []
    for split in range(N_SPLITS):
        chosen = set(np.random.default_rng(split).permutation(studies)[: len(studies) // 2])
        first = [name for name in names if study[name] in chosen]
        found.append((first, [name for name in names if name not in first]))
    return found


def cross_fitted(by: By, names: Sequence[str]) -> tuple[dict[str, list[float]], list[str]]:
    """Give each set the figures of the rules that were chosen without it, and name the rules."""
    figures: dict[str, list[float]] = {name: [] for name in names}
    chosen = []
    for first, second in halves(names):
        for fit, test in ((first, second), (second, first)):
            rule = max(RULES, key=lambda each: np.mean([by[each][name] for name in fit]))
            chosen.append(rule)
            for name in test:
                figures[name].append(by[rule][name])
    return figures, chosen


def mean(by: Mapping[str, float], names: Iterable[str]) -> float:
    values = [by[name] for name in names]
    return float(np.mean(values)) if values else float("nan")


def compared(ours: Mapping[str, float], other: Mapping[str, float]) -> tuple[float, int, float]:
    """Difference of the means, sets on which ours is higher, and Wilcoxon's p over sets."""
    from scipy.stats import wilcoxon

    difference = np.array([ours[name] - other[name] for name in ours])
    return float(difference.mean()), int((difference > 0).sum()), float(wilcoxon(difference).pvalue)


class Report:
    """Pages and bars of scored rows."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self.rows = rows
        self.names = sorted({key.rsplit("|", 1)[0] for key in rows})
        self.kind = {name: rows[keys(rows, name)[0]]["kind"] for name in self.names}
        self.of = {k: tables(rows, self.names, k, "mean") for k in ("given", "estimated")}
        self.f1 = {k: tables(rows, self.names, k, "macro_f1") for k in ("given", "estimated")}
        figures, self.chosen = cross_fitted(self.of["given"], self.names)
        self.fitted = {name: float(np.mean(values)) for name, values in figures.items()}
        self.by_split = [float(np.mean([values[split] for values in figures.values()])) for split in range(N_SPLITS)]

    def kinds(self, by: Mapping[str, float]) -> tuple[float, float, float]:
        """Means over all sets and over those of each kind."""
        groups = [self.names, *([name for name in self.names if self.kind[name] == kind] for kind in (FIRST, SECOND))]
        return tuple(mean(by, names) for names in groups)  # type: ignore[return-value]  # three of them

    def lines(self) -> list[str]:
        """Lay out all tables."""
        n_first = sum(kind == FIRST for kind in self.kind.values())
        columns = ("method", f"all {len(self.names)}", f"{FIRST} ({n_first})", f"{SECOND}", "macro-F1")
        lines = [f"{len(self.rows)} runs. Mean of ACC, NMI and ARI.", ""]
        for k in ("given", "estimated"):
            table = [(name, *self.kinds(self.of[k][name]), mean(self.f1[k][name], self.names)) for name in self.of[k]]
            if k == "given":
                table.insert(0, ("rule chosen on the other half of the sets", *self.kinds(self.fitted), float("nan")))
            lines += [f"## k {k}", "", *markdown(columns, table), ""]
        spread = f"{min(self.by_split):.3f} to {max(self.by_split):.3f}"
        counts = {rule: self.chosen.count(rule) for rule in dict.fromkeys(self.chosen)}
        lines += [f"Cross-fitted, by split: {spread}. Chosen: {counts}.", ""]
        lines += ["## By set", "", *self.by_set_lines(), "", "## Against scanpy and Leiden", "", *self.against()]
        return lines

    def by_set_lines(self) -> list[str]:
        """Lay out the figures of each set."""
        shown = (DEFAULT, WARD, LEIDEN, "scanpy, Leiden searched to k")
        estimated = (DEFAULT, "scanpy, r = 0.5", "scanpy, r = 1")
        figures = [*(self.of["given"][each] for each in shown), *(self.of["estimated"][each] for each in estimated)]
        body = [(name, self.kind[name], *(figure[name] for figure in figures)) for name in self.names]
        names = (*shown, "k estimated: both methods, + 0.1 modularity", "scanpy, r = 0.5", "scanpy, r = 1")
        return markdown(("data", "kind", *names), body)

    def against(self) -> list[str]:
        """Lay out differences from other methods."""
        pairs = [("given", other) for other in ("scanpy, Leiden searched to k", "scanpy, r = 0.5", "scanpy, r = 1")]
        pairs += [("given", LEIDEN), ("given", WARD), ("estimated", "scanpy, r = 0.5"), ("estimated", "scanpy, r = 1")]
        body = [(k, other, *compared(self.of[k][DEFAULT], self.of[k][other])) for k, other in pairs]
        body.append(("given, cross-fitted", pairs[0][1], *compared(self.fitted, self.of["given"][pairs[0][1]])))
        return markdown(("k", "other", "difference", "higher on", "Wilcoxon p"), body)

    def bars(self) -> list[str]:
        """Compare with the bars; one line each."""
        given, estimated = self.of["given"], self.of["estimated"]
        ours, leiden = self.kinds(self.fitted), self.kinds(given[LEIDEN])
        scanpy = given["scanpy, Leiden searched to k"]
        difference, _, p = compared(self.fitted, scanpy)
        f1 = mean(self.f1["given"][DEFAULT], self.names) - mean(
            self.f1["given"]["scanpy, Leiden searched to k"], self.names
        )
        found = mean(estimated[DEFAULT], self.names)
        peer = max(mean(estimated[name], self.names) for name in ("scanpy, r = 0.5", "scanpy, r = 1"))
        return [
            bar_line(f"{FIRST}, cross-fitted minus Leiden searched to k", ours[1] - leiden[1], 0.08),
            bar_line(f"{SECOND}, cross-fitted minus Leiden searched to k", ours[2] - leiden[2], -0.005),
            bar_line("all, cross-fitted minus scanpy", difference, 0.03),
            bar_line("minus Wilcoxon's p of that", -p, -0.05),
            bar_line("macro-F1 minus scanpy", f1, 0.0),
            bar_line("k estimated minus the better of scanpy at r = .5 and 1", found - peer, 0.03),
            bar_line("k estimated minus k given", found - mean(given[DEFAULT], self.names), -0.05),
        ]


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=LISTINGS, help="Lists of data sets, beside this file.")
    options = parser.parse_args()
    rows = KeptRows(options.output / "rules_rows.json")
    sets = load_datasets(*options.sets)
    for seed in range(options.seeds):
        for data in sets:
            rows.add(f"{data.name}|{seed}", partial(measure, data, seed))
    report = Report(rows)
    return finish(options.output, "rules", rows, lines=["# Rules", "", *report.lines()], bars=report.bars())


if __name__ == "__main__":
    sys.exit(main())
