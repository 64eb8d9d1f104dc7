"""Labeled files, and one job: a recipe on a data set, as it is or with one change, over all seeds."""

import os
import re
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import torch

import genekb
from cellmodel.bench.changes import WITHOUT, Change, changed_cells, changed_config
from cellmodel.bench.integration import HARMONY, UNINTEGRATED, score_beside_rivals
from cellmodel.bench.metrics import score
from cellmodel.core.arrays import Labels
from cellmodel.core.config import BatchConfig, GraphConfig, Knowledge, RunConfig
from cellmodel.core.errors import InputUnusable, UnknownName
from cellmodel.explain.clusters import neighbor_agreement
from cellmodel.io.cells import Cells, ReadConfig, obs_categories, obs_columns, read_cells
from cellmodel.nn.modules import layer_similarities, mean_cosine
from cellmodel.recipes.base import CellViews, Recipe, Representation
from cellmodel.recipes.heads import find_head
from cellmodel.recipes.registry import find_recipe
from cellmodel.tl._run.pipeline import prepare
from genekb.core.messages import check_choice, counted
from genekb.files import atomic as files

UNKNOWN: Final = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A labeled file."""

    name: str  # what tables call it
    path: Path
    label_key: str | None  # column of obs with an annotator's labels; None for cells without
    origin: str = UNKNOWN  # of the labels; ``clustering``: agreement with an earlier clustering is measured
    read: ReadConfig = field(default_factory=ReadConfig)


def find_datasets(folder: Path, *, listing: Path | None, label_key: str, names: tuple[str, ...] = ()) -> list[DataSet]:
    """List the data sets of a folder; all ``.h5ad`` files without a ``listing``.

    ``listing``: TOML with a table a data set: ``file`` (in the folder), ``label_key``, ``labels`` (their origin), and
    the ``sha256`` that the file must have. Raises ``InputUnusable`` if a file is missing or not the one that is listed.
    """
    if not folder.is_dir():
        raise InputUnusable(f"{folder} is not a folder; name one that holds .h5ad files")
    try:
        entries = tomllib.loads(listing.read_text()) if listing else {path.stem: {} for path in folder.glob("*.h5ad")}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputUnusable(f"{listing} cannot be read as TOML: {error}") from error
    if not entries:
        raise InputUnusable(f"{folder} holds no .h5ad file; name a folder that does")
    missing = sorted(set(names) - set(entries))
    if missing:
        raise InputUnusable(f"no data set is called {missing[0]!r}; there are {', '.join(sorted(entries))}")
    order = list(entries) if listing else sorted(entries)
    return [_dataset(name, entries[name], folder, label_key) for name in order if not names or name in names]


def _dataset(name: str, entry: Mapping[str, str], folder: Path, label_key: str) -> DataSet:
    path = folder / entry.get("file", f"{name}.h5ad")
    if not path.is_file():
        raise InputUnusable(f"{path}, listed as {name!r}, does not exist")
    listed = entry.get("sha256")
    if listed is not None and (digest := files.sha256_file(path)) != listed:
        raise InputUnusable(f"{path} has sha256 {digest[:12]}..., {listed[:12]}... is listed")
    key, origin = entry.get("label_key", label_key), entry.get("labels", UNKNOWN)
    return DataSet(name=name, path=path, label_key=key, origin=origin)


OWN_HEAD: Final = "own"
INTEGRATION: Final = ("overall", "bio", "batch")  # scIB's scores of an embedding
RIVALS: Final = {"scib_pca": UNINTEGRATED, "scib_harmony": HARMONY}  # columns of rows, and what they score
GIVEN: Final = "given"
ESTIMATED: Final = "estimated"
LAYER: Final = "cosine."  # begins the columns with the mean cosine between cells after a layer
LAST_LAYER: Final = "features"
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """What is compared, and where the results go."""

    variants: tuple[str, ...]  # ``RECIPE[+HEAD][@KNOWLEDGE]`` each
    # folder of the results of :func:`cellmodel.bench.runner.run_bench`; jobs of the same settings that it holds are not
    # computed again
    output: Path = Path()
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    stores: tuple[Path, ...] = ()  # folders of stores; the one that knows most of the gene names is taken
    encoder: str | None = None
    # among ``given`` (as many as there are types), ``estimated``, and numbers
    n_clusters: tuple[str, ...] = (GIVEN, ESTIMATED)
    # what differs, one at a time, from the complete run, with which its clusters are then compared
    changes: tuple[Change, ...] = ()
    with_parts_off: bool = False  # each part of a recipe is a change, too: knowledge, text paths, objectives
    n_processes: int = 1  # jobs at once; each has one thread
    # column of obs with the batch of each cell: recipes integrate the batches, and their embeddings are scored by scIB
    batch_key: str | None = None

    @property
    def is_compared(self) -> bool:
        """Whether runs are compared with the complete one."""
        return bool(self.changes) or self.with_parts_off


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What one process computes."""

    data: DataSet
    recipe: str  # recipe, knowledge: what the cells are represented by
    knowledge: Knowledge
    heads: tuple[str, ...]  # heads that cluster the same representation: ``own`` for the recipe's, or names of heads
    config: BenchConfig
    change: Change | None = None  # None for the complete run


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """A recipe's representation of the cells, and the clusters of one of its heads."""

    row: Row  # which recipe, way of k and seed, and seconds
    representation: Representation
    layers: Mapping[str, float]  # mean cosine between cells after each layer; empty where nothing is changed
    clusters: Labels


