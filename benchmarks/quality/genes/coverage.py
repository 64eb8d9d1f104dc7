"""Share of genes and of counts that have a text: current symbols alone, and all that the resolver knows.

    python -m benchmarks.quality.genes.coverage --output results

Every cell file of the real data is looked up in the newest NCBI release of its species (which its names tell), without
orthologues, for texts of all genes and of protein-coding genes. Writes ``coverage.json`` and ``coverage.md``.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from benchmarks.lib.protocol import data_folder
from cellmodel.io.gene_names import read_gene_totals
from genekb.genes.coverage import Coverage, explain_missing_texts, measure_coverage
from genekb.genes.resolve import Resolution, resolve_names
from genekb.genes.species import guess_species
from genekb.genes.texts import DEFAULT_TEMPLATE, build_texts
from genekb.schema import ORTHOLOGS
from genekb.sources.base import SourceTables
from genekb.sources.ncbi_bulk import read_ncbi_folder

RELEASE = "2022-11"
FOLDERS = ("scrna", "spatial", "bad")
SELECTIONS = ("all", "protein-coding")
N_LOSSES = 5


@dataclass(frozen=True, kw_only=True)
class Species:
    """Tables of a species, and which of its genes have a text."""

    name: str
    tax_id: int
    tables: SourceTables
    with_text: dict[str, np.ndarray]


def read_species(name: str, tax_id: int, folder: Path) -> Species:
    tables = read_ncbi_folder(folder, taxa=[name])
    texts = build_texts(tables.genes, ORTHOLOGS.empty_table(), template=DEFAULT_TEMPLATE)
    coding = tables.genes.filter(pc.equal(tables.genes["type"], "protein-coding"))["gene_id"].to_numpy()
    every = texts["gene_id"].to_numpy()
    with_text = {"all": every, "protein-coding": np.intersect1d(every, coding)}
    return Species(name=name, tax_id=tax_id, tables=tables, with_text=with_text)


def choose_species(names: Sequence[str], species: Sequence[Species]) -> Species:
    """Take the species that the names tell, else the first."""
    guess = guess_species(names, name_table=species[0].tables.names)
    tax_ids = guess.tax_ids if guess else ()
    return next((one for one in species if one.tax_id in tax_ids), species[0])


def measure(path: Path, species: Sequence[Species]) -> dict:
    """Coverage of one file before and after, for each selection of texts."""
    names, totals = read_gene_totals(path)
    own = choose_species(names, species)
    table, gene_ids = own.tables.names, own.tables.genes["gene_id"]
    symbols = table.filter(pc.equal(table["kind"], "symbol"))
    plain = _exact_only(resolve_names(names, name_table=symbols, gene_ids=gene_ids))
    started = time.perf_counter()
    resolved = resolve_names(names, name_table=table, gene_ids=gene_ids)
    seconds = time.perf_counter() - started
    row = {
        "data": path.stem,
        "folder": path.parent.name,
        "species": own.name,
        "n_genes": len(names),
        "seconds": seconds,
    }
    explain = partial(explain_missing_texts, genes=own.tables.genes)
    for selection in SELECTIONS:
        covered = partial(_coverage, with_text=own.with_text[selection], totals=totals, explain=explain)
        row[selection] = {"before": asdict(covered(plain)), "after": asdict(covered(resolved))}
    return row


def _exact_only(resolution: Resolution) -> Resolution:
    """Leave what is found as a current symbol."""
    exact = resolution.status == "symbol"
    return Resolution(
        names=resolution.names,
        gene_ids=np.where(exact, resolution.gene_ids, 0),
        status=np.where(exact, resolution.status, "unknown"),
        candidates={},
    )


def _coverage(
    resolution: Resolution,
    *,
    with_text: np.ndarray,
    totals: np.ndarray,
    explain: Callable[[Sequence[int]], Mapping[int, str]],
) -> Coverage:
    has_text = np.isin(resolution.gene_ids, with_text)
    return measure_coverage(resolution, has_text=has_text, counts=totals, n_losses=N_LOSSES, explain=explain)


def coverage_table(rows: list[dict]) -> list[str]:
    """Markdown: % of the genes and % of the counts, before → after."""
    lines = [
        "| data | species | genes | all: % genes | all: % counts | coding: % genes | coding: % counts |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        shares = [
            f"{100 * row[selection]['before'][share]:.1f} → {100 * row[selection]['after'][share]:.1f}"
            for selection in SELECTIONS
            for share in ("share_genes", "share_counts")
        ]
        lines.append(f"| {row['data']} | {row['species']} | {row['n_genes']:,} | " + " | ".join(shares) + " |")
    return [*lines, ""]


def status_table(rows: list[dict]) -> list[str]:
    """Markdown: how many names were found by what."""
    kinds = sorted({kind for row in rows for kind, *_ in row["all"]["after"]["by_status"]})
    lines = [f"| data | {' | '.join(kinds)} | s |", "| --- |" + " --- |" * (len(kinds) + 1)]
    for row in rows:
        found = {kind: count for kind, count, _ in row["all"]["after"]["by_status"]}
        counts = " | ".join(f"{found.get(kind, 0):,}" for kind in kinds)
        lines.append(f"| {row['data']} | {counts} | {row['seconds']:.2f} |")
    return [*lines, ""]


def loss_table(rows: list[dict]) -> list[str]:
    """Markdown: the largest losses that remain, texts of all genes."""
    lines = ["| data | largest losses (% of the counts): why |", "| --- | --- |"]
    for row in rows:
        losses = row["all"]["after"]["losses"]
        text = "; ".join(f"{loss['name']} ({100 * loss['share_counts']:.2f}): {loss['reason']}" for loss in losses)
        lines.append(f"| {row['data']} | {text} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results"))
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    folder = data_folder() / "ncbi" / RELEASE
    species = [read_species(name, tax_id, folder) for name, tax_id in (("human", 9606), ("mouse", 10090))]
    files = [path for name in FOLDERS for path in sorted((data_folder() / name).glob("*.h5ad"))]
    rows = [measure(path, species) for path in files]
    (output / "coverage.json").write_text(json.dumps(rows, indent=1))
    lines = [
        f"# Coverage, NCBI {RELEASE}: current symbols alone → all names",
        "",
        *coverage_table(rows),
        "## Names by how they were found",
        "",
        *status_table(rows),
        "## What is still lost",
        "",
        *loss_table(rows),
    ]
    (output / "coverage.md").write_text("\n".join(lines))
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
