"""MiniLM on real gene texts: one process beside one and two workers of Ray, and whether the vectors are the same.

    python -m benchmarks.speed.engine --output results

Each engine encodes the same texts into a folder of its own, one after the other, in a process of its own. Seconds run
from the call to the last shard; those until the first shard hold the start of Ray and the loading in its workers. The
process itself has loaded the encoder before the clock starts, as a build has.
Writes ``engine.json`` and ``engine.md``; exits with 1 where a vector differs by more than the tolerance.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the commands do

import numpy as np
import psutil

from benchmarks.speed.encode import sample_texts

TOLERANCE = 1e-3  # of a component: two steps of float16 below 1
ENGINES = {"local": {}, "ray, 1 worker": {"name": "ray", "workers": 1}, "ray, 2 workers": {"name": "ray", "workers": 2}}


def encode(texts: list[str], choices: dict, folder: Path, results) -> None:
    """Encode all texts with one engine, and send what it took."""
    import pyarrow as pa

    from genekb.builder.encode import encode_texts
    from genekb.builder.engine import EncodingJob, EngineConfig, open_engine
    from genekb.encoders import load_encoder
    from genekb.genes.texts import text_id

    table = pa.table({"text_id": [str(text_id(text)) for text in texts], "text": texts})
    encoder = load_encoder("minilm", device="cpu")
    times, memory, cpu = [], [0.0], [0.0]
    started, started_cpu = time.perf_counter(), time.process_time()

    def tell(_encoder_id: str, _done: int, _total: int) -> None:
        times.append(time.perf_counter() - started)
        running = workers()
        memory.append(max((child.memory_info().rss for child in running), default=0) / 2**20)
        cpu.append(sum(sum(child.cpu_times()[:2]) for child in running) + time.process_time() - started_cpu)

    with open_engine(EngineConfig(**choices), device="cpu") as engine:
        job = EncodingJob(spec=encoder.spec, open=lambda: encoder)
        encode_texts(job, table, folder=folder, vector_dtype="float16", progress=tell, engine=engine)
    results.send({"first_shard_s": times[0], "last_shard_s": times[-1], "worker_mb": max(memory), "cpu_s": max(cpu)})


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "MapWorker" in child.name()]


def written_per_s(folder: Path, *, n_shards: int = 40, dim: int = 384) -> float:
    """Texts a second that one process can write as shards: the most that any number of workers can give."""
    from genekb.builder.encode import SHARD_SIZE
    from genekb.store.writer import write_vectors

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((SHARD_SIZE, dim)).astype(np.float32) / dim**0.5
    keys = sorted(rng.bytes(32).hex() for _ in range(SHARD_SIZE))
    tokens = np.zeros(SHARD_SIZE, dtype=np.int64)
    started = time.perf_counter()
    for number in range(n_shards):
        columns = {"text_id": keys, "n_tokens": tokens, "n_tokens_cut": tokens}
        write_vectors(columns, vectors, path=folder / f"part-{number:05d}.parquet", dtype="float16")
    return n_shards * SHARD_SIZE / (time.perf_counter() - started)


def read_vectors(folder: Path) -> np.ndarray:
    """(text, dim), in the order of the ids of texts."""
    import pyarrow.parquet as pq

    rows = [pq.read_table(path)["vector"].combine_chunks() for path in sorted(folder.rglob("part-*.parquet"))]
    return np.concatenate([np.stack(part.to_numpy(zero_copy_only=False)) for part in rows]).astype(np.float32)


def run_one(name: str, texts: list[str], folder: Path) -> dict:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=encode, args=(texts, ENGINES[name], folder, theirs))
    process.start()
    theirs.close()
    try:
        result = ours.recv()
    except EOFError:
        raise SystemExit(f"the engine {name!r} failed; see above") from None
    process.join()
    return {"name": name, **result, "texts_per_s": len(texts) / result["last_shard_s"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-texts", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    texts = sample_texts(arguments.n_texts)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        reference = None
        for name in ENGINES:
            row = run_one(name, texts, Path(folder) / name)
            vectors = read_vectors(Path(folder) / name)
            reference = vectors if reference is None else reference
            row["max_difference"] = float(np.abs(vectors - reference).max())
            row["same_bytes"] = vectors.tobytes() == reference.tobytes()
            rows.append(row | {"load_average": os.getloadavg()[0]})
        writes = written_per_s(Path(folder) / "writes")
    about = {"n_texts": len(texts), "cores": os.cpu_count(), "ray": version("ray"), "tolerance": TOLERANCE}
    about["written_texts_per_s"] = writes
    (arguments.output / "engine.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1))
    lines = ["# Engines", "", *table(rows), ""]
    lines += [
        f"{len(texts)} texts, MiniLM, {about['cores']} cores, Ray {about['ray']}.",
        f"One process writes {writes:,.0f} texts/s as shards of 384 dims in float16.",
    ]
    (arguments.output / "engine.md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(0 if all(row["max_difference"] <= TOLERANCE for row in rows) else 1)


def table(rows: list[dict]) -> list[str]:
    """Markdown: one line an engine."""
    lines = [
        "| engine | s | s to the first shard | texts/s | processor s | MB of a worker "
        "| largest difference | same bytes | load of the machine |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['name']} | {row['last_shard_s']:.1f} | {row['first_shard_s']:.1f} | {row['texts_per_s']:.1f} "
        f"| {row['cpu_s']:.1f} | {row['worker_mb']:.0f} | {row['max_difference']:.1e} "
        f"| {'yes' if row['same_bytes'] else 'no'} | {row['load_average']:.1f} |"
        for row in rows
    ]
    return lines


if __name__ == "__main__":
    main()
