"""Path 2 pooled beside path 2 read by the encoder, on the same sampled cells; sentences.{json,md}.

    python -m benchmarks.quality.clusters.sentences --home HOME --output results [--encoder minilm]

HOME holds the stores ``human`` and ``mouse`` with that encoder; sentences that were read are kept there, so a second
run reads none. Labels are read for scoring alone: purity is the share of a cell's 15 nearest sampled cells that have
its label.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import genekb
from benchmarks.lib.protocol import DataSet, load_datasets
from cellmodel.core.arrays import CellByGene, Embedding, GeneVectors
from cellmodel.core.config import GraphConfig, RunConfig, SemanticsConfig
from cellmodel.explain.attribution import neighbour_agreement
from cellmodel.io.cells import Cells, read_cells, read_obs_columns
from cellmodel.pp.moments import column_moments
from cellmodel.pp.text.paths import apply_knowledge, fit_whitening, mix_paths, rank_weights
from cellmodel.pp.text.sentence_cache import folder_bytes, read_sentences, sentence_folder
from cellmodel.pp.text.sentences import (
    AgreementRow,
    SentenceReading,
    SentenceRecord,
    cell_sentences,
    compare_readings,
    draw_cells,
    encode_sentences,
)
from cellmodel.tl._run import prepare

SETS = ("pollen", "darmanis", "baron_mouse", "pbmc_facs")
SHORT = 80  # genes: about as many as MiniLM reads of a sentence
TIMED = 64  # sentences read past the cache, for their time
Row = dict[str, Any]


def measure(data: DataSet, kb: genekb.Store, *, encoder: str, n_sampled: int) -> Row:
    """Measure one set."""
    semantics = SemanticsConfig(sentences="sampled", n_sampled=n_sampled)
    config = RunConfig(encoder=encoder, semantics=semantics)
    cells = read_cells(data.path)
    prepared = prepare(cells, kb, config)
    text = prepared.text
    if text is None or text.reading is None or text.sentences is None or prepared.alignment is None:
        raise SystemExit(f"{data.name}: no sentence was read")
    expression = prepared.features.expression[:, text.text_map.has_vector]
    rows = draw_cells([expression], n_cells=n_sampled, seed=config.seed)
    encoded, seconds = read_again(expression, text.reading, rows)
    raw = prepared.alignment.vectors[text.reading.columns]
    views = dict(readings(expression, text.reading, paths=text.paths, raw=raw, rows=rows, encoded=encoded))
    labels = known_labels(cells, data, rows)
    row: Row = {"data": data.name, "n_cells": cells.matrix.shape[0], "share_read": text.sentences.share_read}
    row |= seconds | {"processor_seconds_per_1000": time_encoder(kb, encoder, expression, text.reading, rows[:TIMED])}
    row["cache_bytes"] = folder_bytes(sentence_folder(kb, kb.encoder_id(encoder)))
    row["agreement"] = [asdict(found) for found in agreement(views, of_run=text.sentences)]
    row["purity"] = {name: neighbour_agreement(view, labels, graph=GraphConfig()) for name, view in views.items()}
    shares = np.bincount(labels) / len(labels)
    row["purity"]["chance"] = float((shares**2).sum())
    return row


def agreement(views: dict[str, Embedding], *, of_run: SentenceRecord) -> Iterator[AgreementRow]:
    """Give what the run itself found, and more ways to pool beside what the encoder read."""
    yield from of_run.agreement
    others = {name: views[name] for name in (f"pooled, {SHORT} genes", "pooled, random")}
    yield from compare_readings(others, views["encoded"])
    yield from compare_readings({"not whitened": views["pooled, not whitened"]}, views["encoded, not whitened"])


def known_labels(cells: Cells, data: DataSet, rows: np.ndarray) -> np.ndarray:
    """Give the annotator's labels of the sampled cells, as numbers."""
    found = np.array(read_obs_columns(data.path, (data.label_key,))[data.label_key], dtype=str)
    if len(found) != cells.matrix.shape[0]:
        raise SystemExit(f"{data.name}: {len(found)} labels of {cells.matrix.shape[0]} cells")
    return np.unique(found[rows], return_inverse=True)[1]


def read_again(expression: CellByGene, reading: SentenceReading, rows: np.ndarray) -> tuple[Embedding, Row]:
    """Read the sampled sentences, all of which are kept by now, and tell the time that it takes."""
    mean, _ = column_moments(expression)
    sentences = cell_sentences(expression[rows], reading.names, n_top=reading.n_top, mean=mean)
    started = time.perf_counter()
    encoded, read = encode_sentences(sentences, reading)
    if read.n_encoded:
        raise SystemExit(f"{read.n_encoded} sentences were not kept; is the home writable?")
    return encoded, {"n_sentences": len(read.vectors), "kept_seconds": time.perf_counter() - started}


