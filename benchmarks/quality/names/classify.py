"""Classes from labeled cells: few labels a class, across species, and what is left unassigned; classify.{json,md}.

    python -m benchmarks.quality.names.classify --output results [--jobs 2]

Labels of test cells are read for scoring alone. Exits with 1 where a bar is missed.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import roc_auc_score

import genekb
from benchmarks.lib.protocol import (
    DataSet,
    bar_line,
    build_stores,
    command_line,
    data_folder,
    finish,
    load_datasets,
    markdown,
    sections,
    table,
)
from cellmodel.annotate.classify import ClassifyConfig, stratified_splits
from cellmodel.annotate.label_transfer import TransferConfig, read_labels, transfer_labels
from cellmodel.bench.metrics import score_classes
from cellmodel.bench.n_shot import SCORED, TrialConfig, score_trials, side_by_side, trial_features
from cellmodel.core.config import RunConfig
from cellmodel.core.random import generator
from cellmodel.io.cells import Cells, ReadConfig, cells_from_anndata, read_cells
from cellmodel.io.formats.anndata import read_anndata

if TYPE_CHECKING:
    from anndata import AnnData

N_SHOTS, N_DRAWS, N_CONTRAST_DRAWS = (1, 3, 5, 10), 20, 5
KNOWLEDGE = ("real", "shuffled", "random")
CONTROL_SEEDS = range(5)
FIXED_LIMIT = 0.5  # of the confidence, beside the one that is found from the reference
BARS = {"human to mouse": 0.82, "mouse to human": 0.71}  # accuracy by the text of names, pancreas, shared types
USOSKIN = "usoskin_150"
Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stores:
    """Folders of the stores: one a species, and one of both that knows no more of a gene than its names."""

    human: Path
    mouse: Path
    names: Path


def build_all(home: Path) -> Stores:
    """Build the three stores, with an encoder that needs no weights."""
    from genekb.genes.texts import find_template

    human, mouse = build_stores(home)
    source = genekb.read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=["human", "mouse"])
    config = genekb.BuildConfig(name="names", models=("wcp",), genes="protein-coding", template=find_template("names"))
    return Stores(human=human, mouse=mouse, names=genekb.build(source, config, home=home).folder)


def small_set() -> DataSet:
    """Describe the set of few cells, which holds values per million and so is in no list of counts."""
    path = data_folder() / "scrna" / f"{USOSKIN}.h5ad"
    return DataSet(name=USOSKIN, path=path, taxon="mouse", label_key="cell_type", labels="clustering", study=False)


def few_labels(data: DataSet, stores: Stores) -> Rows:
    """Run the n-shot protocol on a set with all features, heads and contrastive steps; usoskin with splits as well."""
    is_small = data.name == USOSKIN
    cells = read_cells(data.path, ReadConfig(values="linear" if is_small else "auto"))
    store = genekb.open(stores.human if data.taxon == "human" else stores.mouse)
    known = read_labels(cells, data.label_key)
    rows: Rows = []

    def tried(what: str, features: np.ndarray, classify: ClassifyConfig, n_draws: int = N_DRAWS) -> None:
        trials = TrialConfig(
            label_key=data.label_key,
            n_shots=N_SHOTS,
            n_draws=n_draws,
            share_test=0.2 if is_small else None,
            classify=classify,
        )
        for row in score_trials(features, known, trials=trials, seed=0):
            scores = {name: row.mean[name] for name in SCORED} | {"sd": row.sd["accuracy"]}
            rows.append({"data": data.name, "what": what, "n_shot": row.n_shot, "n_draws": row.n_draws} | scores)
            if is_small:
                rows[-1]["recall"] = row.recall

    expression = trial_features(cells, None, RunConfig(), kind="expression")
    for head in ("centroid", "logistic", "knn"):
        tried(f"expression, {head}", expression, ClassifyConfig(head=head))
    for head in ("centroid", "logistic"):
        tried(f"expression, {head}, the draws of contrast", expression, ClassifyConfig(head=head), N_CONTRAST_DRAWS)
    for contrast in ("supervised", "self"):
        classify = ClassifyConfig(head="centroid", contrast=contrast)
        tried(f"expression, {contrast} contrast, centroid", expression, classify, N_CONTRAST_DRAWS)
    for knowledge in KNOWLEDGE:
        text = trial_features(cells, store, RunConfig(knowledge=knowledge), kind="text")
        for what, features in (("text", text), ("both", side_by_side(expression, text))):
            tried(f"{what} {knowledge}, centroid", features, ClassifyConfig(head="centroid"))
    return rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Labeled cells to learn from, and those to classify, of another species."""

    data: str
    direction: str
    reference: "AnnData"
    query: "AnnData"


