"""Options that several commands share, and groups of them: a dataclass whose fields are options."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

import typer

import genekb
from cellmodel.core import config as settings
from cellmodel.core.config import check_device
from genekb.files.endings import CELLS, ENDINGS, PLOT, REPORT, TABLE
from genekb_cellmodel_cli.app.signature import OptionsOf, wrong_usage

if TYPE_CHECKING:
    from cellmodel.io.cells import ReadConfig
    from cellmodel.tl import CellFiles as FilesOfCells
    from genekb.builder.engine import EngineConfig
    from genekb.net.retry import RetryPolicy

RECIPES: Final = "RECIPE"  # the names of all recipes take its place where the help of a command shows them


def complete_recipe(incomplete: str) -> list[str]:
    """Names of the recipes, plug-ins' too, that begin with a text."""
    from cellmodel.recipes.registry import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


def check_recipe(value: str) -> str:
    """Take the name of a recipe; one that none has is wrong usage."""
    from cellmodel.core.errors import UnknownName
    from cellmodel.recipes.registry import check_name

    with wrong_usage(UnknownName):
        return check_name(value)


def check_seed(seed: int) -> int:
    """Take a seed that a file can hold."""
    with wrong_usage():
        settings.check_seed(seed)
    return seed


def parse_n_clusters(text: str) -> int | None:
    """Read a number of clusters: a number >= 1, or None for auto."""
    if text == "auto":
        return None
    if text.isdigit() and int(text) >= 1:
        return int(text)
    raise typer.BadParameter(f"--n-clusters is a number >= 1 or auto, not {text!r}")


def parse_resolution(value: float | None) -> float | None:
    """Take a resolution: a number > 0, or None."""
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter(f"--resolution is a number > 0, not {value:g}")
    return value


def check_train_device(name: str) -> str:
    """Take the name of a device; another is wrong usage."""
    with wrong_usage():
        return check_device(name)


Home = Annotated[Path | None, typer.Option(help="Artifact home; else GENEKB_HOME, else the user's data folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; all else goes to stderr.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all if left out.", min=1)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output file and existing slots.")]
Orthologs = Annotated[
    bool, typer.Option("--orthologs", help="Let symbols of the orthologous gene of another species map to a gene.")
]
GeneKey = Annotated[str | None, typer.Option(help="Column of var with gene names; var_names if left out.")]
MinCoverage = Annotated[
    float, typer.Option(help="Share of the genes that must have a text, in [0, 1].", min=0.0, max=1.0)
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run Python code that came with an encoder's model, where it needs it: such code can do all that you can.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Report what would be done, its time and size; write nothing.")]
LockFile = Annotated[Path | None, typer.Option("--file", help="Lock file; else the project's genekb.lock.")]
Transpose = Annotated[bool, typer.Option("--transpose", help="Rows of a .csv or .tsv are genes, not cells.")]
# in the annotation of a path: the kinds of output of which it has to have an ending
A_TABLE, A_PLOT, A_REPORT, THE_CELLS, TABLE_OR_CELLS = (TABLE,), (PLOT,), (REPORT,), (CELLS,), (TABLE, CELLS)
CellFile = Annotated[Path, typer.Argument(help="Cells: .h5ad, .h5mu, .zarr, 10x .h5 or mtx folder, .csv, .tsv.")]
CellFiles = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Cells: .h5ad, .h5mu, .zarr, 10x .h5 or mtx folder, .csv, .tsv; several files are joined.",
        show_default=False,
    ),
]
SampleSheet = Annotated[
    Path | None,
    typer.Option(
        "--samples", help="Sheet in place of files, .tsv or .csv: columns file, sample, and more (donor, condition)."
    ),
]
SampleKey = Annotated[
    str,
    typer.Option(
        help="Several files: the column of obs with the sample of each cell, or auto: each file is a sample, in a "
        "column `sample`."
    ),
]
ClusteredFile = Annotated[Path, typer.Argument(help="Cells with clusters, for example of `cellmodel cluster`.")]
StoreName = Annotated[str, typer.Argument(help="NAME[@RELEASE], digest or path.")]


