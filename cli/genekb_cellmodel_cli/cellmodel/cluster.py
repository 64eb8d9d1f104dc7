"""The commands `cellmodel cluster`, `run` (all steps in one go) and `demo`, and what they report."""

import json as jsons
import math
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import Columns, show, table
from genekb_cellmodel_cli.app.signature import Arguments
from genekb_cellmodel_cli.cellmodel import annotate, attribute, samples

if TYPE_CHECKING:
    from cellmodel.tl import CellFiles
    from cellmodel.tl._cluster import CellRun

_MARKERS, _WORDS = 5, 4  # of a cluster that are shown
_MOST_BYTES: Final = 20_000  # of --json; tables have the rest
_COMPARISON: Final = ("cluster", "comparison", "n_up", "n_down", "up", "down", "reason")
_SHARE: Final = ("cluster", "comparison", "mean_share", "mean_share_against", "p_value", "p_adjusted")
_LISTED: Final = (5, 3, 1, 0)  # genes, words and themes of a cluster, the most that there is room for


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """A run from file to file."""

    paths: options.CellFiles = None
    samples: options.SampleSheet = None
    out: options.CellsOut
    out_of_core: options.OutOfCore
    transpose: options.Transpose = False
    threads: options.Threads = None

    def open(self, **more: Any) -> "CellFiles":
        """Give the files; the number of threads is set before any numerical library is loaded."""
        from genekb.core.addresses import without_secrets

        if self.threads:
            os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))
        if bool(self.paths) == (self.samples is not None):
            raise typer.BadParameter("give files of cells, or --samples SHEET that names them: one of the two")
        command = shlex.join(["cellmodel", *map(without_secrets, sys.argv[1:])])
        return self.out.files(
            *(self.paths or ()), transpose=self.transpose, sheet=self.samples, command=command,
            **asdict(self.out_of_core), **more,
        )  # fmt: skip


