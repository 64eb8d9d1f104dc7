"""NCBI's human gene_info and gene_summary into a store without vectors, beside pandas: read, join, pickle.

    python -m benchmarks.speed.parse --output results

Medians of three; each in a process of its own, its libraries imported before the clock starts. Memory is the kernel's
peak of that process. The store adds to the join: every name of a gene, the texts, checksums, the manifest. Writes
``parse.json`` and ``parse.md``; exits with 1 where the store is over a budget.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.lib.protocol import command_line, data_folder, peak_mb, write_results

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # as the commands do, for both ways alike

BUDGET_S, BUDGET_MB = 1.2, 250
N_REPEATS = 3
MEASURED = ("seconds", "cpu_s", "peak_mb")
OURS = "genekb build without an encoder"
PEER = "pandas: read, join, pickle"


def prepare_store() -> Callable[[Path], int]:
    """Import genekb; give the function that builds, from the target folder to the number of genes."""
    from genekb import BuildConfig, build, read_ncbi_folder

    def run(target: Path) -> int:
        source = read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=["human"])
        return build(source, BuildConfig(name="human", models=()), home=target).manifest.n_genes

    return run


def prepare_pandas() -> Callable[[Path], int]:
    """Import pandas; give the function that joins both files and pickles the result."""
    import pandas as pd

    def run(target: Path) -> int:
        folder = data_folder() / "ncbi" / "2022-11"
        genes = pd.read_csv(folder / "Homo_sapiens.gene_info.gz", sep="\t", low_memory=False)
        summaries = pd.read_csv(folder / "gene_summary.gz", sep="\t")
        joined = genes[genes["#tax_id"] == 9606].merge(summaries[["GeneID", "Summary"]], on="GeneID", how="left")
        joined.to_pickle(target / "human.pickle")
        return len(joined)

    return run


WAYS = {OURS: prepare_store, PEER: prepare_pandas}


def run_way(way: str) -> dict[str, float | str]:
    """Measure one way in this process."""
    run = WAYS[way]()
    with tempfile.TemporaryDirectory() as folder:
        started, started_cpu = time.perf_counter(), time.process_time()
        n_genes = run(Path(folder))
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    return {"way": way, "n_genes": n_genes, "seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak_mb()}


def measure_all() -> list[dict]:
    """Measure both ways, the store first."""
    rows = []
    for way in WAYS:
        command = [sys.executable, "-m", __spec__.name, "--way", way]
        found = [
            json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(N_REPEATS)
        ]
        rows.append(found[0] | {name: statistics.median(one[name] for one in found) for name in MEASURED})
    return rows


def table(rows: list[dict]) -> str:
    """Markdown: one line a way."""
    lines = ["| way | genes | s | processor s | peak MB |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row['way']} | {row['n_genes']:,} | {row['seconds']:.1f} | {row['cpu_s']:.1f} | {row['peak_mb']:.0f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, write, and compare with the budgets."""
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        sys.stdout.write(json.dumps(run_way(options.way)))
        return 0
    rows = measure_all()
    write_results(options.output, "parse", rows, table(rows))
    return 0 if min(rows[0]["seconds"], rows[0]["cpu_s"]) <= BUDGET_S and rows[0]["peak_mb"] <= BUDGET_MB else 1


if __name__ == "__main__":
    sys.exit(main())