def parse_variant(text: str) -> tuple[str, Knowledge, str]:
    """Read ``RECIPE[+HEAD][@KNOWLEDGE]``, e.g. ``scrcl+leiden@shuffled``, into recipe, knowledge and head.

    Raises ``InputUnusable`` if the text is not of that form; ``UnknownName`` if a part is not known.
    """
    parts = re.fullmatch(r"(?P<recipe>[^+@]+)(\+(?P<head>[^+@]+))?(@(?P<knowledge>[^+@]+))?", text)
    if parts is None:
        raise InputUnusable(f"{text!r} does not read RECIPE[+HEAD][@KNOWLEDGE], for example scrcl+leiden@shuffled")
    recipe = find_recipe(parts["recipe"]).name
    head = parts["head"] or OWN_HEAD
    if head != OWN_HEAD:
        find_head(head)
    named = parts["knowledge"] or "real"
    kinds: tuple[Knowledge, ...] = get_args(Knowledge)
    check_choice(f"knowledge of {text!r},", named, kinds, error=UnknownName)
    return recipe, kinds[kinds.index(named)], head


def variant_name(recipe: str, knowledge: str, head: str) -> str:
    """Write a variant as :func:`parse_variant` reads it."""
    with_head = recipe if head == OWN_HEAD else f"{recipe}+{head}"
    return with_head if knowledge == "real" else f"{with_head}@{knowledge}"


def run_job(job: Job, *, complete: Sequence[list[int]] = ()) -> tuple[list[Row], list[list[int]]]:
    """Run a recipe on a data set; give a row a seed, way of the number of clusters, and head, and the clusters of each.

    Labels give the number of types and the scores, nothing else. ``complete``: clusters of the complete run, where this
    one differs from it.
    """
    started = time.perf_counter()
    cells = read_cells(job.data.path, job.data.read)
    labels = _labels(job, cells)
    read_seconds = time.perf_counter() - started
    kb = _best_store(job, cells)
    rows: list[Row] = []
    runs: list[_Run] = []
    for seed in job.config.seeds:
        changed, kept = changed_cells(cells, job.change, seed=seed)
        own = None if labels is None else labels[kept]
        for run in _run_seed(job, changed, kb, n_types=_n_types(own), seed=seed):
            reference = np.array(complete[len(rows)])[kept] if complete else run.clusters
            row = run.row | {"n_cells": len(kept), "seconds": round(run.row["seconds"] + read_seconds, 3)}
            rows.append(row | _scores(own, run.clusters) | _structure(job, run, own, reference))
            runs.append(run)
    if job.config.batch_key is not None and labels is not None and job.change is None:
        rows = _with_integration(rows, runs, cells, labels=labels, batch_key=job.config.batch_key)
    origin = {"data": job.data.name, "origin": job.data.origin, "peak_mb": round(peak_mb())}
    return [origin | row for row in rows], [run.clusters.tolist() for run in runs]


def _with_integration(
    rows: list[Row], runs: list[_Run], cells: Cells, *, labels: np.ndarray, batch_key: str
) -> list[Row]:
    """Add scIB's scores of each row's embedding and of its rivals; an embedding of several rows is scored once."""
    embeddings = {str(id(run.representation.z)): run.representation.z for run in runs}
    batches = obs_categories(cells.adata, batch_key, source=cells.source)
    scored = {each.embedding: each for each in score_beside_rivals(cells, embeddings, labels=labels, batches=batches)}
    return [
        row
        | {
            f"{column}_{name}": getattr(scored[embedding], name)
            for column, embedding in {"scib": str(id(run.representation.z)), **RIVALS}.items()
            for name in INTEGRATION
        }
        for row, run in zip(rows, runs, strict=True)
    ]


def _labels(job: Job, cells: Cells) -> np.ndarray | None:
    """Label of each cell, empty where it has none; None where no column is named."""
    key = job.data.label_key
    if key is None:
        return None
    labels = np.array(obs_columns(cells.adata, (key,), source=cells.source)[key])
    if _n_types(labels) < 2:  # noqa: PLR2004 - one type leaves nothing to score
        raise InputUnusable(
            f"column {key!r} of {job.data.path} names {counted(_n_types(labels), 'type')}, 2 are needed"
        )
    return labels


