"""Labelled files, and one job of a benchmark: a recipe on a data set, over all seeds, k given and estimated."""

import os
import re
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

import genekb
from cellmodel.bench.metrics import score
from cellmodel.core.arrays import Embedding
from cellmodel.core.config import Knowledge, RunConfig
from cellmodel.core.errors import InputUnusable, UnknownName
from cellmodel.io.cells import Cells, obs_columns, read_cells
from cellmodel.recipes.base import Representation
from cellmodel.recipes.heads import find_head, kmeans_head
from cellmodel.recipes.registry import find_recipe
from cellmodel.tl._run import prepare
from genekb.core.messages import counted
from genekb.files import atomic as files

UNKNOWN: Final = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A labelled file."""

    name: str  # what tables call it
    path: Path
    label_key: str  # column of obs with an annotator's labels
    origin: str = UNKNOWN  # of the labels; ``clustering``: agreement with an earlier clustering is measured


def find_datasets(folder: Path, *, listing: Path | None, label_key: str, names: tuple[str, ...] = ()) -> list[DataSet]:
    """List the data sets of a folder; all ``.h5ad`` files without a ``listing``.

    ``listing``: TOML with a table a data set: ``file`` (in the folder), ``label_key``, ``labels`` (their origin), and
    the ``sha256`` that the file must have. Raises ``InputUnusable`` if a file is missing or not the one that is listed.
    """
    if not folder.is_dir():
        raise InputUnusable(f"{folder} is not a folder; name one that holds .h5ad files")
    found = (
        _listed(folder, listing, label_key)
        if listing
        else [DataSet(name=path.stem, path=path, label_key=label_key) for path in sorted(folder.glob("*.h5ad"))]
    )
    if not found:
        raise InputUnusable(f"{folder} holds no .h5ad file; name a folder that does")
    missing = sorted(set(names) - {one.name for one in found})
    if missing:
        raise InputUnusable(f"no data set is called {missing[0]!r}; there are {', '.join(one.name for one in found)}")
    return [one for one in found if not names or one.name in names]


def _listed(folder: Path, listing: Path, label_key: str) -> list[DataSet]:
    try:
        entries = tomllib.loads(listing.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputUnusable(f"{listing} cannot be read as TOML: {error}") from error
    found = []
    for name, entry in entries.items():
        path = folder / entry.get("file", f"{name}.h5ad")
        if not path.is_file():
            raise InputUnusable(f"{path}, listed as {name!r} in {listing}, does not exist")
        digest = files.sha256_file(path) if "sha256" in entry else ""
        if digest != entry.get("sha256", ""):
            raise InputUnusable(f"{path} has sha256 {digest[:12]}..., {entry['sha256'][:12]}... is listed")
        key, origin = entry.get("label_key", label_key), entry.get("labels", UNKNOWN)
        found.append(DataSet(name=name, path=path, label_key=key, origin=origin))
    return found


OWN_HEAD: Final = "own"
ORACLE_EVERY: Final = 10  # epochs
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """What is compared, and where the results go."""

    variants: tuple[str, ...]  # ``RECIPE[+HEAD][@KNOWLEDGE]`` each
    output: Path  # folder of the results; jobs of the same settings that it holds are not computed again
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    stores: tuple[Path, ...] = ()  # folders of stores; the one that knows most of the gene names is taken
    encoder: str | None = None
    # among ``given`` (as many as there are types) and ``estimated``
    n_clusters: tuple[str, ...] = ("given", "estimated")
    # whether to score, with k given and the first seed, the best of every tenth epoch by label too. It is the figure
    # that published code reports, and is never used to choose anything here
    with_oracle: bool = False
    n_processes: int = 1  # jobs at once; each has one thread


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What one process computes."""

    data: DataSet
    recipe: str  # recipe, knowledge: what the cells are represented by
    knowledge: Knowledge
    heads: tuple[str, ...]  # heads that cluster the same representation: ``own`` for the recipe's, or names of heads
    config: BenchConfig


def parse_variant(text: str) -> tuple[str, Knowledge, str]:
    """Read ``RECIPE[+HEAD][@KNOWLEDGE]``, e.g. ``scrcl+micro-ward@shuffled``, into recipe, knowledge and head.

    Raises ``InputUnusable`` if the text is not of that form; ``UnknownName`` if a part is not known.
    """
    parts = re.fullmatch(r"(?P<recipe>[^+@]+)(\+(?P<head>[^+@]+))?(@(?P<knowledge>[^+@]+))?", text)
    if parts is None:
        raise InputUnusable(f"{text!r} does not read RECIPE[+HEAD][@KNOWLEDGE], for example scrcl+micro-ward@shuffled")
    recipe = find_recipe(parts["recipe"]).name
    head = parts["head"] or OWN_HEAD
    if head != OWN_HEAD:
        find_head(head)
    named = parts["knowledge"] or "real"
    kinds: tuple[Knowledge, ...] = get_args(Knowledge)
    if named not in kinds:
        raise UnknownName(f"knowledge {named!r} of {text!r} is not one of {', '.join(kinds)}")
    return recipe, kinds[kinds.index(named)], head


