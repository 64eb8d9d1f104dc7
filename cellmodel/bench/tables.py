"""Tables of a benchmark: scores by data set, means by group of labels, paired differences against a rival."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cellmodel.recipes.registry import BASELINES

Row = dict[str, Any]
METRICS: Final = ("accuracy", "nmi", "ari", "macro_f1", "balanced_accuracy", "mean")
HEADINGS: Final = ("ACC", "NMI", "ARI", "macro-F1", "balanced ACC", "mean of ACC, NMI, ARI")
FROM_CLUSTERING: Final = "clustering"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A recipe beside a rival, paired over data sets."""

    recipe: str
    rival: str
    difference: float  # mean over data sets of the difference of the means over seeds
    n_better: int  # data sets on which the recipe is better
    n_data: int
    p_value: float  # wilcoxon signed-rank test, two-sided, over data sets; NaN where all differences are zero


def compare(rows: Sequence[Row], recipe: str, rival: str, *, k: str, metric: str = "mean") -> Comparison:
    """Compare two recipes on the data sets that both have."""
    from scipy.stats import wilcoxon

    mine, theirs = (_by_data(rows, name, k, metric) for name in (recipe, rival))
    shared = [data for data in mine if data in theirs]
    differences = np.array([mine[data] - theirs[data] for data in shared])
    is_zero = not np.any(differences)
    return Comparison(
        recipe=recipe,
        rival=rival,
        difference=float(differences.mean()) if shared else float("nan"),
        n_better=int((differences > 0).sum()),
        n_data=len(shared),
        p_value=float("nan") if is_zero else float(wilcoxon(differences).pvalue),
    )


def benchmark_markdown(rows: Sequence[Row], *, failures: Sequence[tuple[str, str, str]] = ()) -> str:
    """All tables of a benchmark, as Markdown."""
    lines = ["# Results", ""]
    for k in dict.fromkeys(row["k"] for row in rows):
        lines += [f"## Number of clusters {k}", "", *_means(rows, k), "", *_comparisons(rows, k), ""]
        lines += ["### By data set, mean ± standard deviation over seeds", "", *_by_data_table(rows, k), ""]
    lines += _oracles(rows)
    if failures:
        lines += ["## Not done", "", *(f"- {data}, {recipe}: {why}" for data, recipe, why in failures), ""]
    return "\n".join(lines)


def _recipes(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["recipe"] for row in rows))


def _select(rows: Sequence[Row], recipe: str, k: str, data: str | None = None) -> list[Row]:
    return [row for row in rows if row["recipe"] == recipe and row["k"] == k and data in {None, row["data"]}]


def _by_data(rows: Sequence[Row], recipe: str, k: str, metric: str) -> dict[str, float]:
    """Mean over seeds, by data set."""
    found: dict[str, list[float]] = {}
    for row in _select(rows, recipe, k):
        found.setdefault(row["data"], []).append(row[metric])
    return {data: float(np.mean(values)) for data, values in found.items()}


def _overall(rows: Sequence[Row], recipe: str, k: str, metric: str) -> float:
    by_data = list(_by_data(rows, recipe, k, metric).values())
    return float(np.mean(by_data)) if by_data else float("nan")


def _means(rows: Sequence[Row], k: str) -> list[str]:
    """Means over data sets: all, and those whose labels do not come from a clustering on their own."""
    independent = [row for row in rows if row["origin"] not in {FROM_CLUSTERING, "unknown"}]
    lines = _header(("recipe", "data sets", *HEADINGS, "mean, labels not from clustering", "s", "peak MB"))
    for recipe in _recipes(rows):
        own = _select(rows, recipe, k)
        if not own:
            continue
        values = [f"{_overall(rows, recipe, k, metric):.3f}" for metric in METRICS]
        apart = _overall(independent, recipe, k, "mean")
        lines.append(
            _line(
                recipe,
                len({row["data"] for row in own}),
                *values,
                "" if np.isnan(apart) else f"{apart:.3f}",
                f"{np.mean([row['seconds'] for row in own]):.1f}",
                f"{max(row['peak_mb'] for row in own):.0f}",
            )
        )
    return lines


def _comparisons(rows: Sequence[Row], k: str) -> list[str]:
    """Every recipe against the baseline whose mean is highest."""
    baselines = [name for name in _recipes(rows) if name in BASELINES and _select(rows, name, k)]
    if not baselines:
        return []
    best = max(baselines, key=lambda name: _overall(rows, name, k, "mean"))
    lines = [f"### Against the best baseline, {best}, paired over data sets", ""]
    lines += _header(("recipe", "difference of the mean", "better on", "Wilcoxon p"))
    for recipe in _recipes(rows):
        if recipe == best or not _select(rows, recipe, k):
            continue
        found = compare(rows, recipe, best, k=k)
        p_value = "" if np.isnan(found.p_value) else f"{found.p_value:.3f}"
        lines.append(_line(recipe, f"{found.difference:+.3f}", f"{found.n_better} of {found.n_data}", p_value))
    return lines


def _by_data_table(rows: Sequence[Row], k: str) -> list[str]:
    lines = _header(("data", "labels from", "recipe", "clusters / types", *HEADINGS[:4], "s", "peak MB"))
    for data in dict.fromkeys(row["data"] for row in rows):
        for recipe in _recipes(rows):
            own = _select(rows, recipe, k, data)
            if not own:
                continue
            lines.append(
                _line(
                    data,
                    own[0]["origin"],
                    recipe,
                    f"{np.mean([row['n_clusters'] for row in own]):.1f} / {own[0]['n_types']}",
                    *(_spread(own, metric) for metric in METRICS[:4]),
                    f"{np.mean([row['seconds'] for row in own]):.1f}",
                    f"{max(row['peak_mb'] for row in own):.0f}",
                )
            )
    return lines


def _oracles(rows: Sequence[Row]) -> list[str]:
    having = [row for row in rows if "oracle_best_epoch" in row]
    if not having:
        return []
    lines = ["## What choosing the epoch by label would add (k given, one seed, k-means; not used)", ""]
    lines += _header(("recipe", "data sets", "last epoch", "oracle_best_epoch", "difference"))
    for recipe in _recipes(having):
        own = [row for row in having if row["recipe"] == recipe]
        last, best = (float(np.mean([row[name] for row in own])) for name in ("last_epoch", "oracle_best_epoch"))
        lines.append(_line(recipe, len(own), f"{last:.3f}", f"{best:.3f}", f"{best - last:+.3f}"))
    return [*lines, ""]


def _spread(rows: Sequence[Row], metric: str) -> str:
    values = [row[metric] for row in rows]
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


def _header(names: Sequence[str]) -> list[str]:
    return [_line(*names), _line(*("---" for _ in names))]


def _line(*values: object) -> str:
    return "| " + " | ".join(map(str, values)) + " |"