def pairs() -> Iterator[Pair]:
    """Make both directions of both data sets; types bear the same names on both sides of each."""
    scrna = data_folder() / "scrna"
    both = read_anndata(scrna / "baron_cross_species_350.h5ad")
    human, mouse = (both[(both.obs["species"] == species).to_numpy()].copy() for species in ("human", "mouse"))
    mouse.var_names = [name.capitalize() for name in mouse.var_names]  # the file writes both species in human symbols
    sets = {
        "segerstolpe and baron_mouse": [
            read_anndata(scrna / f"{name}.h5ad") for name in ("segerstolpe_hvg2000", "baron_mouse")
        ],
        "baron, 350 cells": [human, mouse],
    }
    for name, (of_human, of_mouse) in sets.items():
        yield Pair(data=name, direction="human to mouse", reference=of_human, query=of_mouse)
        yield Pair(data=name, direction="mouse to human", reference=of_mouse, query=of_human)


def across_species(pair: Pair, stores: Stores) -> Rows:
    """Carry labels from one species to the other, genes matched in every way."""
    human, names = genekb.open(stores.human), genekb.open(stores.names)
    reference, query = upper_cased(pair.reference), upper_cased(pair.query)
    ways: dict[str, list[Callable[[], dict[str, Any]]]] = {
        "orthologs": [partial(carried, pair, names, RunConfig(), genes_by="orthologs")],
        "upper-cased symbols": [
            partial(carried, replace(pair, reference=reference, query=query), human, RunConfig(), genes_by="ids")
        ],
        "text of names": [partial(carried, pair, names, RunConfig(), genes_by="text")],
        "text of names, no symbol on both sides": [
            partial(carried, with_own_symbols(pair, seed), names, RunConfig(), genes_by="text")
            for seed in CONTROL_SEEDS
        ],
    }
    for knowledge in KNOWLEDGE[1:]:
        ways[f"text of names, {knowledge}"] = [
            partial(carried, pair, names, RunConfig(knowledge=knowledge, seed=seed), genes_by="text")
            for seed in CONTROL_SEEDS
        ]
    rows = []
    for way, runs in ways.items():
        every = [run() for run in runs]
        mean = {key: float(np.mean([one[key] for one in every])) for key in every[0]}
        rows.append({"data": pair.data, "direction": pair.direction, "genes by": way, "runs": len(every)} | mean)
    return rows


def upper_cased(adata: "AnnData") -> "AnnData":
    """Write symbols in upper case; those that become equal keep their first gene."""
    names = np.char.upper(adata.var_names.to_numpy().astype(str))
    kept = adata[:, np.sort(np.unique(names, return_index=True)[1])].copy()
    kept.var_names = [name.upper() for name in kept.var_names]
    return kept


