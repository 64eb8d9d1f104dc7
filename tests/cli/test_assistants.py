"""`cellmodel mcp`: a client of the official SDK asks, files outside of the folder are refused, answers are --json."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import genekb
from genekb_cellmodel_cli.assistants import make_server
from tests.robust.bad_files.cells import cells as make_cells
from tests.support.in_process import call_json

LISTS = {"0": ["CD3D", "CD3E", "CD3G", "CD2"], "1": ["MS4A1", "CD79A", "CD79B", "CD19"]}
PROGRAM = "import sys; from genekb_cellmodel_cli.entry import cellmodel; sys.argv[0] = 'cellmodel'; cellmodel()"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    genekb.build(genekb.read_demo_table(), genekb.BuildConfig(name="demo", models=("hash-16",)), home=home)
    return home


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder with files, links that lead out of it, and files beside it."""
    folder = tmp_path / "served"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("CD3D\n")
    (folder / "genes.txt").write_text("CD3D\nCD3E\nNOSUCH1\n")
    (folder / "sub" / "near.txt").symlink_to(folder / "genes.txt")
    (folder / "far.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "10x").mkdir()
    (folder / "10x" / "matrix.mtx").symlink_to(tmp_path / "secret.txt")
    monkeypatch.chdir(folder)
    return folder


def ask(server, *calls):
    """What a client is given for some calls, each of a tool with arguments: an object, or an error's line."""
    import mcp

    async def asked():
        async with mcp.Client(server) as client:
            found = [await client.call_tool(name, arguments) for name, arguments in calls]
        return [each.content[0].text if each.is_error else each.structured_content for each in found]

    return anyio.run(asked)


@pytest.mark.parametrize(
    "file",
    ["../secret.txt", "{tmp}/secret.txt", "far.txt", "up/secret.txt", "sub/../genes.txt", "~/x.txt", "10x", "up"],
)
def test_a_file_outside_of_the_folder_is_refused(file, home, served, tmp_path):
    (line,) = ask(make_server(home), ("resolve_genes", {"kb": "demo", "file": file.format(tmp=tmp_path)}))
    assert "outside of the folder that is served" in line


def test_a_tool_answers_as_its_command_does_and_errors_are_a_line(home, served):
    server = make_server(home)
    by_file, by_link, by_list, both, unknown, store, option, limit = ask(
        server,
        ("resolve_genes", {"kb": "demo", "file": "genes.txt"}),
        ("resolve_genes", {"kb": "demo", "file": "sub/near.txt"}),
        ("resolve_genes", {"kb": "demo", "genes": ["CD3D", "CD3E", "NOSUCH1"]}),
        ("resolve_genes", {"kb": "demo", "file": "genes.txt", "genes": ["CD3D"]}),
        ("resolve_genes", {"kb": "nosuch", "genes": ["CD3D"]}),
        ("resolve_genes", {"kb": "../../home", "genes": ["CD3D"]}),
        ("search_genes", {"kb": "demo", "query": "--output=x T cell", "mode": "keyword", "limit": 1}),
        ("search_genes", {"kb": "demo", "query": "T cell", "limit": 0}),
    )
    assert by_file == by_link == by_list == call_json("genekb", "resolve", "genes.txt", "--kb", "demo", "--home", home)
    assert both.endswith("one of the two")
    assert "no store 'nosuch'" in unknown
    assert "outside of the folder" in store
    assert len(option["hits"]) == 1
    assert "'--limit'" in limit
    assert sorted(path.name for path in served.iterdir()) == ["10x", "far.txt", "genes.txt", "sub", "up"]


def test_without_the_extra_the_line_names_it(served):
    hidden = f"import sys; sys.modules['mcp'] = None; {PROGRAM}"
    found = subprocess.run([sys.executable, "-c", hidden, "mcp", "."], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (4, "")
    assert found.stderr.endswith("needs mcp; pip install 'genekb-cellmodel[mcp]'\n")


@pytest.mark.slow
def test_every_tool_over_stdio_gives_the_object_of_its_command(home, served):
    import mcp

    make_cells().write_h5ad("cells.h5ad")
    for name, column in (("lists.csv", "cluster"), ("sets.csv", "set")):
        with Path(name).open("w", newline="") as file:
            csv.writer(file).writerows([(column, "gene"), *((key, gene) for key in LISTS for gene in LISTS[key])])
    before = {path: path.read_bytes() for path in served.iterdir() if path.is_file()}
    kb, cells = {"kb": "demo"}, {"kb": "demo", "file": "cells.h5ad", "cluster_key": "label"}
    commands = {
        "list_stores": ({}, "genekb list"),
        "resolve_genes": (kb | {"file": "cells.h5ad"}, "genekb resolve cells.h5ad --kb demo"),
        "search_genes": (kb | {"query": "adhesion"}, "genekb search adhesion --kb demo"),
        "name_gene_sets": (kb | {"sets": LISTS}, "genekb name-set sets.csv --kb demo"),
        "annotate_marker_lists": (kb | {"file": "lists.csv"}, "cellmodel annotate --marker-lists lists.csv --kb demo"),
        "name_clusters": (cells, "cellmodel annotate cells.h5ad --kb demo --cluster-key label"),
        "describe_clusters": (cells, "cellmodel attribute cells.h5ad --kb demo --cluster-key label"),
        "search_cells": (cells | {"query": "blood"}, "cellmodel search cells.h5ad blood --kb demo --cluster-key label"),
    }
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    started = mcp.StdioServerParameters(
        command=sys.executable, args=["-c", PROGRAM, "mcp", str(served), "--home", str(home)], env=path
    )

    async def tools():
        async with mcp.Client(mcp.stdio_client(started)) as client:
            return (await client.list_tools()).tools

    listed = anyio.run(tools)
    assert [tool.name for tool in listed] == list(commands)
    assert all(tool.annotations.read_only_hint and tool.description for tool in listed)
    wrong = [("resolve_genes", kb | {"file": "../secret.txt"}), ("search_genes", kb | {"query": "x", "mode": "y"})]
    asked = [(name, arguments) for name, (arguments, _) in commands.items()]
    *found, outside, bad = ask(mcp.stdio_client(started), *asked, *wrong)
    assert "outside of the folder" in outside
    assert "'hybrid', 'semantic' or 'keyword'" in bad
    for (name, (_, line)), answer in zip(commands.items(), found, strict=True):
        assert answer == json.loads(json.dumps(call_json(*line.split(), "--home", home))), name
    assert {path: path.read_bytes() for path in served.iterdir() if path.is_file()} == before
