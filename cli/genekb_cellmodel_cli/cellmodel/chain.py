"""The command `cellmodel run`: cells clustered, named, explained and reported in one go."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of, wrong_usage
from genekb_cellmodel_cli.app.output import Columns, show, table
from genekb_cellmodel_cli.app.signature import Arguments
from genekb_cellmodel_cli.cellmodel import annotate, attribute
from genekb_cellmodel_cli.cellmodel.cluster import RunJob, summarize, summary_lines

if TYPE_CHECKING:
    from cellmodel.tl._chain import ChainConfig


def run(
    job: RunJob,
    arguments: Arguments = arguments_of("cellmodel.tl.run"),
    only_tissue: annotate.OnlyTissue = None,
    markers: annotate.Markers = None,
    tables: options.Tables = None,
) -> None:
    """Cluster cells, name the clusters, explain what sets them apart, and report it: all in one go.

    Example: cellmodel run cells.h5ad --kb human -o out.h5ad --report report.html
    """
    options.set_threads(job.threads)
    from cellmodel.core.errors import UnknownName
    from cellmodel.tl._chain import ChainConfig, ChainJob

    candidates = annotate.Candidates(**arguments.take("candidates", "tissue"), only_tissue=only_tissue, markers=markers)
    steps = tuple(name.strip() for name in arguments.pop("skip").split(",") if name.strip())
    with wrong_usage(UnknownName):
        chain = ChainConfig(
            skip=steps, level=arguments.pop("level"), gmt=tuple(arguments.pop("gmt") or ()), tables=tables
        )
    chain = replace(chain, **_candidates(candidates, chain, job, encoder=arguments["encoder"]))
    report = arguments["report"]
    make_task = partial(ChainJob, chain=chain, key_added=arguments["key_added"])
    found = job.do(make_task, arguments)
    content: dict[str, Any] = {"cluster": summarize(found["cluster"], job.output, report)}
    if "annotate" in found:
        content["annotate"] = annotate.names_content(found["annotate"])
    if "attribute" in found:
        content["attribute"] = {"tables": str(tables or ""), **attribute.evidence_content(found["attribute"])}
    show(content, _lines(content["cluster"], found, tables), json=job.json)


def _candidates(
    candidates: annotate.Candidates, chain: "ChainConfig", job: RunJob, *, encoder: str | None
) -> dict[str, Any]:
    """Read the types to choose names from; without a store, the marker genes that name clusters by overlap."""
    if "annotate" in chain.skip:
        if candidates != annotate.Candidates():
            raise typer.BadParameter("--skip annotate gives no names; leave out the options that choose them, or it")
        return {}
    if job.store.kb is not None:
        return {"types": candidates.read()}
    if candidates.markers is None:
        return {}
    return {"panel": annotate.read_panel_alone(candidates, encoder=encoder, level=chain.level)}


_EVIDENCE: Columns = {
    "cluster": lambda group: group.contrast.cluster,
    "themes": attribute.shown_themes,
    "name of the markers": attribute.shown_set_name,
}


def _lines(content: dict[str, Any], found: dict[str, Any], tables: Path | None) -> Iterator[str]:
    """Lines of all steps: a table of the clusters with their names, and one of the evidence."""
    if "annotate" in found:
        for row, named in zip(content["clusters"], found["annotate"].rows(), strict=True):
            row["name"] = annotate.shown_name(named)
    written = {"output": content["output"], "report": content["report"], "tables": str(tables or "")}
    yield from summary_lines(content | {"output": "", "report": ""})
    if "attribute" in found:
        yield from (*table(_EVIDENCE, found["attribute"].groups), "")
    yield from (f"{key}: {value}" for key, value in written.items() if value)
