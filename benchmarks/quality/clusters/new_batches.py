"""New batches: one batch of a set left out, a model fitted to the others, and the left-out cells placed by it.

    python -m benchmarks.quality.clusters.new_batches --output results [--sets NAME ...]

Needs no store. Each batch of each set of ``batches`` in the data is left out in turn: ``cluster`` with a batch key and
``--knowledge none`` on the others, ``predict`` of the left-out cells, all of them one batch. They are scored beside the
clusters that they get where their batch takes part. The number of clusters is that of the types among the cells that
are clustered; labels give that number and the scores (mean of ACC, NMI and ARI of the left-out cells), nothing else.
Scores are kept in ``new_batches_rows.json`` of the output: a run that was cut goes on. Exits with 1 where a bar is
missed.
"""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.lib.protocol import KeptRows, bar_line, command_line, data_folder, finish, markdown, sections, values_of
from cellmodel.bench.metrics import score
from cellmodel.core.arrays import Labels
from cellmodel.core.config import BatchConfig, RunConfig
from cellmodel.io.cells import Cells, ReadConfig, cells_from_anndata
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.tl._run.pipeline import run
from cellmodel.tl.model.fitted import fit_model, predict

if TYPE_CHECKING:
    from anndata import AnnData

BATCH, TYPE = "batch", "cell_type"  # columns of obs
INSIDE, PLACED = "takes part", "left out"
BAR = 0.95  # of what the labels of the left-out batch get inside


class Scored:
    """Scores by set, batch and way, kept in a file as they are made."""

    def __init__(self, path: Path) -> None:
        self.kept = KeptRows(path)

    @property
    def rows(self) -> dict[str, dict[str, dict[str, float]]]:
        """Scores of each set by batch and way."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for key, value in self.kept.items():
            name, batch, way = key.split("|")
            found.setdefault(name, {}).setdefault(batch, {})[way] = value
        return found

    def mean(self, name: str, way: str) -> float:
        """Mean over the batches of a set."""
        return float(np.mean([of_batch[way] for of_batch in self.rows[name].values()]))

    def ratio(self, name: str) -> float:
        """Divide what left-out batches get by what they get inside."""
        return self.mean(name, PLACED) / self.mean(name, INSIDE)


def measure(name: str, path: Path, scored: Scored) -> None:
    """Leave out each batch of a set."""
    adata = read_anndata(path)
    truth, batches = (adata.obs[key].astype(str).to_numpy() for key in (TYPE, BATCH))
    whole = cache(lambda: clusters(adata, name))
    for batch in sorted(set(batches.tolist())):
        is_new = batches == batch
        ways = {INSIDE: lambda rows: whole()[rows], PLACED: lambda rows: placed(adata, rows, name)}
        for way, find in ways.items():
            scored.kept.add(f"{name}|{batch}|{way}", lambda rows=is_new, find=find: scored_as(truth[rows], find(rows)))


def clusters(adata: "AnnData", name: str) -> Labels:
    """Clusters of cells of several batches."""
    found = run(as_cells(adata, name), None, settings(adata)).labels
    assert found is not None
    return found


def placed(adata: "AnnData", is_new: np.ndarray, name: str) -> Labels:
    """Clusters of the cells of a batch by a model of all others."""
    fitted = adata[~is_new].copy()
    cells = as_cells(fitted, name)
    model = fit_model(cells, run(cells, None, settings(fitted)))
    return predict(model, as_cells(adata[is_new].copy(), name), None).labels


def as_cells(adata: "AnnData", name: str) -> Cells:
    return cells_from_anndata(adata.copy(), ReadConfig(values=values_of(name)), source=name)


def settings(adata: "AnnData") -> RunConfig:
    batch = BatchConfig(key=BATCH)
    return RunConfig(knowledge="none", batch=batch, n_clusters=adata.obs[TYPE].nunique(), n_words=0)


def scored_as(truth: np.ndarray, labels: Labels) -> float:
    return score(truth.tolist(), labels.tolist()).mean


def pages(scored: Scored) -> list[str]:
    """Table of the sets, and that of all batches."""
    names = list(scored.rows)
    by_set = [[name, *(scored.mean(name, way) for way in (INSIDE, PLACED)), scored.ratio(name)] for name in names]
    by_set.append(["mean", *(float(np.mean([row[at] for row in by_set])) for at in (1, 2, 3))])
    by_batch = [
        [name, batch, found[INSIDE], found[PLACED], found[PLACED] / found[INSIDE]]
        for name in names
        for batch, found in scored.rows[name].items()
    ]
    ways = (INSIDE, PLACED, "ratio")
    return [
        *("# New batches: mean of ACC, NMI and ARI of the cells of a batch", ""),
        *sections(
            {
                "Mean over the batches": markdown(("set", *ways), by_set),
                "Each batch": markdown(("set", "batch", *ways), by_batch),
            }
        ),
    ]


def bars(scored: Scored) -> list[str]:
    """Compare with the bar: each set, and their mean."""
    ratios = {name: scored.ratio(name) for name in scored.rows}
    every: Sequence[tuple[str, float]] = [*ratios.items(), ("mean over sets", float(np.mean(list(ratios.values()))))]
    return [bar_line(f"{what}: left-out batches, of what they get inside", ratio, BAR) for what, ratio in every]


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--sets", nargs="+", help="Names of sets; all if left out.")
    options = parser.parse_args()
    scored = Scored(options.output / "new_batches_rows.json")
    for path in sorted((data_folder() / "batches").glob("*.h5ad")):
        if not options.sets or path.stem in options.sets:
            measure(path.stem, path, scored)
    return finish(options.output, "new_batches", scored.rows, lines=pages(scored), bars=bars(scored))


if __name__ == "__main__":
    sys.exit(main())
