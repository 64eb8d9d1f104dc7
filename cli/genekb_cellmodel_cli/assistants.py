"""The command `cellmodel mcp`: a server of the Model Context Protocol, whose tools run commands that only read."""

import csv
import io
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from inspect import Parameter, signature
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from genekb.core.errors import SourceUnusable
from genekb.core.messages import from_shell, known_names, printable, shorten
from genekb.core.progress import end_progress
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.running import known_fault

if TYPE_CHECKING:
    from mcp.server import MCPServer

_INSTRUCTIONS: Final = (
    "What NCBI writes about genes, and single-cell clusters. Every tool runs a command of genekb or cellmodel with "
    "--json and gives its object, numbers to 3 digits; nothing is written. `kb` is a store of list_stores. Files are "
    "named relative to the folder that is served. Of a long answer a part is given: `cut` says how to get the next."
)
_ABOUT: Final = {
    "kb": "Store of gene texts: a name of list_stores, or a store's folder inside the folder that is served.",
    "file": "Path inside the folder that is served; list_files lists them.",
    "folder": "Folder inside the one that is served; that one if left out.",
    "genes": "Symbols, aliases, GeneIDs or Ensembl identifiers.",
    "sets": "Genes by the name of their set.",
    "lists": "Marker genes by cluster, the best first.",
    "query": "Free text, at most 2,000 characters.",
    "limit": "How many genes.",
    "mode": "By the meaning of the texts, by their words, or by both.",
    "level": "How fine the types are; auto takes the finest that the evidence allows.",
    "tissue": "blood,gut,...: only types of these and those of every tissue.",
    "cluster_key": "Column of obs with the clusters.",
    "cluster": "This cluster alone, in detail; a short form of all if left out.",
    "offset": "Entries to leave out of an answer that was cut.",
}
_LIMITS: Final[dict[str, Any]] = {"limit": {"ge": 1, "le": 100}, "offset": {"ge": 0}}
_OPTION: Final = re.compile(rf"--({'|'.join(_ABOUT).replace('_', '-')})(?![a-z-])")  # that is a parameter here
_MOST_BYTES, _LONGEST_ERROR = 20_000, 1_000  # of an answer; characters
_BRIEF: Final = {"markers": (5, ("name", "log2_fold_change", "p_adjusted")), "themes": (3, ("term", "p_adjusted"))}


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
        server.add_tool(_as_served(tool), annotations=reads, structured_output=False)  # which would say all twice
    return server


