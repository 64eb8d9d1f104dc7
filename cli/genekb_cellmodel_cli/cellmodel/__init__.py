"""The command `cellmodel`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cellmodel.core.choices import HeadName, Sentences
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.choices import parse_n_clusters, read_config, training_place
from genekb_cellmodel_cli.app.output import note, print_json, print_lines, print_table, progress_bar
from genekb_cellmodel_cli.app.running import QuickGroup, common, run
from genekb_cellmodel_cli.cellmodel import annotate as cellmodel_annotate
from genekb_cellmodel_cli.cellmodel import attribute as cellmodel_attribute
from genekb_cellmodel_cli.cellmodel import bench as cellmodel_bench
from genekb_cellmodel_cli.cellmodel import classify as cellmodel_classify
from genekb_cellmodel_cli.cellmodel import compare as cellmodel_compare
from genekb_cellmodel_cli.cellmodel import plot as cellmodel_plot
from genekb_cellmodel_cli.cellmodel import predict as cellmodel_predict
from genekb_cellmodel_cli.cellmodel import search as cellmodel_search
from genekb_cellmodel_cli.cellmodel import share as cellmodel_share
from genekb_cellmodel_cli.cellmodel.summary import print_summary, summarise

if TYPE_CHECKING:
    from cellmodel.core.config import RunConfig
    from genekb import Store

app = typer.Typer(
    name="cellmodel",
    help="Single cells that carry the meaning of their genes.",
    cls=QuickGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would take half of the time of --help
    callback=common,
)

Cells = Annotated[Path, typer.Argument(help="Cells: .h5ad, .zarr, 10x .h5 or mtx folder, .csv, .tsv.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Annotated cells to write: .h5ad or .zarr.")]
Report = Annotated[Path | None, typer.Option(help="HTML report to write.", show_default=False)]
Head = Annotated[
    HeadName | None,
    typer.Option("--head", help="How the embedding is cut; the recipe's own way if left out.", show_default=False),
]
Spatial = Annotated[bool, typer.Option("--spatial", help='Use the coordinates in obsm["spatial"] as a graph.')]
LowData = Annotated[
    bool, typer.Option("--low-data", help="For few cells: weigh genes by how much they tell, also by their texts.")
]
SmoothLabels = Annotated[
    bool, typer.Option("--smooth-labels", help="With --spatial: the majority around a cell decides its cluster.")
]
OutOfCore = Annotated[
    Literal["auto", "yes", "no"],
    typer.Option(help="Leave the matrix in its file and read some cells at a time; auto: where it is large."),
]
WorkDir = Annotated[
    Path | None,
    typer.Option(help="Out of core: folder for the stages of the run; beside the output.", show_default=False),
]
SentenceReading = Annotated[
    Sentences,
    typer.Option(
        help="Path 2: gene vectors pooled by rank; the same, compared with sentences of 1,000 cells that the encoder "
        "reads; or every cell's sentence read (slow)."
    ),
]


def _config(**choices: Any) -> "RunConfig":
    from cellmodel.core.config import RunConfig, SemanticsConfig, SpatialConfig

    semantics = SemanticsConfig(sentences=choices.pop("sentences", "pooled"))
    is_spatial, smooth_labels = choices.pop("spatial"), choices.pop("smooth_labels", False)
    if smooth_labels and not is_spatial:
        raise typer.BadParameter("--smooth-labels needs coordinates; give --spatial too")
    spatial = SpatialConfig(smooth_labels=smooth_labels) if is_spatial else None
    return RunConfig(**choices, semantics=semantics, spatial=spatial)


def _open(kb: str | None, home: Path | None, knowledge: str, *, trust_remote_code: bool) -> "Store | None":
    from genekb import open as open_store

    if kb is None and knowledge == "none":
        return None
    if kb is None:
        raise typer.BadParameter(f"--knowledge {knowledge} needs a store: --kb NAME, or --knowledge none")
    return open_store(kb, home=home, trust_remote_code=trust_remote_code)


def _prepare(threads: int | None) -> None:
    """Set the number of threads before any numerical library is loaded."""
    if threads:
        import os

        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)


def _command_line() -> str:
    """Give what was typed, as it may be recorded."""
    import shlex

    from genekb.core.addresses import without_secrets

    return shlex.join(["cellmodel", *map(without_secrets, sys.argv[1:])])


@app.command()
def cluster(
    path: Cells,
    output: Output,
    kb: options.KbOptional = None,
    encoder: options.Encoder = None,
    recipe: options.Recipe = "fused",
    n_clusters: Annotated[str, typer.Option(help="A number, or auto to estimate it without labels.")] = "auto",
    head: Head = None,
    knowledge: options.Knowledge = "real",
    sentences: SentenceReading = "pooled",
    spatial: Spatial = False,
    smooth_labels: SmoothLabels = False,
    low_data: LowData = False,
    min_coverage: options.MinCoverage = 0.3,
    orthologs: options.Orthologs = False,
    layer: options.Layer = None,
    use_raw: options.UseRaw = False,
    gene_key: options.GeneKey = None,
    values: options.Values = "auto",
    transpose: options.Transpose = False,
    report: Report = None,
    save_model: Annotated[
        Path | None, typer.Option(help="Folder to keep the model in, for `cellmodel predict`.", show_default=False)
    ] = None,
    key_added: options.KeyAdded = "cellmodel",
    out_of_core: OutOfCore = "auto",
    work_dir: WorkDir = None,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    device: options.TrainDevice = "cpu",
    engine: options.TrainEngine = "local",
    workers: options.TrainWorkers = None,
    threads: options.Threads = None,
    trust_remote_code: options.TrustRemoteCode = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Cluster cells, and say by genes and words what each cluster is.

    Example: cellmodel cluster cells.h5ad --kb human --n-clusters auto -o out.h5ad --report report.html
    """
    _prepare(threads)
    from cellmodel.io.outputs import WriteConfig
    from cellmodel.tl._job import StreamConfig, run_file

    config = _config(
        recipe=recipe,
        n_clusters=parse_n_clusters(n_clusters),
        head=head,
        knowledge=knowledge,
        sentences=sentences,
        spatial=spatial,
        smooth_labels=smooth_labels,
        low_data=low_data,
        encoder=encoder,
        use_orthologs=orthologs,
        min_coverage=min_coverage,
        seed=seed,
        compute=training_place(device, engine, workers),
    )
    with progress_bar() as progress:
        outcome = run_file(
            path,
            _open(kb, home, knowledge, trust_remote_code=trust_remote_code),
            config,
            read=read_config(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values, transpose=transpose),
            write=WriteConfig(
                output=output,
                report=report,
                key_added=key_added,
                overwrite=overwrite,
                command=_command_line(),
                model=save_model,
            ),
            progress=progress,
            stream=StreamConfig(mode=out_of_core, work=work_dir),
        )
    content = summarise(outcome, output, report)
    print_json(content) if json else print_summary(content)


