"""Quality of cells: counts, genes and mitochondrial fraction of each; empty droplets and damaged cells."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int

from cellmodel.core.arrays import CellByGene, Labels
from cellmodel.core.config import QualityConfig
from cellmodel.core.errors import InputUnusable, NotCounts

if TYPE_CHECKING:
    from anndata import AnnData

# columns of obs, as in scanpy
TOTAL_COUNTS, N_GENES, PCT_MITO = "total_counts", "n_genes_by_counts", "pct_counts_mt"
PREDICTED, SCORE = "predicted_doublet", "doublet_score"
_ARE_DOUBLETS: Final = {"true", "1", "1.0", "doublet"}
_MOSTLY: Final = 0.5  # of a cluster
FEW_COUNTS: Final = 100  # of a droplet with a cell there are more
MUCH_MITO: Final = 20.0  # % of the counts
_WHOLE: Final = 2_000  # genes; a cell of a smaller panel may have few counts
_SOME_EMPTY, _SOME_DAMAGED = 0.02, 0.05  # fractions of the cells above which they are reported
_LEAST_CELLS: Final = 3
_PREFIX: Final = re.compile(r"mt[-:.]", re.I)  # MT-ND1, mt-Nd1, mt:ND1
_GENE_IDS: Final = {
    f"{prefix}{number}"
    for prefix, numbers in (
        ("ENSG00000", "198888 198763 198804 198712 228253 198899 198938 198840 212907 198886 198786 198695 198727"),
        ("ENSMUSG000000", "64341 64345 64351 64354 64356 64357 64358 64360 65947 64363 64367 64368 64370"),
    )
    for number in numbers.split()
}  # genes of proteins


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CellQuality:
    """Figures of each cell, by the values that are used."""

    n_genes: Int[np.ndarray, " cell"]
    total_counts: Float[np.ndarray, " cell"] | None = None  # None where the values are no counts
    pct_mito: Float[np.ndarray, " cell"] | None = None  # None without counts, and without mitochondrial genes
    doublets: Bool[np.ndarray, " cell"] | None = None  # None where nobody looked for them
    doublet_score: Float[np.ndarray, " cell"] | None = None  # None where obs had the doublets
    n_measured: int = 0  # genes of the cells
    n_seen: int = 0  # cells before any was left out
    dropped: Mapping[str, int] = field(default_factory=dict)  # cells that each limit leaves out, by its argument

    def kept_by(self, config: QualityConfig) -> dict[str, Bool[np.ndarray, " cell"]]:
        """Cells that each limit keeps; ``NotCounts`` or ``InputUnusable`` where a limit has nothing to compare with."""
        kept = {}
        if config.min_counts is not None:
            if self.total_counts is None:
                raise NotCounts("`min_counts` needs raw counts, and the values are none; name their layer with `layer`")
            kept["min_counts"] = self.total_counts >= config.min_counts
        if config.min_genes is not None:
            kept["min_genes"] = self.n_genes >= config.min_genes
        if config.max_mito is not None:
            if self.pct_mito is None:
                raise InputUnusable(
                    "`max_mito` needs raw counts and mitochondrial genes (MT-ND1, mt-Nd1, ENSG00000198888, ...), and "
                    "the cells have none; leave it out, or name the column of var with the symbols with `gene_key`"
                )
            kept["max_mito"] = self.pct_mito <= config.max_mito
        return kept

    def take(self, rows: Int[np.ndarray, " cell"], dropped: Mapping[str, int]) -> "CellQuality":
        """Keep some of the cells; the notes are of these alone."""
        total, mito = (None if each is None else each[rows] for each in (self.total_counts, self.pct_mito))
        return replace(self, n_genes=self.n_genes[rows], total_counts=total, pct_mito=mito, dropped=dropped)

    def notes(self) -> Iterator[str]:
        """Say what was left out, and what looks like no cell, with the argument that acts."""
        n_dropped = self.n_seen - len(self.n_genes)
        if n_dropped:
            each = ", ".join(f"{n_cells:,} by `{name}`" for name, n_cells in self.dropped.items() if n_cells)
            yield f"{n_dropped:,} of {self.n_seen:,} cells were left out ({each})"
        if self.total_counts is not None and self.n_measured >= _WHOLE:
            share = float((self.total_counts < FEW_COUNTS).mean())
            if share >= _SOME_EMPTY:
                yield (
                    f"{share:.0%} of the cells have fewer than {FEW_COUNTS} counts: empty droplets? "
                    f"min_counts={FEW_COUNTS} leaves them out"
                )
        if self.pct_mito is not None:
            share = float((self.pct_mito > MUCH_MITO).mean())
            if share >= _SOME_DAMAGED:
                yield (
                    f"{share:.0%} of the cells have more than {MUCH_MITO:.0f} % of their counts from mitochondrial "
                    f"genes: damaged cells? max_mito={MUCH_MITO:.0f} leaves them out"
                )
        if self.doublets is not None and self.doublets.any():
            yield f"{self.doublets.mean():.1%} of the cells are predicted doublets: adata[~adata.obs[{PREDICTED!r}]]"

    def notes_on_clusters(self, labels: Labels | None, names: Sequence[str]) -> Iterator[str]:
        """Name the clusters of which most cells are doublets."""
        for name, share in self._doublet_shares(labels, names).items():
            if share >= _MOSTLY:
                yield f"cluster {name} is mostly doublets ({share:.0%} of its cells)"

    def _doublet_shares(self, labels: Labels | None, names: Sequence[str]) -> dict[str, float]:
        if self.doublets is None or labels is None:
            return {}
        n_cells = np.bincount(labels, minlength=len(names))
        shares = np.bincount(labels, self.doublets, len(names)) / np.maximum(n_cells, 1)
        return dict(zip(names, shares.round(4).tolist(), strict=True))

    def columns(self) -> dict[str, np.ndarray]:
        """Columns of obs, under the names of scanpy."""
        found = {TOTAL_COUNTS: self.total_counts, N_GENES: self.n_genes.astype(np.int32), PCT_MITO: self.pct_mito}
        found |= {} if self.doublet_score is None else {SCORE: self.doublet_score, PREDICTED: self.doublets}
        return {name: values for name, values in found.items() if values is not None}

    def record(self, labels: Labels | None = None, names: Sequence[str] = ()) -> dict[str, Any]:
        """Medians, what was left out, doublets of all cells and of each cluster, and the notes."""
        medians = {
            f"median_{name}": float(np.median(values))
            for name, values in self.columns().items()
            if name not in {PREDICTED, SCORE}
        }
        found = {
            "n_cells_seen": self.n_seen,
            "n_cells": len(self.n_genes),
            "dropped": dict(self.dropped),
            **medians,
            "notes": [*self.notes(), *self.notes_on_clusters(labels, names)],
        }
        if self.doublets is not None:
            found["share_doublets"] = float(self.doublets.mean())
            found["doublets_of_clusters"] = self._doublet_shares(labels, names)
        return found


def predicted_doublets(adata: "AnnData") -> Bool[np.ndarray, " cell"] | None:
    """Cells that obs["predicted_doublet"] names as doublets; None where there is no such column."""
    if PREDICTED not in adata.obs:
        return None
    return np.array([str(value).lower() in _ARE_DOUBLETS for value in adata.obs[PREDICTED]], dtype=bool)


def mitochondrial_genes(names: Sequence[str]) -> Int[np.ndarray, " gene"]:
    """Columns of mitochondrial genes, by the prefix of their symbols or their Ensembl identifiers."""
    is_mito = [bool(_PREFIX.match(name)) or name.partition(".")[0] in _GENE_IDS for name in names]
    return np.flatnonzero(np.array(is_mito, dtype=bool))


def figures_of_block(
    block: CellByGene, mito: Int[np.ndarray, " gene"]
) -> tuple[Int[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    """Genes with a value above zero of each cell, and the sum of its mitochondrial ones."""
    above = np.concatenate([[0], np.cumsum(block.data > 0)])
    of_mito = np.zeros(block.shape[1])
    of_mito[mito] = 1.0
    return above[block.indptr[1:]] - above[block.indptr[:-1]], block @ of_mito


def keep_rows(adata: "AnnData", rows: Int[np.ndarray, " cell"]) -> None:
    """Keep some cells of an AnnData, in place; ``InputUnusable`` where it is backed by its file."""
    if adata.isbacked:
        raise InputUnusable(
            "cells cannot be left out of an AnnData that is backed; read it into memory: adata.to_memory()"
        )
    adata._inplace_subset_obs(rows)  # what scanpy's filter_cells does; a copy would be another AnnData than the user's


def table_of(
    adata: "AnnData", rows: Int[np.ndarray, " cell"], *, columns: Int[np.ndarray, " gene"] | None, names: Sequence[str]
) -> "AnnData":
    """Tables of some cells and of the genes that are used; ``columns``: of var, None where genes are of ``.raw``."""
    import anndata
    import pandas as pd

    kept = adata[rows]
    var = pd.DataFrame(index=pd.Index(list(names), dtype=object)) if columns is None else adata.var.iloc[columns]
    return anndata.AnnData(
        obs=kept.obs.copy(), var=var.copy(), obsm={key: np.array(kept.obsm[key]) for key in kept.obsm}
    )


def rows_to_keep(quality: CellQuality, config: QualityConfig, *, source: str) -> Int[np.ndarray, " cell"]:
    """Cells within all limits; ``InputUnusable`` where next to none is."""
    kept = quality.kept_by(config)
    rows = np.flatnonzero(np.logical_and.reduce([np.ones(len(quality.n_genes), dtype=bool), *kept.values()]))
    if kept and len(rows) < _LEAST_CELLS:
        limits = ", ".join(f"{name}={getattr(config, name):g}" for name in kept)
        raise InputUnusable(
            f"{limits} leaves {len(rows)} of {len(quality.n_genes):,} cells of {source}; give other limits (medians: "
            f"{', '.join(f'{name} {np.median(values):.4g}' for name, values in quality.columns().items())})"
        )
    return rows
