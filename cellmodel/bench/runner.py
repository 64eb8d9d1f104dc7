"""A whole benchmark: jobs in processes of their own, each result kept so that a stopped run continues, and tables."""

import json
import logging
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cellmodel.bench.jobs import UNKNOWN, BenchConfig, DataSet, Job, Row, parse_variant, run_job, variant_name
from cellmodel.core.errors import CellModelError, InputUnusable
from cellmodel.io.writers import check_targets
from cellmodel.recipes.registry import BASELINES, plugin_version
from genekb.core.messages import printable
from genekb.core.plugins import installed_version
from genekb.core.resources import leave_interrupts_to_parent, note_on_interrupt
from genekb.files import atomic as files
from genekb.files.replace import Target

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
FROM_CLUSTERING: Final = "clustering"
HEADINGS: Final = {
    "accuracy": "ACC",
    "nmi": "NMI",
    "ari": "ARI",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced ACC",
    "mean": "mean of ACC, NMI, ARI",
}
Progress = Callable[[str, int, int], None]  # what, done, total


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchResult:
    """Rows of all jobs that were done, and what failed: (data set, variant, why)."""

    rows: tuple[Row, ...]
    failures: tuple[tuple[str, str, str], ...]
    n_reused: int


def run_bench(datasets: Sequence[DataSet], config: BenchConfig, *, progress: Progress | None = None) -> BenchResult:
    """Run every variant on every data set and write ``results.json``, ``results.parquet`` and ``results.md``.

    A job that is refused, for example because a recipe needs text and there is no store, is listed and the others go
    on.
    """
    jobs = plan_jobs(datasets, config)
    folder = Target(config.output, kind="shared", makes_parents=True)
    check_targets([folder], inputs=[data.path for data in datasets], overwrite=True)
    config.output.mkdir(parents=True, exist_ok=True)
    done = {number: rows for number, job in enumerate(jobs) if (rows := _kept(job)) is not None}
    n_reused, failures = len(done), []
    missing = [(number, job) for number, job in enumerate(jobs) if number not in done]
    for count, (number, rows, why) in enumerate(_computed(missing, config), start=1):
        if why:
            failures.append((jobs[number].data.name, jobs[number].recipe, why))
            log.warning("%s, %s: %s", jobs[number].data.name, jobs[number].recipe, why)
        else:
            files.write_json({"job": job_key(jobs[number]), "rows": rows}, _path(jobs[number]))
            done[number] = rows
        if progress:
            progress("benchmark", count, len(missing))
    found = BenchResult(
        rows=tuple(row for number in sorted(done) for row in done[number]), failures=tuple(failures), n_reused=n_reused
    )
    write_results(found, config.output)
    return found


def plan_jobs(datasets: Sequence[DataSet], config: BenchConfig) -> list[Job]:
    """One job a data set, recipe and knowledge; its heads share the representation."""
    heads: dict[tuple[str, Any], list[str]] = {}
    for text in config.variants:
        recipe, knowledge, head = parse_variant(text)
        of_recipe = heads.setdefault((recipe, knowledge), [])
        if head not in of_recipe:
            of_recipe.append(head)
    return [
        Job(data=data, recipe=recipe, knowledge=knowledge, heads=tuple(names), config=config)
        for data in datasets
        for (recipe, knowledge), names in heads.items()
    ]


def job_key(job: Job) -> dict[str, Any]:
    """All that decides a job's scores: the file's bytes, the settings, the stores, the version of the code."""
    config = job.config
    content = {
        "data": asdict(job.data) | {"path": job.data.path.name},
        **{name: getattr(job, name) for name in ("recipe", "knowledge", "heads")},
        **{name: getattr(config, name) for name in ("seeds", "encoder", "n_clusters", "with_oracle")},
        "stores": [folder.name for folder in config.stores],
    }
    key: dict[str, Any] = json.loads(json.dumps(content, default=list)) | plugin_version(job.recipe)
    return key | {"sha256": files.sha256_file(job.data.path), "version": installed_version()}