def with_own_symbols(pair: Pair, seed: int) -> Pair:
    """Leave each symbol that both sides have, but for case, to one of them: most of the orthologues are lost."""
    left, right = ([name.upper() for name in adata.var_names] for adata in (pair.reference, pair.query))
    shared = sorted(set(left) & set(right))
    of_left = set(generator(seed, "symbols").permutation(shared)[: len(shared) // 2].tolist())
    of_right = set(shared) - of_left
    return replace(
        pair,
        reference=pair.reference[:, [name not in of_right for name in left]].copy(),
        query=pair.query[:, [name not in of_left for name in right]].copy(),
    )


def carried(pair: Pair, kb: genekb.Store, config: RunConfig, *, genes_by: Any) -> dict[str, Any]:
    """Score the types that both sides have, with a reference of these alone and of all its own."""
    shared = set(pair.reference.obs["cell_type"]) & set(pair.query.obs["cell_type"])
    truth = pair.query.obs["cell_type"].astype(str).to_numpy()
    scored = np.isin(truth, sorted(shared))
    scores: dict[str, Any] = {"n_scored": int(scored.sum()), "n_left_out": int((~scored).sum())}
    for prefix, types in (("", shared), ("all_types_", set(pair.reference.obs["cell_type"]))):
        reference = labeled(pair.reference, types, key="cell_type")
        transfer = TransferConfig(label_key="label", genes_by=genes_by, classify=ClassifyConfig())
        found = transfer_labels(cells_from_anndata(pair.query), reference, kb, config, transfer=transfer)
        every = score_classes(truth[scored], np.array(found.labels)[scored])
        scores |= {f"{prefix}accuracy": every.accuracy, f"{prefix}macro_f1": every.macro_f1}
        scores["n_genes"] = found.n_genes
    return scores


def labeled(adata: "AnnData", types: set[str], *, key: str) -> Cells:
    """Copy cells with the labels of some types alone."""
    copy = adata.copy()
    copy.obs["label"] = [name if name in types else "" for name in copy.obs[key].astype(str)]
    return cells_from_anndata(copy)


def left_out(name: str, key: str, stores: Stores) -> Rows:
    """Leave each type out of the reference in turn: half of the cells, by which the other half is classified."""
    adata = read_anndata(data_folder() / "scrna" / f"{name}.h5ad")
    types, codes = np.unique(adata.obs[key].astype(str), return_inverse=True)
    (split,) = stratified_splits(codes, share_test=0.5, n_draws=1, seed=0)
    kb, rows = genekb.open(stores.mouse if name == "baron_mouse" else stores.human), []
    query, truth = adata[split.test].copy(), types[codes[split.test]]
    for absent in types:
        reference = labeled(adata[split.train], set(types) - {absent}, key=key)
        found = transfer_labels(
            cells_from_anndata(query), reference, kb, RunConfig(), transfer=TransferConfig(label_key="label")
        )
        named = np.array(found.names)[found.prediction.probabilities.argmax(axis=1)]
        confidence, is_absent = found.prediction.confidence, truth == absent
        row = {
            "data": f"{name}, {key}",
            "left out": str(absent),
            "cells": int(is_absent.sum()),
            "AUROC of the confidence": float(roc_auc_score(~is_absent, confidence)),
        }
        row["limit found"] = found.limit
        for limit, what in ((found.limit, "there"), (FIXED_LIMIT, f"at {FIXED_LIMIT}")):
            assigned = confidence >= limit
            row |= {
                f"unassigned {what}": float((~assigned)[is_absent].mean()),
                f"others unassigned {what}": float((~assigned)[~is_absent].mean()),
                f"others right {what}": float((named == truth)[~is_absent & assigned].mean()),
            }
        rows.append(row)
    return rows


def n_shot_table(rows: Rows, n_draws: dict[str, int]) -> list[str]:
    """Mean over the nine sets, and usoskin beside it."""
    columns = [f"{where}, {n}" for where in ("nine sets", USOSKIN) for n in N_SHOTS]
    body = []
    for what, draws in n_draws.items():
        of_what = [row for row in rows if row["what"] == what]
        cells = [
            float(np.mean([r["accuracy"] for r in of_what if r["n_shot"] == n and (r["data"] == USOSKIN) is is_small]))
            for is_small in (False, True)
            for n in N_SHOTS
        ]
        body.append((what, draws, *cells))
    return markdown(("features, classifier", "draws", *columns), body)


def report(found: dict[str, Rows]) -> list[str]:
    """Lay out all tables."""
    rows = found["few labels"]
    draws = {row["what"]: row["n_draws"] for row in rows}
    sets = list(dict.fromkeys(row["data"] for row in rows))
    own = [r | {"n_shot": r["n_shot"] or "4/5"} for r in rows if r["what"] == "expression, logistic"]
    by_set = [
        {"data": name} | {str(r["n_shot"]): f"{r['accuracy']:.3f} ± {r['sd']:.3f}" for r in own if r["data"] == name}
        for name in sets
    ]
    split = [r | {f"recall of {k}": v for k, v in r["recall"].items()} for r in rows if r["n_shot"] == 0]
    recall = tuple(key for key in split[0] if key.startswith("recall of"))
    in_genes = ("n_genes", "accuracy", "macro_f1", "all_types_accuracy", "all_types_macro_f1", "n_scored", "n_left_out")
    across = [
        r | {key: round(r[key]) for key in ("n_genes", "n_scored", "n_left_out")} for r in found["across species"]
    ]
    parts = {
        "Accuracy by labels a class": n_shot_table(rows, draws),
        "Each set: expression, logistic": table(by_set, ("data", *map(str, N_SHOTS))),
        f"{USOSKIN}: 4/5 of each class to learn from": table(
            split, ("what", "n_draws", "accuracy", "macro_f1", "balanced_accuracy", *recall)
        ),
        "Across species": table(across, ("data", "direction", "genes by", "runs", *in_genes)),
        "A type left out of the reference": table(found["left out"]),
    }
    return sections(parts)


def bars(rows: Rows) -> list[str]:
    """Compare with the bars; one line each."""
    return [
        bar_line(f"{row['direction']} by text of names", row["accuracy"], BARS[row["direction"]])
        for row in rows
        if row["genes by"] == "text of names" and row["data"].startswith("segerstolpe")
    ]


def main() -> int:
    """Run everything and compare with the bars."""
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    stores = build_all(options.output / "home")
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        study = [each for each in load_datasets() if each.study]
        jobs = {
            "left out": [
                pool.submit(left_out, name, key, stores)
                for name, key in (
                    ("pbmc_facs", "cell_type"),
                    ("pbmc_facs", "subpop"),
                    ("segerstolpe_hvg2000", "cell_type"),
                    ("baron_mouse", "cell_type"),
                )
            ],
            "few labels": [pool.submit(few_labels, data, stores) for data in (*study, small_set())],
            "across species": [pool.submit(across_species, pair, stores) for pair in pairs()],
        }
        found = {part: [row for job in each for row in job.result()] for part, each in jobs.items()}
    return finish(options.output, "classify", found, lines=report(found), bars=bars(found["across species"]))


if __name__ == "__main__":
    sys.exit(main())
