"""Where commands write: outputs are compared with each other and with the inputs before any work is done."""

import dataclasses
import hashlib
import inspect
import logging
import os
import shutil
import typing
from contextlib import nullcontext
from functools import partial
from itertools import permutations, product
from pathlib import Path

import anndata
import pytest

import cellmodel as cm
from cellmodel.core.errors import InputUnusable
from genekb import BuildConfig, build, read_demo_table
from genekb.files.endings import ENDINGS
from genekb_cellmodel_cli import cellmodel, genekb
from genekb_cellmodel_cli.app.running import written_kinds
from tests.robust.bad_files.cells import cells as make_cells
from tests.support.commands import commands_of
from tests.support.in_process import call_here

PLAIN = "--knowledge none --recipe pca-kmeans"
# Of each command that writes and has several paths: a call without its outputs, their options, and its inputs.
COMMANDS = {
    "cellmodel annotate": ("{cells} --kb {store} --cluster-key group", ["-o"], ["cells"]),
    "cellmodel attribute": (
        "{cells} --kb {store} --cluster-key group --gmt {sets} --permutations 2", ["-o", "--tables"], ["cells", "sets"],
    ),
    "cellmodel bench": ("{cells} --recipes pca-kmeans@none --dropout 0.2", ["-o"], ["cells"]),
    "cellmodel classify": ("{cells} --reference {other} --label-key group --kb {store}", ["-o"], ["cells", "other"]),
    "cellmodel cluster": (
        f"{{cells}} {PLAIN} --n-clusters 2", ["-o", "--report", "--save-model", "--work-dir"], ["cells"],
    ),
    "cellmodel compare": (
        "{cells} {other} --kb {store} --cluster-key group --permutations 2", ["-o", "--plot"], ["cells", "other"],
    ),
    "cellmodel composition": (
        "{cells} --cluster-key group --sample-key group --condition-key group", ["-o", "--shares"], ["cells"],
    ),
    "cellmodel export": ("{cells} --to cellxgene --name-key group", ["-o"], ["cells"]),
    "cellmodel map-labels": ("{genes}", ["-o"], ["genes"]),
    "cellmodel markers": ("{cells} --cluster-key group --sample-key group", ["-o"], ["cells"]),
    "cellmodel perturb": ("--train {train} --query {query} --kb {store}", ["-o"], ["train", "query"]),
    "cellmodel plot": ("{cells} --kind sankey --rows group --columns group", ["-o"], ["cells"]),
    "cellmodel predict": ("{cells} --model {model}", ["-o"], ["cells", "model"]),
    "cellmodel report": ("{cells}", ["-o"], ["cells"]),
    "cellmodel run": (
        "{cells} --kb {store} --n-clusters 2 --recipe pca-kmeans --gmt {sets}",
        ["-o", "--report", "--save-model", "--tables", "--work-dir"], ["cells", "sets"],
    ),
    "cellmodel search": ("{cells} blood --kb {store} --cluster-key group", ["-o"], ["cells"]),
    "genekb compare": ("--kb {store} --tasks {tasks}", ["-o"], ["tasks"]),
    "genekb export": ("--kb {store} --format npy", ["-o"], ["store"]),
    "genekb name-set": ("{genes} --kb {store} --vocabulary {sets}", ["-o"], ["genes", "sets"]),
}  # fmt: skip
# Folders of results that a later run adds to.
ADDED_TO = {("cellmodel bench", "-o")}
# Their paths are read alone, or are a folder that they add files to, or a key or lock file that is never taken for it.
OTHERS = {
    "cellmodel": {"demo", "eval", "mcp", "model pull", "model push", "view"},
    "genekb": {"build", "download", "encode", "gc", "lock", "pull", "push", "resolve", "update", "verify"},
}


def has_path(hint):
    if dataclasses.is_dataclass(hint):
        return any(has_path(field.type) for field in dataclasses.fields(hint) if field.name != "home")
    return hint is Path or any(map(has_path, typing.get_args(hint)))