@app.command()
def embed(
    path: Cells,
    output: Output,
    kb: options.KbOptional = None,
    encoder: options.Encoder = None,
    recipe: options.Recipe = "fused",
    knowledge: options.Knowledge = "real",
    sentences: SentenceReading = "pooled",
    spatial: Spatial = False,
    low_data: LowData = False,
    min_coverage: options.MinCoverage = 0.3,
    orthologs: options.Orthologs = False,
    layer: options.Layer = None,
    use_raw: options.UseRaw = False,
    gene_key: options.GeneKey = None,
    values: options.Values = "auto",
    transpose: options.Transpose = False,
    key_added: options.KeyAdded = "cellmodel",
    out_of_core: OutOfCore = "auto",
    work_dir: WorkDir = None,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    device: options.TrainDevice = "cpu",
    engine: options.TrainEngine = "local",
    workers: options.TrainWorkers = None,
    threads: options.Threads = None,
    trust_remote_code: options.TrustRemoteCode = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Embed cells in the joint space of expression and text, without clustering them.

    Example: cellmodel embed cells.h5ad --kb human -o out.h5ad
    """
    _prepare(threads)
    from cellmodel.io.outputs import WriteConfig
    from cellmodel.tl._job import StreamConfig, run_file

    config = _config(
        recipe=recipe,
        knowledge=knowledge,
        sentences=sentences,
        spatial=spatial,
        low_data=low_data,
        encoder=encoder,
        use_orthologs=orthologs,
        min_coverage=min_coverage,
        seed=seed,
        compute=training_place(device, engine, workers),
    )
    with progress_bar() as progress:
        outcome = run_file(
            path,
            _open(kb, home, knowledge, trust_remote_code=trust_remote_code),
            config,
            read=read_config(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values, transpose=transpose),
            write=WriteConfig(output=output, key_added=key_added, overwrite=overwrite, command=_command_line()),
            with_clusters=False,
            progress=progress,
            stream=StreamConfig(mode=out_of_core, work=work_dir),
        )
    content = summarise(outcome, output, None)
    print_json(content) if json else print_summary(content)


@app.command()
def report(
    path: Annotated[Path, typer.Argument(help="Cells with clusters, of `cellmodel cluster` or any other program.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")],
    cluster_key: Annotated[
        str | None,
        typer.Option(help="Column of obs with the clusters; that of --key-added if left out.", show_default=False),
    ] = None,
    layer: options.Layer = None,
    use_raw: options.UseRaw = False,
    gene_key: options.GeneKey = None,
    values: options.Values = "auto",
    key_added: options.KeyAdded = "cellmodel",
    overwrite: options.Overwrite = False,
    other_store: options.OtherStore = False,
) -> None:
    """Write the HTML report of the clusters in a file, whoever made them.

    Example: cellmodel report out.h5ad --cluster-key leiden -o report.html
    """
    from cellmodel.pl._report.collect import report_file

    read = read_config(layer=layer, use_raw=use_raw, gene_key=gene_key, values=values)
    report_file(
        path,
        output,
        cluster_key=cluster_key,
        key_added=key_added,
        read=read,
        overwrite=overwrite,
        other_store=other_store,
    )
    print_lines([f"report: {output}"])


@app.command("eval")
def evaluate(
    path: Annotated[Path, typer.Argument(help="Cells with clusters and an annotator's labels.")],
    truth: Annotated[str, typer.Option(help="Column of obs with the annotator's labels.")],
    pred: Annotated[str, typer.Option(help="Column of obs with the clusters.")] = "cellmodel",
    json: options.Json = False,
) -> None:
    """Score clusters against labels. Labels are read here and nowhere else.

    Example: cellmodel eval out.h5ad --truth cell_type --json
    """
    from dataclasses import asdict

    from cellmodel.bench.metrics import evaluate_file

    scores = asdict(evaluate_file(path, truth=truth, pred=pred))
    print_json(scores) if json else print_table(("metric", "value"), list(scores.items()))


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("cellmodel-demo"),
    model: Annotated[str, typer.Option(help="Encoder of the demo store, see `genekb models`.")] = "auto",
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Build the demo store, cluster 700 real blood cells with it, and write the report.

    Example: cellmodel demo --output cellmodel-demo
    """
    from cellmodel.tl._demo import demo_outputs, run_demo
    from genekb import BuildConfig, build, read_demo_table
    from genekb import open as open_store

    write = demo_outputs(output, overwrite=overwrite)
    note("building the demo store ...")
    built = build(read_demo_table(), BuildConfig(name="demo", models=(model,)), home=home)
    note("clustering 700 blood cells (pbmc68k_reduced) ...")
    outcome = run_demo(open_store(built.folder), write, seed=seed)
    content = summarise(outcome, output / "pbmc.h5ad", output / "report.html") | {"store_path": str(built.folder)}
    if json:
        print_json(content)
        return
    print_summary(content)
    print_lines([f"store: {built.folder}"])


cellmodel_annotate.register(app)
cellmodel_attribute.register(app)
cellmodel_bench.register(app)
cellmodel_classify.register(app)
cellmodel_compare.register(app)
cellmodel_plot.register(app)
cellmodel_predict.register(app)
cellmodel_search.register(app)
cellmodel_share.register(app)


def main() -> None:
    """Run `cellmodel`."""
    run(app, "cellmodel")
