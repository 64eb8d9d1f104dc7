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
from cellmodel.core.config import HeadName, RunConfig, SemanticsConfig, Sentences, SpatialConfig
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import parse_n_clusters, parse_resolution, wrong_usage
from genekb_cellmodel_cli.app.output import Columns, note, show, table

if TYPE_CHECKING:
    from cellmodel.tl._cluster import CellRun
    from cellmodel.tl._run.task import Task
    from genekb import Store

Found = TypeVar("Found")
_MARKERS, _WORDS = 5, 4  # of a cluster that are shown


@dataclass(frozen=True, kw_only=True)
class Views(options.GeneMatching):
    """Settings of what recipes see of the cells."""

    batches: options.Batches
    knowledge: options.Knowledge = "real"
    sentences: Annotated[
        Sentences,
        typer.Option(
            help="Path 2: gene vectors pooled by rank; the same, compared with sentences of 1,000 cells that the "
            "encoder reads; or every cell's sentence read (slow)."
        ),
    ] = "pooled"
    spatial: Annotated[bool, typer.Option("--spatial", help='Use the coordinates in obsm["spatial"] as a graph.')] = (
        False
    )
    low_data: Annotated[
        bool, typer.Option("--low-data", help="For few cells: weigh genes by how informative they are, also by text.")
    ] = False

    use_rep: Annotated[
        str | None,
        typer.Option(help="Key of obsm with an embedding, such as X_scVI, in place of the principal components."),
    ] = None

    def config(self, *, smooth_labels: bool = False, **more: Any) -> RunConfig:
        """Give the settings of a run."""
        if self.low_data and self.use_rep:
            raise typer.BadParameter("--low-data weighs genes in the components, which --use-rep replaces")
        if smooth_labels and not self.spatial:
            raise typer.BadParameter("--smooth-labels needs coordinates; give --spatial too")
        return super().config(
            knowledge=self.knowledge,
            semantics=SemanticsConfig(sentences=self.sentences),
            spatial=SpatialConfig(smooth_labels=smooth_labels) if self.spatial else None,
            low_data=self.low_data,
            batch=self.batches.batch(),
            use_rep=self.use_rep,
            **more,
        )


@dataclass(frozen=True, kw_only=True)
class Run(Views):
    """Settings of a run, with clusters or without."""

    recipe: options.Recipe = "fused"


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
    run: Run
    read: options.TableReading
    slots: options.Slots
    out_of_core: options.OutOfCore
    training: options.Training
    sample_key: options.SampleKey = "auto"
    json: options.Json = False

    @property
    def output(self) -> Path:
        """The file to write."""
        return self.out.file(*self.paths)

    def do(
        self,
        make_task: "Callable[[Store | None, RunConfig], Task[Found]]",
        settings: Mapping[str, Any],
        *,
        report: Path | None = None,
        model: Path | None = None,
    ) -> "Found":
        """Do a task with further settings of the run, and write what was found.

        ``make_task``: makes it of the store and the settings.
        """
        self.training.set_threads()
        from cellmodel.io.concat import JoinConfig
        from cellmodel.tl._run.files import CellFiles, run_on_files

        config = self.run.config(**settings, recipe=self.run.recipe, device=self.training.device)
        kb = self.store.open_for(self.run.knowledge)
        write = self.slots.write_cells(self.out, *self.paths, report=report, model=model, command=_command_line())
        task = make_task(kb, config)
        files = CellFiles(
            paths=tuple(self.paths),
            read=self.read.config(),
            join=JoinConfig(sample_key=self.sample_key, overwrite=write.overwrite),
            kb=kb,
            use_orthologs=config.use_orthologs,
        )
        return run_on_files(files, task, write=write, stream=self.out_of_core.config())

    def print(self, found: "CellRun", *, report: Path | None = None) -> None:
        """Print what a run found."""
        content = summarise(found, self.output, report)
        show(content, summary_lines(content), json=self.json)


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """How many clusters there are, and how they are cut."""

    n_clusters: Annotated[str, typer.Option(help="A number, or auto to estimate it without labels.")] = "auto"
    resolution: Annotated[
        float | None,
        typer.Option(
            help="In place of --n-clusters: as many as there are Leiden communities at this resolution (> 0); higher "
            "gives more clusters."
        ),
    ] = None
    head: Annotated[
        HeadName | None, typer.Option(help="How the embedding is cut; the recipe's own way if left out.")
    ] = None
    smooth_labels: Annotated[
        bool, typer.Option("--smooth-labels", help="With --spatial: the majority around a cell decides its cluster.")
    ] = False

    def settings(self) -> dict[str, Any]:
        """Give the settings of a run; choices that exclude one another are wrong usage."""
        if self.resolution is not None and self.n_clusters != "auto":
            raise typer.BadParameter(
                "--resolution and --n-clusters each say how many clusters there are; give --resolution for finer or "
                "coarser ones, or --n-clusters for a number"
            )
        return {
            "smooth_labels": self.smooth_labels,
            "n_clusters": parse_n_clusters(self.n_clusters),
            "resolution": parse_resolution(self.resolution),
            "head": self.head,
        }


