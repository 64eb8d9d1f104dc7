"""Names for clusters against true types: either evidence source, both, and controls; annotate.{json,md}.

    python benchmarks/bench_annotate.py --output results [--home HOME] [--encoders lsa-256,minilm] [--cells]

`--cells` scores the names of single cells instead, on more sets; annotate_cells.{json,md}.
Candidates are all types of the table, never those of the set alone; `type_names.toml` says which of them are right for
a label. Labels are read for scoring, and for the clusters that are true types. Exits with 1 where a bar is missed.
"""

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from protocol import HERE, DataSet, data_folder, load_datasets

import genekb
from cellmodel.annotate.cell_types import (
    UNASSIGNED,
    QueriedCells,
    TypeEvidence,
    cluster_profiles,
    known_genes,
    read_cell_types,
    standard_profiles,
    type_evidence,
)
from cellmodel.annotate.name_cells import name_by_types, name_each
from cellmodel.core.config import RunConfig
from cellmodel.core.random import generator
from cellmodel.io.cells import obs_columns, read_cells
from cellmodel.pp.normalize import log_expression
from cellmodel.text.align import align_cells
from cellmodel.text.paths import apply_knowledge
from cellmodel.tl._run import run

N_DEALS = 20
BARS = {"top-1": 0.70, "top-3": 0.85, "AUC": 0.88}
MOST_PERMUTED = 0.15
COLUMNS = ("text", "markers", "both", "both, genes permuted", "text, random vectors", "both, random vectors")
SCORED = ("top-1", "top-3", "AUC", "cells")
MORE_SETS = {  # of names of cells alone: species
    "lymph_ref_330": "human",
    "eccite_pbmc": "human",
    "jaitin_spleen_sorted": "mouse",
    "baron_human_hvg2000": "human",
    "mca_gut_1871": "mouse",
}
CHOSEN_ON = {"darmanis", "segerstolpe_hvg2000", "paul15_2660", "lymph_ref_330"}  # the rule that names cells
Scores = dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class TruthOfSet:
    """A set with its labels, our clusters, and what is right for each label."""

    data: DataSet
    cells: Any
    labels: np.ndarray
    clusters: np.ndarray
    graph: sp.csr_matrix
    right: dict[str, list[str]]


def open_stores(home: Path, encoders: Sequence[str]) -> dict[str, genekb.Store]:
    """Open the stores of both species that hold the encoders, or build them."""
    stores = {}
    for taxon in ("human", "mouse"):
        try:
            store = genekb.open(taxon, home=home)
            for encoder in encoders:
                store.encoder_id(encoder)
        except genekb.core.errors.NotAvailable:
            source = genekb.read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=[taxon])
            config = genekb.BuildConfig(name=taxon, models=tuple(encoders), genes="protein-coding")
            store = genekb.open(genekb.build(source, config, home=home).folder)
        stores[taxon] = store
    return stores


def more_sets() -> list[DataSet]:
    """List the sets on which names of cells alone are scored."""
    folder = data_folder() / "scrna"
    return [
        DataSet(name=name, path=folder / f"{name}.h5ad", taxon=taxon, label_key="cell_type", labels="", study=False)
        for name, taxon in MORE_SETS.items()
    ]


def named_sets(sets: Sequence[DataSet] | None = None) -> Iterator[TruthOfSet]:
    """Read the sets of `type_names.toml`, and cluster each by `fused` with the number of clusters estimated."""
    right = tomllib.loads((HERE / "type_names.toml").read_text())
    for data in load_datasets() if sets is None else sets:
        if data.name not in right:
            continue
        cells = read_cells(data.path)
        found = run(cells, None, RunConfig(knowledge="none", n_words=0))
        yield TruthOfSet(
            data=data,
            cells=cells,
            labels=np.array(obs_columns(cells.adata, [data.label_key], source=data.name)[data.label_key]),
            clusters=np.asarray(found.labels),
            graph=found.features.graph,
            right=right[data.name],
        )


def known_cells(truth: TruthOfSet, store: genekb.Store, encoder: str) -> QueriedCells:
    """Align a set with a store."""
    alignment = align_cells(truth.cells, store, RunConfig(encoder=encoder))
    return known_genes(log_expression(truth.cells), truth.cells.names, alignment)


def with_random_vectors(known: QueriedCells) -> QueriedCells:
    """Give the genes that have a vector another, drawn at random."""
    vectors = known.alignment.vectors.copy()
    has_vector = known.alignment.has_vector
    vectors[has_vector] = apply_knowledge(vectors[has_vector], knowledge="random", seed=0)
    return replace(known, alignment=replace(known.alignment, vectors=vectors))


