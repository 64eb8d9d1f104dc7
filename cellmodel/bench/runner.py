"""A whole benchmark: jobs in processes of their own, each result kept, so that a run that was cut short goes on."""

import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cellmodel.bench.datasets import DataSet
from cellmodel.bench.jobs import Job, Row, parse_variant, run_job, variant_name
from cellmodel.bench.tables import benchmark_markdown
from cellmodel.core.errors import CellModelError, InputUnusable
from cellmodel.io.writers import check_targets
from cellmodel.recipes.registry import plugin_version
from genekb.core.interrupts import leave_interrupts_to_parent, note_on_interrupt
from genekb.core.messages import printable
from genekb.core.versions import installed_version
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
