"""MiniLM on real gene texts: ours in float32 and in bfloat16 beside sentence-transformers' own encode().

    python -m benchmarks.speed.encode --output results

Every contender has a process of its own. They take turns, a block of texts each, so that whatever else the machine does
slows all of them; a ratio is the median over the blocks. Besides the time, the processor time of the process is
reported. Writes ``encode.json`` and ``encode.md``; exits with 1 where bfloat16 misses the speed-up at the agreement.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the commands do, for every contender alike

import numpy as np

from benchmarks.lib.protocol import data_folder, peak_mb

SEED = 0
CONTENDERS = ("sentence-transformers", "float32", "bfloat16")
BAR_RATIO = 3.5
BAR_COSINE = 0.999
N_NEIGHBORS = 10
BLOCK = 100


def sample_texts(n_texts: int) -> list[str]:
    """Draw distinct texts of human protein-coding genes with a fixed seed."""
    import pyarrow.compute as pc

    from genekb import read_ncbi_folder
    from genekb.genes.texts import DEFAULT_TEMPLATE, build_texts

    source = read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=["human"])
    coding = source.genes.filter(pc.equal(source.genes["type"], "protein-coding"))
    texts = build_texts(
        source.genes, source.orthologs, template=DEFAULT_TEMPLATE, selected=set(coding["gene_id"].to_pylist())
    )
    distinct = texts["text"].unique().to_pylist()
    if n_texts > len(distinct):
        raise SystemExit(f"--n-texts {n_texts} is more than the {len(distinct)} texts that there are")
    rows = np.random.default_rng(SEED).choice(len(distinct), n_texts, replace=False)
    return [distinct[row] for row in sorted(rows)]


def bundled_folder() -> Path:
    """Folder of the MiniLM that is on this machine."""
    from genekb.encoders.kinds import find_entry
    from genekb.encoders.local.files import places

    entry = find_entry("minilm")
    place = next(places(entry.model_id, entry=entry, revisions=(entry.revision, "")), None)
    if place is None:
        raise SystemExit("MiniLM is not on this machine; pip install 'genekb-cellmodel[minilm]'")
    return place.path


def load_contender(name: str):
    """Load an encoder, and give a function from texts to vectors and to the tokens cut, where those are known."""
    if name == "sentence-transformers":
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(bundled_folder()), device="cpu")
        return lambda texts: (model.encode(texts), None)
    from genekb.encoders import load_encoder

    encoder = load_encoder("minilm", dtype=name, device="cpu")

    def encode(texts: list[str]):
        found = encoder.encode(texts)
        return found.vectors, found.n_tokens_cut

    return encode


def serve(connection: Connection, name: str) -> None:
    """Load one contender, then encode every block that is sent, until an empty one comes."""
    started = time.perf_counter()
    encode = load_contender(name)
    connection.send(time.perf_counter() - started)
    while block := connection.recv():
        started, started_cpu = time.perf_counter(), time.process_time()
        vectors, n_cut = encode(block)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
        connection.send((np.asarray(vectors), n_cut, seconds, cpu_seconds))
    connection.send(peak_mb())


def run_all(texts: list[str]) -> list[dict]:
    """Load the contenders one after the other, then let them encode in turns."""
    context = multiprocessing.get_context("spawn")
    ends, runs, processes = [], [], []
    for name in CONTENDERS:
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(theirs, name), daemon=True))
        processes[-1].start()
        ends.append(ours)
        runs.append({"name": name, "load_s": ours.recv(), "parts": []})
    for start in range(0, len(texts), BLOCK):
        for end, run in zip(ends, runs, strict=True):
            end.send(texts[start : start + BLOCK])
            run["parts"].append(end.recv())
    for end, run in zip(ends, runs, strict=True):
        end.send([])
        vectors, n_cut, seconds, cpu_seconds = zip(*run.pop("parts"), strict=True)
        run |= {"vectors": np.concatenate(vectors), "encode_s": np.array(seconds), "cpu_s": np.array(cpu_seconds)}
        run |= {"n_cut": None if n_cut[0] is None else np.concatenate(n_cut), "peak_mb": end.recv()}
    for process in processes:
        process.join()
    return runs


def neighbors(vectors: np.ndarray) -> np.ndarray:
    """(text, n_neighbors) rows of the nearest other texts by cosine."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, N_NEIGHBORS, axis=1)[:, :N_NEIGHBORS]


