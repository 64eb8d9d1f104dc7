"""The command `cellmodel mcp`: a server of the Model Context Protocol, whose tools run commands that only read."""

import csv
import io
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from genekb.core.messages import from_shell, printable
from genekb.core.progress import end_progress
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.running import known_fault

if TYPE_CHECKING:
    from mcp.server import MCPServer

_INSTRUCTIONS: Final = (
    "What NCBI writes about genes, and single-cell clusters. Every tool runs a command of genekb or cellmodel with "
    "--json and gives its object; nothing is written. `kb` is a store of list_stores. Files are named relative to the "
    "folder that is served."
)


def mcp(
    folder: Annotated[Path, typer.Argument(help="Folder whose files the tools may read, and no others.")],
    home: options.Home = None,
) -> None:
    """Serve tools that only read to an assistant, on stdin and stdout, by the Model Context Protocol.

    Example: cellmodel mcp ~/data
    """
    from genekb.core.plugins import require

    require("mcp", needed_by="cellmodel mcp needs")
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is no folder")
    if home is not None:
        home = home.absolute()
    os.chdir(folder)  # so that files are named, and answers name them, as a command there would
    end_progress()  # it serves until it is ended
    make_server(home).run("stdio")


def make_server(home: Path | None = None) -> "MCPServer[Any]":
    """Make the server of the files of the working directory; ``home``: of the stores."""
    from mcp.server import MCPServer
    from mcp.types import ToolAnnotations

    from genekb import __version__

    server: MCPServer[Any] = MCPServer("cellmodel", version=__version__, instructions=_INSTRUCTIONS)
    tools = Tools(root=Path.cwd().resolve(), home=home)
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    for tool in tools.all():
        server.add_tool(tool, annotations=reads)
    return server


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What an assistant can ask for; the docstrings are what it reads."""

    root: Path  # folder of the files, without links, and the working directory
    home: Path | None
    lock: Any = field(default_factory=threading.Lock)  # one command at a time: all print on one stdout

    def all(self) -> tuple[Callable[..., dict[str, Any]], ...]:
        """List the tools."""
        return (
            self.list_stores,
            self.resolve_genes,
            self.search_genes,
            self.name_gene_sets,
            self.annotate_marker_lists,
            self.name_clusters,
            self.describe_clusters,
            self.search_cells,
        )

    def list_stores(self) -> dict[str, Any]:
        """List the stores of gene texts on this machine, whose names other tools take; as `genekb list --json`."""
        return self._run("genekb", "list")

    def resolve_genes(self, kb: str, genes: list[str] | None = None, file: str = "") -> dict[str, Any]:
        """Say how many gene names a store knows, and which not, as `genekb resolve --json`.

        Give `genes`, or `file`: cells (.h5ad, 10x, ...) or a text file with one name a line.
        """
        with self._input(genes, file, name="genes.txt") as path:
            return self._run("genekb", "resolve", self._kb(kb), args=[path])

    def search_genes(
        self, query: str, kb: str, limit: int = 10, mode: Literal["hybrid", "semantic", "keyword"] = "hybrid"
    ) -> dict[str, Any]:
        """Find genes by the meaning of their texts, the words in them, or both; as `genekb search --json`."""
        return self._run("genekb", "search", self._kb(kb), f"--limit={limit}", f"--mode={mode}", args=[query])

    def name_gene_sets(self, kb: str, sets: dict[str, list[str]] | None = None, file: str = "") -> dict[str, Any]:
        """Name gene sets by the texts of their genes, or say that they have no common theme.

        As `genekb name-set --json`. Give `sets`, genes by the name of their set, or `file`: .gmt, or .tsv/.csv with
        columns set and gene.
        """
        with self._input(sets, file, name="set.csv") as path:
            return self._run("genekb", "name-set", self._kb(kb), args=[path])

    def annotate_marker_lists(
        self,
        kb: str,
        lists: dict[str, list[str]] | None = None,
        file: str = "",
        level: Literal["auto", "fine", "broad"] = "auto",
        tissue: str = "",
    ) -> dict[str, Any]:
        """Name cell types from lists of marker genes, unassigned where the evidence is weak.

        As `cellmodel annotate --marker-lists --json`. Give `lists`, marker genes by cluster, best first, or `file`: a
        table with columns cluster and gene (Seurat's FindAllMarkers, scanpy's rank_genes_groups_df). `tissue`:
        blood,gut,... to choose types of these and those of every tissue.
        """
        with self._input(lists, file, name="cluster.csv") as path:
            words = [f"--marker-lists={path}", f"--level={level}", *([f"--tissue={tissue}"] if tissue else [])]
            found = self._run("cellmodel", "annotate", self._kb(kb), *words)
        return found if file else found | {"input": ""}  # no file that anyone else can read

    def name_clusters(
        self, file: str, kb: str, cluster_key: str = "cellmodel", level: Literal["auto", "fine", "broad"] = "auto"
    ) -> dict[str, Any]:
        """Name the clusters of a cell file by cell types, with the evidence; as `cellmodel annotate --json`.

        `cluster_key`: column of obs with the clusters.
        """
        words = [self._kb(kb), f"--cluster-key={cluster_key}", f"--level={level}"]
        return self._run("cellmodel", "annotate", *words, args=[self._inside(file)])

    def describe_clusters(self, file: str, kb: str, cluster_key: str = "cellmodel") -> dict[str, Any]:
        """Say what sets the clusters of a cell file apart: markers, contributions of genes, themes.

        As `cellmodel attribute --json`. `cluster_key`: column of obs with the clusters.
        """
        words = [self._kb(kb), f"--cluster-key={cluster_key}"]
        return self._run("cellmodel", "attribute", *words, args=[self._inside(file)])

    def search_cells(self, file: str, query: str, kb: str, cluster_key: str = "") -> dict[str, Any]:
        """Rank the clusters of a cell file by free text, with the genes responsible; as `cellmodel search --json`."""
        words = [self._kb(kb), *([f"--cluster-key={cluster_key}"] if cluster_key else [])]
        return self._run("cellmodel", "search", *words, args=[self._inside(file), query])

    def _kb(self, kb: str) -> str:
        """Name the store: one of the home, or a folder inside the root."""
        is_path = Path(kb).name != kb or kb.startswith("~") or Path(kb).exists()
        return f"--kb={self._inside(kb) if is_path else kb}"

    def _inside(self, name: str) -> str:
        """Give a path below the root back; one that leads out of it, by itself or by a link, is an error."""
        from mcp.server.mcpserver.exceptions import ToolError

        path = Path(name)
        found = (self.root / path).resolve()
        links = (each for each in found.rglob("*") if each.is_symlink()) if found.is_dir() else ()
        if (
            path.is_absolute()
            or ".." in path.parts
            or name.startswith("~")
            or not all(each.resolve().is_relative_to(self.root) for each in (found, *links))
        ):
            raise ToolError(f"{name!r} is, or leads, outside of the folder that is served; name a file in it")
        return str(path)

    @contextmanager
    def _input(
        self, given: Sequence[str] | Mapping[str, Sequence[str]] | None, file: str, *, name: str
    ) -> Iterator[str]:
        """Give the path of a file, or of one with what is given, for as long as it is read.

        ``name``: of that one; a table has the column that its stem names, and ``gene``.
        """
        from mcp.server.mcpserver.exceptions import ToolError

        if bool(given) == bool(file):
            raise ToolError("give the genes themselves, or the file that holds them: one of the two")
        if not given:
            yield self._inside(file)
            return
        with TemporaryDirectory() as folder:
            path = Path(folder) / name
            with path.open("w", newline="", encoding="utf-8") as table:
                csv.writer(table).writerows(_rows(given, path.stem))
            yield str(path)

    def _run(self, program: str, *words: str, args: Sequence[str] = ()) -> dict[str, Any]:
        """Run a command in this process, and give the object that it prints."""
        from mcp.server.mcpserver.exceptions import ToolError

        app = import_module(f"genekb_cellmodel_cli.{program}").app  # which has this command, too
        home = [] if self.home is None else [f"--home={self.home}"]
        with self.lock:
            asked = from_shell.set(True)
            try:
                with redirect_stdout(io.StringIO()) as out:
                    app([*words, *home, "--json", "--", *args], standalone_mode=False)
            except Exception as error:
                fault = known_fault(error)
                if fault is None:
                    raise
                raise ToolError(printable(fault[1])) from error
            finally:
                from_shell.reset(asked)
        return json.loads(out.getvalue())


def _rows(given: Sequence[str] | Mapping[str, Sequence[str]], column: str) -> Iterator[Sequence[str]]:
    if not isinstance(given, Mapping):
        yield from ((gene,) for gene in given)
        return
    yield (column, "gene")
    yield from ((name, gene) for name, genes in given.items() for gene in genes)
