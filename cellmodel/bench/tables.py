"""Tables of a benchmark, and of runs with something changed, as Markdown."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cellmodel.bench.jobs import INTEGRATION, LAST_LAYER, LAYER, RIVALS, UNKNOWN, Row
from cellmodel.recipes.registry import BASELINES

if TYPE_CHECKING:
    import pandas as pd

FROM_CLUSTERING: Final = "clustering"
HEADINGS: Final = {
    "accuracy": "ACC",
    "nmi": "NMI",
    "ari": "ARI",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced ACC",
    "mean": "mean of ACC, NMI, ARI",
}
STRUCTURE: Final = {
    "same_clusters": "ARI with the complete run",
    "neighbors": "neighbors in its clusters",
    "purity": "neighbors of the type",
    "n_clusters": "clusters",
}
COMPLETE: Final = "complete"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A recipe beside a rival, paired over the data sets that both have."""

    difference: float  # mean over data sets of the difference of the means over seeds
    n_better: int  # data sets on which the recipe is better
    n_data: int
    p_value: float  # wilcoxon signed-rank test, two-sided, over data sets; NaN where all differences are zero


def compare(rows: "pd.DataFrame", recipe: str, rival: str) -> Comparison:
    """Compare two recipes by their means, over rows of one k."""
    from scipy.stats import wilcoxon

    by_data = rows.groupby(["data", "recipe"], sort=False)["mean"].mean().unstack()
    differences = (by_data[recipe] - by_data[rival]).dropna().to_numpy()
    return Comparison(
        difference=float(differences.mean()) if len(differences) else float("nan"),
        n_better=int((differences > 0).sum()),
        n_data=len(differences),
        p_value=float(wilcoxon(differences).pvalue) if differences.any() else float("nan"),
    )


@dataclass(frozen=True, slots=True)
class PairedRow:
    """Measures of runs with one thing changed, paired with the complete runs of the same seeds."""

    data: str
    recipe: str
    k: str
    setting: str  # setting, value: empty for the complete run
    value: str
    mean: dict[str, float]  # mean, spread: of each measure, with its standard deviation over the seeds
    spread: dict[str, float]
    difference: dict[str, float]  # difference, sd: the same of the differences from the complete run
    sd: dict[str, float]


def paired_rows(rows: Sequence[Row]) -> list[PairedRow]:
    """Compare every change with the complete run of the same data set, recipe, way of k and seed."""
    import pandas as pd

    table = pd.DataFrame(rows)
    measures = [name for name in table.select_dtypes("number") if name not in {"seed", "n_cells", "n_types", "peak_mb"}]
    found = []
    for run, own in table.groupby(["data", "recipe", "k"], sort=False):
        complete = own[own["setting"] == ""].set_index("seed")[measures]
        for change, changed in own.groupby(["setting", "value"], sort=False):
            values = changed.set_index("seed")[measures].dropna(axis="columns", how="all")
            differences = values - complete[values.columns]
            moments = (values.mean(), values.std(ddof=0), differences.mean(), differences.std(ddof=0))
            mean, spread, difference, sd = (dict(zip(map(str, values), each.tolist(), strict=True)) for each in moments)
            data, recipe, k, setting, value = map(str, (*run, *change))
            found.append(PairedRow(data, recipe, k, setting, value, mean, spread, difference, sd))
    return found


def results_markdown(rows: Sequence[Row], *, failures: Sequence[tuple[str, str, str]] = ()) -> str:
    """All tables of a benchmark, or of runs with something changed."""
    text = (changes_markdown if "setting" in rows[0] else benchmark_markdown)(rows)
    failed = [f"- {data}, {recipe}: {why}" for data, recipe, why in failures]
    return "\n".join([text, "## Not done", "", *failed, ""]) if failed else text


def changes_markdown(rows: Sequence[Row]) -> str:
    """Table of every change beside the complete run, and how alike cells are after each layer."""
    found = paired_rows(rows)
    scores = {name: HEADINGS[name] for name in ("ari", "nmi", "accuracy", "macro_f1") if name in found[0].mean}
    shown = scores | {name: text for name, text in STRUCTURE.items() if name in found[0].mean}
    about = (
        "Mean ± standard deviation over seeds; of a change, in brackets, the paired difference from the complete run; "
        "last, the mean cosine between cells by layer."
    )
    lines = ["# Results", "", about, ""]
    for k in dict.fromkeys(row.k for row in found):
        lines += [f"## Number of clusters {k}", ""]
        lines += header("data", "recipe", "change", *shown.values(), "s", "cosine by layer")
        for row in (row for row in found if row.k == k):
            values = (_beside_complete(row, name) for name in shown)
            change = f"{row.setting} {row.value}".strip() or COMPLETE
            lines.append(line(row.data, row.recipe, change, *values, f"{row.mean['seconds']:.1f}", _layers(row)))
        lines.append("")
    return "\n".join(lines)