def test_every_command_with_a_path_is_tried_here_or_named():
    for name, module in (("cellmodel", cellmodel), ("genekb", genekb)):
        hints = {key: inspect.unwrap(one.callback).__annotations__ for key, one in commands_of(module.app).items()}
        with_path = {key for key in hints if any(has_path(hint) for name, hint in hints[key].items() if name != "home")}
        assert with_path == {key.partition(" ")[2] for key in COMMANDS if key.split()[0] == name} | OTHERS[name]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Clustered cells, a second file of them, a model, gene sets and a store."""
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "data").mkdir()
    raw = make_cells()
    raw.obs["group"] = raw.obs["label"].astype("category")
    raw.write_h5ad(folder / "raw.h5ad")
    files = cm.tl.CellFiles([folder / "raw.h5ad"], output=folder / "data" / "cells.h5ad")
    cm.tl.cluster(files, recipe="pca-kmeans", knowledge="none", n_clusters=2, save_model=folder / "model")
    shutil.copyfile(folder / "data" / "cells.h5ad", folder / "other.h5ad")
    (folder / "sets.gmt").write_text("A\tfrom me\tCD3D\tCD3E\tCD3G\tCD4\tCD7\n")
    (folder / "genes.txt").write_text("CD3D\nCD3E\nCD3G\n")
    (folder / "tasks").mkdir()
    for name in ("train.tsv", "query.tsv", "tasks/immune.tsv"):
        (folder / name).write_text("perturbation\tgene\tlabel\nCD3D\tCD4\t1\n")
    built = build(read_demo_table(), BuildConfig(name="demo", models=("hash-16",)), home=folder / "home")
    return folder, str(built.folder)


@pytest.fixture
def places(made, tmp_path):
    """Copies, since a command that is wrong might change them."""
    folder, store = made
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("home"))
    named = {"cells": "data/cells.h5ad", "other": "other.h5ad", "model": "model", "sets": "sets.gmt", "data": "data",
             "genes": "genes.txt", "tasks": "tasks", "train": "train.tsv", "query": "query.tsv"}  # fmt: skip
    return {name: str(tmp_path / path) for name, path in named.items()} | {"store": store}


ENDING_OF = {
    "--report": ".html", "--plot": ".svg", "--shares": ".tsv", "cellmodel report": ".html", "cellmodel plot": ".svg",
    "genekb export": ".npy",
    **dict.fromkeys(("cellmodel compare", "cellmodel perturb", "cellmodel map-labels"), ".tsv"),
    **dict.fromkeys(("genekb compare", "genekb name-set"), ".tsv"),
}  # fmt: skip


def own_ending(command, option):
    if option not in {"-o", "--report", "--plot", "--shares"}:
        return ""
    return ENDING_OF.get(option, ENDING_OF.get(command, ".h5ad"))


def wrong_outputs(command):
    """Options and where they point: an input, another output, inside another output, a pipe, a folder of the user's."""
    _, outputs, inputs = COMMANDS[command]
    for option, name in product(outputs, inputs):
        yield {option: f"{{{name}}}"}
    for option in outputs:
        yield {option: f"{{folder}}/pipe{own_ending(command, option)}"}
        if option not in {"--tables", "--work-dir"} and (command, option) not in ADDED_TO:
            yield {option: f"{{folder}}/mine{own_ending(command, option)}"}
    for one, other in permutations(outputs, 2):
        place = f"{{folder}}/new{own_ending(command, one)}"
        yield {one: place, other: place}
        if one != "--tables":
            zarr = "{folder}/new.zarr" if one == "-o" and own_ending(command, one) == ".h5ad" else place
            yield {one: zarr, other: f"{zarr}/inner{own_ending(command, other)}"}


FOLDERS = {"predict", "bench", "export", "demo", "model pull"}  # --output of these


def written_files():
    """Every option that names a file to write, with an ending of each kind, or none, that it does not take."""
    for program, module in (("cellmodel", cellmodel), ("genekb", genekb)):
        for words, command in commands_of(module.app).items():
            hints = inspect.unwrap(command.callback).__annotations__
            for param in command.params:
                kinds = written_kinds(hints.get(param.name))
                is_folder = words in FOLDERS if program == "cellmodel" else words == "export"  # of any kind of vectors
                if param.name in {"output", "report", "plot", "shares"} and not (is_folder and param.name == "output"):
                    assert kinds, f"{program} {words} {param.name}: say with the option what is written"
                taken = {ending for kind in kinds for ending in ENDINGS[kind]}
                for ending in {each[0] for each in ENDINGS.values()} | {"", ".txt", ".gmt", ".tsv.gz"} if kinds else ():
                    if ending not in taken:
                        yield f"{program} {words}", tuple(param.opts), ending


WRONG = list(written_files())


@pytest.mark.parametrize(("command", "options"), sorted({each[:2] for each in WRONG}))
def test_no_result_stands_under_the_name_of_another_kind(command, options, places, tmp_path, capsys, monkeypatch):
    words = COMMANDS[command][0]
    for ending in (each[2] for each in WRONG if each[:2] == (command, options)):
        path = tmp_path / f"theirs{ending}"
        path.write_text("theirs")
        given = ({} if "-o" in options else {"-o": f"{{folder}}/new{own_ending(command, '-o')}"}) | {
            options[0]: str(path)
        }
        every = [*command.split(), *words.split(), *(word for pair in given.items() for word in pair), "--overwrite"]
        found = call_here([word.format(**places, folder=tmp_path) for word in every], capsys, monkeypatch)
        assert (found.code, path.read_text()) == (2, "theirs"), (ending, found.err)


