"""Tests between samples: what they call where nothing differs, beside tests of cells; samples.{json,md}.

    python -m benchmarks.quality.clusters.samples --output results [--repeats 20] [--deseq 3]

Real donors without an effect: eight donors of control blood cells, four of them given a fake condition, at random. Real
samples with an effect: two donors, control and interferon; and the same, the conditions of one donor exchanged.
Simulated donors: mean, variance between donors and cell totals of these CD4 T cells, a tenth of the genes doubled or
halved in half of the donors; and the same, conditions permuted among the donors. No figure here chose a setting.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.lib.protocol import command_line, data_folder, finish, sections, table
from cellmodel.core.random import generator
from cellmodel.explain.groups import group_cells
from cellmodel.explain.markers import rank_markers
from cellmodel.explain.samples.composition import compare_shares
from cellmodel.explain.samples.design import Replicates, SampleConfig, find_replicates
from cellmodel.explain.samples.differential import GeneTests, compare_conditions
from cellmodel.explain.samples.pseudobulk import sum_by_group
from cellmodel.io.cells import Cells, ObsCategories, obs_categories, read_cells
from cellmodel.pp.normalize import normalize_log1p

DONORS = "scrna/kang_ctrl_stim_12261_hvg.h5ad"
STIMULATED = "batches/kang_2donors_ctrl_stim.h5ad"
SIMULATED_TYPE = "CD4 T cells"
INTERFERON = ("ISG15", "IFI6", "IFIT1", "IFIT2", "IFIT3", "MX1")
METHODS = ("limma", "deseq2", "cells")
SIZES = (2, 3, 4, 6)  # simulated donors a side
ALPHA = 0.05
LIMMA = SampleConfig(sample_key="donor", condition_key="condition", reference="a", method="limma")
DESEQ2 = replace(LIMMA, method="deseq2")


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Cells, and the cluster and sample of each."""

    counts: sp.csr_matrix
    clusters: np.ndarray
    cluster_names: tuple[str, ...]
    samples: ObsCategories
    gene_names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Called:
    """Genes of one cluster, and what a test says of them."""

    genes: np.ndarray  # columns
    p_value: np.ndarray
    p_adjusted: np.ndarray


def study_of(cells: Cells) -> Study:
    """Take types as clusters and donors as samples."""
    grouped = group_cells(cells, "cell_type")
    samples = obs_categories(cells.adata, "donor", source=cells.source)
    return Study(
        counts=cells.matrix,
        clusters=grouped.labels,
        cluster_names=grouped.names,
        samples=samples,
        gene_names=cells.names,
    )


def condition_of(codes: np.ndarray) -> ObsCategories:
    """Name two conditions."""
    return ObsCategories(key="condition", names=("a", "b"), codes=codes.astype(np.int64))


def called(study: Study, conditions: ObsCategories, method: str) -> Iterator[Called]:
    """Test every cluster that has a test; by cells, the genes and clusters of the test of samples."""
    for one in tests_of(study, conditions, DESEQ2 if method == "deseq2" else LIMMA):
        if one.reason or not len(one.genes):
            continue
        if method == "cells":
            yield by_cells(study, conditions, one)
        else:
            yield Called(genes=one.genes, p_value=one.p_value, p_adjusted=one.p_adjusted)


def replicates_of(study: Study, conditions: ObsCategories) -> Replicates:
    """Find the replicates."""
    return find_replicates(study.samples, conditions, None, config=LIMMA)


def tests_of(study: Study, conditions: ObsCategories, config: SampleConfig) -> tuple[GeneTests, ...]:
    """Compare the conditions inside each cluster."""
    found = replicates_of(study, conditions)
    n_clusters = len(study.cluster_names)
    bulk = sum_by_group(study.counts, study.clusters, found.labels, n_clusters=n_clusters, is_counts=True)
    return compare_conditions(bulk, found, cluster_names=study.cluster_names, config=config)


def by_cells(study: Study, conditions: ObsCategories, one: GeneTests) -> Called:
    """Welch's t of the cells of a cluster, as if each were a replicate."""
    rows = np.flatnonzero(study.clusters == study.cluster_names.index(one.cluster))
    expression = normalize_log1p(study.counts[rows])[:, one.genes]
    names = [str(gene) for gene in range(len(one.genes))]
    tables = rank_markers(expression, conditions.codes[rows], gene_names=names, n_top=len(names))
    markers = sorted(tables[1].markers, key=lambda marker: marker.gene)
    p_values, adjusted = zip(*((marker.p_value, marker.p_adjusted) for marker in markers), strict=True)
    return Called(genes=one.genes, p_value=np.array(p_values), p_adjusted=np.array(adjusted))


