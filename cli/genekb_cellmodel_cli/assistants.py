"""The command `cellmodel mcp`: a server of the Model Context Protocol, whose tools run commands that only read."""

import csv
import io
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
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
    "Genes by their texts, and single-cell clusters. Every tool runs a command of genekb or cellmodel and gives its "
    "object, numbers to 3 digits; nothing is written. `kb` is a store of list_stores, `file` one of list_files, "
    "`cluster_key` a column of describe_file. Answers are short: `detail` gives all, `cut` says how to go on."
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
    "gene": "Symbol, alias, Ensembl identifier or GeneID.",
    "detail": "All that the command gives, not the best alone.",
    "offset": "Entries to leave out of an answer that was cut.",
}
_ANSWERS: Final = {  # the list of each tool's answer; fields of its entries in short, all where there are none
    "list_stores": ("stores", "store digest n_genes n_texts encoders"),
    "list_files": ("files", ""),
    "describe_file": ("columns", ""),
    "resolve_genes": ("losses", ""),
    "search_genes": ("hits", "symbol gene_id name score matched_words"),
    "describe_gene": ("neighbors", "symbol gene_id name cosine"),
    "name_gene_sets": ("sets", "set_name name reason p_value name_p theme unknown"),
    "annotate_marker_lists": ("clusters", "cluster name confidence best reason runner_up p_adjusted genes unresolved"),
    "name_clusters": ("clusters", "cluster n_cells name confidence best reason runner_up p_adjusted genes mix"),
    "describe_clusters": ("groups", "cluster n_cells name words markers themes"),
    "search_cells": ("clusters", "cluster n_cells score p_value genes"),
}
_OF_ONE: Final = ("name", "term", "log2_fold_change", "contribution", "fraction_in", "fraction_out", "p_adjusted")
_SHORT_LIST: Final = 5  # of an entry
_Genes = Sequence[str] | Mapping[str, Sequence[str]]
_Level = Literal["auto", "fine", "broad"]
_PAGES: Final = (
    Parameter("detail", Parameter.KEYWORD_ONLY, default=False, annotation=bool),
    Parameter("offset", Parameter.KEYWORD_ONLY, default=0, annotation=int),
)
_LIMITS: Final[dict[str, Any]] = {"limit": {"ge": 1, "le": 100}, "offset": {"ge": 0}}
_OPTION: Final = re.compile(r"--([a-z][a-z-]+)|\b([a-z_]+)=True\b")
_SHORT, _DETAIL = 3_500, 20_000  # bytes of an answer
_LONGEST_ERROR, _LONGEST_DIGEST = 1_000, 300  # characters


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
    home = home and home.absolute()
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
    for name in _ANSWERS:
        server.add_tool(_as_served(getattr(tools, name)), annotations=reads)
    return server


def _as_served(tool: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """Describe a tool's parameters and answer; give a part of the answer as an object, its errors as a line."""
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import CallToolResult, TextContent
    from pydantic import ConfigDict, Field, create_model

    key, names = _ANSWERS[tool.__name__]
    asked = signature(tool)

    @wraps(tool)
    def answer(*, offset: int, detail: bool, **given: Any) -> CallToolResult:
        try:
            found = json.loads(json.dumps(tool(**given)), parse_float=lambda text: float(f"{float(text):.3g}"))
            whole = found if detail else _brief(found, key, names.split(), one=bool(given.get("cluster")))
            part = _part(whole, offset=offset, room=_DETAIL if detail else _SHORT)
        except Exception as error:
            fault = known_fault(error)
            if fault is None:
                raise
            raise ToolError(shorten(_by_parameters(printable(fault[1]), asked.parameters), _LONGEST_ERROR)) from error
        return CallToolResult(content=[TextContent(type="text", text=_digest(part, key))], structured_content=part)

    fields = {name: Field(description=text, **_LIMITS.get(name, {})) for name, text in _ABOUT.items()}
    given = [*asked.parameters.values(), *_PAGES]
    described = [one.replace(annotation=Annotated[one.annotation, fields[one.name]]) for one in given]
    entries = Field(description=f"Entries of {names.replace(' ', ', ')}; with detail, all." if names else "Entries.")
    cut = Field(default="", description="Which part this is.")
    shown: dict[str, Any] = {key: (list[Any], entries), "cut": (str, cut)}
    shape = create_model(tool.__name__, __config__=ConfigDict(extra="allow"), **shown)
    served = asked.replace(parameters=described, return_annotation=Annotated[CallToolResult, shape])
    answer.__signature__ = served  # type: ignore[attr-defined]  # where inspect looks
    return answer


def _by_parameters(line: str, parameters: Mapping[str, Any]) -> str:
    """Spell options of a message as parameters, and say of those that a tool lacks that they are the command's."""
    names = [(option or argument).replace("-", "_") for option, argument in _OPTION.findall(line)]
    lacking = ", ".join(name for name in dict.fromkeys(names) if name not in parameters)
    line = _OPTION.sub(lambda found: (found[1] or found[2]).replace("-", "_"), line)
    return f"{line} ({lacking}: of the command, not of this tool)" if lacking else line


def _brief(content: dict[str, Any], key: str, names: Sequence[str], *, one: bool) -> dict[str, Any]:
    """Give the fields of the entries that matter most, and of the lists in them the first; of one entry, all fields."""
    if not names:
        return content
    entries = [
        {name: _first(value, one=one) for name, value in entry.items() if one or name in names}
        for entry in content[key]
    ]
    return {name: value for name, value in content.items() if value and not isinstance(value, list)} | {key: entries}


def _first(value: Any, *, one: bool) -> Any:
    """Give the first of a list by name, with fractions of a mix, or with more of each where there is one entry."""
    if isinstance(value, dict):
        return value.get("name", value)
    if not isinstance(value, list):
        return value
    shown = value[: _SHORT_LIST * (1 + one)]
    if not shown or not isinstance(shown[0], dict) or "fraction" in shown[0]:
        return shown
    known = [{name: each[name] for name in _OF_ONE if name in each} for each in shown]
    return known if one else [next(iter(each.values())) for each in known]


def _digest(content: Mapping[str, Any], key: str) -> str:
    """Say in short what an answer holds, for programs that show an assistant the text alone."""
    rows = [entry.values() if isinstance(entry, dict) else [entry] for entry in content[key]]
    lines = [", ".join(str(value) for value in [*row][:4] if isinstance(value, str | int | float)) for row in rows]
    return shorten(f"{key} ({content.get('cut') or len(rows)}): {'; '.join(lines)}", _LONGEST_DIGEST)


def _size(content: Any) -> int:
    return len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))