def score(
    scores: np.ndarray, groups: np.ndarray, truth: TruthOfSet, place: dict[str, int], *, of_types: bool
) -> Scores:
    """Score (cluster, type) scores: by clusters where these are the true types, by cells where they are ours.

    AUC is the share of pairs of a right and a wrong name in which the right one scores higher.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    if not of_types:
        scored = [
            order[group, 0] in [place[name] for name in truth.right[label]]
            for label, group in zip(truth.labels.tolist(), groups.tolist(), strict=True)
            if truth.right.get(label)
        ]
        return {"cells": float(np.mean(scored))}
    rows = []
    for group, label in enumerate(np.unique(truth.labels).tolist()):
        right = [place[name] for name in truth.right.get(label, [])]
        if not right:
            continue
        is_right = np.isin(np.arange(scores.shape[1]), right)
        pairs = scores[group, is_right][:, None] - scores[group, ~is_right]
        top = is_right[order[group]]
        rows.append((top[0], top[:3].any(), (pairs > 0).mean() + (pairs == 0).mean() / 2))
    return dict(zip(SCORED, np.mean(rows, axis=0).tolist(), strict=False))


def dealt(weights: sp.csr_matrix, deal: int) -> sp.csr_matrix:
    """Deal the genes out anew."""
    return weights.tocsc()[:, generator(deal, "permuted genes").permutation(weights.shape[1])].tocsr()


def score_set(truth: TruthOfSet, store: genekb.Store, encoder: str) -> dict[str, Any]:
    """Score all columns on one set."""
    types = read_cell_types()
    place = {one.name: number for number, one in enumerate(types)}
    known = known_cells(truth, store, encoder)
    real = type_evidence(types, known.alignment, store)
    random = type_evidence(types, with_random_vectors(known).alignment, store)
    weights: dict[str, list[sp.csr_matrix]] = {
        "text": [real.text],
        "markers": [real.markers],
        "both": [real.both],
        "both, genes permuted": [dealt(real.both, deal) for deal in range(N_DEALS)],
        "text, random vectors": [random.text],
        "both, random vectors": [random.both],
    }
    row: dict[str, Any] = {"data": truth.data.name, "encoder": encoder, "columns": {what: {} for what in weights}}
    for of_types, groups in (
        (True, np.unique(truth.labels, return_inverse=True)[1]),
        (False, truth.clusters),
    ):
        profiles = cluster_profiles(known.expression, groups)
        standard = standard_profiles(profiles)
        for what, each in weights.items():
            every = [score((one @ standard.T).T, groups, truth, place, of_types=of_types) for one in each]
            row["columns"][what] |= {key: float(np.mean([one[key] for one in every])) for key in every[0]}
        if of_types:
            row["names"] = table_of_names(profiles, real, known, truth)
            row["left out"] = left_out(profiles, real, known, truth)
    return row


def score_cells(truth: TruthOfSet, store: genekb.Store, encoder: str) -> dict[str, Any]:
    """Fractions of the cells named right and unassigned, by cluster and by cell, and the number of names in use."""
    known = known_cells(truth, store, encoder)
    evidence = type_evidence(read_cell_types(), known.alignment, store)
    profiles = cluster_profiles(known.expression, truth.clusters)
    clusters = name_by_types(profiles, evidence, gene_names=known.gene_names, seed=0)
    by_cluster = [clusters[label].name for label in truth.clusters.tolist()]
    each, _ = name_each(known, evidence, clusters=clusters, graph=truth.graph, seed=0)
    row: dict[str, Any] = {"data": truth.data.name, "encoder": encoder, "chosen on": truth.data.name in CHOSEN_ON}
    for what, names in (("cluster", by_cluster), ("cell", each)):
        scored = [
            (name, truth.right[label]) for name, label in zip(names, truth.labels, strict=True) if truth.right[label]
        ]
        row[f"{what}, right"] = float(np.mean([name in right for name, right in scored]))
        row[f"{what}, unassigned"] = float(np.mean([name == UNASSIGNED for name, _ in scored]))
        row[f"{what}, names"] = len(set(names) - {UNASSIGNED})
    return row


def report_cells(rows: Sequence[dict[str, Any]]) -> str:
    """Write the scores of the names of cells as one table."""
    keys = list(rows[0])
    lines = ["| " + " | ".join(keys) + " |", "|" + " --- |" * len(keys)]
    for row in rows:
        shown = (f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values())
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def table_of_names(
    profiles: np.ndarray, evidence: TypeEvidence, known: QueriedCells, truth: TruthOfSet
) -> list[dict[str, Any]]:
    """Tell what each true type was named."""
    named = name_by_types(profiles, evidence, gene_names=known.gene_names, seed=0)
    return [
        {
            "label": label,
            "name": one.name,
            "is right": one.name in truth.right.get(label, []) if truth.right.get(label) else None,
            "score": one.score,
            "margin": one.margin,
            "p": one.p_value,
            "runner-up": one.runner_up,
            "genes": " ".join(gene.name for gene in one.genes[:5]),
        }
        for label, one in zip(np.unique(truth.labels).tolist(), named, strict=True)
    ]


def only(evidence: TypeEvidence, kept: np.ndarray) -> TypeEvidence:
    """Keep some of the candidates."""
    return replace(
        evidence,
        types=tuple(evidence.types[number] for number in kept.tolist()),
        text=evidence.text[kept],
        markers=evidence.markers[kept],
        both=evidence.both[kept],
        n_markers=evidence.n_markers[kept],
    )


def left_out(profiles: np.ndarray, evidence: TypeEvidence, known: QueriedCells, truth: TruthOfSet) -> Scores:
    """Share of true types unassigned where one candidate is right, none is, and none is even of the same tissues."""
    unassigned: dict[str, list[bool]] = {"all candidates": [], "no right name": [], "other tissues": []}
    for group, label in enumerate(np.unique(truth.labels).tolist()):
        right = truth.right.get(label)
        if not right:
            continue
        tissues = {one.tissue for one in evidence.types if one.name in right}
        for key, kept in (
            ("all candidates", [True] * len(evidence.types)),
            ("no right name", [one.name not in right for one in evidence.types]),
            ("other tissues", [one.tissue not in tissues for one in evidence.types]),
        ):
            candidates = only(evidence, np.flatnonzero(kept))
            (one,) = name_by_types(profiles[[group]], candidates, gene_names=known.gene_names, seed=0)
            unassigned[key].append(one.name == UNASSIGNED)
    return {key: float(np.mean(each)) for key, each in unassigned.items()}


def mean(rows: Sequence[dict[str, Any]], what: str, key: str) -> float:
    """Mean over the sets."""
    return float(np.mean([row["columns"][what][key] for row in rows]))


def report(rows: Sequence[dict[str, Any]], seconds: float) -> tuple[str, list[str]]:
    """Write everything as one page; and the bars, one line each."""
    lines, bars = [], []
    for encoder in dict.fromkeys(row["encoder"] for row in rows):
        of_encoder = [row for row in rows if row["encoder"] == encoder]
        lines += [f"## {encoder}: mean over {len(of_encoder)} sets", "", "| | " + " | ".join(SCORED) + " |"]
        lines.append("|" + " --- |" * (1 + len(SCORED)))
        for what in COLUMNS:
            shown = " | ".join(f"{mean(of_encoder, what, key):.3f}" for key in SCORED)
            lines.append(f"| {what} | {shown} |")
        lines += ["", f"## {encoder}: top-1 of true types by set", "", "| data | " + " | ".join(COLUMNS) + " |"]
        lines.append("|" + " --- |" * (1 + len(COLUMNS)))
        for row in of_encoder:
            shown = " | ".join(f"{row['columns'][what]['top-1']:.2f}" for what in COLUMNS)
            lines.append(f"| {row['data']} | {shown} |")
        lines += ["", f"## {encoder}: named wrong", "", "| data | label | name | score | margin | runner-up | genes |"]
        lines.append("|" + " --- |" * 7)
        lines += [
            f"| {row['data']} | {one['label']} | {one['name']} | {one['score']:.1f} | {one['margin']:.1f} | "
            f"{one['runner-up']} | {one['genes']} |"
            for row in of_encoder
            for one in row["names"]
            if one["is right"] is False
        ]
        shares = {key: np.mean([row["left out"][key] for row in of_encoder]) for key in of_encoder[0]["left out"]}
        lines += ["", "Unassigned: " + ", ".join(f"{key} {share:.3f}" for key, share in shares.items()), ""]
        bars += bars_of(of_encoder, encoder)
    lines += ["## Bars", "", *bars, "", f"{seconds:.0f} s"]
    return "\n".join(lines) + "\n", bars


def bars_of(rows: Sequence[dict[str, Any]], encoder: str) -> list[str]:
    """Compare with the bars."""

    def line(what: str, value: float, bar: float, holds: Callable[[float, float], bool]) -> str:
        return f"- {'ok' if holds(value, bar) else 'MISSED'}: {encoder}, {what} {value:.3f}, bar {bar:.2f}"

    lines = [line(key, mean(rows, "both", key), bar, lambda a, b: a >= b) for key, bar in BARS.items()]
    permuted = mean(rows, "both, genes permuted", "top-1")
    lines.append(line("top-1 permuted", permuted, MOST_PERMUTED, lambda a, b: a <= b))
    gain = min(row["columns"]["both"]["top-1"] - row["columns"]["both, genes permuted"]["top-1"] for row in rows)
    return [*lines, line("real above permuted on the worst set", gain, 0.0, lambda a, b: a > b)]


def main() -> int:
    """Run everything and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--home", type=Path)
    parser.add_argument("--encoders", default="lsa-256,minilm")
    parser.add_argument("--cells", action="store_true", help="Score the names of single cells instead.")
    options = parser.parse_args()
    started, encoders = time.perf_counter(), options.encoders.split(",")
    stores = open_stores(options.home or options.output / "home", encoders)
    scorer, sets = (score_cells, load_datasets() + more_sets()) if options.cells else (score_set, load_datasets())
    rows = [scorer(truth, stores[truth.data.taxon], one) for truth in named_sets(sets) for one in encoders]
    page, bars = (report_cells(rows), []) if options.cells else report(rows, time.perf_counter() - started)
    options.output.mkdir(parents=True, exist_ok=True)
    name = "annotate_cells" if options.cells else "annotate"
    (options.output / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    (options.output / f"{name}.md").write_text(page)
    sys.stdout.write(page)
    return int(any("MISSED" in line for line in bars))


if __name__ == "__main__":
    sys.exit(main())