@pytest.mark.parametrize(
    ("words", "name", "message"),
    [
        ("cellmodel annotate --marker-lists {lists} --kb {store}", "x.h5ad", "write a table as .tsv or .csv"),
        ("cellmodel annotate {cells} --kb {store}", "x.tsv", "write annotated cells as .h5ad or .zarr"),
        ("cellmodel perturb --train {train} --query {query} --kb {store}", "x.zarr", "write a table as .tsv or .csv"),
        ("cellmodel perturb {cells} --predict CD3D --kb {store}", "x.csv", "write annotated cells as .h5ad or .zarr"),
        ("genekb export {store} --format npy", "x.h5ad", "write npy as .npy"),
        ("cellmodel composition {cells}", "c.html", "write a table as .tsv or .csv, annotated cells as .h5ad or .zarr"),
    ],
)
def test_what_is_asked_for_decides_the_ending(words, name, message, places, tmp_path, capsys, monkeypatch):
    lists = tmp_path / "lists.csv"
    lists.write_text("cluster,gene\n0,CD3D\n")
    path = tmp_path / name
    path.write_text("theirs")
    given = [word.format(**places, lists=lists) for word in words.split()]
    found = call_here([*given, "-o", path, "--overwrite"], capsys, monkeypatch)
    assert (found.code, path.read_text()) == (2, "theirs")
    assert message in " ".join(found.err.split())


def test_a_table_that_no_disk_takes_is_one_line(places, capsys, monkeypatch):
    arguments = ["cellmodel", "composition", places["cells"], "--cluster-key", "group", "--sample-key", "group", "-o"]
    found = call_here([*arguments, "/proc/m.tsv"], capsys, monkeypatch)
    assert (found.code, found.err.count("\n")) == (3, 1)
    assert "/proc/m.tsv cannot be written: " in found.err


def digests(folder):
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else path.lstat().st_mode
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_would_do_harm_is_refused_before_any_work(command, places, tmp_path, capsys, monkeypatch):
    for ending in ("", ".h5ad", ".html", ".svg", ".tsv", ".npy"):
        os.mkfifo(tmp_path / f"pipe{ending}")
        (tmp_path / f"mine{ending}").mkdir()
        (tmp_path / f"mine{ending}" / "thesis.txt").write_text("mine")
    before = digests(tmp_path)
    refused = {(option, ending) for name, names, ending in WRONG for option in names if name == command}
    words = [*command.split(), *COMMANDS[command][0].split()]
    more = [] if command == "cellmodel bench" else ["--overwrite"]
    for options in wrong_outputs(command):
        given = {"-o": f"{{folder}}/result{own_ending(command, '-o')}"} | options
        given = {option: path.format(**places, folder=tmp_path) for option, path in given.items()}
        line = [*(word.format(**places) for word in words), *(word for pair in given.items() for word in pair), *more]
        found = call_here(line, capsys, monkeypatch)
        is_other = any((option, Path(path).suffix) in refused for option, path in given.items())
        assert found.code == (2 if is_other else 3), (options, found.err)
        start = "Error: Invalid" if is_other else f"{command.split()[0]}: error: "
        assert found.err.splitlines()[-1].startswith(start), options
        assert digests(tmp_path) == before, options


@pytest.mark.parametrize("command", [each for each in COMMANDS if (each, "-o") not in ADDED_TO])
def test_an_existing_file_is_not_replaced_unless_told(command, places, tmp_path, capsys, monkeypatch):
    theirs = tmp_path / f"theirs{own_ending(command, '-o')}"
    theirs.write_text("theirs")
    words = [word.format(**places) for word in COMMANDS[command][0].split()]
    found = call_here([*command.split(), *words, "-o", theirs], capsys, monkeypatch)
    assert (found.code, theirs.read_text()) == (3, "theirs")
    assert "exists; give another name, or --overwrite" in found.err


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_another_run_wrote_meanwhile_is_replaced_only_on_request(places, tmp_path, overwrite):
    """The other run is a handler of the log, which hears from the run after its checks and before its end."""
    output = tmp_path / "out.h5ad"

    class Other(logging.Handler):
        def emit(self, record):
            output.write_text("theirs")

    run = partial(
        cm.tl.cluster, cm.tl.CellFiles([Path(places["other"])], output=output),
        recipe="pca-kmeans", knowledge="none", n_clusters=2, key_added="again", overwrite=overwrite,
    )  # fmt: skip
    log, other = logging.getLogger("cellmodel.tl._cluster"), Other()
    log.addHandler(other)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        with (
            nullcontext()
            if overwrite
            else pytest.raises(InputUnusable, match=r"exists .* this result is in .*-2\.h5ad")
        ):
            run()
    finally:
        log.removeHandler(other)
        log.setLevel(level)
    kept = output if overwrite else tmp_path / "out-2.h5ad"
    assert "again" in anndata.read_h5ad(kept).obs
    assert overwrite or output.read_text() == "theirs"
