"""A real update, NCBI Gene of January 2020 to November 2022: what changed, and what had to be encoded again.

    python -m benchmarks.quality.genes.update --model minilm --output results

Builds the store of the old release and updates it to the new one, for human and for mouse; writes ``update.json`` and
``update.md``. Fails where the update encoded more texts than changed, or where the vector of one of 500 genes differs
from its text encoded anew by more than float16 explains.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.protocol import data_folder
from benchmarks.speed.frame import Figure, main

OLD, NEW = "2020-01", "2022-11"
MIN_COSINE = 0.9999
N_CHECKED = 500


def measure(taxon: str, model: str, home: Path) -> dict[str, Any]:
    """Build, update and build afresh; every step timed, parsing included."""
    from genekb import BuildConfig, build, read_ncbi_folder
    from genekb import open as open_store
    from genekb.builder.update import plan_update, update

    config = BuildConfig(name=taxon, models=(model,), genes="protein-coding")
    seconds = {}
    start = time.perf_counter()
    old = open_store(build(read_ncbi_folder(data_folder() / "ncbi" / OLD, taxa=[taxon]), config, home=home).folder)
    seconds["build_old"] = time.perf_counter() - start
    start = time.perf_counter()
    source = read_ncbi_folder(data_folder() / "ncbi" / NEW, taxa=[taxon])
    plan = plan_update(old, source)
    seconds["plan"] = time.perf_counter() - start
    result = update(old, source, plan, home=home)
    seconds["update"] = time.perf_counter() - start
    (planned,) = plan.n_to_encode.values()
    return {
        "counts": plan.changes.counts() | {"vectors reused": result.n_reused},
        "n_texts": len(plan.plan.texts),
        "n_new_texts": planned,
        "n_encoded": result.n_encoded,
        "lowest_cosine": lowest_cosine(open_store(result.folder)),
        "seconds": seconds,
    }


def lowest_cosine(updated) -> float:
    """Compare the vectors of some genes with their texts encoded now."""
    every = updated.vector_table().gene_ids
    genes = np.random.default_rng(0).choice(every, N_CHECKED, replace=False)
    one, other = updated.vectors(genes).vectors, updated.encoder().encode(updated.texts(genes)).vectors
    cosine = (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return float(cosine.min())


def figures(folder: Path, *, model: str = "minilm", taxa: str = "human,mouse") -> Iterator[Figure]:
    """Give what changed, the texts that an update encodes, and how near its vectors are to encoding anew."""
    for taxon in taxa.split(","):
        row = measure(taxon, model, folder / "update" / taxon)
        for what, value in row["counts"].items():
            yield Figure(what=f"{taxon}, {OLD} to {NEW}: {what}", value=value, unit="texts")
        yield Figure(
            what=f"{taxon}: texts encoded by an update {OLD} to {NEW}", unit="texts", limit=row["n_new_texts"],
            value=row["n_encoded"], peers={"all texts of the new release": row["n_texts"]},
        )  # fmt: skip
        for step, seconds in row["seconds"].items():
            yield Figure(what=f"{taxon}: {step}", value=seconds, unit="s")
        yield Figure(
            what=f"{taxon}: its vectors, lowest cosine to encoding anew", unit="cosine", is_floor=True,
            limit=MIN_COSINE, value=row["lowest_cosine"],
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(__doc__, figures, name="update"))
