"""The commands `cellmodel cluster` and `demo`, and what they report of a run."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

import genekb
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of, wrong_usage
from genekb_cellmodel_cli.app.output import Columns, note, show, table
from genekb_cellmodel_cli.app.signature import Arguments

if TYPE_CHECKING:
    from cellmodel.core.config import RunConfig
    from cellmodel.tl._cluster import CellRun
    from cellmodel.tl._run.task import Task
    from genekb import Store

Found = TypeVar("Found")
_MARKERS, _WORDS = 5, 4  # of a cluster that are shown


@dataclass(frozen=True, kw_only=True)
class RunStore(options.MaybeStore):
    """The store of a run, which only a run without knowledge can do without."""

    trust_remote_code: options.TrustRemoteCode = False

    def open_for(self, knowledge: str) -> "Store | None":
        """Open it; None where neither it nor knowledge is asked for."""
        if self.kb is None and knowledge != "none":
            raise typer.BadParameter(f"--knowledge {knowledge} needs a store: --kb NAME, or --knowledge none")
        return self.open(trust_remote_code=self.trust_remote_code)


@dataclass(frozen=True, kw_only=True)
class RunJob:
    """A run from file to file."""

    paths: options.CellFiles
    out: options.CellsOut
    store: RunStore
    out_of_core: options.OutOfCore
    transpose: options.Transpose = False
    threads: options.Threads = None
    sample_key: options.SampleKey = "auto"
    json: options.Json = False

    @property
    def output(self) -> Path:
        """The file to write."""
        return self.out.file(*self.paths)

    def do(self, make_task: "Callable[[Store | None, RunConfig], Task[Found]]", arguments: Arguments) -> "Found":
        """Do a task with the arguments of its function, and write what was found.

        ``make_task``: makes it of the store and the settings.
        """
        options.set_threads(self.threads)
        from cellmodel.tl._run.task import run_on_file

        outputs = {"report": arguments.pop("report", None), "model": arguments.pop("save_model", None)}
        slots = options.Slots(**arguments.take("key_added", "overwrite"))
        with wrong_usage():
            read, config = arguments.read(transpose=self.transpose), arguments.config()
        kb = self.store.open_for(config.knowledge)
        write = slots.write_cells(self.out, *self.paths, **outputs, command=_command_line())
        task = make_task(kb, config)
        stream = self.out_of_core.config()
        if len(self.paths) == 1 and self.sample_key == "auto":
            return run_on_file(self.paths[0], task, read=read, write=write, stream=stream)
        from cellmodel.io.concat import JoinConfig
        from cellmodel.tl._run.files import CellFiles, run_on_files

        files = CellFiles(
            paths=tuple(self.paths),
            read=read,
            join=JoinConfig(sample_key=self.sample_key, overwrite=write.overwrite),
            kb=kb,
            use_orthologs=config.use_orthologs,
        )
        return run_on_files(files, task, write=write, stream=stream)

    def print(self, found: "CellRun", *, report: Path | None = None) -> None:
        """Print what a run found."""
        content = summarize(found, self.output, report)
        show(content, summary_lines(content), json=self.json)


def cluster(
    job: RunJob,
    arguments: Arguments = arguments_of("cellmodel.tl.cluster"),
    report: options.Report = None,
    no_clusters: Annotated[
        bool, typer.Option("--no-clusters", help="Only embed the cells by expression and text.")
    ] = False,
) -> None:
    """Cluster cells, and describe clusters by markers and keywords.

    Example: cellmodel cluster cells.h5ad --kb human --n-clusters auto -o out.h5ad --report report.html
    """
    options.set_threads(job.threads)
    from cellmodel.tl._cluster import ClusterJob
    from cellmodel.tl._run.within import parse_within

    within = arguments.pop("within")
    with wrong_usage():
        part = None if within is None else parse_within(within)
    of_clusters = ("n_clusters", "resolution", "head", "smooth_labels", "save_model")
    if no_clusters and (within or report or any(arguments[name] for name in of_clusters)):
        raise typer.BadParameter("--no-clusters embeds alone; leave out what is of clusters, reports and models")
    make_task = partial(ClusterJob, with_clusters=False) if no_clusters else partial(ClusterJob, within=part)
    job.print(job.do(make_task, Arguments(arguments | {"report": report})), report=report)


def _command_line() -> str:
    """Give what was typed, as it may be recorded."""
    import shlex

    from genekb.core.addresses import without_secrets

    return shlex.join(["cellmodel", *map(without_secrets, sys.argv[1:])])


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("cellmodel-demo"),
    model: Annotated[str, typer.Option(help="Encoder of the demo store, see `genekb info --models`.")] = "auto",
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Build the demo store, cluster and name 700 real blood cells with it, and write the report.

    Example: cellmodel demo --output cellmodel-demo
    """
    from cellmodel.tl._demo import demo_outputs, run_demo
    from genekb import BuildConfig, build, read_demo_table

    write = demo_outputs(output, overwrite=overwrite)
    note("building the demo store ...")
    built = build(read_demo_table(), BuildConfig(name="demo", models=(model,)), home=home)
    note("clustering and naming 700 blood cells (pbmc68k_reduced) ...")
    found = run_demo(genekb.open(built.folder), write, seed=seed)
    content = summarize(found["cluster"], write.output, write.report) | {"store_path": str(built.folder)}
    add_names(content, found)
    show(content, [*summary_lines(content), f"store: {built.folder}"], json=json)


def add_names(content: dict[str, Any], found: Mapping[str, Any]) -> None:
    """Add the names of the clusters to their rows."""
    for row, one in zip(content["clusters"], found["annotate"].rows(), strict=True):
        row["name"] = one["name"]


def summarize(outcome: "CellRun", output: Path, report: Path | None = None) -> dict[str, Any]:
    """Report what a run read and found."""
    from dataclasses import asdict

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
        "output": str(output),
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
