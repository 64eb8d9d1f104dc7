"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cellmodel.core import choices
from genekb_cellmodel_cli.app.choices import RECIPES, check_recipe, check_seed, complete_recipe

Home = Annotated[
    Path | None,
    typer.Option(help="Artifact home; else GENEKB_HOME, else the user's data folder.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; all else goes to stderr.")]
Seed = Annotated[int, typer.Option(help="The run's one seed.", callback=check_seed)]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all if left out.", min=1, show_default=False)]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where encoders run.")]
TrainDevice = Annotated[
    str, typer.Option("--device", help="Where models are trained: auto, cpu, cuda or cuda:N; cpu repeats to the bit.")
]
TrainEngine = Annotated[
    Literal["local", "ddp", "ray"],
    typer.Option("--engine", help="Train in this process, in several on this machine (ddp), or on a Ray cluster."),
]
TrainWorkers = Annotated[
    int | None, typer.Option("--workers", help="Processes that train; 2 with ddp or ray.", min=1, show_default=False)
]
Recipe = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="How cells are clustered.",
        metavar=RECIPES,  # QuickGroup puts the names in its place
        callback=check_recipe,
        autocompletion=complete_recipe,
    ),
]
Knowledge = Annotated[
    choices.Knowledge,
    typer.Option(help="Gene vectors as they are, dealt out anew, drawn at random, or none: shows what text adds."),
]
Kb = Annotated[str, typer.Option("--kb", help="Store: NAME[@RELEASE], digest or path.", show_default=False)]
KbOptional = Annotated[
    str | None, typer.Option("--kb", help="Store: NAME[@RELEASE], digest or path.", show_default=False)
]
Encoder = Annotated[
    str | None, typer.Option(help="Encoder of the store; its first one if left out.", show_default=False)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output file and existing slots.")]
OtherStore = Annotated[
    bool,
    typer.Option(
        "--other-store", help="Go on with a store or encoder other than the one that the file records; both are noted."
    ),
]
Orthologs = Annotated[
    bool, typer.Option("--orthologs", help="Let symbols of the orthologous gene of another species stand for a gene.")
]
Layer = Annotated[str | None, typer.Option(help="Layer that holds the counts.", show_default=False)]
UseRaw = Annotated[bool, typer.Option("--use-raw", help="Take .raw instead of X.")]
GeneKey = Annotated[
    str | None, typer.Option(help="Column of var with gene names; var_names if left out.", show_default=False)
]
Values = Annotated[Literal["auto", "counts", "linear", "log1p"], typer.Option(help="What the values are.")]
KeyAdded = Annotated[str, typer.Option(help="Name under which results are stored.")]
MinCoverage = Annotated[
    float, typer.Option(help="Share of the genes that must have a text, in [0, 1].", min=0.0, max=1.0)
]
Transpose = Annotated[bool, typer.Option("--transpose", help="Rows of a .csv or .tsv are genes, not cells.")]
Taxon = Annotated[
    list[str] | None, typer.Option(help="Species by name or NCBI taxonomy id; repeatable.", show_default=False)
]
Release = Annotated[str | None, typer.Option(help="Release of the source; its folder's name if left out.")]
Names = Annotated[
    Path | None, typer.Option(help="Source that gives symbols their GeneIDs, where --source has symbols alone.")
]
BaseUrl = Annotated[str | None, typer.Option(help="Endpoint of an API; else OPENAI_BASE_URL, else OpenAI's.")]
ComputeDtype = Annotated[
    Literal["auto", "float32", "bfloat16"], typer.Option(help="auto takes bfloat16 where the hardware has it.")
]
Online = Annotated[bool, typer.Option("--online", help="Allow the download of an encoder's weights.")]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run Python code that came with an encoder's model, where it needs it: such code can do all that you can.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Report what would be done, its time and size; write nothing.")]
EngineName = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="Who encodes: this process, or workers of Ray.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="Workers of --engine ray; by GPUs, else CPUs, if left out.", min=1, show_default=False),
]
StallTimeout = Annotated[
    float, typer.Option("--stall-timeout-s", help="Seconds without a finished shard after which --engine ray gives up.")
]
RayAddress = Annotated[
    str | None, typer.Option(help="Ray cluster; else RAY_ADDRESS, else this machine alone.", show_default=False)
]
Timeout = Annotated[float, typer.Option(help="Longest silence of the server, in seconds.", min=1.0)]
LockFile = Annotated[
    Path | None, typer.Option("--file", help="Lock file; else the project's genekb.lock.", show_default=False)
]