def cluster(
    job: RunFiles,
    store: options.MaybeStore,
    arguments: Arguments = arguments_of("cellmodel.tl.cluster"),
    sample_key: options.SampleKey = "auto",
    no_clusters: Annotated[
        bool, typer.Option("--no-clusters", help="Only embed the cells by expression and text.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Cluster cells, and describe clusters by markers and keywords.

    Example: cellmodel cluster cells.h5ad --kb human --n-clusters auto -o out.h5ad --report report.html
    """
    files, report = job.open(sample_key=sample_key), arguments["report"]
    if no_clusters:
        of_clusters = ("n_clusters", "resolution", "head", "smooth_labels", "save_model", "within", "report")
        if any(arguments.take(*of_clusters).values()):
            raise typer.BadParameter("--no-clusters embeds alone; leave out what is of clusters, reports and models")
        arguments = Arguments("cellmodel.tl.embed", arguments)
    content = summarize(arguments.call(files, store.open()), files.written, report)
    show(content, summary_lines(content), json=json)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("cellmodel-demo"),
    arguments: Arguments = arguments_of("cellmodel.demo", "output", home={"type": Path}),
    json: options.Json = False,
) -> None:
    """Build the demo store, cluster and name 700 real blood cells with it, and write the report.

    Example: cellmodel demo --output cellmodel-demo
    """
    from cellmodel.tl._demo import OUTPUT, REPORT, run_demo

    kb, found = run_demo(output, **arguments)
    content = summarize(found["cluster"], str(output / OUTPUT), output / REPORT) | {"store_path": str(kb.folder)}
    for row, named in zip(content["clusters"], found["annotate"].rows(), strict=True):
        row["name"] = named["name"] if json else annotate.shown_name(named)
    show(content, [*summary_lines(content), f"store: {kb.folder}"], json=json)


def summarize(outcome: "CellRun", output: str, report: Path | str | None = None) -> dict[str, Any]:
    """Report what a run read and found."""
    from cellmodel.cluster.structure import Structure
    from cellmodel.tl._run.slots import batch_record, mixing_rows

    cells, result, explanation = outcome.cells, outcome.result, outcome.result.explanation
    content: dict[str, Any] = {
        "input": cells.source,
        "value_kind": str(cells.kind),
        "notes": list(cells.notes),
        "n_cells": cells.matrix.shape[0],
        "n_genes": cells.matrix.shape[1],
        "recipe": result.config.recipe_name,
        "knowledge": result.config.knowledge,
        "seed": result.config.seed,
        "output": output,
        "report": str(report or ""),
        "seconds": result.seconds,
        "quality": cells.quality.record(result.labels, result.names) if cells.quality else {},
    }
    if cells.files:
        content["files"] = [asdict(each) for each in cells.files]
    if result.alignment is not None:
        coverage = result.alignment.coverage
        content |= {
            "store": result.alignment.lineage.store_id,
            "encoder": result.alignment.lineage.encoder_id,
            "share_genes": round(coverage.share_genes, 4),
            "share_hvgs": round(result.share_hvgs or 0.0, 4),
            "share_counts": round(coverage.share_counts, 4),
        }
    if result.sentences is not None:
        content["sentences"] = asdict(result.sentences)
    if result.mixing:
        rows = [{name: _rounded(value) for name, value in row.items()} for row in mixing_rows(result)]
        content["batches"] = batch_record(result) | {"neighbors": rows}
    if result.labels is not None:
        clusters = count_clusters(result.labels, explanation.confidence, names=result.names)
        words = {result.names[one.cluster]: [word.term for word in one.words[:_WORDS]] for one in explanation.words}
        markers = {
            result.names[one.cluster]: [each.name for each in one.markers[:_MARKERS]] for one in explanation.markers
        }
        for row in clusters:
            row |= {"markers": markers.get(row["cluster"], []), "words": words.get(row["cluster"], [])}
        content |= {
            "n_clusters": len(clusters),
            "n_clusters_by": result.n_clusters_by,
            "structure": {name: _rounded(value) for name, value in asdict(result.structure or Structure()).items()},
            "clusters": clusters,
            "neighbor_agreement": {row.knowledge: round(row.neighbor_agreement, 4) for row in explanation.knowledge},
        }
    return content


def _rounded(value: Any) -> Any:
    """Round a fraction; one that is not defined is None."""
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else round(value, 4)


def count_clusters(labels: Any, confidence: Any, *, names: Sequence[str]) -> list[dict[str, Any]]:
    """Count the cells of each cluster, and give their mean confidence; None where there are none."""
    rows = []
    for cluster, name in enumerate(names):
        inside = labels == cluster
        n_cells = int(inside.sum())
        mean = round(float(confidence[inside].mean()), 3) if n_cells else None
        rows.append({"cluster": name, "n_cells": n_cells, "confidence": mean})
    return rows


def summary_lines(content: dict[str, Any]) -> Iterator[str]:
    """Lines of what :func:`summarize` gave; what a user must know first, first."""
    from cellmodel.cluster.structure import structure_notes

    if note := content.get("batches", {}).get("note"):
        yield from (note, "")
    yield from (f"note: {one}" for one in content.get("quality", {}).get("notes", ()))
    shown = ("input", "value_kind", "store", "encoder", "n_clusters")
    yield from (f"{key}: {content[key]}" for key in shown if key in content)
    yield from (f"note: {one}" for one in structure_notes(content.get("structure")))
    if "share_genes" in content:
        yield (
            f"text for {content['share_genes']:.1%} of the genes, {content['share_hvgs']:.1%} of the highly "
            f"variable ones, {content['share_counts']:.1%} of the counts"
        )
    if "clusters" in content:
        named = {"name": "name"} if any("name" in row for row in content["clusters"]) else {}
        columns: Columns = {
            "cluster": "cluster",
            **named,
            "cells": "n_cells",
            "confidence": "confidence",
            "markers": "markers",
            "words": lambda row: ", ".join(row["words"]),
        }
        yield from ("", *table(columns, content["clusters"]))
    if content.get("neighbor_agreement"):
        agreement = content["neighbor_agreement"].items()
        yield from ("", *table(("text view by", "neighbors in the same cluster"), agreement))
    if content.get("batches"):
        yield from ("", *table(_MIXING, content["batches"]["neighbors"]))
    if content.get("sentences"):
        yield from _sentence_lines(content["sentences"])
    yield from ("", *(f"{key}: {content[key]}" for key in ("output", "report") if content[key]))


_MIXING: Columns = {
    "cluster": "cluster",
    "cells": "n_cells",
    "largest batch": lambda row: f"{row['batch']} ({row['share']:.0%})",
    "same-batch neighbors before": "before",
    "after": "after",
    "if mixed": "if_mixed",
}
_AGREEMENT: Columns = {
    "pooled, beside encoded": "pooled",
    "rank correlation of cosines": "similarity",
    "same 15 nearest cells": "neighbor_overlap",
}
_SENTENCES: Columns = {
    "cluster": lambda row: str(row["cluster"]),
    "pooled with encoded": "cosine",
    "with other clusters": "cosine_others",
    "sentence": lambda row: row["genes"][:5],
}


def _sentence_lines(content: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield (
        f"sentences read: {content['n_sentences']:,}, of which {content['n_encoded']:,} now; the encoder reads "
        f"{content['share_read']:.0%} of their tokens"
    )
    if content["agreement"]:
        yield from table(_AGREEMENT, content["agreement"])
    if content["clusters"]:
        yield from ("", *table(_SENTENCES, content["clusters"]))


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
