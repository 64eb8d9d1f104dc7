"""Names of gene sets by text beside controls and GPT-4, on 500 sets of Hu et al. 2025; name_set.{json,md}.

    GENEKB_TEST_DATA=data python -m benchmarks.quality.genes.name_set --output results [--kb human] [--encoder wcp]

Settings were chosen on half A, sets whose identifier has an even first byte of its SHA-256; half B reports. Sets are GO
terms: only their names are read, never which genes a term annotates. Exits with 1 where a bar is missed.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

import genekb
from benchmarks.lib.protocol import bar_line, command_line, finish, markdown
from genekb.files.tables import read_table
from genekb.query.gene_sets import SetName, read_vocabulary
from genekb.query.name_set import NamedSet, NameSetConfig, SetKnowledge, name_sets
from genekb.store.reader import Store

FOLDER = "gene_sets"
INPUTS = ("genes", "half_contaminated", "random")
BARS = {"percentile": 0.92, "random unnamed": 0.95, "named": 0.88, "contaminated right": 0.60}
LEAST_PRECISION, LEAST_RECALL = 0.7, 0.5  # of the listed part of a set of which half is of the theme
SIZES = ((3, 4), (5, 9), (10, 24), (25, 10_000))
Row = dict[str, str]


def in_half_b(set_id: str) -> bool:
    """Whether a set is of the half that reports."""
    return bool(hashlib.sha256(set_id.encode()).digest()[0] % 2)


def name_all(
    store: Store,
    rows: Sequence[Row],
    names: Sequence[SetName],
    *,
    encoder: str | None,
    knowledge: SetKnowledge,
    all_genes: bool = False,
) -> dict[str, list[NamedSet]]:
    """Name the sets, the half contaminated ones and the random ones; all names of a true set are ranked."""
    listed = {gene for row in rows for column in INPUTS for gene in row[column].split()}
    universe = None if all_genes else sorted(listed)

    def name(columns: Sequence[str], n_names: int) -> list[NamedSet]:
        sets = {f"{column} {row['set_id']}": row[column].split() for column in columns for row in rows}
        config = NameSetConfig(n_names=n_names, n_sentences=1)
        found = name_sets(
            store, sets, vocabulary=names, universe=universe, encoder=encoder, knowledge=knowledge, config=config
        )
        return list(found.sets)

    true, others = name(INPUTS[:1], len(names)), name(INPUTS[1:], 5)
    return {"genes": true, "half_contaminated": others[: len(rows)], "random": others[len(rows) :]}


def percentile(named: NamedSet, truth: str) -> float:
    """Share of the other names that rank below the true one; chance where nothing could be ranked."""
    ranked = [one.name for one in named.names]
    return 1 - ranked.index(truth) / (len(ranked) - 1) if ranked else 0.5


def is_right_part(named: NamedSet, row: Row) -> bool:
    """Whether the genes that are listed as the theme are those of the true half."""
    true = set(row["half_contaminated"].split()) & set(row["genes"].split())
    listed = {gene.name for gene in named.theme}
    both = len(listed & true)
    return both >= LEAST_PRECISION * len(listed) and both >= LEAST_RECALL * len(true)


def of_percentiles(places: np.ndarray) -> dict[str, float]:
    """Mean percentile, and shares of high ones."""
    shares = {">= .90": places >= 0.9, ">= .99": places >= 0.99}
    return {"percentile": float(places.mean())} | {name: float(is_high.mean()) for name, is_high in shares.items()}


def score(found: Mapping[str, Sequence[NamedSet]], rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of some sets."""
    places = np.array([percentile(one, row["name"]) for one, row in zip(found["genes"], rows, strict=True)])
    named = {column: np.array([bool(one.name) for one in found[column]]) for column in INPUTS}
    mixed = found["half_contaminated"]
    right = np.array([not one.name or is_right_part(one, row) for one, row in zip(mixed, rows, strict=True)])
    sizes = np.array([len(row["genes"].split()) for row in rows])
    of_named = named["half_contaminated"]
    return {
        "sets": len(rows),
        **of_percentiles(places),
        "named": float(named["genes"].mean()),
        "random unnamed": float(1 - named["random"].mean()),
        "contaminated named": float(of_named.mean()),
        "of them part right": float(right[of_named].mean()) if of_named.any() else float("nan"),
        "contaminated right": float(right.mean()),
        "percentile of named": float(places[named["genes"]].mean()) if named["genes"].any() else float("nan"),
        "by size": {
            f"{low}+" if high > sizes.max() else f"{low}-{high}": [
                float(places[at].mean()),
                float(named["genes"][at].mean()),
            ]
            for low, high in SIZES
            if (at := (sizes >= low) & (sizes <= high)).any()
        },
    }


