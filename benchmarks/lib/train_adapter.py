"""Learn from data sets which texts belong to informative genes; the result is shipped with the package.

    python -m benchmarks.lib.train_adapter --output cellmodel/data/text_adapter.safetensors [--report results]

Each set is left out once: the rank correlation of its genes' own informativeness with what the adapter of the other
sets predicts, also for genes that it never saw, with texts permuted, and with the mean over the other sets of the
gene of that symbol. The adapter that is written has seen all of them. No label is read.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.stats import spearmanr

import genekb
from benchmarks.lib.protocol import DataSet, build_stores, load_datasets
from cellmodel.io.cells import read_cells
from cellmodel.pp.features import principal_components
from cellmodel.pp.gene_weights import TextAdapter, own_informativeness, words_of
from cellmodel.pp.moments import detected_genes, highly_variable
from cellmodel.pp.normalize import normalize_log1p

ALPHA = 1.0  # of the ridge
MIN_SHARE = 0.02  # of the cells that must express a gene for it to be learnt from


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """Genes of one data set that have a text."""

    texts: list[str]
    symbols: list[str]
    informativeness: np.ndarray


def read_lesson(data: DataSet, kb: genekb.Store) -> Lesson:
    cells = read_cells(data.path)
    expression = normalize_log1p(cells.matrix)
    detected = np.flatnonzero(detected_genes(cells.matrix, min_cells=3))
    top = detected[highly_variable(expression[:, detected], n_top=2000)]
    pcs = principal_components(expression[:, top])
    shares = np.asarray((cells.matrix > 0).mean(axis=0)).ravel()
    genes = detected[shares[detected] > MIN_SHARE]
    scores = own_informativeness(expression[:, genes], pcs)
    texts = kb.texts(kb.resolve(cells.names).gene_ids)
    kept = [place for place, gene in enumerate(genes) if texts[gene]]
    return Lesson(
        texts=[texts[genes[place]] for place in kept],
        symbols=[cells.names[genes[place]].upper() for place in kept],
        informativeness=scores[kept],
    )


def learn(lessons: list[Lesson], without: frozenset[str] = frozenset(), shuffle: int | None = None) -> TextAdapter:
    """Ridge regression; every data set counts the same."""
    from sklearn.linear_model import Ridge

    words, targets, weights = [], [], []
    for lesson in lessons:
        kept = [place for place, symbol in enumerate(lesson.symbols) if symbol not in without]
        words.append(words_of([lesson.texts[place] for place in kept]))
        target = lesson.informativeness[kept]
        targets.append(target if shuffle is None else np.random.default_rng(shuffle).permutation(target))
        weights.append(np.full(len(kept), 1 / len(kept)))
    weight = np.concatenate(weights)
    model = Ridge(alpha=ALPHA, solver="sparse_cg", random_state=0)
    model.fit(sp.vstack(words), np.concatenate(targets), sample_weight=weight / weight.mean())
    return TextAdapter(coefficients=model.coef_)


def by_symbol(lessons: list[Lesson], symbols: list[str]) -> np.ndarray:
    """Mean informativeness that genes of the same symbols have in other sets; 0 where there is none."""
    known: dict[str, list[float]] = {}
    for lesson in lessons:
        for symbol, value in zip(lesson.symbols, lesson.informativeness, strict=True):
            known.setdefault(symbol, []).append(value)
    return np.array([np.mean(known.get(symbol, [0.0])) for symbol in symbols])


def leave_one_out(lessons: dict[str, Lesson]) -> list[dict]:
    rows = []
    for name, lesson in lessons.items():
        others = [one for other, one in lessons.items() if other != name]
        symbols = frozenset(lesson.symbols)
        predictions = {
            "text": learn(others)(lesson.texts),
            "text, its genes unseen": learn(others, without=symbols)(lesson.texts),
            "texts permuted": learn(others, shuffle=0)(lesson.texts),
            "random": np.random.default_rng(0).standard_normal(len(lesson.texts)),
            "by symbol": by_symbol(others, lesson.symbols),
        }
        found = {kind: float(spearmanr(each, lesson.informativeness)[0]) for kind, each in predictions.items()}
        rows.append({"data": name, "genes": len(lesson.texts), **found})
    return rows


def main() -> None:
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--report", type=Path, default=Path("results"))
    options = parser.parse_args()
    options.report.mkdir(parents=True, exist_ok=True)
    stores = {store.manifest.name: store for store in map(genekb.open, build_stores(options.report / "home"))}
    study = [data for data in load_datasets() if data.study]
    lessons = {data.name: read_lesson(data, stores[data.taxon]) for data in study}
    rows = leave_one_out(lessons)
    kinds = [kind for kind in rows[0] if kind not in {"data", "genes"}]
    lines = ["| data | genes | " + " | ".join(kinds) + " |", "| --- | --- |" + " --- |" * len(kinds)]
    lines += [
        f"| {row['data']} | {row['genes']:,} | " + " | ".join(f"{row[kind]:.2f}" for kind in kinds) + " |"
        for row in rows
    ]
    means = " | ".join(f"{np.mean([row[kind] for row in rows]):.2f}" for kind in kinds)
    lines.append(f"| **mean** | | {means} |")
    (options.report / "adapter.json").write_text(json.dumps(rows, indent=1))
    (options.report / "adapter.md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    told = {"learnt_from": ",".join(lessons), "source": "NCBI Gene 2022-11", "words": "1 and 2, hashed to 2**14"}
    coefficients = learn(list(lessons.values())).coefficients.astype(np.float16)
    save_file({"coefficients": coefficients}, options.output, metadata=told)


if __name__ == "__main__":
    main()
