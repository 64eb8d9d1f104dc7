"""NCBI's human gene_info and gene_summary into a store without vectors, beside pandas: read, join, pickle.

    python -m benchmarks.speed.parse --output results

Medians of three; each in a process of its own, its libraries imported before the clock starts. Memory is the kernel's
peak of that process. The store adds to the join: every name of a gene, the texts, checksums, the manifest.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.lib.protocol import data_folder, peak_mb
from benchmarks.speed.frame import Figure, clocked, in_process, main

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # as the commands do, for both ways alike

BUDGET_S, BUDGET_MB = 1.2, 250
N_REPEATS = 3
OURS = "genekb build without an encoder"
PEER = "pandas: read, join, pickle"


def prepare_store() -> Callable[[Path], None]:
    """Import genekb; give the function that builds in a folder."""
    from genekb import BuildConfig, build, read_ncbi_folder

    def run(target: Path) -> None:
        source = read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=["human"])
        build(source, BuildConfig(name="human", models=()), home=target)

    return run


def prepare_pandas() -> Callable[[Path], None]:
    """Import pandas; give the function that joins both files and pickles the result."""
    import pandas as pd

    def run(target: Path) -> None:
        folder = data_folder() / "ncbi" / "2022-11"
        genes = pd.read_csv(folder / "Homo_sapiens.gene_info.gz", sep="\t", low_memory=False)
        summaries = pd.read_csv(folder / "gene_summary.gz", sep="\t")
        joined = genes[genes["#tax_id"] == 9606].merge(summaries[["GeneID", "Summary"]], on="GeneID", how="left")
        joined.to_pickle(target / "human.pickle")

    return run


WAYS = {OURS: prepare_store, PEER: prepare_pandas}


def run_way(way: str) -> tuple[float, float, float]:
    """Measure one way in this process."""
    run = WAYS[way]()
    with tempfile.TemporaryDirectory() as folder:
        seconds, cpu_s, _ = clocked(lambda: run(Path(folder)))
    return seconds, cpu_s, peak_mb()


def figures(_folder: Path) -> Iterator[Figure]:
    """Give seconds and memory of both ways."""
    found = {
        way: [
            statistics.median(each) for each in zip(*(in_process(run_way, way) for _ in range(N_REPEATS)), strict=True)
        ]
        for way in WAYS
    }
    (seconds, cpu_s, mb), peer = found[OURS], found[PEER]
    yield Figure(what=OURS, unit="s", limit=BUDGET_S, value=seconds, processor=cpu_s, peers={PEER: peer[0]})
    yield Figure(what=f"{OURS}, peak", unit="MB", limit=BUDGET_MB, value=mb, peers={PEER: peer[2]})


if __name__ == "__main__":
    sys.exit(main(__doc__, figures, name="parse"))