def _as_served(tool: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """Describe the parameters of a tool; give a part of its answer as text, and its errors as a line."""
    from mcp.server.mcpserver.exceptions import ToolError
    from pydantic import Field

    @wraps(tool)
    def answer(*, offset: int, **given: Any) -> str:
        try:
            return _text(_part(tool(**given), offset=offset))
        except Exception as error:
            fault = known_fault(error)
            if fault is None:
                raise
            line = _OPTION.sub(lambda found: found[1].replace("-", "_"), printable(fault[1]))
            raise ToolError(shorten(line, _LONGEST_ERROR)) from error

    asked = signature(tool)
    fields = {name: Field(description=text, **_LIMITS.get(name, {})) for name, text in _ABOUT.items()}
    given = [*asked.parameters.values(), Parameter("offset", Parameter.KEYWORD_ONLY, default=0, annotation=int)]
    described = [one.replace(annotation=Annotated[one.annotation, fields[one.name]]) for one in given]
    answer.__signature__ = asked.replace(parameters=described)  # type: ignore[attr-defined]  # where inspect looks
    return answer


def _text(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _size(content: Any) -> int:
    return len(_text(content).encode(errors="replace"))


def _part(content: Any, *, offset: int, room: int = _MOST_BYTES) -> Any:
    """Give an answer from an entry of its longest list on, as much as there is room for, and say what is left out."""
    if not offset and _size(content) <= room:
        return content
    lists = {key: each for key, each in content.items() if isinstance(each, list)} if isinstance(content, dict) else {}
    name = max(lists, key=lambda key: _size(lists[key]), default="")
    n_entries = len(lists.get(name, ()))
    if offset >= n_entries:
        raise SourceUnusable(
            f"the answer has {n_entries} entries, or one of more than {_MOST_BYTES:,} bytes; ask for less"
        )
    room -= _size(content | {name: []}) + 200  # for the note on the part
    entries = lists[name][offset:]
    part = entries[: sum(size <= room for size in accumulate(_size(entry) + 1 for entry in entries))]
    if not part:
        first = _part(entries[0], offset=0, room=room - 1)
        part = [first | {"cut": first["cut"].partition(";")[0]}]
    end = offset + len(part)
    rest = f"; offset={end} gives the next" if end < n_entries else ""
    return {"cut": f"{name}: entries {offset + 1} to {end} of {n_entries}{rest}"} | content | {name: part}


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
            self.list_files,
            self.resolve_genes,
            self.search_genes,
            self.name_gene_sets,
            self.annotate_marker_lists,
            self.name_clusters,
            self.describe_clusters,
            self.search_cells,
        )

    def list_stores(self) -> dict[str, Any]:
        """List the stores of gene texts on this machine, whose names other tools take; as `genekb info --json`."""
        return self._run("genekb", "list")

    def list_files(self, folder: str = "") -> dict[str, Any]:
        """List the files that other tools take, and folders, whose names end with a slash."""
        return {"folder": folder, "files": _files(self.root / self._inside(folder) if folder else self.root)}

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

        As `genekb name-set --json`. Give `sets`, or `file`: .gmt, or .tsv/.csv with columns set and gene.
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

        As `cellmodel annotate --marker-lists --json`. Give `lists`, or `file`: a table with columns cluster and gene
        (Seurat's FindAllMarkers, scanpy's rank_genes_groups_df).
        """
        with self._input(lists, file, name="cluster.csv") as path:
            words = [f"--marker-lists={path}", f"--level={level}", *([f"--tissue={tissue}"] if tissue else [])]
            found = self._run("cellmodel", "annotate", self._kb(kb), *words)
        return found if file else found | {"input": ""}  # no file that anyone else can read

    def name_clusters(
        self, file: str, kb: str, cluster_key: str = "cellmodel", level: Literal["auto", "fine", "broad"] = "auto"
    ) -> dict[str, Any]:
        """Name the clusters of a cell file by cell types, with the evidence; as `cellmodel annotate --json`."""
        words = [self._kb(kb), f"--cluster-key={cluster_key}", f"--level={level}"]
        return self._run("cellmodel", "annotate", *words, args=[self._inside(file)])

    def describe_clusters(
        self, file: str, kb: str, cluster_key: str = "cellmodel", cluster: str = ""
    ) -> dict[str, Any]:
        """Say what sets the clusters of a cell file apart: 5 markers, 3 themes and a name of the markers for each.

        With `cluster` all that `cellmodel attribute --json` has of it: contributions of genes, sentences, evidence.
        """
        words = [self._kb(kb), f"--cluster-key={cluster_key}"]
        found = self._run("cellmodel", "attribute", *words, args=[self._inside(file)])
        groups = {group["cluster"]: group for group in found["groups"]}
        if not cluster:
            return found | {"groups": [_brief(group) for group in groups.values()]}
        if cluster not in groups:
            raise SourceUnusable(f"no cluster {cluster!r}; there: {known_names(cluster, groups)}")
        return {key: value for key, value in found.items() if key != "groups"} | groups[cluster]

    def search_cells(self, file: str, query: str, kb: str, cluster_key: str = "") -> dict[str, Any]:
        """Rank the clusters of a cell file by free text, with the genes responsible; as `cellmodel search --json`."""
        words = [self._kb(kb), *([f"--cluster-key={cluster_key}"] if cluster_key else [])]
        return self._run("cellmodel", "search", *words, args=[self._inside(file), query])

    def _kb(self, kb: str) -> str:
        """Name the store: one of the home, or a folder inside the root."""
        is_path = Path(kb).name != kb or kb.startswith("~") or _is_there(kb)
        return f"--kb={self._inside(kb) if is_path else kb}"

    def _inside(self, name: str) -> str:
        """Give a path below the root back; one that leads out of it, by itself or by a link, is an error."""
        is_there, path = _is_there(name), Path(name)
        found = (self.root / path).resolve()
        links = (each for each in found.rglob("*") if each.is_symlink()) if found.is_dir() else ()
        if (
            path.is_absolute()
            or ".." in path.parts
            or name.startswith("~")
            or not all(each.resolve().is_relative_to(self.root) for each in (found, *links))
        ):
            raise SourceUnusable(f"{name!r} is, or leads, outside of the folder that is served; name a file in it")
        if not is_there:
            raise SourceUnusable(f"no file {name!r}; the folder has: {known_names(name, _files(self.root))}")
        return str(path)

    @contextmanager
    def _input(
        self, given: Sequence[str] | Mapping[str, Sequence[str]] | None, file: str, *, name: str
    ) -> Iterator[str]:
        """Give the path of a file, or of one with what is given, for as long as it is read.

        ``name``: of that one; a table has the column that its stem names, and ``gene``.
        """
        if bool(given) == bool(file):
            raise SourceUnusable("give the genes themselves, or the file that holds them: one of the two")
        if not given:
            yield self._inside(file)
            return
        with TemporaryDirectory() as folder:
            path = Path(folder) / name
            _write(given, path)
            yield str(path)

    def _run(self, program: str, *words: str, args: Sequence[str] = ()) -> dict[str, Any]:
        """Run a command in this process, and give the object that it prints."""
        app = import_module(f"genekb_cellmodel_cli.{program}").app  # which has this command, too
        home = [] if self.home is None else [f"--home={self.home}"]
        with self.lock:
            asked = from_shell.set(True)
            try:
                with redirect_stdout(io.StringIO()) as out:
                    app([*words, *home, "--json", "--", *args], standalone_mode=False)
            finally:
                from_shell.reset(asked)
        return json.loads(out.getvalue(), parse_float=lambda number: float(f"{float(number):.3g}"))


def _brief(group: Mapping[str, Any]) -> dict[str, Any]:
    """Give the best markers and themes of a cluster alone."""
    short = {key: [{name: one[name] for name in names} for one in group[key][:n]] for key, (n, names) in _BRIEF.items()}
    return {"cluster": group["cluster"], "n_cells": group["n_cells"], "name": (group["name"] or {}).get("name")} | short


def _is_there(name: str) -> bool:
    try:
        return Path(name).resolve().exists()
    except (OSError, ValueError) as error:  # longer than a name may be, or with NUL
        raise SourceUnusable(f"{shorten(name, 40)!r} cannot be the name of a file or a store") from error


def _files(folder: Path) -> list[str]:
    """Names in a folder that are not hidden; those of folders end with a slash."""
    paths = folder.iterdir() if folder.is_dir() else [folder]
    return sorted(f"{path.name}{'/' * path.is_dir()}" for path in paths if not path.name.startswith("."))


def _write(given: Sequence[str] | Mapping[str, Sequence[str]], path: Path) -> None:
    """Write genes to a list or, by the name of their set, to a table that has the column that its stem names."""
    sets = given if isinstance(given, Mapping) else {path.stem: given}
    for name, genes in sets.items():
        if not genes or not all(each.strip() and set("\n\r\0").isdisjoint(each) for each in (name, *genes)):
            raise SourceUnusable(f"{shorten(name, 40)!r} has no gene, or a name that is empty or not in one line")
    with path.open("w", newline="", encoding="utf-8") as file:
        if isinstance(given, Mapping):
            rows = ((name, gene) for name, genes in given.items() for gene in genes)
            csv.writer(file).writerows([(path.stem, "gene"), *rows])
        else:
            file.writelines(f"{gene}\n" for gene in given)