def readings(
    expression: CellByGene,
    reading: SentenceReading,
    *,
    paths: tuple[Embedding, Embedding],
    raw: GeneVectors,
    rows: np.ndarray,
    encoded: Embedding,
) -> Iterator[tuple[str, Embedding]]:
    """Make every view of the sampled cells that is compared or scored; ``raw`` are the vectors before whitening."""
    path1, pooled = (path[rows] for path in paths)
    mean, _ = column_moments(expression)
    sample, top = expression[rows], reading.n_top
    sentences = cell_sentences(sample, reading.names, n_top=top, mean=mean)
    own = replace(reading.whitening, mean=np.zeros(raw.shape[1]), components=np.eye(raw.shape[1], dtype=np.float32))
    yield "pooled", pooled
    yield "encoded", encoded
    yield f"pooled, {SHORT} genes", np.asarray(rank_weights(sample, n_top=SHORT, mean=mean) @ reading.gene_vectors)
    pooled_raw = np.asarray(rank_weights(sample, n_top=top, mean=mean) @ raw)
    yield "pooled, not whitened", pooled_raw - pooled_raw.mean(axis=0)
    yield "encoded, not whitened", encode_sentences(sentences, replace(reading, whitening=own))[0]
    yield "both paths, pooled", mix_paths(path1, pooled, path1_weight=0.5)
    yield "both paths, encoded", mix_paths(path1, encoded, path1_weight=0.5)
    yield "path 1 alone", path1
    for knowledge in ("shuffled", "random"):
        vectors = apply_knowledge(raw, knowledge=knowledge, seed=0)
        whitened = fit_whitening(vectors, rank=SemanticsConfig().rank)(vectors)
        pooled = np.asarray(rank_weights(expression, n_top=top, mean=mean) @ whitened)
        yield f"pooled, {knowledge}", (pooled - pooled.mean(axis=0))[rows]


def time_encoder(
    kb: genekb.Store, encoder: str, expression: CellByGene, reading: SentenceReading, rows: np.ndarray
) -> float:
    """Tell the processor's seconds that reading 1,000 sentences takes, from a few that are read past the cache."""
    sentences = sorted(set(cell_sentences(expression[rows], reading.names, n_top=reading.n_top)))
    read = partial(read_sentences, encoder=kb.encoder(encoder), folder=None)
    started = time.process_time()  # other programs may use the cores as well
    read(sentences)
    return (time.process_time() - started) / len(sentences) * 1000


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Write a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def markdown(rows: list[Row], *, encoder: str) -> str:
    """Write all figures."""
    pairs = [
        [row["data"], found["pooled"], f"{found['similarity']:.3f}", f"{found['neighbour_overlap']:.3f}"]
        for row in rows
        for found in row["agreement"]
    ]
    purity = [[name, *(f"{row['purity'][name]:.3f}" for row in rows)] for name in rows[0]["purity"]]
    cost = [
        [
            row["data"],
            str(row["n_sentences"]),
            f"{row['share_read']:.0%}",
            f"{row['processor_seconds_per_1000']:.1f}",
            f"{row['kept_seconds']:.3f}",
        ]
        for row in rows
    ]
    measured = ["rank correlation of cosines", "same 15 nearest"]
    names = [row["data"] for row in rows]
    return "\n".join(
        [
            f"Encoder: {encoder}",
            "",
            *table(["cells", "pooled side, beside encoded", *measured], pairs),
            "",
            *table(["share of 15 nearest with the same label", *names], purity),
            "",
            *table(["cells", "sentences", "share read", "processor s per 1,000 sentences", "s for all, kept"], cost),
            "",
        ]
    )


def main() -> None:
    """Measure all sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="with the stores human and mouse")
    parser.add_argument("--output", type=Path, required=True, help="folder for sentences.json and sentences.md")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--sample", type=int, default=SemanticsConfig().n_sampled)
    parser.add_argument("--sets", default=",".join(SETS))
    given = parser.parse_args()
    rows = []
    for data in load_datasets():
        if data.name in given.sets.split(","):
            kb = genekb.open(data.taxon, home=given.home)
            rows.append(measure(data, kb, encoder=given.encoder, n_sampled=given.sample))
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "sentences.json").write_text(json.dumps(rows, indent=1))
    (given.output / "sentences.md").write_text(markdown(rows, encoder=given.encoder))


if __name__ == "__main__":
    main()
