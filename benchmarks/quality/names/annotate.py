"""Names for clusters and cells: named right, withheld, wrong; either evidence source, and controls; annotate.{json,md}.

    python -m benchmarks.quality.names.annotate --output results [--home HOME] [--encoders wcp] [--cache FOLDER]
    python -m benchmarks.quality.names.annotate --output results --cells [--clusters]    # names of single cells

Clusters are the true types. `--cells` takes none, or those of `fused` (`--clusters`, slow), which add candidates.
Candidates are all types of the table but cell lines and tumors, never those of the set alone; `type_names.toml` says
which of them are right for a label, written down before anything was scored. Sets are in two halves by a hash of
their study: a rule that is chosen on one is reported on the other. `--genes 500` keeps the 500 most variable genes of
each set, `--species human` the sets of one. Exits with 1 where a bar is missed.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer

import genekb
from benchmarks.lib.protocol import bar_line, finish, load_datasets, markdown, sections, table
from benchmarks.quality.names.sets import (
    TruthOfSet,
    command_line_of_names,
    dealt,
    half,
    known_cells,
    more_sets,
    most_variable,
    named_sets,
    open_stores,
    with_vectors,
)
from cellmodel.annotate.cell_types import (
    UNASSIGNED,
    QueriedCells,
    TypeEvidence,
    cluster_profiles,
    combine_evidence,
    gene_texts,
    read_cell_types,
    standard_weights,
    text_weights,
    type_evidence,
    usual_types,
)
from cellmodel.annotate.levels import Verdict, lineage_of, read_cell_groups
from cellmodel.annotate.name_cells import TypeNaming, cluster_mixes, name_by_types, name_each, score_clusters
from genekb.query.knowledge import KnowledgeVectors, knowledge_vectors

N_DEALS = 5
COMMAND, PERMUTED = "markers and text", "genes permuted"
BROADENED = "names of single cells beside (the command)"  # a name that too few cells have gives way to a group
SCORED = ("named right", "withheld though right", "named wrong", "best is right", "right, or a group above")
LEFT_OUT = ("the right names left out", "all types of their tissues left out")
BARS = {"named right": 0.85, "withheld though right": 0.03, PERMUTED: 0.03}  # the first at least, others at most
CELLS_BAR = 0.70
CONTROLS = ("shuffled", "name")


def one_source(evidence: TypeEvidence, source: str) -> TypeEvidence:
    """Keep the text alone, as for types without markers, or the markers alone."""
    if source == "markers":
        return replace(evidence, both=evidence.markers, text=sp.csr_matrix(evidence.text.shape))
    nothing = sp.csr_matrix(evidence.text.shape)
    return replace(evidence, both=evidence.text, markers=nothing, n_markers=np.zeros_like(evidence.n_markers))


def all_evidence(known: QueriedCells, store: genekb.Store) -> dict[str, TypeEvidence]:
    """Evidence by column: what the command uses, either source, and controls of the text."""
    encoder = known.alignment.lineage.encoder_id
    real = type_evidence(usual_types(), known.alignment, store)
    columns = {COMMAND: real, "markers": one_source(real, "markers"), "text": one_source(real, "text")}
    for control in CONTROLS:
        found = control_vectors(store, encoder, control)
        other = with_vectors(known, found.gene_ids, found.vectors)
        columns[f"text, {control}"] = one_source(type_evidence(real.types, other.alignment, store), "text")
        if control == "shuffled":
            both = combine_evidence(columns["text, shuffled"].text, real.markers, has_markers=real.n_markers > 0)
            columns["markers and text, shuffled"] = replace(real, both=both)
    characters = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=512)
    read = [characters.transform(each).toarray() for each in ([one.text for one in real.types], known.gene_names)]
    has_vector = known.alignment.has_vector
    text = text_weights(read[0], gene_texts(read[1], has_vector=has_vector), center=read[0].mean(axis=0))
    columns["text, symbol"] = one_source(replace(real, text=text), "text")
    return columns


@cache
def control_vectors(store: genekb.Store, encoder: str, control: Any) -> KnowledgeVectors:
    """Vectors of a control for all genes of a store, read once."""
    return knowledge_vectors(store, encoder, knowledge=control)


def permuted(evidence: TypeEvidence, deal: int) -> TypeEvidence:
    """Permute the genes of all weights alike."""
    text, markers, both = (dealt(each, deal) for each in (evidence.text, evidence.markers, evidence.both))
    return replace(evidence, text=text, markers=markers, both=both)


def score_names(names: Sequence[Verdict], truth: TruthOfSet) -> list[float]:
    """Score the names of true types, in the order of their labels; labels without a right name do not count."""
    rows = []
    for label, one in zip(np.unique(truth.labels).tolist(), names, strict=True):
        right = truth.right[label]
        if right:
            is_named, is_above = one.name != UNASSIGNED, one.name in {*right, *groups_above(tuple(right))}
            rows.append((one.name in right, not is_named and one.best in right, is_named, one.best in right, is_above))
    right_, withheld, named, best, above = np.mean(rows, axis=0).tolist()
    return [right_, withheld, named - right_, best, above]


@cache
def groups_above(names: tuple[str, ...]) -> set[str]:
    """Names of all groups that types belong to."""
    table = {one.name: one for one in (*read_cell_types(), *read_cell_groups())}
    return {group.name for name in names if name in table for group in lineage_of(table[name])}


def score_set(truth: TruthOfSet, store: genekb.Store, encoder: str) -> dict[str, Any]:
    """Score all columns on one set."""
    known = known_cells(truth, store, encoder)
    groups = np.unique(truth.labels, return_inverse=True)[1]
    profiles = cluster_profiles(known.expression, groups, balanced=True)
    columns = all_evidence(known, store)

    def name(evidence: TypeEvidence) -> tuple[Verdict, ...]:
        return name_by_types(profiles, evidence, gene_names=known.gene_names, seed=0)

    of_deals = [name(permuted(columns[COMMAND], deal)) for deal in range(N_DEALS)]
    return {
        "data": truth.data.name,
        "half": half(truth.data.name),
        "encoder": encoder,
        "labels": sum(map(bool, truth.right.values())),
        "columns": {
            BROADENED: score_names(broadened_names(profiles, columns[COMMAND], known, truth), truth),
            **{what: score_names(name(evidence), truth) for what, evidence in columns.items()},
        },
        PERMUTED: float(np.mean([one.name != UNASSIGNED for names in of_deals for one in names])),
        "left out": left_out(profiles, columns[COMMAND], known, truth),
        "names": table_of_names(name(columns[COMMAND]), truth),
    }


def broadened_names(
    profiles: np.ndarray, evidence: TypeEvidence, known: QueriedCells, truth: TruthOfSet
) -> tuple[Verdict, ...]:
    """Name clusters as the command does, by what holds enough of the names of their cells."""
    config = TypeNaming()
    scored = score_clusters(profiles, evidence, gene_names=known.gene_names, config=config, seed=0)
    cells, _ = name_each(known, evidence, clusters=scored.names(config), graph=truth.graph, seed=0)
    labels = np.unique(truth.labels, return_inverse=True)[1]
    return scored.names(config, mixes=cluster_mixes(cells, labels))


def table_of_names(names: Sequence[Verdict], truth: TruthOfSet) -> list[dict[str, Any]]:
    """Tell what each true type was named."""
    return [
        {
            "label": label,
            "name": one.name,
            "best": one.best,
            "is right": one.name in truth.right[label] if truth.right[label] else None,
            "cells": int((truth.labels == label).sum()),
            "score": one.score,
            "runner-up": one.runner_up,
            "reason": one.reason,
            "genes": " ".join(gene.name for gene in one.genes[:5]),
        }
        for label, one in zip(np.unique(truth.labels).tolist(), names, strict=True)
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


def left_out(profiles: np.ndarray, evidence: TypeEvidence, known: QueriedCells, truth: TruthOfSet) -> list[float]:
    """Share of true types unassigned where no candidate is right, and where none is even of the same tissues."""
    unassigned = []
    for group, label in enumerate(np.unique(truth.labels).tolist()):
        right = truth.right[label]
        if not right:
            continue
        tissues = {tissue for one in evidence.types if one.name in right for tissue in one.tissue.split(",")}
        others = (
            [one.name not in right for one in evidence.types],
            [not tissues & set(one.tissue.split(",")) for one in evidence.types],
        )
        config = TypeNaming(n_permutations=100)
        each = (
            name_by_types(
                profiles, only(evidence, np.flatnonzero(kept)), gene_names=known.gene_names, config=config, seed=0
            )
            for kept in others
        )
        unassigned.append([names[group].name == UNASSIGNED for names in each])
    return np.mean(unassigned, axis=0).tolist()


def score_cells(truth: TruthOfSet, store: genekb.Store, encoder: str) -> dict[str, Any]:
    """Fractions of the cells named right and unassigned, by cell and, with clusters, by cluster; names in use."""
    known = known_cells(truth, store, encoder)
    evidence = type_evidence(usual_types(), known.alignment, store)
    clusters: tuple[Verdict, ...] = ()
    names_by: dict[str, Sequence[str]] = {}
    if len(truth.clusters):
        profiles = cluster_profiles(known.expression, truth.clusters, balanced=True)
        clusters = name_by_types(profiles, evidence, gene_names=known.gene_names, seed=0)
        names_by["cluster"] = [clusters[label].name for label in truth.clusters.tolist()]
    names_by["cell"], _ = name_each(known, evidence, clusters=clusters, graph=truth.graph, seed=0)
    row: dict[str, Any] = {"data": truth.data.name, "half": half(truth.data.name), "encoder": encoder}
    for what, names in names_by.items():
        scored = [
            (name, truth.right[label]) for name, label in zip(names, truth.labels, strict=True) if truth.right[label]
        ]
        row[f"{what}, right"] = float(np.mean([name in right for name, right in scored]))
        row[f"{what}, unassigned"] = float(np.mean([name == UNASSIGNED for name, _ in scored]))
        row[f"{what}, names"] = len(set(names) - {UNASSIGNED})
    return row


def evenly(markers: sp.csr_matrix) -> sp.csr_matrix:
    """Weigh markers evenly; a row keeps the root of the share that is measured, the length of its deviations."""
    squares = np.asarray(markers.multiply(markers).sum(axis=1)).ravel()
    totals = np.asarray(markers.sum(axis=1)).ravel()
    length = np.sqrt(np.maximum(squares - totals**2 / markers.shape[1], 0.0))
    return sp.csr_matrix(sp.diags(length) @ standard_weights((markers > 0).astype(np.float64)))


def report(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Report the names of true types; and the bars, one line each."""
    lines, bars = [], []
    for encoder in dict.fromkeys(row["encoder"] for row in rows):
        of = [row for row in rows if row["encoder"] == encoder]
        halves = [[row for row in of if row["half"] == which] for which in "AB"]
        mean = {what: np.mean([row["columns"][what] for row in of], axis=0).tolist() for what in of[0]["columns"]}
        by_half = {
            what: [float(np.mean([row["columns"][what][0] for row in each])) for each in halves if each]
            for what in mean
        }
        chance = float(np.mean([row[PERMUTED] for row in of]))
        shares = np.mean([row["left out"] for row in of], axis=0).tolist()
        named = [f"named right, half {which}" for which, each in zip("AB", halves, strict=True) if each]
        by_set = [
            (
                row["data"],
                row["half"],
                row["labels"],
                *row["columns"][COMMAND],
                row["columns"]["text"][0],
                row[PERMUTED],
            )
            for row in of
        ]
        wrong = [{"data": row["data"]} | one for row in of for one in row["names"] if one["is right"] is False]
        keys = ("data", "label", "cells", "name", "best", "score", "runner-up", "reason", "genes")
        parts = {
            f"mean over {len(of)} sets, {sum(row['labels'] for row in of)} labels": [
                *markdown(("", *SCORED, *named), ((what, *mean[what], *by_half[what]) for what in mean)),
                *("", f"Named with {PERMUTED} ({N_DEALS} permutations a set): {chance:.3f}", ""),
                *markdown(("unassigned, share of the true types", ""), zip(LEFT_OUT, shares, strict=True)),
            ],
            "by set": markdown(("data", "half", "labels", *SCORED, "text, named right", PERMUTED), by_set),
            "not named right": table(wrong, keys),
        }
        lines += sections({f"{encoder}: {title}": part for title, part in parts.items()})
        reached = dict(zip(SCORED, mean[COMMAND], strict=True)) | {PERMUTED: chance}
        bars += [
            bar_line(f"{encoder}, {key}", reached[key], bar, at_most=key != SCORED[0]) for key, bar in BARS.items()
        ]
    return lines, bars