def _part(content: Any, *, offset: int, room: int) -> Any:
    """Give an answer from an entry of its longest list on, as much as there is room for, and say what is left out."""
    if not offset and _size(content) <= room:
        return content
    lists = {key: each for key, each in content.items() if isinstance(each, list)} if isinstance(content, dict) else {}
    name = max(lists, key=lambda key: _size(lists[key]), default="")
    n_entries = len(lists.get(name, ()))
    if n_entries == 1 and isinstance(entry := lists[name][0], dict):
        rest = {key: value for key, value in content.items() if key != name}
        inner = _part(entry, offset=offset, room=room - _size(rest) - 50)
        return rest | {"cut": f"{name}: {inner.pop('cut')}", name: [inner]}
    if offset >= n_entries:
        raise SourceUnusable(f"the answer has {n_entries} entries, or one that is too long; ask for less")
    room -= _size(content | {name: []}) + 200  # for the note on the part
    entries = lists[name][offset:]
    part = entries[: sum(size <= room for size in accumulate(_size(entry) + 1 for entry in entries))]
    part = part or [_part(entries[0], offset=0, room=room)]
    end = offset + len(part)
    more = f"; offset={end} gives the next" if end < n_entries else ""
    return {"cut": f"{name}: entries {offset + 1} to {end} of {n_entries}{more}"} | content | {name: part}


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What an assistant can ask for; the docstrings are what it reads."""

    root: Path  # folder of the files, without links, and the working directory
    home: Path | None
    lock: Any = field(default_factory=threading.Lock)  # one command at a time: all print on one stdout

    def list_stores(self) -> dict[str, Any]:
        """List the stores of gene texts on this machine, whose names other tools take."""
        return self._run("genekb", "info")

    def list_files(self, folder: str = "") -> dict[str, Any]:
        """List the files that other tools take, and folders, whose names end with a slash."""
        return {"folder": folder, "files": _files(self.root / self._inside(folder) if folder else self.root)}

    def describe_file(self, file: str) -> dict[str, Any]:
        """Say what a cell file holds: cells, genes, and the columns of obs, of which `cluster_key` names one."""
        from cellmodel.io.formats.anndata import read_anndata

        adata = read_anndata(self.root / self._inside(file))
        columns = []
        for name in adata.obs:
            values = adata.obs[name].value_counts().index
            columns.append(
                {"column": name, "n_values": len(values), "values": [shorten(str(x), 40) for x in values[:8]]}
            )
        return {"n_cells": adata.n_obs, "n_genes": adata.n_vars, "genes": [*adata.var_names[:8]], "columns": columns}

    def resolve_genes(self, kb: str, genes: list[str] | None = None, file: str = "") -> dict[str, Any]:
        """Say how many gene names a store knows, and which not.

        Give `genes`, or `file`: cells (.h5ad, 10x, ...) or a text file with one name a line.
        """
        with self._input(genes, file, name="genes.txt") as path:
            return self._run("genekb", "resolve", self._kb(kb), args=[path])

    def search_genes(
        self, query: str, kb: str, limit: int = 10, mode: Literal["hybrid", "semantic", "keyword"] = "hybrid"
    ) -> dict[str, Any]:
        """Find genes by the meaning of their texts, the words in them, or both;."""
        return self._run("genekb", "search", self._kb(kb), f"--limit={limit}", f"--mode={mode}", args=[query])

    def describe_gene(self, gene: str, kb: str, limit: int = 5) -> dict[str, Any]:
        """Give the names and the text of a gene, and the genes whose texts are nearest."""
        import genekb
        from genekb.schema import rows_of

        store = genekb.open(self._kb(kb).removeprefix("--kb="), home=self.home)
        number = int(store.gene_ids([int(gene) if gene.isdigit() else gene])[0])
        if number not in store:
            raise SourceUnusable(f"{kb} has no gene {gene!r}; search_genes finds genes by words")
        row = rows_of(store.table("genes"), [number]).to_pylist()[0]
        (text,) = store.texts([number])
        near = store.neighbors(number, limit=limit) if text and store.encoder_ids else ()
        found = [asdict(hit) for hit in near]
        return {name: row[name] for name in ("gene_id", "symbol", "name", "aliases")} | {
            "text": text,
            "neighbors": found,
        }

    def name_gene_sets(self, kb: str, sets: dict[str, list[str]] | None = None, file: str = "") -> dict[str, Any]:
        """Name gene sets by the texts of their genes, or say that they have no common theme.

        Give `sets`, or `file`: .gmt, or .tsv/.csv with columns set and gene.
        """
        with self._input(sets, file, name="set.csv") as path:
            return self._run("genekb", "name-set", self._kb(kb), args=[path])

    def annotate_marker_lists(
        self,
        kb: str,
        lists: dict[str, list[str]] | None = None,
        file: str = "",
        level: _Level = "auto",
        tissue: str = "",
    ) -> dict[str, Any]:
        """Name cell types from lists of marker genes, unassigned where the evidence is weak.

        Give `lists`, or `file`: a table with columns cluster and gene
        (Seurat's FindAllMarkers, scanpy's rank_genes_groups_df).
        """
        with self._input(lists, file, name="cluster.csv") as path:
            words = [f"--marker-lists={path}", f"--level={level}", *([f"--tissue={tissue}"] if tissue else [])]
            found = self._run("cellmodel", "annotate", self._kb(kb), *words)
        return found if file else found | {"input": ""}  # no file that anyone else can read

    def name_clusters(
        self, file: str, kb: str, cluster_key: str = "cellmodel", level: _Level = "auto"
    ) -> dict[str, Any]:
        """Name the clusters of a cell file by cell types, with the evidence;."""
        words = [self._kb(kb), f"--cluster-key={cluster_key}", f"--level={level}"]
        return self._run("cellmodel", "annotate", *words, args=[self._inside(file)])

    def describe_clusters(
        self, file: str, kb: str, cluster_key: str = "cellmodel", cluster: str = ""
    ) -> dict[str, Any]:
        """Say what sets the clusters of a cell file apart: markers, themes and a name of the markers for each.

        With `cluster` that one, with contributions of genes; `detail` adds sentences and evidence.
        """
        words = [self._kb(kb), f"--cluster-key={cluster_key}"]
        found = self._run("cellmodel", "attribute", *words, args=[self._inside(file)])
        groups = {group["cluster"]: group for group in found["groups"]}
        if cluster and cluster not in groups:
            raise SourceUnusable(f"no cluster {cluster!r}; there: {known_names(cluster, groups)}")
        return found | {"groups": [groups[cluster]] if cluster else [*groups.values()]}

    def search_cells(self, file: str, query: str, kb: str, cluster_key: str = "") -> dict[str, Any]:
        """Rank the clusters of a cell file by free text, with the genes responsible;."""
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
        is_below = all(each.resolve().is_relative_to(self.root) for each in (found, *links))
        if not is_below or path.is_absolute() or ".." in path.parts or name.startswith("~"):
            raise SourceUnusable(f"{name!r} is, or leads, outside of the folder that is served; name a file in it")
        if not is_there:
            raise SourceUnusable(f"no file {name!r}; the folder has: {known_names(name, _files(self.root))}")
        return str(path)

    @contextmanager
    def _input(self, given: _Genes | None, file: str, *, name: str) -> Iterator[str]:
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
        content: dict[str, Any] = json.loads(out.getvalue())
        return content


def _is_there(name: str) -> bool:
    try:
        return Path(name).resolve().exists()
    except (OSError, ValueError) as error:  # longer than a name may be, or with NUL
        raise SourceUnusable(f"{shorten(name, 40)!r} cannot be the name of a file or a store") from error


def _files(folder: Path) -> list[str]:
    """Names in a folder that are not hidden; those of folders end with a slash."""
    paths = folder.iterdir() if folder.is_dir() else [folder]
    return sorted(f"{path.name}{'/' * path.is_dir()}" for path in paths if not path.name.startswith("."))


def _write(given: _Genes, path: Path) -> None:
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