def variant_name(recipe: str, knowledge: str, head: str) -> str:
    """Write a variant as :func:`parse_variant` reads it."""
    with_head = recipe if head == OWN_HEAD else f"{recipe}+{head}"
    return with_head if knowledge == "real" else f"{with_head}@{knowledge}"


def run_job(job: Job) -> list[Row]:
    """Run a recipe on a data set: one row a seed, head and way of the number of clusters.

    Labels give the number of types and the scores, nothing else.
    """
    started = time.perf_counter()
    cells = read_cells(job.data.path)
    key = job.data.label_key
    labels = np.array(obs_columns(cells.adata, (key,), source=cells.source)[key])
    read_seconds = time.perf_counter() - started
    has_label = labels != ""
    n_types = len(np.unique(labels[has_label]))
    if n_types < 2:  # noqa: PLR2004 - one type leaves nothing to score
        raise InputUnusable(
            f"column {job.data.label_key!r} of {job.data.path} names {counted(n_types, 'type')}, 2 are needed"
        )
    kb = _best_store(job, cells)
    rows = []
    for seed in job.config.seeds:
        for part in _run_seed(job, cells, kb, n_types=n_types, seed=seed):
            scores = score(labels[has_label].tolist(), part.pop("labels")[has_label].tolist())
            part["seconds"] = round(part["seconds"] + read_seconds, 3)
            rows.append(part | asdict(scores) | {"mean": scores.mean})
    if job.config.with_oracle:
        rows[0] |= _oracle(job, cells, kb, labels=labels, n_types=n_types)
    origin = {"data": job.data.name, "origin": job.data.origin, "n_cells": len(labels), "peak_mb": round(peak_mb())}
    return [origin | row for row in rows]


def _best_store(job: Job, cells: Cells) -> genekb.Store | None:
    if job.knowledge == "none" or not find_recipe(job.recipe).uses_text or not job.config.stores:
        return None
    stores = [genekb.open(str(folder)) for folder in job.config.stores]
    known = [int((store.resolve(cells.names).gene_ids > 0).sum()) for store in stores]
    return stores[int(np.argmax(known))]


def _config(job: Job, kb: genekb.Store | None, seed: int) -> RunConfig:
    knowledge: Knowledge = job.knowledge if kb is not None else "none"
    return RunConfig(recipe=job.recipe, knowledge=knowledge, encoder=job.config.encoder, seed=seed, n_words=0)


def _run_seed(job: Job, cells: Cells, kb: genekb.Store | None, *, n_types: int, seed: int) -> Iterator[Row]:
    """Clusters of every head and way of k; a representation that does not depend on k is made once."""
    recipe = find_recipe(job.recipe)
    started = time.perf_counter()
    views = prepare(cells, kb, _config(job, kb, seed)).views
    shared = time.perf_counter() - started
    made: dict[int | None, tuple[Representation, float]] = {}
    for way in job.config.n_clusters:
        n_clusters = n_types if way == "given" else None
        needed = n_clusters if recipe.learns_centres else 0
        views = replace(views, n_clusters=n_clusters)
        if needed not in made:
            started = time.perf_counter()
            made[needed] = recipe.represent(views, seed), time.perf_counter() - started
        representation, spent = made[needed]
        for name in job.heads:
            started = time.perf_counter()
            head = recipe.head if name == OWN_HEAD else find_head(name)
            clusters = head(representation, views, n_clusters, seed).labels
            yield {
                "recipe": variant_name(job.recipe, job.knowledge, name),
                "k": way,
                "seed": seed,
                "seconds": shared + spent + time.perf_counter() - started,
                "labels": clusters,
            }


def _oracle(job: Job, cells: Cells, kb: genekb.Store | None, *, labels: np.ndarray, n_types: int) -> Row:
    """Best and last epoch by label, both clustered by k-means; nothing for a recipe that is not trained."""
    recipe = find_recipe(job.recipe)
    if recipe.train is None:
        return {}
    seed = job.config.seeds[0]
    views = replace(prepare(cells, kb, _config(job, kb, seed)).views, n_clusters=n_types)
    snapshots: list[Embedding] = []

    def keep(epoch: int, z: Embedding) -> None:
        if epoch % ORACLE_EVERY == 0:
            snapshots.append(z.copy())

    snapshots.append(recipe.train(views, seed, on_epoch=keep).features)
    has_label = labels != ""

    def mean_score(z: Embedding) -> float:
        representation = Representation(z=z, z_expr=z, z_text=None, features=np.ascontiguousarray(z))
        found = kmeans_head(representation, views, n_types, seed).labels
        return score(labels[has_label].tolist(), found[has_label].tolist()).mean

    means = [mean_score(z) for z in snapshots]
    return {"oracle_best_epoch": max(means), "last_epoch": means[-1]}


def peak_mb() -> float:
    """Peak memory of this process in MB; on Linux without the parent's, which ``ru_maxrss`` would count."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1024
    if os.name == "nt":
        return float("nan")
    import resource

    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
