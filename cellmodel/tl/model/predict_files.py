"""Clusters of a fitted model for the cells of many files: a file a task, in this process or on a Ray cluster."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import genekb
from cellmodel.core.errors import CellModelError, InputUnusable
from cellmodel.io.cells import ReadConfig
from cellmodel.io.concat import name_samples
from cellmodel.io.formats.anndata import open_file
from cellmodel.io.graph import ARRAYS
from cellmodel.io.writers import WriteConfig, check_outputs
from cellmodel.tl._classify import PredictJob
from cellmodel.tl._run.task import run_on_file
from cellmodel.tl.model.fitted import FittedModel, check_store, load_model
from genekb.builder.engine import EngineConfig, open_ray, wait_for_any
from genekb.core.errors import GeneKBError
from genekb.core.plugins import installed_version
from genekb.files.atomic import sha256_file

log = logging.getLogger(__name__)
Job = tuple[Path, Path]  # input and output
_RETRIES: Final = 3  # of a file whose worker was lost


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictConfig:
    """A fitted model, and how it is applied to each of many files."""

    model: Path  # its folder
    store: Path | None = None  # folder of the store that it was fitted with; None for a model without one
    read: ReadConfig = field(default_factory=ReadConfig)
    batch_key: str | None = None
    key_added: str = "cellmodel"
    overwrite: bool = False
    command: str = ""

    def write(self, output: Path) -> WriteConfig:
        """Say where the cells of one file go."""
        return WriteConfig(output=output, key_added=self.key_added, overwrite=self.overwrite, command=self.command)

    def digest(self, path: Path) -> str:
        """Identify the prediction of a file: SHA-256 of model, settings, and size and time of the input's files."""
        files = sorted(file for file in (path, *path.rglob("*")) if file.is_file())
        content = {
            "model": sha256_file(self.model / ARRAYS),
            "read": asdict(self.read),
            "batch_key": self.batch_key,
            "input": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
            "version": installed_version(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class FilePrediction:
    """What was written for one file."""

    input: Path
    output: Path
    n_cells: int
    share_genes: float  # share of the model's genes that the file has
    mean_confidence: float
    is_kept: bool  # whether the output was there already


def predict_files(
    paths: Sequence[Path], folder: Path, config: PredictConfig, engine: EngineConfig | None = None
) -> Iterator[FilePrediction]:
    """Predict the cells of each file and write them to a folder, ``NAME.h5ad``; yields what was written.

    An output of the same model, input and settings that is there already is kept: a run that was killed goes on where
    it was. With the engine ``ray`` each machine has to reach model, store, inputs and folder under the same paths. A
    task has one thread with either engine, so that both write the same values.
    """
    check_store(*_open(config.model, config.store))
    engine = engine or EngineConfig()
    jobs = [(path, folder / f"{name}.h5ad") for path, name in zip(paths, name_samples(paths), strict=True)]
    waiting = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputUnusable(f"{folder} cannot be made: {error.strerror}; write to another folder") from error
    for path, output in jobs:
        if (kept := _read_kept(path, output, config)) is not None:
            yield kept
        else:
            check_outputs(config.write(output), inputs=(*paths, config.model))
            waiting.append((path, output))
    failed = []
    here = (_predict_file(job, config) for job in waiting)
    for result in _on_ray(waiting, config, engine) if engine.name == "ray" else here:
        if isinstance(result, str):
            failed.append(result)
            log.warning("%s", result)
        else:
            yield result
    if failed:
        raise InputUnusable(
            f"{len(failed)} of {len(jobs)} files could not be predicted, the others are written; the first: {failed[0]}"
        )


def _on_ray(jobs: Sequence[Job], config: PredictConfig, engine: EngineConfig) -> Iterator[FilePrediction | str]:
    """Predict a few files at once; one whose worker was lost is predicted again by another."""
    if not jobs:
        return
    with open_ray(engine):
        import ray

        task = ray.remote(_predict_file).options(num_cpus=1, max_retries=_RETRIES)
        n_workers = engine.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting = list(reversed(jobs))
        running: dict[Any, Job] = {}
        while waiting or running:
            while waiting and len(running) < n_workers:
                job = waiting.pop()
                running[task.remote(job, config)] = job
            done = wait_for_any(
                list(running), engine, n_workers=n_workers, missing="no file was predicted",
                kept="files that are written",
            )  # fmt: skip
            path, _ = running.pop(done)
            try:
                yield ray.get(done)
            except ray.exceptions.RayError as error:
                yield f"{path}: failed on a Ray worker: {str(error).strip().splitlines()[-1]}"


def _predict_file(job: Job, config: PredictConfig) -> FilePrediction | str:
    """Predict the cells of one file; gives what is wrong with it as text, where something is."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no types

    path, output = job
    try:
        fitted, store = _open(config.model, config.store)
        task = PredictJob(
            fitted, store, folder=config.model, new_batch_key=config.batch_key, digest=config.digest(path)
        )
        with threadpool_limits(limits=1):
            found = run_on_file(path, task, read=config.read, write=config.write(output))
    except (CellModelError, GeneKBError, OSError) as error:
        return f"{path}: {error}"
    return FilePrediction(
        input=path,
        output=output,
        n_cells=len(found.labels),
        share_genes=found.share_genes,
        mean_confidence=float(found.confidence.mean()),
        is_kept=False,
    )


@lru_cache(maxsize=1)
def _open(model: Path, store: Path | None) -> tuple[FittedModel, genekb.Store | None]:
    return load_model(model), genekb.open(store) if store else None


def _read_kept(path: Path, output: Path, config: PredictConfig) -> FilePrediction | None:
    """Read what an output says of itself; None where it is of another model, input or settings, or not there."""
    if not output.is_file():
        return None
    try:
        with open_file(output) as file:
            record, confidence = file["uns"][config.key_added], file["obs"][f"{config.key_added}_confidence"][:]
            if record["digest"].asstr()[()] != config.digest(path):
                return None
            return FilePrediction(
                input=path,
                output=output,
                n_cells=len(confidence),
                share_genes=float(record["share_genes"][()]),
                mean_confidence=float(confidence.mean()),
                is_kept=True,
            )
    except (OSError, KeyError, AttributeError, TypeError):
        return None