def _n_types(labels: np.ndarray | None) -> int:
    return 0 if labels is None else len(np.unique(labels[labels != ""]))


def _scores(labels: np.ndarray | None, clusters: Labels) -> Row:
    """Scores of the cells that have a label."""
    if labels is None:
        return {"n_clusters": len(np.unique(clusters))}
    scores = score(labels[labels != ""].tolist(), clusters[labels != ""].tolist())
    return asdict(scores) | {"mean": scores.mean}


def _structure(job: Job, run: _Run, labels: np.ndarray | None, complete: Labels) -> Row:
    """Measures of the clusters and the embedding beside the complete run; none where nothing is changed.

    ``same_clusters``: ARI with the clusters of the complete run. ``neighbors``: fraction of a cell's nearest neighbors
    in the embedding that are in its cluster of the complete run. ``purity``: that are of its type. The embedding is the
    joint space where the recipe has one, which text and objectives change.
    """
    if not job.config.is_compared:
        return {}
    setting, value = job.change or ("", "")
    joint = run.representation.z_joint
    z = np.ascontiguousarray(run.representation.z if joint is None else joint)
    found = {
        "setting": setting,
        "value": str(value),
        "same_clusters": score(complete.tolist(), run.clusters.tolist()).ari,
        "neighbors": neighbor_agreement(z, complete, graph=GraphConfig()),
    }
    if labels is not None:
        types = np.unique(labels[labels != ""], return_inverse=True)[1]
        found["purity"] = neighbor_agreement(z[labels != ""], types, graph=GraphConfig())
    return found | {f"{LAYER}{name}": value for name, value in run.layers.items()}


def _best_store(job: Job, cells: Cells) -> genekb.Store | None:
    if job.knowledge == "none" or not find_recipe(job.recipe).uses_text:
        return None
    stores = [genekb.open(str(folder)) for folder in job.config.stores]
    return max(stores, key=lambda store: int((store.resolve(cells.names).gene_ids > 0).sum()), default=None)


def _run_seed(job: Job, cells: Cells, kb: genekb.Store | None, *, n_types: int, seed: int) -> Iterator[_Run]:
    """Clusters of every head and way of k; a representation that does not depend on k is made once."""
    recipe, batch_key = find_recipe(job.recipe), job.config.batch_key
    started = time.perf_counter()
    config = RunConfig(
        recipe=job.recipe,
        knowledge=job.knowledge if kb is not None else "none",
        encoder=job.config.encoder,
        seed=seed,
        n_words=0,
        batch=None if batch_key is None else BatchConfig(key=batch_key),
    )
    config = changed_config(config, job.change)
    views = prepare(cells, kb if config.knowledge != "none" else None, config).views
    shared = time.perf_counter() - started
    made: dict[int | None, tuple[Representation, Mapping[str, float], float]] = {}
    for way in job.config.n_clusters:
        n_clusters = {GIVEN: n_types, ESTIMATED: None}[way] if way in {GIVEN, ESTIMATED} else int(way)
        needed = n_clusters if recipe.learns_centers else 0
        views = replace(views, n_clusters=n_clusters)
        if needed not in made:
            started = time.perf_counter()
            made[needed] = *_represent(job, recipe, views, seed), time.perf_counter() - started
        representation, layers, seconds = made[needed]
        for name in job.heads:
            started = time.perf_counter()
            head = recipe.head if name == OWN_HEAD else find_head(name)
            clusters = head(representation, views, seed)
            row = {"recipe": variant_name(job.recipe, job.knowledge, name), "k": way, "seed": seed}
            row["seconds"] = shared + seconds + time.perf_counter() - started
            yield _Run(row=row, representation=representation, layers=layers, clusters=clusters)


def _represent(job: Job, recipe: Recipe, views: CellViews, seed: int) -> tuple[Representation, Mapping[str, float]]:
    """Make a representation, without the objective that is left out; watch the layers where runs are compared."""

    def made() -> Representation:
        if job.change is not None and job.change.setting == WITHOUT and recipe.train is not None:
            return recipe.train(views, seed, off=frozenset({str(job.change.value)}))
        return recipe.represent(views, seed)

    if not job.config.is_compared:
        return made(), {}
    with layer_similarities(len(views.pcs)) as layers:
        found = made()
    pcs, smoothed, last = (
        mean_cosine(torch.from_numpy(np.array(each))) for each in (views.pcs, views.smoothed, found.features)
    )
    return found, {"pcs": pcs, "smoothed": smoothed, **layers, LAST_LAYER: last}


def peak_mb() -> float:
    """Peak memory of this process in MB; on Linux without the parent's, which ``ru_maxrss`` would count."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) / 1024
    if os.name == "nt":
        return float("nan")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
