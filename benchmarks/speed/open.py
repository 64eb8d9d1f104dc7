"""How long a user waits for gene vectors: a store opened and aligned, beside tables that are loaded from a pickle.

    python -m benchmarks.speed.open --output results

Builds the store of all human genes (wcp) in a temporary home. Each way gives the vectors of the same names, the
first 2,000 genes of a real set by total counts: from the store; from a pickle of {symbol: list of floats}, as GenePT
is shared; from a pickle of {symbol: array}. Each way has a process of its own that has imported its libraries before
the clock starts: the first of 20 repeats is reported apart, and memory is that of the first. ``genekb search`` is timed
from the shell, the median of three. Writes ``open.json`` and ``open.md``; fails where the median or the first of the
store or the search is over its budget (the smaller of wall and processor time), or where giving the vectors allocates
half of the table: the rows asked for are copied, the table is mapped.
"""

import argparse
import json
import pickle
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

from benchmarks.lib.protocol import command_line, data_folder, write_results

N_GENES = 2000
N_REPEATS = 20
BUDGET_MS, BUDGET_FIRST_MS = 50, 100
BUDGET_SEARCH_S = 1.0
SEARCH = ("search", "T cell receptor signalling", "--kb", "human", "--encoder", "wcp")
BUDGET_SHARE = 0.5  # of the table may be allocated while the vectors are given; a copy of it would be 1
WAYS = ("store", "pickle of lists", "pickle of arrays")


def prepare(folder: Path) -> None:
    """Write the store, its cache, both pickles and the list of names."""
    from cellmodel.io.gene_names import read_gene_totals
    from genekb import BuildConfig, build, read_ncbi_folder
    from genekb import open as open_store

    source = read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=["human"])
    store = open_store(build(source, BuildConfig(name="human", models=("wcp",)), home=folder).folder)
    table = store.vector_table()
    genes = store.table("genes")
    symbols = dict(zip(genes["gene_id"].to_pylist(), genes["symbol"].to_pylist(), strict=True))
    vectors = store.vectors(table.gene_ids).vectors
    arrays = {
        symbols[gene_id]: np.array(vector) for gene_id, vector in zip(table.gene_ids.tolist(), vectors, strict=True)
    }
    with (folder / "arrays.pickle").open("wb") as stream:
        pickle.dump(arrays, stream, protocol=pickle.HIGHEST_PROTOCOL)
    with (folder / "lists.pickle").open("wb") as stream:
        pickle.dump({name: array.tolist() for name, array in arrays.items()}, stream, pickle.HIGHEST_PROTOCOL)
    names, totals = read_gene_totals(data_folder() / "scrna" / "pbmc_facs.h5ad")
    first = np.argsort(-np.asarray(totals), kind="stable")[:N_GENES]
    (folder / "names.json").write_text(json.dumps([names[row] for row in first]))


def from_store(folder: Path, names: list[str]) -> np.ndarray:
    """Open, resolve, take the vectors."""
    from genekb import open as open_store

    store = open_store("human", home=folder)
    resolution = store.resolve(names)
    selection = store.vectors(resolution.gene_ids)
    return selection.vectors[selection.has_vector]


def from_pickle(path: Path, names: list[str]) -> np.ndarray:
    """Load the whole table and look the names up, without any resolving."""
    with path.open("rb") as stream:
        table = pickle.load(stream)
    return np.array([table[name] for name in names if name in table], dtype=np.float32)


def run_way(way: str, folder: Path, *, traced: bool) -> dict[str, float]:
    """Measure one way in this process, libraries imported before."""
    import genekb.genes.resolve
    import genekb.store.reader  # noqa: F401 - imported before the clock starts

    names = json.loads((folder / "names.json").read_text())
    before = resident_mb()
    if traced:
        tracemalloc.start()
        take(way, folder, names)
        allocated = {"allocated_mb": tracemalloc.get_traced_memory()[1] / 2**20}
        return allocated | (share_copied(folder, names) if way == "store" else {})
    first, first_cpu, vectors = timed(way, folder, names)
    resident = resident_mb() - before
    rest = [timed(way, folder, names)[:2] for _ in range(N_REPEATS - 1)]
    times, cpu_times = zip((first, first_cpu), *rest, strict=True)
    return {
        "n_found": len(vectors),
        "ms_first": first,
        "ms_first_cpu": first_cpu,
        "ms_median": statistics.median(times),
        "ms_median_cpu": statistics.median(cpu_times),
        "ms_max": max(times),
        "resident_mb": resident,
    }


