"""A whole benchmark: jobs in processes of their own, each result kept so that a stopped run continues."""

import json
import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from cellmodel.bench.changes import Change, part_changes, without_repeats
from cellmodel.bench.integration import require_scib
from cellmodel.bench.jobs import BenchConfig, DataSet, Job, Row, parse_variant, run_job, variant_name
from cellmodel.bench.tables import results_markdown
from cellmodel.core.config import Knowledge
from cellmodel.core.errors import CellModelError, InputUnusable
from cellmodel.io.writers import check_targets
from cellmodel.recipes.registry import plugin_version
from genekb.core.addresses import without_secrets
from genekb.core.messages import printable
from genekb.core.plugins import installed_version
from genekb.core.progress import progress
from genekb.core.resources import leave_interrupts_to_parent, note_on_interrupt
from genekb.files import atomic as files
from genekb.files.replace import Target

log = logging.getLogger(__name__)
THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchResult:
    """Rows of all jobs that were done, and what failed: (data set, variant, why)."""

    rows: tuple[Row, ...]
    failures: tuple[tuple[str, str, str], ...]
    n_reused: int


def run_bench(datasets: Sequence[DataSet], config: BenchConfig) -> BenchResult:
    """Run every variant on every data set and write ``results.json``, ``.csv`` and ``.md``.

    Runs with one thing changed come after all complete ones, with whose clusters they are compared. A job that is
    refused, for example because a recipe needs text and there is no store, is listed and the others go on. Raises
    ``NotAvailable`` if integration is to be scored without `scib-metrics`.
    """
    if config.batch_key is not None:
        require_scib()
    jobs = plan_jobs(datasets, config)
    folder = Target(config.output, kind="shared", makes_parents=True)
    check_targets([folder], inputs=[data.path for data in datasets], overwrite=True)
    config.output.mkdir(parents=True, exist_ok=True)
    done: dict[Job, list[Row]] = {job: kept["rows"] for job in jobs if (kept := _kept(job)) is not None}
    missing = [job for job in jobs if job not in done]
    n_reused, failures = len(done), list[tuple[str, str, str]]()
    for count, (job, rows, why) in enumerate(_computed(missing, config), start=1):
        if why:
            name = job.recipe if job.change is None else f"{job.recipe}, {job.change.setting} {job.change.value}"
            failures.append((job.data.name, name, why))
            log.warning("%s, %s: %s", *failures[-1])
        else:
            done[job] = rows
        progress("benchmark", count, len(missing))
    all_rows = tuple(row for job in jobs if job in done for row in done[job])
    found = BenchResult(rows=all_rows, failures=tuple(failures), n_reused=n_reused)
    write_results(found, config.output)
    return found


def plan_jobs(datasets: Sequence[DataSet], config: BenchConfig) -> list[Job]:
    """One job a data set, recipe, knowledge and change; its heads share the representation."""
    heads: dict[tuple[str, Knowledge], dict[str, None]] = {}
    for text in config.variants:
        recipe, knowledge, head = parse_variant(text)
        heads.setdefault((recipe, knowledge), {})[head] = None
    return [
        Job(data=data, recipe=recipe, knowledge=knowledge, heads=tuple(names), config=config, change=change)
        for data in datasets
        for (recipe, knowledge), names in heads.items()
        for change in _changes(config, recipe, knowledge)
    ]


def _changes(config: BenchConfig, recipe: str, knowledge: Knowledge) -> Iterator[Change | None]:
    """Give what differs from the complete run, which comes first."""
    changes, skipped = list(config.changes), list[str]()
    if config.with_parts_off:
        parts, skipped = part_changes(recipe, knowledge=knowledge if config.stores else "none")
        changes += parts
    for reason in skipped:
        log.info("not done: %s", reason)
    yield None
    yield from without_repeats(changes)


def job_key(job: Job) -> dict[str, Any]:
    """All that decides a job's scores: the file's bytes, the settings, the stores, the version of the code."""
    config = job.config
    content = {
        "data": asdict(job.data) | {"path": job.data.path.name},
        **{name: getattr(job, name) for name in ("recipe", "knowledge", "heads", "change")},
        **{name: getattr(config, name) for name in ("seeds", "encoder", "n_clusters", "is_compared", "batch_key")},
        "stores": [folder.name for folder in config.stores],
    }
    text = without_secrets(json.dumps(content, default=list))  # a name may be an address
    key: dict[str, Any] = json.loads(text) | plugin_version(job.recipe)
    return key | {"sha256": files.sha256_file(job.data.path), "version": installed_version()}


def _path(job: Job) -> Path:
    changed = "" if job.change is None else f"--{job.change.setting}={job.change.value}"
    variant = variant_name(job.recipe, job.knowledge, "own")
    return job.config.output / "jobs" / f"{job.data.name}--{variant}{changed}.json"


def _kept(job: Job) -> dict[str, Any] | None:
    """Rows and clusters of a job that is done already."""
    path = _path(job)
    content: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return content if content is not None and content["job"] == job_key(job) else None


def _computed(jobs: list[Job], config: BenchConfig) -> Iterator[tuple[Job, list[Row], str]]:
    """Do jobs in processes, with the rows of each or why it failed; complete runs first.

    Each complete run has a process of its own, whose peak memory is then the job's.
    """
    kept = f"finished jobs are kept in {config.output}, the same command goes on from there"
    spawn = multiprocessing.get_context("spawn")
    for is_complete in (True, False):
        stage = [job for job in jobs if (job.change is None) == is_complete]
        if not stage:
            continue
        largest_first = sorted(stage, key=lambda job: -job.data.path.stat().st_size)
        with (
            note_on_interrupt(kept),
            _one_thread_each(),
            spawn.Pool(
                config.n_processes,
                initializer=leave_interrupts_to_parent,
                maxtasksperchild=1 if is_complete else None,
            ) as pool,
        ):
            yield from pool.imap_unordered(_attempt, largest_first)


def _attempt(job: Job) -> tuple[Job, list[Row], str]:
    """Do a job and keep it; of one with a change, the complete run is kept already."""
    complete = [] if job.change is None else (_kept(replace(job, change=None)) or {}).get("clusters")
    if complete is None:
        return job, [], "the complete run, with which it is to be compared, was not done"
    try:
        rows, clusters = run_job(job, complete=complete)
    except CellModelError as error:
        return job, [], str(error)
    kept = clusters if job.config.is_compared and job.change is None else []
    files.write_json({"job": job_key(job), "rows": rows, "clusters": kept}, _path(job))
    return job, rows, ""


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
    """Write the rows as JSON and CSV, and the tables as Markdown."""
    if not found.rows:
        raise InputUnusable(f"no result: {found.failures[0][2] if found.failures else 'nothing was asked for'}")
    import pandas as pd

    failures = [{"data": data, "recipe": recipe, "why": why} for data, recipe, why in found.failures]
    files.write_json({"rows": list(found.rows), "failures": failures}, output / "results.json")
    files.write_text(pd.DataFrame(found.rows).to_csv(index=False), output / "results.csv")
    files.write_text(printable(results_markdown(found.rows, failures=found.failures)), output / "results.md")
