"""Texts encoded and cells predicted on a Ray cluster of two nodes: time by workers, and the bytes of the local engine.

    python -m benchmarks.speed.ray --output results [--n-genes 2000] [--n-files 6]

Both nodes are on this machine, a processor each. MiniLM encodes the texts of some protein-coding genes; a model that is
fitted on one file of synthetic cells predicts others. Seconds are those of the commands, with the start of workers and
the loading of the encoder; at least two cores are needed for two workers to gain.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np

from benchmarks.lib.protocol import build_stores, data_folder
from benchmarks.speed.frame import Figure, main, shell, time_command

N_CELLS = 20_000  # of a file


def engines(address: str) -> dict[str, tuple[object, ...]]:
    """Give the options of each way to run a command."""
    workers = {f"ray, {n} of 2 nodes": ("--engine", "ray", "--ray-address", address, "--workers", n) for n in (1, 2)}
    return {"local, one thread": (), **workers}


def encoded(folder: Path, address: str, n_genes: int) -> Iterator[Figure]:
    """Build a store of some genes by each engine."""
    from genekb import open as open_store

    genes = open_store(build_stores(folder / "stores")[0]).table("texts")["gene_id"].to_pylist()[:n_genes]
    (folder / "genes.txt").write_text("\n".join(map(str, genes)))
    source = ("--source", data_folder() / "ncbi" / "2022-11", "--taxon", "human", "--only-genes", folder / "genes.txt")
    digests = set()
    for number, (engine, options) in enumerate(engines(address).items()):
        home = folder / f"home{number}"
        words = ("build", *source, "--model", "minilm", "--name", "human", "--home", home, "--threads", 1)
        taken = time_command(shell("genekb", *words, *options))
        digests.add(open_store("human", home=home).manifest.digest)
        yield Figure(what=f"build, {n_genes:,} texts by MiniLM: {engine}", unit="s", value=taken.seconds)
    yield Figure(what="other digests than the local one", unit="", value=len(digests) - 1, limit=0)


def predicted(folder: Path, address: str, n_files: int) -> Iterator[Figure]:
    """Predict files of cells by each engine."""
    cells, store = folder / "cells.h5ad", build_stores(folder / "stores")[0]
    made = ("benchmarks.lib.synthetic", "kang_ctrl_stim_12261", cells, "--n-cells", N_CELLS * (n_files + 1))
    subprocess.run([sys.executable, "-m", *map(str, made)], check=True)
    every = ad.read_h5ad(cells)
    files = [folder / f"part{number}.h5ad" for number in range(n_files + 1)]
    for number, file in enumerate(files):
        every[number * N_CELLS : (number + 1) * N_CELLS].copy().write_h5ad(file)
    fit = ("cluster", files[0], "--kb", store, "-o", folder / "fit.h5ad", "--save-model", folder / "model")
    subprocess.run(shell("cellmodel", *fit), check=True, capture_output=True)
    clusters = []
    for number, (engine, options) in enumerate(engines(address).items()):
        output = folder / f"predicted{number}"
        words = ("predict", *files[1:], "--model", folder / "model", "--kb", store, "-o", output)
        taken = time_command(shell("cellmodel", *words, *options))
        clusters.append([ad.read_h5ad(output / file.name).obs["cellmodel"].to_numpy() for file in files[1:]])
        yield Figure(what=f"predict, {n_files} files of {N_CELLS:,} cells: {engine}", unit="s", value=taken.seconds)
    n_others = sum(not np.array_equal(clusters[0], others) for others in clusters[1:])
    yield Figure(what="other clusters than the local ones", unit="", value=n_others, limit=0)


def figures(folder: Path, *, n_genes: int = 2000, n_files: int = 6) -> Iterator[Figure]:
    """Give the seconds of both commands by each engine."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    try:
        yield from encoded(folder, cluster.address, n_genes)
        yield from predicted(folder, cluster.address, n_files)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main(__doc__, figures, name="ray"))