def _beside_complete(row: PairedRow, name: str) -> str:
    if not row.setting:
        return f"{row.mean[name]:.3f} ± {row.spread[name]:.3f}"
    return f"{row.mean[name]:.3f} ({row.difference[name]:+.3f} ± {row.sd[name]:.3f})"


def _layers(row: PairedRow) -> str:
    """Mean cosine between cells by layer, in the order of the layers."""
    layers = {name.removeprefix(LAYER): value for name, value in row.mean.items() if name.startswith(LAYER)}
    in_order = sorted(layers.items(), key=lambda layer: layer[0] == LAST_LAYER)  # other recipes may have more layers
    return " → ".join(f"{name} {value:.2f}" for name, value in in_order)


def benchmark_markdown(rows: Sequence[Row]) -> str:
    """All tables of a benchmark, as Markdown."""
    import pandas as pd

    table, lines = pd.DataFrame(rows), ["# Results", ""]
    for k, part in table.groupby("k", sort=False):
        lines += [f"## Number of clusters {k}", "", *_means(part), "", *_comparisons(part), ""]
        lines += _integration(part)
        lines += ["### By data set, mean ± standard deviation over seeds", "", *_by_data_table(part), ""]
    return "\n".join(lines)


def _overall(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Mean over data sets of the mean over seeds, by recipe."""
    by_data = rows.groupby(["recipe", "data"], sort=False)[list(HEADINGS)].mean()
    return by_data.groupby("recipe", sort=False).mean()


def _means(rows: "pd.DataFrame") -> Iterator[str]:
    """Means over data sets: all, and those whose labels do not come from a clustering on their own."""
    means = _overall(rows)
    apart = _overall(rows[~rows["origin"].isin([FROM_CLUSTERING, UNKNOWN])])["mean"].reindex(means.index)
    yield from header("recipe", "data sets", *HEADINGS.values(), "mean, labels not from clustering", "s", "peak MB")
    for recipe, own in rows.groupby("recipe", sort=False):
        values = [f"{mean:.3f}" for mean in means.loc[recipe]]
        yield line(recipe, own["data"].nunique(), *values, _three_decimals(apart[recipe]), *_costs(own))


def _comparisons(rows: "pd.DataFrame") -> Iterator[str]:
    """Every recipe against the baseline whose mean is highest."""
    means = _overall(rows)["mean"]
    baselines = means[means.index.isin(BASELINES)]
    if baselines.empty:
        return
    best = str(baselines.idxmax())
    yield from (f"### Against the best baseline, {best}, paired over data sets", "")
    yield from header("recipe", "difference of the mean", "better on", "Wilcoxon p")
    for recipe in means.index.drop([best]):
        found = compare(rows, recipe, best)
        share = f"{found.n_better} of {found.n_data}"
        yield line(recipe, f"{found.difference:+.3f}", share, _three_decimals(found.p_value))


def _integration(rows: "pd.DataFrame") -> Iterator[str]:
    """Scores by scIB of each recipe's embedding beside its rivals: means over data sets of the means over seeds."""
    if "scib_overall" not in rows:
        return
    yield from ("### Batches integrated: scIB's scores of the embeddings", "")
    yield from header("embedding", "data sets", "overall", "bio conservation", "batch correction")
    scored = rows.dropna(subset="scib_overall")
    parts = [(name, column, scored) for column, name in RIVALS.items()]
    parts += [(str(recipe), "scib", own) for recipe, own in scored.groupby("recipe", sort=False)]
    for shown, column, own in parts:
        by_data = own.groupby("data")[[f"{column}_{name}" for name in INTEGRATION]].mean()
        yield line(shown, len(by_data), *(f"{mean:.3f}" for mean in by_data.mean()))
    yield ""


def _by_data_table(rows: "pd.DataFrame") -> Iterator[str]:
    shown = list(HEADINGS)[:4]
    yield from header("data", "labels from", "recipe", "clusters / types", *map(HEADINGS.get, shown), "s", "peak MB")
    for (data, recipe), own in rows.groupby(["data", "recipe"], sort=False):
        numbers = f"{own['n_clusters'].mean():.1f} / {own['n_types'].iloc[0]}"
        spread = (f"{own[metric].mean():.3f} ± {own[metric].std(ddof=0):.3f}" for metric in shown)
        yield line(data, own["origin"].iloc[0], recipe, numbers, *spread, *_costs(own))


def _costs(rows: "pd.DataFrame") -> tuple[str, str]:
    """Mean seconds and highest peak of memory."""
    return f"{rows['seconds'].mean():.1f}", f"{rows['peak_mb'].max():.0f}"


def _three_decimals(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def header(*names: object) -> tuple[str, str]:
    """Write the head of a Markdown table."""
    return line(*names), line(*("---" for _ in names))


def line(*values: object) -> str:
    """Write a line of a Markdown table."""
    return "| " + " | ".join(map(str, values)) + " |"
