"""Training of `fused` alone and by several processes: seconds, memory and how far results differ; train.{json,md}.

    python benchmarks/bench_train.py --output results [--cells 3000,30000,300000] [--engines ddp,ray]

Cells are drawn from groups in the 30 dimensions of the smoothed components, with a text of 128 dimensions that follows
from them. Every run is made in a process of its own. Exits with 1 where the embedding of several processes differs from
that of one by more than the tolerance, or k-means finds other clusters in it.
"""

import argparse
import json
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

from cellmodel.cluster.algorithms import kmeans
from cellmodel.core.device import Compute, Engine
from cellmodel.core.random import generator
from cellmodel.recipes import fused
from cellmodel.recipes.base import CellViews

TOLERANCE = 1e-4  # of a coordinate of the embedding, whose rows have length one
N_GROUPS, N_COMPONENTS, N_TEXT = 12, 30, 128
MOST_CLUSTERED = 30_000  # cells up to which k-means compares the embeddings


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One run: what it took, and how far it lies from the run of one process on the same cells.

    Parameters
    ----------
    seconds
        Of training and embedding, with the start of the processes.
    added_mb
        Peak memory above that of the views, in the first process alone.
    difference
        Largest of a coordinate of the embedding.
    ari
        Of k-means on both embeddings; None where there are too many cells.
    """

    n_cells: int
    engine: Engine
    n_workers: int
    seconds: float
    added_mb: float
    difference: float
    ari: float | None


def draw_views(n_cells: int, compute: Compute) -> CellViews:
    """Draw what `fused` reads; all else is empty."""
    rng = generator(0, "cells of bench_train")
    group = rng.integers(0, N_GROUPS, n_cells)
    centres = 3 * rng.standard_normal((N_GROUPS, N_COMPONENTS), dtype=np.float32)
    smoothed = centres[group] + rng.standard_normal((n_cells, N_COMPONENTS), dtype=np.float32)
    text = smoothed @ rng.standard_normal((N_COMPONENTS, N_TEXT), dtype=np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    nothing = sp.csr_matrix((n_cells, 1), dtype=np.float32)
    return CellViews(
        expression=nothing, pcs=smoothed, graph=nothing, knn=nothing, depth=np.zeros(0), smoothed=smoothed, text=text,
        compute=compute,
    )  # fmt: skip


def train(n_cells: int, compute: Compute, target: Path) -> tuple[float, float]:
    """Train once, keep the embedding in a file, and give the seconds and the megabytes."""
    views = draw_views(n_cells, compute)
    before, started = _peak_mb(), time.perf_counter()
    z = fused.represent(views, 0).z_joint
    seconds, added = time.perf_counter() - started, _peak_mb() - before
    np.save(target, z)
    return seconds, added


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(n_cells: int, engines: list[Engine], n_workers: int) -> list[Row]:
    """Train by one process and by each engine on the same cells."""
    rows = []
    with TemporaryDirectory() as name:
        for engine in ("local", *engines):
            compute = Compute(engine=engine, n_workers=1 if engine == "local" else n_workers)
            target = Path(name) / f"{engine}.npy"
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                seconds, added = pool.submit(train, n_cells, compute, target).result()
            z, alone = np.load(target), np.load(Path(name) / "local.npy")
            rows.append(
                Row(
                    n_cells=n_cells,
                    engine=engine,
                    n_workers=compute.n_workers,
                    seconds=round(seconds, 2),
                    added_mb=round(added, 1),
                    difference=float(np.abs(z - alone).max()),
                    ari=_agreement(z, alone) if n_cells <= MOST_CLUSTERED else None,
                )
            )
            sys.stderr.write(f"{rows[-1]}\n")
    return rows


def _agreement(z: np.ndarray, other: np.ndarray) -> float:
    labels = [kmeans(points, n_clusters=N_GROUPS, seed=0) for points in (z, other)]
    return float(adjusted_rand_score(*labels))


def markdown(rows: list[Row]) -> str:
    """Table of the runs."""
    lines = [
        "| cells | engine | processes | seconds | MB above the views | largest difference of z | ARI of k-means |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.n_cells:,} | {row.engine} | {row.n_workers} | {row.seconds:.1f} | {row.added_mb:.0f} | "
        f"{row.difference:.1e} | {'' if row.ari is None else f'{row.ari:.4f}'} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write, and fail above the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cells", default="3000,30000,300000")
    parser.add_argument("--engines", default="ddp,ray")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    rows = [
        row
        for n_cells in map(int, options.cells.split(","))
        for row in compare(n_cells, options.engines.split(","), options.workers)
    ]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "train.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    (options.output / "train.md").write_text(markdown(rows))
    missed = [row for row in rows if row.difference > TOLERANCE or (row.ari is not None and row.ari < 1)]
    for row in missed:
        sys.stderr.write(f"above the tolerance of {TOLERANCE}: {row}\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
