"""The commands `cellmodel markers` and `composition`: tests between samples, not between cells."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from genekb.core.messages import listed
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import Columns, show, table
from genekb_cellmodel_cli.app.signature import Arguments

if TYPE_CHECKING:
    import pandas as pd

    from cellmodel.explain.samples.differential import GeneTests
    from cellmodel.explain.samples.markers import SampleMarkers
    from cellmodel.tl._samples import Composition

Row = dict[str, Any]
_SHOWN, _LISTED = 5, 20  # genes of a comparison that are shown; in --json
_SAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {"sample_key": {"show_default": False}, "min_cells": {"min": 1}}


def markers(
    path: options.ClusteredFile,
    out: options.TableOrCellsOut,
    out_of_core: options.OutOfCore,
    arguments: Arguments = arguments_of("cellmodel.tl.markers", **_SAMPLES),
    json: options.Json = False,
) -> None:
    """Find genes that differ between samples: clusters inside each sample, or conditions inside each cluster.

    Example: cellmodel markers out.h5ad --sample-key donor --condition-key stim --reference ctrl -o markers.tsv
    """
    files = out.files(path, is_needed=not json, **asdict(out_of_core))
    found = arguments.call(files)
    content = {
        "input": str(path),
        "output": files.written,
        "comparisons": comparison_rows(found, n_genes=_LISTED),
        "left_out": list(found.left_out),
        "notes": list(found.notes),
    }
    show(content, [*marker_lines(found), f"output: {files.written}"], json=json)


def composition(
    path: options.ClusteredFile,
    out: options.TableOrCellsOut,
    arguments: Arguments = arguments_of("cellmodel.tl.composition", shares={"written": options.A_TABLE}, **_SAMPLES),
    json: options.Json = False,
) -> None:
    """Compare the shares of clusters between conditions, with samples as replicates.

    Example: cellmodel composition out.h5ad --sample-key donor --condition-key stim -o composition.tsv
    """
    files = out.files(path, is_needed=not json)
    found, shares = arguments.call(files), str(arguments["shares"] or "")
    content = {
        "input": str(path),
        "output": files.written,
        "shares_table": shares,
        "notes": list(found.notes),
        "clusters": rows_of(found.clusters()),
        "shares": rows_of(found.shares),
    }
    written = [*([f"shares: {shares}"] if shares else []), f"output: {files.written}"]
    show(content, [*composition_lines(found), *written], json=json)


def rows_of(frame: "pd.DataFrame") -> list[Row]:
    """Give the rows of a table; a number that there is not is none."""
    rows = frame.astype(object).where(frame.notna(), None)
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.itertuples(index=False)]


def comparison_rows(found: "SampleMarkers", *, n_genes: int) -> list[Row]:
    """Give the comparisons, with so many genes of each side."""
    return [_row(one, found.gene_names, n_genes=n_genes) for one in found.tests]


def _row(one: "GeneTests", names: tuple[str, ...], *, n_genes: int) -> Row:
    """Give a comparison with its first genes up and down, the significant ones where there are any p values."""
    order = one.order()
    up, down = one.is_up, one.is_down
    if one.reason:
        up, down = one.log2_fold_change > 0, one.log2_fold_change < 0
    keys = ("cluster", "condition", "against", "comparison", "n_samples", "n_against", "n_cells", "n_cells_against")
    return {key: getattr(one, key) for key in (*keys, "is_paired", "df", "method", "reason", "limits")} | {
        "n_genes": len(one.genes),
        "n_up": None if one.reason else int(up.sum()),
        "n_down": None if one.reason else int(down.sum()),
        "up": [names[one.genes[row]] for row in order if up[row]][:n_genes],
        "down": [names[one.genes[row]] for row in order[::-1] if down[row]][:n_genes],
    }


def _sides(row: Row) -> str:
    """Give the samples on either side."""
    return f"{row['n_samples']}:{row['n_against']}{' paired' if row['is_paired'] else ''}"


_COLUMNS: Columns = {
    "cluster": "cluster",
    "comparison": "comparison",
    "samples": _sides,
    "cells": lambda row: f"{row['n_cells']:,}:{row['n_cells_against']:,}",
    "method": "method",
    "genes": "n_genes",
    "up": "n_up",
    "down": "n_down",
    "highest": "up",
    "lowest": "down",
}


_TESTED: Columns = {
    "cluster": "cluster",
    "comparison": "comparison",
    "samples": _sides,
    "share": "mean_share:.3f",
    "share against": "mean_share_against:.3f",
    "ratio": "ratio:.2f",
    "t": "statistic:.2f",
    "p": "p_value:p",
    "p adjusted": "p_adjusted:p",
}
_SHARES: Columns = {"sample": "sample", "cluster": "cluster", "cells": "n_cells", "share": "share:.3f"}


def marker_lines(found: "SampleMarkers") -> list[str]:
    """Give comparisons with their genes, notes, and what was left out."""
    rows = [f"{row['sample']}{' ' + row['condition'] if row['condition'] else ''}: {row['n_cells']} cells in "
            f"{row['cluster']}" for row in found.left_out]  # fmt: skip
    out = [f"left out, for too few cells or no counterpart: {listed(rows)}"] if rows else []
    return [*table(_COLUMNS, comparison_rows(found, n_genes=_SHOWN)), "", *found.notes, *out]


def composition_lines(found: "Composition") -> list[str]:
    """Give the tests of the shares of clusters, or the shares where there are none, and notes."""
    shown = table(_TESTED, rows_of(found.clusters())) if found.tests else table(_SHARES, rows_of(found.shares))
    return [*shown, "", *found.notes]