def compare(run: dict, reference: dict, uncut: np.ndarray) -> dict:
    """Speed and agreement of a contender with sentence-transformers."""
    n_texts = len(uncut)
    cosines = (run["vectors"] * reference["vectors"]).sum(axis=1)
    pairs = zip(neighbors(run["vectors"]), neighbors(reference["vectors"]), strict=True)
    total, reference_total = (item["load_s"] + item["encode_s"].sum() for item in (run, reference))
    ratios = reference["encode_s"] / run["encode_s"]  # (block,)
    return {
        "name": run["name"],
        "load_s": run["load_s"],
        "encode_s": run["encode_s"].sum(),
        "cpu_s": run["cpu_s"].sum(),
        "texts_per_s": n_texts / run["encode_s"].sum(),
        "texts_per_s_with_load": n_texts / total,
        "ratio": float(np.median(ratios)),
        "ratio_quartiles": np.quantile(ratios, (0.25, 0.75)).tolist(),
        "ratio_cpu": float(np.median(reference["cpu_s"] / run["cpu_s"])),
        "ratio_with_load": reference_total / total,
        "peak_mb": run["peak_mb"],
        "cosine_mean_uncut": float(cosines[uncut].mean()),
        "cosine_min_uncut": float(cosines[uncut].min()),
        "cosine_mean": float(cosines.mean()),
        "cosine_min": float(cosines.min()),
        "neighbors_kept": float(np.mean([len(set(a) & set(b)) / N_NEIGHBORS for a, b in pairs])),
    }


def table(rows: list[dict]) -> list[str]:
    """Markdown: one line a contender."""
    lines = [
        "| MiniLM in | load s | texts/s | texts/s with load | ratio: median, quartiles | ratio of processor time "
        "| ratio with load | cosine, uncut: mean / min | all: mean / min | top-10 kept | peak MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['name']} | {row['load_s']:.1f} | {row['texts_per_s']:.1f} | {row['texts_per_s_with_load']:.1f} "
        f"| {row['ratio']:.2f}, {row['ratio_quartiles'][0]:.2f} to {row['ratio_quartiles'][1]:.2f} "
        f"| {row['ratio_cpu']:.2f} | {row['ratio_with_load']:.2f} "
        f"| {row['cosine_mean_uncut']:.5f} / {row['cosine_min_uncut']:.5f} "
        f"| {row['cosine_mean']:.5f} / {row['cosine_min']:.5f} "
        f"| {row['neighbors_kept']:.3f} | {row['peak_mb']:.0f} |"
        for row in rows
    ]
    return lines


def agrees(row: dict) -> bool:
    return row["cosine_mean_uncut"] >= BAR_COSINE


def reaches_bar(row: dict) -> bool:
    return row["ratio"] >= BAR_RATIO and agrees(row)


def measure_all(n_texts: int) -> tuple[list[dict], dict]:
    """Encode that many texts by every contender; one row each, and what to know about the run."""
    texts = sample_texts(n_texts)
    runs = run_all(texts)
    uncut = next(run["n_cut"] for run in runs if run["name"] == "float32") == 0
    rows = [compare(run, runs[0], uncut) for run in runs]
    reached = [row["name"] for row in rows if row["name"] == "bfloat16" and reaches_bar(row)]
    about = {
        "n_texts": len(texts),
        "n_cut": int((~uncut).sum()),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "versions": {name: version(name) for name in ("torch", "sentence-transformers", "transformers")},
        "bar": {"ratio": BAR_RATIO, "cosine": BAR_COSINE, "reached_by": reached},
    }
    return rows, about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-texts", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows, about = measure_all(arguments.n_texts)
    reached = about["bar"]["reached_by"]
    (arguments.output / "encode.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1))
    lines = ["# Encoding", "", *table(rows), ""]
    lines += [
        f"{about['n_texts']} texts, {about['n_cut']} of them cut by us on a sentence end; {about['cores']} cores.",
        f"{BAR_RATIO:g} x at cosine {BAR_COSINE:g} reached by: {', '.join(reached) or 'none'}.",
    ]
    (arguments.output / "encode.md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
