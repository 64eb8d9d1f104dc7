"""A real update, NCBI Gene of January 2020 to November 2022: what changed, and what had to be encoded again.

    python -m benchmarks.quality.genes.update --model minilm --output results

Builds the store of the old release and updates it to the new one, for human and for mouse; writes ``update.json`` and
``update.md``. Fails where the update encoded more texts than changed, or where the vector of one of 500 genes differs
from its text encoded anew by more than float16 explains.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.lib.protocol import data_folder

OLD, NEW = "2020-01", "2022-11"
MIN_COSINE = 0.9999
N_CHECKED = 500


def measure(taxon: str, model: str, home: Path) -> dict[str, object]:
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
        "taxon": taxon,
        "model": model,
        **plan.changes.counts(),
        "n_texts": len(plan.plan.texts),
        "n_new_texts": planned,
        "n_encoded": result.n_encoded,
        "n_taken_over": result.n_reused,
        "lowest_cosine_to_encoding_anew": lowest_cosine(open_store(result.folder)),
        "seconds": {key: round(value, 1) for key, value in seconds.items()},
    }


def lowest_cosine(updated) -> float:
    """Compare the vectors of some genes with their texts encoded now."""
    every = updated.vector_table().gene_ids
    genes = np.random.default_rng(0).choice(every, N_CHECKED, replace=False)
    one, other = updated.vectors(genes).vectors, updated.encoder().encode(updated.texts(genes)).vectors
    cosine = (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return float(cosine.min())


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--taxon", nargs="+", default=["human", "mouse"])
    parser.add_argument("--output", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(taxon, arguments.model, Path(folder) / taxon) for taxon in arguments.taxon]
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "update.json").write_text(json.dumps(rows, indent=1))
    lines = [
        f"| {OLD} to {NEW} | " + " | ".join(str(row["taxon"]) for row in rows) + " |",
        "| --- |" + " --- |" * len(rows),
    ]
    lines += [f"| {key} | " + " | ".join(str(row[key]) for row in rows) + " |" for key in list(rows[0])[1:]]
    (arguments.output / "update.md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    exact = all(row["n_encoded"] == row["n_new_texts"] for row in rows)
    close = all(row["lowest_cosine_to_encoding_anew"] >= MIN_COSINE for row in rows)
    sys.exit(0 if exact and close else 1)


if __name__ == "__main__":
    main()
