"""Differential expression between samples: conditions inside each cluster, or clusters inside each sample."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int

from cellmodel.core.errors import InputUnusable, NotAvailable
from cellmodel.explain.enrichment import adjusted_p
from cellmodel.explain.samples.design import Design, Replicates, SampleConfig, design_of, limits_of, paired_design
from cellmodel.explain.samples.moderated_t import ALIKE, RANK, fit_effects, moderate
from cellmodel.explain.samples.pseudobulk import Libraries, Pseudobulk
from genekb.core.plugins import require

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
REST: Final = "rest"
ENOUGH: Final = 3  # replicates on either side for PyDESeq2: fewer leave the dispersions to the other genes
_DESEQ2_COLUMNS: Final = ("log2FoldChange", "stat", "pvalue")
ALPHA: Final = 0.05  # adjusted p value up to which a gene differs
LIMMA, DESEQ2, FOLD_CHANGE, NONE = "limma-trend", "deseq2", "fold change", "none"
Values = Float[np.ndarray, " gene"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GeneTests:
    """Genes of one comparison: a condition with the reference in a cluster, or a cluster with the rest."""

    cluster: str
    condition: str  # empty where a cluster is compared with the rest
    against: str
    n_samples: int  # n_samples, n_against: replicates on either side
    n_against: int
    n_cells: int  # n_cells, n_cells_against: their cells
    n_cells_against: int
    is_paired: bool  # whether both sides are of the same samples
    df: int  # residual degrees of freedom
    prior_df: float  # that other genes lend to each gene; NaN where the method has none
    method: str
    reason: str  # why there are no p values; empty where there are
    limits: str  # what so few samples cannot show; empty where they are enough
    units: Int[np.ndarray, " unit"]  # replicates that were used
    genes: Int[np.ndarray, " gene"]  # columns of the matrix that were tested; all below is of these
    log2_fold_change: Values
    mean_expression: Values  # log2 counts per million, mean over replicates
    statistic: Values  # moderated t, or Wald statistic; NaN without a test, as p_value and p_adjusted
    p_value: Values
    p_adjusted: Values  # after Benjamini-Hochberg over the genes of the comparison

    @property
    def comparison(self) -> str:
        """Name both sides."""
        return f"{self.condition or self.cluster} vs {self.against}"

    def order(self, *, n_top: int | None = None) -> Int[np.ndarray, " gene"]:
        """Rows of the ``n_top`` smallest p values (all if None), highest statistic first, else highest fold change."""
        height = np.where(np.isnan(self.statistic), self.log2_fold_change, self.statistic)
        p_value = np.where(np.isnan(self.p_value), 1.0, self.p_value)
        best = np.lexsort((self.genes, -np.abs(height), p_value))[:n_top]
        return best[np.lexsort((self.genes[best], -height[best]))]

    @property
    def is_up(self) -> Bool[np.ndarray, " gene"]:
        """Genes that are significantly higher."""
        return (self.p_adjusted <= ALPHA) & (self.log2_fold_change > 0)

    @property
    def is_down(self) -> Bool[np.ndarray, " gene"]:
        """Genes that are significantly lower."""
        return (self.p_adjusted <= ALPHA) & (self.log2_fold_change < 0)


def check_method(config: SampleConfig, *, is_counts: bool, source: str) -> None:
    """Refuse a method that is not installed, or needs counts where there are none."""
    if config.method != "deseq2":
        return
    _check_deseq()
    if not is_counts:
        raise InputUnusable(
            f"{source} holds no counts, which deseq2 needs; name them with `layer`, or leave `method` out"
        )


def compare_conditions(
    bulk: Pseudobulk, found: Replicates, *, cluster_names: Sequence[str], config: SampleConfig
) -> tuple[GeneTests, ...]:
    """Compare every condition with the reference inside each cluster."""
    tests = []
    for cluster, name in enumerate(cluster_names):
        usable = bulk.n_cells[:, cluster] >= config.min_cells
        for condition in range(1, len(found.conditions)):
            design = design_of(found, condition, usable=usable, confounded_ok=config.confounded_ok)
            names = (name, found.conditions[condition], found.conditions[0])
            tests.append(_tested(bulk.of(design.units, cluster), design, names=names, config=config))
    return tuple(tests)


def compare_clusters(bulk: Pseudobulk, *, cluster_names: Sequence[str], config: SampleConfig) -> tuple[GeneTests, ...]:
    """Compare every cluster with the rest of the cells of the same replicates."""
    tests = []
    for cluster, name in enumerate(cluster_names):
        own = bulk.n_cells[:, cluster]
        is_usable = np.minimum(own, bulk.n_cells.sum(axis=1) - own) >= config.min_cells
        units = np.flatnonzero(is_usable)
        libraries = bulk.of(units, cluster).with_others(bulk.of(units, cluster, rest=True))
        tests.append(_tested(libraries, paired_design(units), names=(name, "", REST), config=config))
    return tuple(tests)


def _tested(libraries: Libraries, design: Design, *, names: tuple[str, str, str], config: SampleConfig) -> GeneTests:
    """Test the genes of a design that are expressed; fold changes alone where there is no test."""
    genes = libraries.expressed(design.side) if min(design.n_samples) else np.zeros(len(libraries.values), dtype=bool)
    empty = np.full(int(genes.sum()), np.nan)
    cluster, condition, against = names
    n_samples, n_against = design.n_samples
    tests = GeneTests(
        cluster=cluster, condition=condition, against=against, n_samples=n_samples, n_against=n_against,
        n_cells=int(libraries.n_cells[design.side].sum()), n_cells_against=int(libraries.n_cells[~design.side].sum()),
        is_paired=design.is_paired, df=max(design.df, 0), prior_df=np.nan, method=FOLD_CHANGE, reason=design.reason,
        limits=limits_of(design), units=design.units, genes=np.flatnonzero(genes), log2_fold_change=empty,
        mean_expression=empty, statistic=empty, p_value=empty, p_adjusted=empty,
    )  # fmt: skip
    if not genes.any():
        return replace(tests, method=NONE, reason=design.reason or "no gene is expressed enough to be tested")
    values = libraries.log_expression(design.side, genes)
    difference = values[:, design.side].mean(axis=1) - values[:, ~design.side].mean(axis=1)
    tests = replace(tests, mean_expression=values.mean(axis=1), log2_fold_change=difference)
    if design.reason:
        return tests
    effects = fit_effects(values, design.side.astype(np.float64), design.nuisance)
    if effects.are_exact:
        return replace(tests, reason=ALIKE)
    if _uses_deseq(config, design, is_counts=libraries.is_counts, is_condition=bool(condition)):
        log.info("%s in %s: %d genes by PyDESeq2", tests.comparison, cluster, len(tests.genes))
        fold_change, statistic, p_value = _wald_tests(libraries.values[genes], design)
        found: dict[str, Any] = {"log2_fold_change": fold_change, "statistic": statistic, "method": DESEQ2}
    else:
        fitted = moderate(effects, trend=tests.mean_expression)
        found = {"log2_fold_change": fitted.estimate, "statistic": fitted.t, "method": LIMMA}
        found["prior_df"], p_value = fitted.prior_df, fitted.p_value
    p_adjusted, known = np.full(len(p_value), np.nan), ~np.isnan(p_value)
    if known.any():
        p_adjusted[known] = adjusted_p(p_value[known])
    return replace(tests, p_value=p_value, p_adjusted=p_adjusted, **found)


def _uses_deseq(config: SampleConfig, design: Design, *, is_counts: bool, is_condition: bool) -> bool:
    """Whether PyDESeq2 is used; of itself not for clusters, where most genes differ and it takes minutes."""
    if config.method != "auto":
        return config.method == "deseq2"
    if not is_counts or not is_condition or min(design.n_samples) < ENOUGH:
        return False
    try:
        _check_deseq()
    except NotAvailable:
        return False
    return True


def _check_deseq() -> None:
    """Raise ``NotAvailable`` if PyDESeq2 is not installed."""
    require("pydeseq2", needed_by="method deseq2 needs", instead="leave `method` out", error=NotAvailable)


def _wald_tests(
    counts: Float[np.ndarray, "gene unit"], design: Design
) -> tuple[Float[np.ndarray, " gene"], Float[np.ndarray, " gene"], Float[np.ndarray, " gene"]]:
    """Log2 fold change, Wald statistic and p value of each gene :cite:`love2014deseq2`; NaN where PyDESeq2 has none."""
    import pandas as pd

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of trends and dispersions that did not converge: it goes on with others
        from pydeseq2.dds import DeseqDataSet
        from pydeseq2.default_inference import DefaultInference
        from pydeseq2.ds import DeseqStats

        names = [f"u{number}" for number in range(counts.shape[1])]
        columns = np.hstack([_full_rank(design.nuisance), design.side[:, None].astype(np.float64)])
        matrix = pd.DataFrame(columns, index=names, columns=[f"x{number}" for number in range(columns.shape[1])])
        table = pd.DataFrame(np.rint(counts.T).astype(np.int64), index=names)
        table.columns = table.columns.astype(str)
        inference = DefaultInference(n_cpus=1)
        fitted = DeseqDataSet(counts=table, metadata=matrix, design=matrix, quiet=True, inference=inference)
        fitted.deseq2()
        contrast = np.zeros(columns.shape[1])
        contrast[-1] = 1.0
        tested = DeseqStats(fitted, contrast=contrast, independent_filter=False, quiet=True, inference=inference)
        tested.summary()
    found = tested.results_df
    fold_change, statistic, p_value = (found[name].to_numpy(dtype=np.float64) for name in _DESEQ2_COLUMNS)
    return fold_change, statistic, p_value


def _full_rank(nuisance: Float[np.ndarray, "unit column"]) -> Float[np.ndarray, "unit column"]:
    """Leave out the columns that those before them determine."""
    kept: list[int] = []
    for column in range(nuisance.shape[1]):
        if np.linalg.matrix_rank(nuisance[:, [*kept, column]], rtol=RANK) > len(kept):
            kept.append(column)
    return nuisance[:, kept]


def gene_frame(tests: Sequence[GeneTests], names: Sequence[str], *, n_top: int | None = None) -> "pd.DataFrame":
    """One row a gene and comparison, highest statistic first; the ``n_top`` smallest p values of a comparison."""
    import pandas as pd

    return pd.concat([_frame_of(one, names, n_top=n_top) for one in tests], ignore_index=True)


def _frame_of(one: GeneTests, names: Sequence[str], *, n_top: int | None) -> "pd.DataFrame":
    import pandas as pd

    order = one.order(n_top=n_top)
    return pd.DataFrame(
        {
            "cluster": one.cluster,
            "comparison": one.comparison,
            "gene": [names[gene] for gene in one.genes[order].tolist()],
            "log2_fold_change": one.log2_fold_change[order],
            "mean_expression": one.mean_expression[order],
            "statistic": one.statistic[order],
            "p_value": one.p_value[order],
            "p_adjusted": one.p_adjusted[order],
            "n_samples": one.n_samples,
            "n_against": one.n_against,
            "method": one.method,
        },
        index=range(len(order)),
    )


_GROUP_COLUMNS: Final = (
    *("cluster", "condition", "against", "comparison", "n_samples", "n_against", "n_cells", "n_cells_against"),
    *("is_paired", "df", "prior_df", "method", "reason", "limits"),
)


def group_frame(tests: Sequence[GeneTests]) -> "pd.DataFrame":
    """One row a comparison: both sides, the method, how many genes differ, and what cannot be concluded."""
    import pandas as pd

    rows = [
        {name: getattr(one, name) for name in _GROUP_COLUMNS}
        | {
            "n_genes": len(one.genes),
            "n_up": int(one.is_up.sum()),
            "n_down": int(one.is_down.sum()),
        }
        for one in tests
    ]
    return pd.DataFrame(rows)


def left_out(
    bulk: Pseudobulk, found: Replicates, tests: Sequence[GeneTests], *, cluster_names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Rows of the pseudobulks that no comparison of their cluster used: sample, condition, cluster and cells."""
    used: dict[str, set[int]] = {name: set() for name in cluster_names}
    for one in tests:
        used[one.cluster] |= set(one.units.tolist())
    for unit, cells in enumerate(bulk.n_cells):
        for name, n_cells in zip(cluster_names, cells.tolist(), strict=True):
            if unit not in used[name]:
                condition = found.conditions[found.condition[unit]] if found.conditions else ""
                sample = found.samples[found.sample[unit]]
                yield {"sample": sample, "condition": condition, "cluster": name, "n_cells": n_cells}
