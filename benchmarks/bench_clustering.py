"""All recipes on all open sets, and whether a trained space adds to the rule of `fused`.

    python benchmarks/bench_clustering.py --output results [--home HOME] [--seeds 1]

Needs the extra ``scanpy``. Sets, their 4,000 cells at most and scanpy's steps are those of ``bench_rules.py``. A recipe
is taken at its last epoch, with the head of its paper and with the rule of `fused` in its own space. Text is that of a
store of the species (human, mouse), permuted among genes, drawn at random, or none. A trained space adds to the rule if
the rule chooses better in it, or among its partitions too (by their scores on the components), or by the mean of both
scores; ways and spaces are chosen on one half of the sets and scored on the other, over the splits of
``bench_rules.py``. k is the number of types; for a few recipes it is estimated too. Seconds are processor time on one
thread, without reading and preprocessing, which all recipes share. Rows are kept in ``clustering_rows.json`` of the
output: a run that was cut goes on. Without ``--home`` stores with `lsa-256` are built. Exits with 1 where a recipe of
the table is above `fused`.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_rules import ESTIMATE, LISTINGS, N_COMPONENTS, read, scanpy_rows
from clustering_report import BASELINES, ESTIMATED, FUSED, JOINT, SCANPY, SCORES, VARIANTS, Report, Row, key
from protocol import DataSet, KeptRows, command_line, data_folder, finish, load_datasets
from trained_views import SPACES

import genekb
from cellmodel.bench.metrics import score
from cellmodel.cluster.algorithms import draw_rows
from cellmodel.cluster.ensemble import Candidate, candidates, modularity, separation
from cellmodel.cluster.n_clusters import estimate_n_clusters
from cellmodel.core.arrays import Embedding, Labels, content_order
from cellmodel.core.config import EnsembleConfig, GraphConfig, Knowledge, RunConfig
from cellmodel.pp.neighbors import knn_graph, snn_weights
from cellmodel.pp.normalize import fit_components, principal_axes
from cellmodel.recipes.base import CellViews
from cellmodel.recipes.registry import find_recipe
from cellmodel.tl._run import prepare

N_AXES = 50
TAXA = ("human", "mouse")


def build_stores(home: Path) -> tuple[Path, ...]:
    """Build a store of each species with an encoder that needs no weights."""
    from genekb import BuildConfig, build, read_ncbi_folder

    folders = []
    for taxon in ("human", "mouse"):
        source = read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=[taxon])
        config = BuildConfig(name=taxon, models=("lsa-256",), genes="protein-coding")
        folders.append(build(source, config, home=home).folder)
    return tuple(folders)


def measured(get: Callable[[], "Cells"], recipe: str, knowledge: Knowledge | None) -> Row:
    """Score a recipe, with k estimated where no kind of text is named."""
    return get().estimate(recipe) if knowledge is None else get().measure(recipe, knowledge)


def run(options: Any) -> KeptRows:
    """Measure what is not yet kept, sets of few cells first."""
    rows = KeptRows(options.output / "clustering_rows.json")
    names = build_stores(options.output / "home") if options.home is None else TAXA
    stores = {taxon: genekb.open(str(name), home=options.home) for taxon, name in zip(TAXA, names, strict=True)}
    sets = sorted(load_datasets(*LISTINGS), key=lambda data: len(read(data)[1]))
    for seed in range(options.seeds):
        for data in sets:
            get = cache(partial(Cells, data, seed, stores, options.output / "partitions"))
            for recipe, kind in VARIANTS:
                rows.add(key(data.name, recipe, kind, seed), partial(measured, get, recipe, kind))
            for recipe in ESTIMATED if seed == 0 else ():
                rows.add(f"{data.name}|{recipe}|estimated", partial(measured, get, recipe, None))
    return rows


def figures(truth: np.ndarray, labels: Labels) -> list[float]:
    """ACC, NMI, ARI and macro-F1."""
    found = score(truth.tolist(), labels.tolist())
    return [round(float(getattr(found, name)), 5) for name in SCORES]


class Space:
    """A space of cells in which the rule scores partitions, as in ``cellmodel.cluster.ensemble``."""

    def __init__(self, z: Embedding, seed: int) -> None:
        self.z, self.seed = z, seed

    @cached_property
    def judge(self) -> Callable[[Labels], tuple[float, float]]:
        """Give separation and modularity of a partition."""
        from sklearn.metrics.pairwise import cosine_distances

        settings = EnsembleConfig()
        order = content_order(self.z)
        sample = order[draw_rows(len(self.z), settings.scored_cells, self.seed, purpose="compared cells")]
        distances = cosine_distances(self.z[sample])
        config = GraphConfig(n_neighbors=max(settings.n_neighbors))
        graph = snn_weights(knn_graph(np.ascontiguousarray(self.z[:, :N_COMPONENTS]), config=config))
        return lambda labels: (round(separation(distances, labels[sample]), 5), round(modularity(graph, labels), 5))

    def candidates(self, n_clusters: int, *, runs_per_view: int = 2) -> list[Candidate]:
        """Give the partitions of the rule."""
        config = EnsembleConfig(runs_per_view=runs_per_view)
        found = candidates(self.z, n_components=N_COMPONENTS, n_clusters=n_clusters, seed=self.seed, config=config)
        return list(found)


class Cells:
    """One set and seed: views by kind of text, and the partitions of the components."""

    def __init__(self, data: DataSet, seed: int, stores: Mapping[str, genekb.Store], kept: Path) -> None:
        self.seed, self.store, self.kept = seed, stores.get(data.taxon), kept / f"{data.name}--{seed}"
        self.cells, self.truth = read(data)
        self.n_types = len(np.unique(self.truth))
        self.views = cache(self._views)

    def _views(self, knowledge: Knowledge) -> CellViews:
        recipe = FUSED if knowledge == "none" else "scllm-dsc"
        config = RunConfig(recipe=recipe, knowledge=knowledge, seed=self.seed, n_words=0)
        return prepare(self.cells, None if knowledge == "none" else self.store, config).views

    @cached_property
    def components(self) -> Space:
        """Principal components, as many as the widest view has."""
        expression = self.views("none").expression
        n_components = max(EnsembleConfig().widths(N_COMPONENTS))
        return Space(fit_components(expression, n_components=n_components, seed=self.seed)(expression), self.seed)

    @cached_property
    def partitions(self) -> np.ndarray:
        """(partition, cell) those that `fused` compares; kept in a file."""
        path = self.kept.with_name(f"{self.kept.name}--partitions.npy")
        if not path.is_file():
            found = [each.labels for each in self.components.candidates(self.n_types)]
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.array(found, dtype=np.int16))
        return np.load(path)

    def measure(self, recipe: str, knowledge: Knowledge) -> Row:
        """Score a recipe: with its own head, and what the rule needs of its space."""
        if knowledge != "none" and self.store is None:
            return {"skipped": "no store of the species"}
        views, started = self.views(knowledge), time.process_time()
        if recipe in (SCANPY, FUSED):
            scanpy = {"scanpy": scanpy_rows(self.cells, self.truth, self.seed)}
            found = scanpy if recipe == SCANPY else {"pool": [self.partition_row(one) for one in self.partitions]}
            return found | {"seconds": time.process_time() - started}
        if recipe == "count splitting" and views.counts is None:
            return {"skipped": "no counts"}
        labels, z = self.cluster(recipe, knowledge, self.n_types)
        row: Row = {"seconds": round(time.process_time() - started, 2)}
        row |= {} if labels is None else {"own": figures(self.truth, labels)}
        return row if recipe in BASELINES else row | self.in_space(z)

    def cluster(self, recipe: str, knowledge: Knowledge, n_clusters: int) -> tuple[Labels | None, Embedding]:
        """Clusters of the recipe's own head, and what it clusters; some spaces have no head."""
        views = replace(self.views(knowledge), n_clusters=n_clusters)
        if recipe in SPACES:
            return None, SPACES[recipe](views, self.seed)
        found = find_recipe(FUSED if recipe == JOINT else recipe)
        representation = found.represent(views, self.seed)
        if recipe == JOINT:
            return None, representation.z_joint
        return found.head(representation, views, n_clusters, self.seed).labels, representation.features

    def in_space(self, z: Embedding) -> Row:
        """Partitions of a space, one a view, with their scores in it, and scores in it of those of the components."""
        space = Space(np.ascontiguousarray(principal_axes(z)[:, :N_AXES]), self.seed)
        found = [each.labels for each in space.candidates(self.n_types, runs_per_view=1)]
        pool = [[*self.partition_row(labels), *space.judge(labels)] for labels in found]
        return {"pool": pool, "base": [space.judge(labels) for labels in self.partitions]}

    def partition_row(self, labels: Labels) -> list[float]:
        """Score a partition by the labels, and without them."""
        return [*figures(self.truth, labels), *self.components.judge(labels)]

    @cached_property
    def estimated(self) -> int:
        """Number of clusters, estimated."""
        views = self.views("none")
        found = estimate_n_clusters(views.graph, pcs=views.pcs, depth=views.depth, seed=self.seed, config=ESTIMATE)
        return found.n_clusters

    def estimate(self, recipe: str) -> Row:
        """Score a recipe with the number of clusters that is estimated."""
        k = self.estimated
        if recipe == FUSED:
            labels = max(self.components.candidates(k), key=lambda each: each.score).labels
        else:
            uses_text = find_recipe(recipe).uses_text and self.store is not None
            labels, _ = self.cluster(recipe, "real" if uses_text else "none", k)
        return {"own": figures(self.truth, labels), "n_clusters": k, "n_types": self.n_types}


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="Lay out the rows that there are; compute none.")
    options = parser.parse_args()
    rows = KeptRows(options.output / "clustering_rows.json") if options.report else run(options)
    report = Report(rows)
    return finish(options.output, "clustering", rows, lines=report.lines(), bars=report.bars())


if __name__ == "__main__":
    sys.exit(main())
