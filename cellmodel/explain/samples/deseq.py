"""PyDESeq2 on pseudobulks, for as many samples as it needs."""

import contextlib
import io
import warnings
from typing import Final

import numpy as np
from jaxtyping import Float

from cellmodel.core.errors import NotAvailable
from cellmodel.explain.samples.design import Design
from cellmodel.explain.samples.moderated_t import orthonormal
from genekb.core.plugins import require

_FOUND: Final = ("log2FoldChange", "stat", "pvalue")
ENOUGH: Final = 3  # replicates on either side: fewer leave the dispersions to the other genes


def check_deseq() -> None:
    """Raise ``NotAvailable`` if PyDESeq2 is not installed."""
    require("pydeseq2", needed_by="method deseq2 needs", instead="leave `method` out", error=NotAvailable)


def has_deseq() -> bool:
    """Whether PyDESeq2 is installed."""
    try:
        check_deseq()
    except NotAvailable:
        return False
    return True


def wald_tests(
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
    fold_change, statistic, p_value = (found[name].to_numpy(dtype=np.float64) for name in _FOUND)
    return fold_change, statistic, p_value


def _full_rank(nuisance: Float[np.ndarray, "unit column"]) -> Float[np.ndarray, "unit column"]:
    """Leave out the columns that those before them determine."""
    kept: list[int] = []
    for column in range(nuisance.shape[1]):
        if orthonormal(nuisance[:, [*kept, column]]).shape[1] > len(kept):
            kept.append(column)
    return nuisance[:, kept]
