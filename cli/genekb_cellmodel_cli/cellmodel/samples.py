"""The commands `cellmodel markers` and `composition`: tests between samples, not between cells."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

import typer

from genekb.core.messages import listed
from genekb.files.endings import ENDINGS, TABLE
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of, wrong_usage
from genekb_cellmodel_cli.app.output import Columns, show, table
from genekb_cellmodel_cli.app.signature import Arguments

if TYPE_CHECKING:
    import pandas as pd

    from cellmodel.explain.samples.design import SampleConfig
    from cellmodel.explain.samples.differential import GeneTests
    from cellmodel.explain.samples.markers import SampleMarkers
    from cellmodel.io.writers import WriteConfig
    from cellmodel.tl._run.task import Task

Row = dict[str, Any]
_SHOWN, _LISTED = 5, 20  # genes of a comparison that are shown; in --json
_SAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {"sample_key": {"show_default": False}, "min_cells": {"min": 1}}


@dataclass(frozen=True, kw_only=True)
class Out(options.CellsOut):
    """A table that is written, annotated cells, or neither where the JSON object alone was asked for."""

    what: ClassVar[str] = "a table (.tsv, .csv) or the annotated cells (.h5ad, .zarr)"
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Table to write, .tsv or .csv, or annotated cells, .h5ad or .zarr.",
            show_default=False,
        ),
        options.TABLE_OR_CELLS,
    ] = None  # fmt: skip
    json: options.Json = False

    @property
    def table(self) -> Path | None:
        """The table to write."""
        return self.output if self.output is not None and self.output.suffix in ENDINGS[TABLE] else None

    def write(self, path: Path, task: "Task[Any]", *, key_added: str, overwrite: bool) -> "WriteConfig | None":
        """Say how annotated cells are written; None where the output is a table, which is checked, or none."""
        from cellmodel.io.writers import WriteConfig, check_targets
        from genekb.files.replace import Target

        output = self.file(path) if self.is_given or not self.json else None
        if output is not None and self.table is None:
            return WriteConfig(output=output, in_place=self.in_place, key_added=key_added, overwrite=overwrite)
        own = [Target(self.table, makes_parents=True)] if self.table else []
        check_targets([*own, *task.targets], inputs=(path,), overwrite=overwrite)
        return None


def sample_config(**settings: Any) -> "SampleConfig":
    """Give the settings; choices that exclude one another are wrong usage."""
    from cellmodel.explain.samples.design import SampleConfig

    with wrong_usage():
        return SampleConfig(**settings)


def markers(
    path: options.ClusteredFile,
    out: Out,
    out_of_core: options.OutOfCore,
    arguments: Arguments = arguments_of("cellmodel.tl.markers", **_SAMPLES),
) -> None:
    """Find genes that differ between samples: clusters inside each sample, or conditions inside each cluster.

    Example: cellmodel markers out.h5ad --sample-key donor --condition-key stim --reference ctrl -o markers.tsv
    """
    from cellmodel.tl._samples import MarkersJob, marker_slot, markers_of_file, write_frame

    overwrite, key_added = arguments.pop("overwrite"), arguments.pop("key_added")
    with wrong_usage():
        read = arguments.read()
    config = sample_config(**arguments)
    key = key_added or marker_slot(config)
    task = MarkersJob(config)
    write = out.write(path, task, key_added=key, overwrite=overwrite)
    found = markers_of_file(path, task, read=read, write=write, stream=out_of_core.config())
    if out.table:
        write_frame(found.genes(), out.table, overwrite=overwrite)
    output = str(write.output if write else out.table or "")
    content = {"input": str(path), "output": output} | _content(found)
    show(content, [*table(_COLUMNS, _rows(found)), "", *_ends(found, output)], json=out.json)


def composition(
    path: options.ClusteredFile,
    out: Out,
    arguments: Arguments = arguments_of("cellmodel.tl.composition", **_SAMPLES),
    shares: Annotated[
        Path | None,
        typer.Option(help="Table to write beside: cells and shares of every cluster in every sample."),
        options.A_TABLE,
    ] = None,
) -> None:
    """Compare the shares of clusters between conditions, with samples as replicates.

    Example: cellmodel composition out.h5ad --sample-key donor --condition-key stim -o composition.tsv
    """
    from cellmodel.tl._samples import CompositionJob, composition_of_file, write_frame

    overwrite, key_added = arguments.pop("overwrite"), arguments.pop("key_added")
    transform = arguments.pop("transform")
    task = CompositionJob(sample_config(**arguments), transform, shares=shares)
    write = out.write(path, task, key_added=key_added, overwrite=overwrite)
    found = composition_of_file(path, task, write=write)
    frame = found.clusters() if found.tests else found.shares
    if out.table:
        write_frame(frame, out.table, overwrite=overwrite)
    if shares is not None:
        write_frame(found.shares, shares, overwrite=overwrite)
    output = str(write.output if write else out.table or "")
    content: Row = {
        "input": str(path),
        "output": output,
        "shares_table": str(shares or ""),
        "notes": list(found.notes),
    }
    content |= {"clusters": _rows_of(found.clusters()), "shares": _rows_of(found.shares)}
    ends = [*found.notes, *([f"shares: {shares}"] if shares else []), f"output: {output}"]
    show(content, [*table(_TESTED if found.tests else _SHARES, _rows_of(frame)), "", *ends], json=out.json)


def _rows_of(frame: "pd.DataFrame") -> list[Row]:
    """Give the rows of a table; a number that there is not is none."""
    rows = frame.astype(object).where(frame.notna(), None)
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.itertuples(index=False)]


def _rows(found: "SampleMarkers") -> list[Row]:
    return [_row(one, found.gene_names, n_genes=_SHOWN) for one in found.tests]


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


def _content(found: "SampleMarkers") -> Row:
    return {
        "comparisons": [_row(one, found.gene_names, n_genes=_LISTED) for one in found.tests],
        "left_out": list(found.left_out),
        "notes": list(found.notes),
    }


def _ends(found: "SampleMarkers", output: str) -> list[str]:
    """Give notes, what was left out, and the output."""
    rows = [f"{row['sample']}{' ' + row['condition'] if row['condition'] else ''}: {row['n_cells']} cells in "
            f"{row['cluster']}" for row in found.left_out]  # fmt: skip
    out = [f"left out, for too few cells or no counterpart: {listed(rows)}"] if rows else []
    return [*found.notes, *out, f"output: {output}"]