def arguments_of(function: str, *without: str, **special: Mapping[str, Any]) -> Any:
    """Give options for the arguments of a function, see :class:`OptionsOf`; a default of :class:`Arguments`."""
    return OptionsOf(function=function, without=without, special={**_SPECIAL, **special})


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How a server is asked."""

    timeout_s: Annotated[float, typer.Option(help="Longest silence of the server, in seconds.", min=1.0)] = 60.0

    def policy(self) -> "RetryPolicy":
        """Give the settings."""
        from genekb.net.retry import RetryPolicy

        return RetryPolicy(**asdict(self))


@dataclass(frozen=True, kw_only=True)
class MaybeStore:
    """A store that a command can do without."""

    kb: Annotated[str | None, typer.Option("--kb", help="Store: NAME[@RELEASE], digest or path.")] = None
    home: Home = None
    trust_remote_code: TrustRemoteCode = False

    def open(self) -> "genekb.Store | None":
        """Open it; None where none was given."""
        if self.kb is None:
            return None
        return genekb.open(self.kb, home=self.home, trust_remote_code=self.trust_remote_code)


@dataclass(frozen=True, kw_only=True)
class Store:
    """The store that a command works with."""

    kb: Annotated[str, typer.Option("--kb", help="Store: NAME[@RELEASE], digest or path.")]
    home: Home = None
    trust_remote_code: TrustRemoteCode = False

    def open(self, name: str | None = None) -> "genekb.Store":
        """Open it, or another one of the same home."""
        return genekb.open(name or self.kb, home=self.home, trust_remote_code=self.trust_remote_code)


@dataclass(frozen=True, kw_only=True)
class NamedStore:
    """The store that a command of `genekb` works with: the first word, or that of --kb."""

    # several words are taken, so that the last ones are those of the arguments behind it
    store: Annotated[
        list[str] | None,
        typer.Argument(help="NAME[@RELEASE], digest or path; or --kb.", metavar="STORE", show_default=False),
    ] = None
    kb: Annotated[str | None, typer.Option("--kb", help="The same as STORE.")] = None
    home: Home = None

    @property
    def is_given(self) -> bool:
        """Whether any store was named."""
        return bool(self.store) or self.kb is not None

    @property
    def name(self) -> str:
        """Its name; wrong usage if there is none, or there are several."""
        given = dict.fromkeys([*(self.store or ()), *([self.kb] if self.kb is not None else [])])
        if len(given) != 1:
            found = f"these are {len(given)}: {', '.join(given)}" if given else "none was given"
            raise typer.BadParameter(f"name one store, as STORE in front of all else or as --kb NAME; {found}")
        return next(iter(given))

    def open(self, name: str | None = None, *, trust_remote_code: bool = False) -> "genekb.Store":
        """Open it, or another one of the same home."""
        return genekb.open(name or self.name, home=self.home, trust_remote_code=trust_remote_code)

    def folder(self) -> Path:
        """Find its folder."""
        from genekb.store.home import find_store

        return find_store(self.name, self.home)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Where in a cell file the values and the gene names are."""

    layer: Annotated[str | None, typer.Option(help="Layer that holds the counts.")] = None
    use_raw: Annotated[bool, typer.Option("--use-raw", help="Take .raw instead of X.")] = False
    gene_key: GeneKey = None
    values: Annotated[Literal["auto", "counts", "linear", "log1p"], typer.Option(help="What the values are.")] = "auto"

    def config(self) -> "ReadConfig":
        """Give the settings; choices that exclude one another are wrong usage."""
        from cellmodel.io.cells import ReadConfig

        with wrong_usage():
            return ReadConfig(**asdict(self))


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Who does work that can be split: this process, or workers of Ray."""

    engine: Annotated[
        Literal["local", "ray"], typer.Option("--engine", help="Who does the work: this process, or workers of Ray.")
    ] = "local"
    workers: Annotated[
        int | None, typer.Option(help="Workers of --engine ray; by GPUs, else CPUs, if left out.", min=1)
    ] = None
    stall_timeout_s: Annotated[
        float,
        typer.Option(
            "--stall-timeout-s", help="Seconds in which nothing is finished after which --engine ray gives up."
        ),
    ] = 900.0
    ray_address: Annotated[str | None, typer.Option(help="Ray cluster; else RAY_ADDRESS, else this machine alone.")] = (
        None
    )

    def config(self) -> "EngineConfig":
        """Give the settings; choices that exclude one another are wrong usage."""
        from genekb.builder.engine import EngineConfig

        chosen = {field.name: getattr(self, field.name) for field in fields(Engine)}
        with wrong_usage():
            return EngineConfig(name=chosen.pop("engine"), **chosen)


@dataclass(frozen=True, kw_only=True)
class CellsOut:
    """Where annotated cells are written: to another file, or into their own."""

    what: ClassVar[str] = "the annotated cells"
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Annotated cells to write: .h5ad or .zarr.", show_default=False),
        THE_CELLS,
    ] = None
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place", "-i", help="Write into the input, .h5ad or .zarr, which is replaced when all is done."
        ),
    ] = False

    def files(self, *paths: Path, is_needed: bool = True, **more: Any) -> "FilesOfCells":
        """Give the cells of files, and where they go; a choice that is missing, or excludes another, is wrong usage.

        ``is_needed``: whether they have to go anywhere.
        """
        from cellmodel.tl import CellFiles as FilesOfCells

        if self.output is not None and self.in_place:
            raise typer.BadParameter("--output and --in-place each say where the cells go; give one")
        if is_needed and self.output is None and not self.in_place:
            raise typer.BadParameter(f"give --output FILE for {self.what}, or --in-place to write into the input")
        if self.in_place and (len(paths) != 1 or paths[0].suffix not in ENDINGS[CELLS]):
            what = (
                f"{len(paths) or 'several'} files"
                if len(paths) != 1
                else f"{paths[0].name}, which is no .h5ad or .zarr"
            )
            raise typer.BadParameter(f"--in-place cannot write into {what}; give --output FILE")
        return FilesOfCells(paths, output=self.output, in_place=self.in_place, **more)


@dataclass(frozen=True, kw_only=True)
class TableOrCellsOut(CellsOut):
    """The same, or a table of the result."""

    what: ClassVar[str] = "a table (.tsv, .csv) or the annotated cells (.h5ad, .zarr)"
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Table to write, .tsv or .csv, or annotated cells, .h5ad or .zarr.",
            show_default=False,
        ),
        TABLE_OR_CELLS,
    ] = None  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CellsOrFolderOut(CellsOut):
    """The same, or a folder for the annotated cells of several files."""

    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Annotated cells to write: .h5ad or .zarr; of several files a folder.",
            show_default=False,
        ),
    ] = None  # fmt: skip


def check_integration(value: str | None) -> str | None:
    """Take the name of an integration; one that none has is wrong usage."""
    if value is None:
        return None
    from cellmodel.core.errors import UnknownName
    from cellmodel.pp.integrate import check_name

    with wrong_usage(UnknownName):
        return check_name(value)


_SPECIAL: Final[Mapping[str, Mapping[str, Any]]] = {  # what an option has that its function does not say
    "random_state": {"names": ("--seed",), "callback": check_seed},
    "recipe": {"metavar": RECIPES, "callback": check_recipe, "autocompletion": complete_recipe},
    "n_clusters": {"default": "auto", "callback": parse_n_clusters},
    "resolution": {"callback": parse_resolution},
    "within": {"metavar": "COLUMN=CLUSTER"},
    "device": {"callback": check_train_device},
    "integration": {"callback": check_integration},
    "min_coverage": {"min": 0.0, "max": 1.0},
    "harmony_theta": {"min": 0.0, "max": settings.MOST_THETA},
    "permutations": {"min": 1},
    "report": {"written": A_REPORT},
    "gmt": {"type": list[Path], "default": None, "help": "Gene sets, .gmt; repeatable."},
    "skip": {"type": str, "default": "", "show_default": False},
    "overwrite": {"help": "Replace existing output files and slots."},
}


@dataclass(frozen=True, kw_only=True)
class OutOfCore:
    """Whether the matrix of the cells is read in blocks."""

    out_of_core: Annotated[
        Literal["auto", "yes", "no"],
        typer.Option(help="Leave the matrix in its file and read some cells at a time; auto: where it is large."),
    ] = "auto"
    work_dir: Annotated[
        Path | None, typer.Option(help="Out of core: folder for the stages of the run; beside the output.")
    ] = None
