"""What `cellmodel attribute` tells beside what is known: marker facts, a response to interferon; attribution.{json,md}.

    python -m benchmarks.quality.names.attribution --output results [--jobs 2]

Clusters are the annotators' types, read here alone. Exits with 1 where a bar is missed.
"""

import csv
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import genekb
from benchmarks.lib.protocol import (
    DataSet,
    bar_line,
    build_stores,
    command_line,
    finish,
    load_datasets,
    peak_mb,
    sections,
    table,
)
from cellmodel.core.config import RunConfig
from cellmodel.core.random import generator
from cellmodel.explain.evidence import AttributeConfig, Evidence, attribute_clusters
from cellmodel.explain.groups import ClusteredCells, clustered
from cellmodel.io.cells import ReadConfig, read_cells
from cellmodel.io.writers import WriteConfig
from cellmodel.tl._attribute import AttributeJob
from cellmodel.tl._run.task import run_on_file

FACTS = Path(__file__).with_name("marker_facts.tsv")
N_TOP = 20
CONTROL_SEEDS = range(20)
CALIBRATION_SEEDS = range(5)
STIMULATED, CONDITION_KEY, STIMULUS = "kang_ifnb_2800", "sample", "STIM"
MANY_CELLS = 100  # of a cluster, from which its response must be found
LARGE = "kang_ctrl_stim_12261"
MAX_SECONDS, MAX_P = 20.0, 0.05
Rows = list[dict[str, Any]]


def read_facts() -> dict[str, list[tuple[str, str]]]:
    """Read type and marker by data set."""
    facts: dict[str, list[tuple[str, str]]] = {}
    with FACTS.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            facts.setdefault(row["data"], []).append((row["cell_type"], row["gene"]))
    return facts


def read_types(data: DataSet, store: Path) -> tuple[ClusteredCells, genekb.Store]:
    """Read cells with their true types as clusters."""
    kb = genekb.open(store)
    found = clustered(read_cells(data.path, ReadConfig()), kb, RunConfig(), cluster_key=data.label_key)
    return found, kb


def dealt(found: ClusteredCells, seed: int) -> ClusteredCells:
    """Deal texts, and the vectors that belong to them, out among the genes that have one."""
    alignment = found.alignment
    if alignment is None:
        raise ValueError("the cells are not aligned")
    having = np.flatnonzero(alignment.has_vector)
    source = np.arange(len(alignment.has_vector))
    source[having] = generator(seed, "dealt texts").permutation(having)
    texts = tuple(alignment.texts[gene] for gene in source)
    return replace(found, alignment=replace(alignment, vectors=alignment.vectors[source], texts=texts))


def told(found: ClusteredCells, kb: genekb.Store, *, n_permutations: int, **choices: Any) -> Evidence:
    """Attribute with the settings that serve every data set."""
    choice = AttributeConfig(n_permutations=n_permutations, **choices)
    return attribute_clusters(found, kb, config=RunConfig(), choice=choice)


def marker_facts(data: DataSet, store: Path) -> Rows:
    """Look each fact up among the top contributions and the top markers, beside dealt texts and plain differences."""
    found, kb = read_types(data, store)
    facts = read_facts()[data.name]
    own = told(found, kb, n_permutations=1)
    controls = [told(dealt(found, seed), kb, n_permutations=1) for seed in CONTROL_SEEDS]
    markers = {group.contrast.cluster: [one.name for one in group.markers[:N_TOP]] for group in own.groups}
    differences = {
        group.contrast.cluster: [
            gene.name for gene in sorted(group.contributions, key=lambda gene: -gene.difference)[:N_TOP]
        ]
        for group in own.groups
    }
    return [
        {
            "data": data.name,
            "cell_type": cell_type,
            "gene": gene,
            "measured": gene in found.gene_names,
            "contributions": gene in top_contributions(own, cell_type),
            "deals": [gene in top_contributions(one, cell_type) for one in controls],
            "markers": gene in markers[cell_type],
            "differences": gene in differences[cell_type],
        }
        for cell_type, gene in facts
    ]


def top_contributions(found: Evidence, cell_type: str) -> list[str]:
    """Names of the genes that contribute most to a type."""
    (group,) = (one for one in found.groups if one.contrast.cluster == cell_type)
    return [gene.name for gene in group.contributions[:N_TOP]]


def significant_themes(data: DataSet, store: Path) -> dict[str, Any]:
    """Count types with a theme at p 0.05, beside dealt texts, where one in twenty is expected."""
    found, kb = read_types(data, store)

    def share(evidence: Evidence) -> float:
        return float(np.mean([any(t.p_adjusted <= MAX_P for t in group.themes) for group in evidence.groups]))

    controls = [share(told(dealt(found, seed), kb, n_permutations=99)) for seed in CALIBRATION_SEEDS]
    return {
        "data": data.name,
        "types": len(found.names),
        "with a theme": share(told(found, kb, n_permutations=200)),
        "dealt texts": float(np.mean(controls)),
    }


def interferon(data: DataSet, store: Path) -> Rows:
    """Find the interferon theme in each stimulated type, beside dealt texts."""
    found, kb = read_types(data, store)
    own = told(found, kb, n_permutations=200, condition_key=CONDITION_KEY)
    controls = [
        told(dealt(found, seed), kb, n_permutations=99, condition_key=CONDITION_KEY) for seed in CALIBRATION_SEEDS
    ]
    rows = list(interferon_rows(own))
    for row in rows:
        hits = [
            other["p adjusted"] <= MAX_P
            for one in controls
            for other in interferon_rows(one)
            if other["cell_type"] == row["cell_type"]
        ]
        row["dealt texts"] = float(np.mean(hits))
    return rows


