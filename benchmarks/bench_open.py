"""How long a user waits for gene vectors: a store opened and aligned, beside tables that are loaded from a pickle.

    python benchmarks/bench_open.py --output results

Builds the store of all human genes (lsa-256) in a temporary home. Each way gives the vectors of the same names, the
first 2,000 genes of a real set by total counts: from the store; from a pickle of {symbol: list of floats}, as GenePT
is shared; from a pickle of {symbol: array}. Each way has a process of its own that has imported its libraries before
the clock starts: the first of 20 repeats is told apart, and memory is that of the first. Writes ``open.json`` and
``open.md``; fails where the median of the store is over its budget.
"""

import argparse
import json
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
from protocol import data_folder

N_GENES = 2000
N_REPEATS = 20
BUDGET_MS = 100
WAYS = ("store", "pickle of lists", "pickle of arrays")


def prepare(folder: Path) -> None:
    """Write the store, its cache, both pickles and the list of names."""
    from cellmodel.io import read_gene_totals
    from genekb import BuildConfig, build, read_ncbi_folder
    from genekb import open as open_store

    source = read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=["human"])
    store = open_store(build(source, BuildConfig(name="human", models=("lsa-256",)), home=folder).folder)
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
    import genekb.resolve
    import genekb.store.reader  # noqa: F401 - imported before the clock starts

    names = json.loads((folder / "names.json").read_text())
    before = resident_mb()
    if traced:
        tracemalloc.start()
        take(way, folder, names)
        return {"allocated_mb": tracemalloc.get_traced_memory()[1] / 2**20}
    first, vectors = timed(way, folder, names)
    resident = resident_mb() - before
    times = [first, *(timed(way, folder, names)[0] for _ in range(N_REPEATS - 1))]
    return {
        "n_found": len(vectors),
        "ms_first": first,
        "ms_median": statistics.median(times),
        "ms_max": max(times),
        "resident_mb": resident,
    }


def timed(way: str, folder: Path, names: list[str]) -> tuple[float, np.ndarray]:
    """Milliseconds that one repeat takes, and what it gives."""
    start = time.perf_counter()
    vectors = take(way, folder, names)
    return (time.perf_counter() - start) * 1000, vectors


def take(way: str, folder: Path, names: list[str]) -> np.ndarray:
    """Give the vectors of the names in one of the ways."""
    if way == "store":
        return from_store(folder, names)
    pickles = {"pickle of lists": "lists.pickle", "pickle of arrays": "arrays.pickle"}
    return from_pickle(folder / pickles[way], names)


def resident_mb() -> float:
    """Resident memory of this process that is no mapped file."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def measure(way: str, folder: Path) -> dict[str, float | str]:
    """Run one way in a fresh process; the memory that Python and NumPy allocate in one more."""
    return {"way": way, **in_process(way, folder, traced=False), **in_process(way, folder, traced=True)}


def in_process(way: str, folder: Path, *, traced: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder), *(["--traced"] if traced else [])]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(rows: list[dict[str, float | str]]) -> str:
    lines = ["| way | names found | first ms | median ms | largest ms | resident MB | allocated MB |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row['way']} | {row['n_found']} | {row['ms_first']:.0f} | {row['ms_median']:.0f} | {row['ms_max']:.0f} "
        f"| {row['resident_mb']:.1f} | {row['allocated_mb']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, write, and compare with the budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--traced", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        sys.stdout.write(json.dumps(run_way(options.way, options.folder, traced=options.traced)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        prepare(Path(temporary))
        rows = [measure(way, Path(temporary)) for way in WAYS]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "open.json").write_text(json.dumps(rows, indent=1))
    (options.output / "open.md").write_text(table(rows))
    sys.stdout.write(table(rows))
    return 0 if rows[0]["ms_median"] <= BUDGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
