"""A whole benchmark: jobs in processes of their own, each result kept so that a stopped run continues, and tables."""

import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from cellmodel.bench.jobs import DataSet, Job, Row, parse_variant, run_job, variant_name
from cellmodel.core.errors import CellModelError, InputUnusable
from cellmodel.io.writers import check_targets
from cellmodel.recipes.registry import BASELINES, plugin_version
from genekb.core.messages import printable
from genekb.core.plugins import installed_version
from genekb.core.resources import leave_interrupts_to_parent, note_on_interrupt
from genekb.files import atomic as files
from genekb.files.replace import Target

log = logging.getLogger(__name__)
THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
Progress = Callable[[str, int, int], None]  # what, done, total


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """What is compared, and where the results go.

    Parameters
    ----------
    variants
        ``RECIPE[+HEAD][@KNOWLEDGE]`` each.
    seeds
        The same for every recipe and data set.
    output
        Folder of the results; what stands there of the same settings is not computed again.
    n_processes
        Jobs at once; each has one thread.
    """

    variants: tuple[str, ...]
    output: Path
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    stores: tuple[Path, ...] = ()
    encoder: str | None = None
    n_clusters: tuple[str, ...] = ("given", "estimated")
    with_oracle: bool = False
    n_processes: int = 1


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
    done = {number: rows for number, job in enumerate(jobs) if (rows := _kept(job, config.output)) is not None}
    n_reused, failures = len(done), []
    missing = [(number, job) for number, job in enumerate(jobs) if number not in done]
    for count, (number, rows, why) in enumerate(_computed(missing, config), start=1):
        if why:
            failures.append((jobs[number].data.name, jobs[number].recipe, why))
            log.warning("%s, %s: %s", jobs[number].data.name, jobs[number].recipe, why)
        else:
            files.write_json({"job": job_key(jobs[number]), "rows": rows}, _path(jobs[number], config.output))
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
        Job(
            data=data,
            recipe=recipe,
            knowledge=knowledge,
            heads=tuple(names),
            seeds=config.seeds,
            stores=config.stores,
            encoder=config.encoder,
            n_clusters=config.n_clusters,
            with_oracle=config.with_oracle,
        )
        for data in datasets
        for (recipe, knowledge), names in heads.items()
    ]


def job_key(job: Job) -> dict[str, Any]:
    """All that decides a job's scores: the file's bytes, the settings, the stores, the version of the code."""
    content = asdict(job) | {"stores": [folder.name for folder in job.stores]}
    content["data"] = asdict(job.data) | {"path": job.data.path.name}
    key: dict[str, Any] = json.loads(json.dumps(content, default=list))
    key |= plugin_version(job.recipe)
    return key | {"sha256": files.sha256_file(job.data.path), "version": installed_version()}


def _path(job: Job, output: Path) -> Path:
    return output / "jobs" / f"{job.data.name}--{variant_name(job.recipe, job.knowledge, 'own')}.json"


def _kept(job: Job, output: Path) -> list[Row] | None:
    path = _path(job, output)
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