def report_cells(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Report the names of cells."""
    bars = []
    for encoder in dict.fromkeys(row["encoder"] for row in rows):
        right = float(np.mean([row["cell, right"] for row in rows if row["encoder"] == encoder]))
        bars.append(bar_line(f"{encoder}, cells named right", right, CELLS_BAR))
    return table(rows), bars


def main() -> int:
    """Run everything and compare with the bars."""
    parser = command_line_of_names(__doc__)
    parser.add_argument("--encoders", default="wcp")
    parser.add_argument("--cache", type=Path, help="Folder in which clusters are kept for the next run.")
    parser.add_argument("--species", default="human,mouse")
    parser.add_argument("--cells", action="store_true", help="Score the names of single cells instead.")
    parser.add_argument("--clusters", action="store_true", help="With --cells: cluster the cells, too.")
    parser.add_argument("--genes", type=int, help="Keep so many of the most variable genes of each set.")
    options = parser.parse_args()
    encoders, taxa = options.encoders.split(","), options.species.split(",")
    stores = open_stores(options, encoders, taxa=taxa)
    what, score, write = "annotate", score_set, report
    if options.cells:
        what, score, write = "annotate_cells", score_cells, report_cells
    sets = [one for one in load_datasets() + more_sets() if one.taxon in taxa]
    truths = named_sets(sets, cache=options.cache, with_clusters=options.clusters)
    if options.genes:
        what, truths = f"{what}_{options.genes}", (most_variable(truth, options.genes) for truth in truths)
    rows = [score(truth, stores[truth.data.taxon], one) for truth in truths for one in encoders]
    lines, bars = write(rows)
    return finish(options.output, what, rows, lines=lines, bars=bars)


if __name__ == "__main__":
    sys.exit(main())