def interferon_rows(found: Evidence) -> Iterator[dict[str, Any]]:
    """Rank, p value and genes of the interferon theme by type; p is 1 where there is none."""
    for group in found.groups:
        if group.contrast.condition != STIMULUS:
            continue
        named = [
            (rank, theme)
            for rank, theme in enumerate(group.themes, start=1)
            if any("interferon" in term for term in (theme.term, *theme.also))
        ]
        rank, theme = named[0] if named else (0, None)
        yield {
            "cell_type": group.contrast.cluster,
            "cells": f"{group.contrast.n_cells} and {group.contrast.n_against}",
            "stimulated": group.contrast.n_cells,
            "rank": rank,
            "share of the distance": theme.share if theme else 0.0,
            "p adjusted": theme.p_adjusted if theme else 1.0,
            "genes": " ".join(gene.name for gene in theme.genes[:6]) if theme else "",
        }


def timed(data: DataSet, store: Path) -> dict[str, Any]:
    """Time the whole job from file to file, twice, and compare the bytes."""
    with TemporaryDirectory() as folder:
        outputs, seconds = [Path(folder) / f"{run}.h5ad" for run in range(2)], []
        for output in outputs:
            started = time.perf_counter()
            choice = AttributeConfig(cluster_key=data.label_key)
            task = AttributeJob(genekb.open(store), RunConfig(), choice=choice, tables=output.with_suffix(""))
            write = WriteConfig(output=output, key_added="cellmodel_attribution")
            run_on_file(data.path, task, read=ReadConfig(), write=write)
            seconds.append(time.perf_counter() - started)
        same = outputs[0].read_bytes() == outputs[1].read_bytes()
    return {"data": data.name, "seconds": min(seconds), "peak MB": peak_mb(), "same bytes": same}


def by_data(rows: Rows) -> Rows:
    """Share of the facts found, by data set and over all."""
    names = dict.fromkeys(row["data"] for row in rows)
    groups = {name: [row for row in rows if row["data"] == name] for name in names} | {"all": rows}
    shares: Rows = []
    for name, group in groups.items():
        deals = np.mean([row["deals"] for row in group], axis=0)
        found: dict[str, Any] = {
            column: float(np.mean([row[column] for row in group])) for column in ("measured", "contributions")
        }
        as_high = int((deals >= found["contributions"] - 1e-9).sum())
        found |= {"dealt texts": float(deals.mean()), "deals as high": f"{as_high} of {len(deals)}"}
        found |= {column: float(np.mean([row[column] for row in group])) for column in ("markers", "differences")}
        shares.append({"data": name, "facts": len(group)} | found)
    return shares


def report(found: dict[str, Rows]) -> list[str]:
    """Lay out all tables."""
    missed = [row | {"dealt texts": float(np.mean(row["deals"]))} for row in found["facts"] if not row["contributions"]]
    parts = {
        f"Known markers in the top {N_TOP}": table(by_data(found["facts"])),
        "Facts that the contributions miss": table(
            missed, ("data", "cell_type", "gene", "measured", "markers", "differences", "dealt texts")
        ),
        "Types with a theme at p 0.05": table(found["themes"]),
        f"Interferon in {STIMULATED}, {STIMULUS} against control": table(
            found["interferon"],
            ("cell_type", "cells", "rank", "share of the distance", "p adjusted", "dealt texts", "genes"),
        ),
        "Time, file to file": table(found["time"]),
    }
    return sections(parts)


def bars(found: dict[str, Rows]) -> list[str]:
    """Compare with the bars; one line each."""
    every = by_data(found["facts"])[-1]
    responses = [row for row in found["interferon"] if row["stimulated"] >= MANY_CELLS]
    (timing,) = found["time"]
    above = every["contributions"] - every["dealt texts"]
    highest = max(row["p adjusted"] for row in responses)
    return [
        bar_line(f"facts by contributions above dealt texts ({every['deals as high']} as high)", above, 1e-9),
        bar_line(
            f"adjusted p of interferon in {len(responses)} types of {MANY_CELLS} cells", highest, MAX_P, at_most=True
        ),
        bar_line("seconds", timing["seconds"], MAX_SECONDS, at_most=True),
        bar_line("the same bytes twice", timing["same bytes"], 1),
    ]


def main() -> int:
    """Run everything and compare with the bars."""
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    human, mouse = build_stores(options.output / "home")
    facts = read_facts()
    sets = {data.name: (data, human if data.taxon == "human" else mouse) for data in load_datasets()}
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        of_facts = [pool.submit(marker_facts, *sets[name]) for name in facts]
        of_themes = [pool.submit(significant_themes, *sets[name]) for name in facts]
        of_interferon = pool.submit(interferon, *sets[STIMULATED])
        found = {
            "facts": [row for job in of_facts for row in job.result()],
            "themes": [job.result() for job in of_themes],
            "interferon": of_interferon.result(),
        }
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found["time"] = [pool.submit(timed, *sets[LARGE]).result()]
    return finish(options.output, "attribution", found, lines=report(found), bars=bars(found))


if __name__ == "__main__":
    sys.exit(main())