def shares_called(every: Iterable[Called]) -> dict[str, float]:
    """Shares of genes with p and with adjusted p up to .05: mean over clusters and repeats, and highest."""
    rows = [((one.p_value <= ALPHA).mean(), (one.p_adjusted <= ALPHA).mean()) for one in every]
    p_values, adjusted = np.array(rows).T
    return {
        "p": float(p_values.mean()),
        "q": float(adjusted.mean()),
        "highest q": float(adjusted.max()),
        "n": len(rows),
    }


def splits(n_samples: int, n_wanted: int) -> list[tuple[int, ...]]:
    """Halves of the samples, each once and in random order, not their mirror images."""
    every = [half for half in combinations(range(n_samples), n_samples // 2) if 0 in half]
    generator(0, "splits").shuffle(every)
    return every[:n_wanted]


def null_of_donors(study: Study, *, n_repeats: int, n_deseq: int, is_paired: bool) -> list[dict[str, Any]]:
    """Give donors, or half of the cells of each donor, a fake condition."""
    fakes = [np.isin(study.samples.codes, half) for half in splits(len(study.samples.names), n_repeats)]
    if is_paired:
        rng = generator(0, "halves")
        fakes = [rng.random(len(study.clusters)) < 0.5 for _ in range(n_repeats)]
    rows = []
    for method in METHODS:
        used = fakes[: n_deseq if method == "deseq2" else n_repeats]
        every = [one for fake in used for one in called(study, condition_of(fake), method)]
        if every:
            what = "8 donors, half of the cells of each" if is_paired else "8 donors, 4 to 4"
            rows.append({"data": what, "method": method, "repeats": len(used), **shares_called(every)})
    return rows


def null_of_shares(study: Study, n_repeats: int) -> dict[str, Any]:
    """Compare the composition of donors with a fake condition."""
    every = []
    for half in splits(len(study.samples.names), n_repeats):
        found = replicates_of(study, condition_of(np.isin(study.samples.codes, half)))
        n_cells = np.zeros((len(found.sample), len(study.cluster_names)), dtype=np.int64)
        np.add.at(n_cells, (found.labels, study.clusters), 1)
        (one,) = compare_shares(n_cells, found, cluster_names=study.cluster_names, config=LIMMA)
        every.append(Called(genes=np.arange(len(one.clusters)), p_value=one.p_value, p_adjusted=one.p_adjusted))
    return {"data": "8 donors, 4 to 4", "method": "composition", "repeats": n_repeats, **shares_called(every)}


def stimulated(study: Study, conditions: ObsCategories) -> list[dict[str, Any]]:
    """Compare stimulated with control cells of two donors; and the same, the conditions of one donor exchanged."""
    exchanged = np.where(study.samples.codes == 0, 1 - conditions.codes, conditions.codes)
    rows = []
    for what, codes in (("stimulated", conditions.codes), ("exchanged in one donor", exchanged)):
        for one in tests_of(study, condition_of(codes), LIMMA):
            order = np.argsort(-one.statistic)
            ranks = {study.gene_names[one.genes[row]]: rank for rank, row in enumerate(order.tolist(), start=1)}
            of_cells = by_cells(study, condition_of(codes), one)
            rows.append(
                {
                    "data": what,
                    "cluster": one.cluster,
                    "genes": len(one.genes),
                    "samples": float((one.p_adjusted <= ALPHA).mean()),
                    "cells": float((of_cells.p_adjusted <= ALPHA).mean()),
                    **{gene: ranks.get(gene) for gene in INTERFERON},
                }
            )
    return rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Donors:
    """What donors are simulated from: of one type, in real donors."""

    rate: np.ndarray  # (gene,) share of a cell's counts
    dispersion: np.ndarray  # (gene,) variance between donors over the squared mean, beyond that of counting
    totals: np.ndarray  # (cell,) counts of the cells
    n_cells: np.ndarray  # (donor,)


def donors_of(study: Study, cell_type: str) -> Donors:
    """Estimate rates and their variance between donors by moments."""
    rows = study.clusters == study.cluster_names.index(cell_type)
    counts, donor = study.counts[rows], study.samples.codes[rows]
    sums = np.stack([np.asarray(counts[donor == one].sum(axis=0)).ravel() for one in np.unique(donor)]).astype(float)
    totals = sums.sum(axis=1, keepdims=True)
    rate = (sums / totals).mean(axis=0)
    beyond = (sums / totals).var(axis=0, ddof=1) - (rate / totals).mean(axis=0)
    dispersion = np.divide(beyond, rate**2, out=np.zeros_like(rate), where=rate > 0)
    return Donors(
        rate=rate,
        dispersion=np.clip(dispersion, 0.01, 2.0),
        totals=np.asarray(counts.sum(axis=1)).ravel(),
        n_cells=np.bincount(donor),
    )


def simulate(about: Donors, *, n_side: int, seed: int, share: float = 0.1) -> tuple[Study, np.ndarray, np.ndarray]:
    """Draw donors by gamma, cells by Poisson; the cells' conditions, and the log2 fold changes of the genes."""
    rng = generator(seed, f"simulated donors {n_side}")
    n_genes = len(about.rate)
    effect = np.where(rng.random(n_genes) < share, rng.choice([-1.0, 1.0], n_genes), 0.0)
    blocks, samples = [], []
    for donor in range(2 * n_side):
        own = about.rate * rng.gamma(1 / about.dispersion, about.dispersion)
        own = own * 2.0 ** (effect * (donor >= n_side))
        totals = rng.choice(about.totals, rng.choice(about.n_cells))
        blocks.append(sp.csr_matrix(rng.poisson(totals[:, None] * own / own.sum()).astype(np.float32)))
        samples += [donor] * len(totals)
    codes = np.array(samples)
    names = tuple(f"d{donor}" for donor in range(2 * n_side))
    study = Study(
        counts=sp.vstack(blocks, format="csr"),
        clusters=np.zeros(len(codes), dtype=np.int64),
        cluster_names=("0",),
        samples=ObsCategories(key="donor", names=names, codes=codes),
        gene_names=tuple(map(str, range(n_genes))),
    )
    return study, codes >= n_side, effect


def power(about: Donors, *, n_side: int, n_repeats: int, n_deseq: int) -> list[dict[str, Any]]:
    """Find the genes of simulated donors that differ."""
    rows = []
    for method in METHODS:
        n_used = n_deseq if method == "deseq2" else n_repeats
        figures = []
        for seed in range(n_used):
            study, stim, effect = simulate(about, n_side=n_side, seed=seed)
            for one in called(study, condition_of(stim), method):
                found, differs = one.p_adjusted <= ALPHA, effect[one.genes] != 0
                figures.append((found[differs].mean(), (found & ~differs).sum() / max(found.sum(), 1)))
        if figures:
            found, false = np.mean(figures, axis=0).tolist()
            rows.append({"donors": f"{n_side} to {n_side}", "method": method, "repeats": n_used, "found": found,
                         "false": false})  # fmt: skip
    return rows


def permuted(about: Donors, *, n_side: int, n_repeats: int, n_deseq: int) -> list[dict[str, Any]]:
    """Permute the conditions of one simulated study with an effect among its donors."""
    study, _, _ = simulate(about, n_side=n_side, seed=0)
    true = tuple(range(n_side))
    halves = [half for half in splits(2 * n_side, n_repeats + 1) if half != true][:n_repeats]
    rows = []
    for method in METHODS:
        used = halves[: n_deseq if method == "deseq2" else n_repeats]
        every = [
            one for half in used for one in called(study, condition_of(np.isin(study.samples.codes, half)), method)
        ]
        if every:
            rows.append({"data": f"simulated, permuted, {n_side} to {n_side}", "method": method, "repeats": len(used),
                         **shares_called(every)})  # fmt: skip
    return rows


def main() -> int:
    """Run all parts."""
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--deseq", type=int, default=3, help="repeats of PyDESeq2, which takes some 5 s a cluster")
    args = parser.parse_args()
    study = study_of(read_cells(data_folder() / DONORS))
    sizes: dict[str, int] = {"n_repeats": args.repeats, "n_deseq": args.deseq}
    about = donors_of(study, SIMULATED_TYPE)
    null = null_of_donors(study, is_paired=False, **sizes) + null_of_donors(
        study, is_paired=True, n_repeats=args.repeats, n_deseq=0
    )
    null += [row for n_side in SIZES[2:] for row in permuted(about, n_side=n_side, **sizes)]
    null.append(null_of_shares(study, args.repeats))
    two = read_cells(data_folder() / STIMULATED)
    own = stimulated(study_of(two), obs_categories(two.adata, "condition", source=two.source))
    of_size = partial(power, about, **sizes)
    found = {"null": null, "stimulated": own, "power": [row for n_side in SIZES for row in of_size(n_side=n_side)]}
    parts = {
        "Nothing differs: shares of genes (of clusters, for composition) called": table(null, digits=4),
        "Two donors, control and interferon: share of genes called, and ranks of interferon genes by t": table(
            own, ("data", "cluster", "genes", "samples", "cells", *INTERFERON)
        ),
        "Simulated donors, a tenth of the genes doubled or halved: share found, and share of the found that is false": (
            table(found["power"])
        ),
    }
    return finish(args.output, "samples", found, lines=["# Tests between samples", "", *sections(parts)])


if __name__ == "__main__":
    sys.exit(main())