def _path(job: Job) -> Path:
    return job.config.output / "jobs" / f"{job.data.name}--{variant_name(job.recipe, job.knowledge, 'own')}.json"


def _kept(job: Job) -> list[Row] | None:
    """Rows of a job that is done already."""
    path = _path(job)
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    return content["rows"] if content["job"] == job_key(job) else None


def _computed(jobs: list[tuple[int, Job]], config: BenchConfig) -> Iterator[tuple[int, list[Row], str]]:
    if not jobs:
        return
    largest_first = sorted(jobs, key=lambda entry: -entry[1].data.path.stat().st_size)
    kept = f"finished jobs are kept in {config.output}, the same command goes on from there"
    spawn = multiprocessing.get_context("spawn")
    with (
        note_on_interrupt(kept),
        _one_thread_each(),
        spawn.Pool(config.n_processes, initializer=leave_interrupts_to_parent, maxtasksperchild=1) as pool,
    ):
        yield from pool.imap_unordered(_attempt, largest_first)


def _attempt(entry: tuple[int, Job]) -> tuple[int, list[Row], str]:
    number, job = entry
    try:
        return number, run_job(job), ""
    except CellModelError as error:
        return number, [], str(error)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let the processes that are started inside use one thread each."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def write_results(found: BenchResult, output: Path) -> None:
    """Write the rows as JSON and Parquet, and the tables as Markdown."""
    if not found.rows:
        raise InputUnusable(f"no result: {found.failures[0][2] if found.failures else 'nothing was asked for'}")
    import pyarrow as pa
    import pyarrow.parquet as pq

    failures = [{"data": data, "recipe": recipe, "why": why} for data, recipe, why in found.failures]
    files.write_json({"rows": list(found.rows), "failures": failures}, output / "results.json")
    names = list(dict.fromkeys(name for row in found.rows for name in row))
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in found.rows])
    with files.atomic_file(output / "results.parquet") as part:
        pq.write_table(table, part)
    files.write_text(printable(benchmark_markdown(found.rows, failures=found.failures)), output / "results.md")


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


def benchmark_markdown(rows: Sequence[Row], *, failures: Sequence[tuple[str, str, str]] = ()) -> str:
    """All tables of a benchmark, as Markdown."""
    import pandas as pd

    table, lines = pd.DataFrame(rows), ["# Results", ""]
    for k, part in table.groupby("k", sort=False):
        lines += [f"## Number of clusters {k}", "", *_means(part), "", *_comparisons(part), ""]
        lines += ["### By data set, mean ± standard deviation over seeds", "", *_by_data_table(part), ""]
    lines += _oracles(table)
    if failures:
        lines += ["## Not done", "", *(f"- {data}, {recipe}: {why}" for data, recipe, why in failures), ""]
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


def _by_data_table(rows: "pd.DataFrame") -> Iterator[str]:
    shown = list(HEADINGS)[:4]
    yield from header("data", "labels from", "recipe", "clusters / types", *map(HEADINGS.get, shown), "s", "peak MB")
    for (data, recipe), own in rows.groupby(["data", "recipe"], sort=False):
        numbers = f"{own['n_clusters'].mean():.1f} / {own['n_types'].iloc[0]}"
        spread = (f"{own[metric].mean():.3f} ± {own[metric].std(ddof=0):.3f}" for metric in shown)
        yield line(data, own["origin"].iloc[0], recipe, numbers, *spread, *_costs(own))


def _oracles(rows: "pd.DataFrame") -> Iterator[str]:
    if "oracle_best_epoch" not in rows:
        return
    yield from ("## What choosing the epoch by label would add (k given, one seed, k-means; not used)", "")
    yield from header("recipe", "data sets", "last epoch", "oracle_best_epoch", "difference")
    for recipe, own in rows.dropna(subset="oracle_best_epoch").groupby("recipe", sort=False):
        last, best = own["last_epoch"].mean(), own["oracle_best_epoch"].mean()
        yield line(recipe, len(own), f"{last:.3f}", f"{best:.3f}", f"{best - last:+.3f}")
    yield ""


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