def cluster(
    job: RunJob,
    clusters: Clusters,
    within: Annotated[
        str | None,
        typer.Option(
            help="Cluster some clusters of an earlier run again: COLUMN=CLUSTER[,CLUSTER], such as cellmodel=3, gives "
            "3.0, 3.1, ...; others keep theirs.",
            metavar="COLUMN=CLUSTER",
        ),
    ] = None,
    no_clusters: Annotated[
        bool, typer.Option("--no-clusters", help="Only embed the cells by expression and text.")
    ] = False,
    report: options.Report = None,
    save_model: options.SaveModel = None,
) -> None:
    """Cluster cells, and say by genes and words what each cluster is.

    Example: cellmodel cluster cells.h5ad --kb human --n-clusters auto -o out.h5ad --report report.html
    """
    settings = clusters.settings()
    job.training.set_threads()
    from cellmodel.tl._cluster import ClusterJob
    from cellmodel.tl._run.within import parse_within

    part = None
    if within is not None:
        with wrong_usage():
            part = parse_within(within)
    if no_clusters:
        if within or report or save_model or clusters != Clusters():
            raise typer.BadParameter("--no-clusters embeds alone; leave out what is of clusters, reports and models")
        job.print(job.do(partial(ClusterJob, with_clusters=False), {}))
        return
    found = job.do(partial(ClusterJob, within=part), settings, report=report, model=save_model)
    job.print(found, report=report)


def _command_line() -> str:
    """Give what was typed, as it may be recorded."""
    import shlex

    from genekb.core.addresses import without_secrets

    return shlex.join(["cellmodel", *map(without_secrets, sys.argv[1:])])


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("cellmodel-demo"),
    model: Annotated[str, typer.Option(help="Encoder of the demo store, see `genekb models`.")] = "auto",
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
    content = summarise(found["cluster"], write.output, write.report) | {"store_path": str(built.folder)}
    add_names(content, found)
    show(content, [*summary_lines(content), f"store: {built.folder}"], json=json)


def add_names(content: dict[str, Any], found: Mapping[str, Any]) -> None:
    """Add the names of the clusters to their rows."""
    for row, one in zip(content["clusters"], found["annotate"].rows(), strict=True):
        row["name"] = one["name"]


def summarise(outcome: "CellRun", output: Path, report: Path | None = None) -> dict[str, Any]:
    """Report what a run read and found."""
    from dataclasses import asdict

    from cellmodel.cluster.structure import Structure
    from cellmodel.tl._run.slots import batch_record, mixing_rows

    cells, result = outcome.cells, outcome.result
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
        clusters = count_clusters(result.labels, result.confidence, names=result.names)
        words = {result.names[one.cluster]: [word.term for word in one.words[:_WORDS]] for one in result.words}
        markers = {result.names[one.cluster]: [each.name for each in one.markers[:_MARKERS]] for one in result.markers}
        for row in clusters:
            row |= {"markers": markers.get(row["cluster"], []), "words": words.get(row["cluster"], [])}
        content |= {
            "n_clusters": len(clusters),
            "n_clusters_by": result.n_clusters_by,
            "structure": {name: _rounded(value) for name, value in asdict(result.structure or Structure()).items()},
            "clusters": clusters,
            "neighbour_agreement": {row.knowledge: round(row.neighbour_agreement, 4) for row in result.knowledge},
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
    """Lines of what :func:`summarise` gave; what a user must know first, first."""
    from cellmodel.cluster.structure import structure_notes

    if note := content.get("batches", {}).get("note"):
        yield from (note, "")
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
    if content.get("neighbour_agreement"):
        agreement = content["neighbour_agreement"].items()
        yield from ("", *table(("text view by", "neighbours in the same cluster"), agreement))
    if content.get("batches"):
        yield from ("", *table(_MIXING, content["batches"]["neighbors"]))
    if content.get("sentences"):
        yield from _sentence_lines(content["sentences"])
    yield from ("", *(f"{key}: {content[key]}" for key in ("output", "report") if content[key]))


_MIXING: Columns = {
    "cluster": "cluster",
    "cells": "n_cells",
    "largest batch": lambda row: f"{row['batch']} ({row['share']:.0%})",
    "same-batch neighbours before": "before",
    "after": "after",
    "if mixed": "if_mixed",
}
_AGREEMENT: Columns = {
    "pooled, beside encoded": "pooled",
    "rank correlation of cosines": "similarity",
    "same 15 nearest cells": "neighbour_overlap",
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