def timed(way: str, folder: Path, names: list[str]) -> tuple[float, float, np.ndarray]:
    """Milliseconds that one repeat takes, those of the processor, and what it gives."""
    start, start_cpu = time.perf_counter(), time.process_time()
    vectors = take(way, folder, names)
    return (time.perf_counter() - start) * 1000, (time.process_time() - start_cpu) * 1000, vectors


def share_copied(folder: Path, names: list[str]) -> dict[str, float]:
    """Measure what an opened store allocates while it gives the vectors, over the size of the whole table."""
    from genekb import open as open_store

    store = open_store("human", home=folder)
    gene_ids = store.resolve(names).gene_ids
    table = store.vector_table().vectors
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    store.vectors(gene_ids)
    return {"share_of_table_copied": (tracemalloc.get_traced_memory()[1] - before) / table.nbytes}


def take(way: str, folder: Path, names: list[str]) -> np.ndarray:
    """Give the vectors of the names in one of the ways."""
    if way == "store":
        return from_store(folder, names)
    pickles = {"pickle of lists": "lists.pickle", "pickle of arrays": "arrays.pickle"}
    return from_pickle(folder / pickles[way], names)


def resident_mb() -> float:
    """Resident memory of this process that is no mapped file."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def measure_all() -> list[dict[str, float | str]]:
    """Measure every way, the store first, with it the search from the shell."""
    with tempfile.TemporaryDirectory() as temporary:
        prepare(Path(temporary))
        rows = [measure(way, Path(temporary)) for way in WAYS]
        return [rows[0] | search_seconds(Path(temporary)), *rows[1:]]


def search_seconds(folder: Path) -> dict[str, float]:
    """Median of the seconds that a search from the shell takes, and of those of the processor."""
    command = [sys.executable, "-c", "from genekb_cellmodel_cli.entry import genekb; genekb()", *SEARCH]
    found = []
    for _ in range(3):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, "--home", str(folder)], check=True, capture_output=True)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append((seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return {
        name: statistics.median(each)
        for name, each in zip(("search_s", "search_cpu_s"), zip(*found, strict=True), strict=True)
    }


def measure(way: str, folder: Path) -> dict[str, float | str]:
    """Run one way in a fresh process; the memory that Python and NumPy allocate in one more."""
    return {"way": way, **in_process(way, folder, traced=False), **in_process(way, folder, traced=True)}


def in_process(way: str, folder: Path, *, traced: bool) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        __spec__.name,
        "--way",
        way,
        "--folder",
        str(folder),
        *(["--traced"] if traced else []),
    ]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(rows: list[dict[str, float | str]]) -> str:
    lines = [
        "| way | names found | first ms | median ms | its processor ms | largest ms | resident MB | allocated MB |"
    ]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row['way']} | {row['n_found']} | {row['ms_first']:.0f} | {row['ms_median']:.0f} "
        f"| {row['ms_median_cpu']:.0f} | {row['ms_max']:.0f} | {row['resident_mb']:.1f} | {row['allocated_mb']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, write, and compare with the budget."""
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--traced", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        sys.stdout.write(json.dumps(run_way(options.way, options.folder, traced=options.traced)))
        return 0
    rows = measure_all()
    write_results(options.output, "open", rows, table(rows))
    store = rows[0]
    sys.stdout.write(
        f"genekb search from the shell: {store['search_s']:.2f} s ({store['search_cpu_s']:.2f} processor)\n"
    )
    is_fast = min(store["ms_median"], store["ms_median_cpu"]) <= BUDGET_MS
    is_fast &= min(store["ms_first"], store["ms_first_cpu"]) <= BUDGET_FIRST_MS
    is_fast &= min(store["search_s"], store["search_cpu_s"]) <= BUDGET_SEARCH_S
    return 0 if is_fast and store["share_of_table_copied"] <= BUDGET_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
