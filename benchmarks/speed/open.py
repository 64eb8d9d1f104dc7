"""How long a user waits for gene vectors: a store opened and aligned, beside tables that are loaded from a pickle.

    python -m benchmarks.speed.open --output results

Builds the store of all human genes (wcp) in a temporary home. Each way gives the vectors of the same names, the
first 2,000 genes of a real set by total counts: from the store; from a pickle of {symbol: list of floats}, as GenePT
is shared; from a pickle of {symbol: array}. Each way has a process of its own that has imported its libraries before
the clock starts: the first of 20 repeats is reported apart, and memory is that of the first. ``genekb search`` is timed
from the shell, the median of three. Giving the vectors may not allocate half of the table: the rows asked for are
copied, the table is mapped.
"""

import json
import pickle
import re
import statistics
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.lib.protocol import data_folder
from benchmarks.speed.frame import Figure, clocked, in_process, main, shell, time_command

N_GENES = 2000
N_REPEATS = 20
BUDGET_MS, BUDGET_FIRST_MS, BUDGET_SEARCH_S = 50, 100, 1.0
BUDGET_SHARE = 0.5  # of the table may be allocated while the vectors are given; a copy of it would be 1
WAYS = ("store", "pickle of lists", "pickle of arrays")


def prepare(folder: Path) -> None:
    """Write the store, its cache, both pickles and the list of names."""
    from cellmodel.io.gene_names import read_gene_totals
    from genekb import BuildConfig, build, read_ncbi_folder
    from genekb import open as open_store

    source = read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=["human"])
    store = open_store(build(source, BuildConfig(name="human", models=("wcp",)), home=folder).folder)
    gene_ids, genes = store.vector_table().gene_ids, store.table("genes")
    symbols = dict(zip(genes["gene_id"].to_pylist(), genes["symbol"].to_pylist(), strict=True))
    vectors = store.vectors(gene_ids).vectors
    arrays = {symbols[gene]: np.array(vector) for gene, vector in zip(gene_ids.tolist(), vectors, strict=True)}
    (folder / "pickle of arrays").write_bytes(pickle.dumps(arrays, pickle.HIGHEST_PROTOCOL))
    lists = {name: array.tolist() for name, array in arrays.items()}
    (folder / "pickle of lists").write_bytes(pickle.dumps(lists, pickle.HIGHEST_PROTOCOL))
    names, totals = read_gene_totals(data_folder() / "scrna" / "pbmc_facs.h5ad")
    first = np.argsort(-np.asarray(totals), kind="stable")[:N_GENES]
    (folder / "names.json").write_text(json.dumps([names[row] for row in first]))


def take(way: str, folder: Path, names: list[str]) -> np.ndarray:
    """Give the vectors of the names in one of the ways; a pickle is loaded whole, and nothing is resolved."""
    if way == "store":
        from genekb import open as open_store

        store = open_store("human", home=folder)
        selection = store.vectors(store.resolve(names).gene_ids)
        return selection.vectors[selection.has_vector]
    with (folder / way).open("rb") as stream:
        table = pickle.load(stream)
    return np.array([table[name] for name in names if name in table], dtype=np.float32)


def run_way(way: str, folder: Path) -> dict[str, float]:
    """Measure one way in this process, libraries imported before."""
    import genekb.genes.resolve
    import genekb.store.reader  # noqa: F401 - imported before the clock starts

    names = json.loads((folder / "names.json").read_text())
    before = resident_mb()
    seconds, cpu_s, _ = clocked(lambda: take(way, folder, names))
    resident = resident_mb() - before
    rest = [clocked(lambda: take(way, folder, names))[:2] for _ in range(N_REPEATS - 1)]
    medians = map(statistics.median, zip((seconds, cpu_s), *rest, strict=True))
    found = {"first": seconds, "first_cpu": cpu_s, "median": next(medians), "median_cpu": next(medians)}
    return {name: 1000 * value for name, value in found.items()} | {"resident_mb": resident}


def allocated(way: str, folder: Path) -> tuple[float, float]:
    """Peak MB that Python and NumPy allocate; of the store, what giving vectors does, over the size of the table."""
    from genekb import open as open_store

    names = json.loads((folder / "names.json").read_text())
    tracemalloc.start()
    take(way, folder, names)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    if way != "store":
        return peak, 1.0
    store = open_store("human", home=folder)
    gene_ids, table = store.resolve(names).gene_ids, store.vector_table().vectors
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    store.vectors(gene_ids)
    return peak, (tracemalloc.get_traced_memory()[1] - before) / table.nbytes


def resident_mb() -> float:
    """Resident memory of this process that is no mapped file."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def figures(folder: Path) -> Iterator[Figure]:
    """Give the time to open, align and take vectors, the memory of it, and the time of a search."""
    in_process(prepare, folder)
    found = {way: in_process(run_way, way, folder) for way in WAYS}
    held = {way: in_process(allocated, way, folder) for way in WAYS}
    for name, what, limit in (
        ("median", "open, align 2,000 names, give vectors (median)", BUDGET_MS),
        ("first", "the first time in a process", BUDGET_FIRST_MS),
    ):
        peers = {way: found[way][name] for way in WAYS[1:]}
        own = found["store"]
        yield Figure(
            what=what, unit="ms", limit=limit, value=own[name], processor=own[f"{name}_cpu"], peers=peers
        )  # fmt: skip
    for what, values in (
        ("resident memory", {way: one["resident_mb"] for way, one in found.items()}),
        ("allocated memory", {way: one[0] for way, one in held.items()}),
    ):
        yield Figure(what=what, unit="MB", value=values.pop("store"), peers=values)
    yield Figure(
        what="share of the table that this allocates", unit="share", limit=BUDGET_SHARE, value=held["store"][1]
    )
    words = ("search", "T cell receptor signalling", "--kb", "human", "--encoder", "wcp", "--home", folder)
    taken = time_command(shell("genekb", *words), n_runs=3)
    yield Figure(
        what="genekb search, from the shell, wcp", unit="s", limit=BUDGET_SEARCH_S, value=taken.seconds,
        processor=taken.cpu_s,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(__doc__, figures, name="open"))