def gpt4(rows: Sequence[Row], models: Sequence[Row]) -> dict[str, Any]:
    """GPT-4's figures as published, on the same sets: its percentiles are by another measure."""
    places = np.array([float(row["gpt4_percentile"]) for row in rows])
    ids = {row["set_id"] for row in rows}
    of_random = [row for row in models if row["model"].startswith("gpt_4") or row["model"].lower() == "gpt-4"]
    unnamed = [float(row["confidence"]) == 0 for row in of_random if row["input"] == "random" and row["set_id"] in ids]
    return {
        "sets": len(rows),
        **of_percentiles(places),
        "random unnamed": float(np.mean(unnamed)) if unnamed else float("nan"),
    }


COLUMNS = (
    *("sets", "percentile", ">= .90", ">= .99", "named", "random unnamed"),
    *("contaminated named", "of them part right", "contaminated right", "percentile of named"),
)


def report(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Write the table, and half B by size."""
    lines = markdown(["", *COLUMNS], ([what, *map(row.get, COLUMNS)] for what, row in results.items()))
    by_size = results["real, half B"]["by size"]
    lines += ["", "Half B by number of genes, percentile and share named: "]
    lines[-1] += "; ".join(f"{size}: {place:.3f}, {named:.2f}" for size, (place, named) in by_size.items())
    return lines


def main() -> int:
    """Run everything and compare half B with the bars."""
    parser = command_line(__doc__)
    parser.add_argument("--kb", default="human")
    parser.add_argument("--encoder")
    parser.add_argument(
        "--all-genes", action="store_true", help="draw random sets from all genes, not those of the file"
    )
    parser.add_argument("--knowledge", default=",".join(get_args(SetKnowledge)))
    options = parser.parse_args()
    folder = Path(os.environ["GENEKB_TEST_DATA"]) / FOLDER
    rows, models = (read_table(folder / f"{name}.tsv.gz", "sets").rows for name in ("gsai_dev", "gsai_models_dev"))
    names = read_vocabulary(folder / "go_bp_names.tsv.gz")
    store = genekb.open(options.kb, home=options.home)
    halves: dict[str, Callable[[str], bool]] = {"half A": lambda one: not in_half_b(one), "half B": in_half_b}
    results: dict[str, Any] = {}
    for knowledge in options.knowledge.split(","):
        found = name_all(store, rows, names, encoder=options.encoder, knowledge=knowledge, all_genes=options.all_genes)
        for half, is_of in halves.items():
            chosen = [at for at, row in enumerate(rows) if is_of(row["set_id"])]
            part = {column: [sets[at] for at in chosen] for column, sets in found.items()}
            results[f"{knowledge}, {half}"] = score(part, [rows[at] for at in chosen])
    results["GPT-4, half B"] = gpt4([row for row in rows if in_half_b(row["set_id"])], models)
    of_b = results["real, half B"]
    bars = [bar_line(what, of_b[what], bar) for what, bar in BARS.items()]
    return finish(options.output, "name_set", results, lines=report(results), bars=bars)


if __name__ == "__main__":
    sys.exit(main())
