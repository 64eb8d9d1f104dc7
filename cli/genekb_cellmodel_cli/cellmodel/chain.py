"""The command `cellmodel run`: cells clustered, named, explained, compared and reported in one go."""

import json as jsons
from collections.abc import Iterator
from typing import Any, Final

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import Columns, show, table
from genekb_cellmodel_cli.app.signature import Arguments
from genekb_cellmodel_cli.cellmodel import annotate, attribute, samples
from genekb_cellmodel_cli.cellmodel.cluster import RunFiles, summarize, summary_lines

_MOST_BYTES: Final = 20_000  # of --json; tables have the rest
_COMPARISON: Final = ("cluster", "comparison", "n_up", "n_down", "up", "down", "reason")
_SHARE: Final = ("cluster", "comparison", "mean_share", "mean_share_against", "p_value", "p_adjusted")
_LISTED: Final = (5, 3, 1, 0)  # genes, words and themes of a cluster, the most that there is room for


def run(
    job: RunFiles,
    store: options.MaybeStore,
    arguments: Arguments = arguments_of("cellmodel.tl.run"),
    json: options.Json = False,
) -> None:
    """Cluster cells, name the clusters, explain what sets them apart, and report it: all in one go.

    Example: cellmodel run cells.h5ad --kb human -o out.h5ad --report report.html

    Example: cellmodel run --samples sheet.csv --condition-key stim --kb human -o out.h5ad --report report.html
    """
    files = job.open()
    found = arguments.call(files, store.open())
    content = summarize(found["cluster"], files.written, arguments["report"])
    content["tables"] = str(arguments["tables"] or "")
    for row, named in zip(content["clusters"], found["annotate"].rows() if "annotate" in found else (), strict=False):
        row["name"] = named["name"] if json else annotate.shown_name(named)
    show(_brief(content, found) if json else {}, _lines(content, found), json=json)


def _brief(content: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Give a summary of all steps for programs, with as many genes and words as there is room for."""
    brief: dict[str, Any] = {}
    for n in _LISTED:
        rows = [row | {key: row[key][:n] for key in ("markers", "words") if key in row} for row in content["clusters"]]
        for row, group in zip(rows, found["attribute"].groups if "attribute" in found else (), strict=False):
            row["themes"] = [theme.term for theme in group.themes[:n]]
        brief = content | {"clusters": rows}
        if "conditions" in found:
            rows = samples.comparison_rows(found["conditions"], n_genes=n)
            brief["conditions"] = [{key: row[key] for key in _COMPARISON} for row in rows]
        if "composition" in found:
            rows = samples.rows_of(found["composition"].clusters())
            brief["composition"] = [{key: row[key] for key in _SHARE} for row in rows]
        if len(jsons.dumps(brief, indent=1, default=str).encode()) <= _MOST_BYTES:
            break
    return brief


_EVIDENCE: Columns = {
    "cluster": lambda group: group.contrast.cluster,
    "themes": attribute.shown_themes,
    "name of the markers": attribute.shown_set_name,
}


def _lines(content: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """Lines of all steps: tables of the clusters with their names, of the evidence, and of samples."""
    yield from summary_lines(content | {"output": "", "report": ""})
    if "attribute" in found:
        yield from (*table(_EVIDENCE, found["attribute"].groups), "")
    if "conditions" in found:
        yield from (*samples.marker_lines(found["conditions"]), "")
    if "composition" in found:
        yield from (*samples.composition_lines(found["composition"]), "")
    yield from (f"{key}: {content[key]}" for key in ("output", "report", "tables") if content[key])
