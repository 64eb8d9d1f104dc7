"""`cellmodel mcp`: a client of the official SDK asks, files outside of the folder are refused, answers are --json."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from genekb_cellmodel_cli.assistants import make_server
from tests.robust.bad_files.cells import cells as make_cells
from tests.support.in_process import call_json

LISTS = {"0": ["CD3D", "CD3E", "CD3G", "CD2"], "1": ["MS4A1", "CD79A", "CD79B", "CD19"]}
PROGRAM = "import sys; from genekb_cellmodel_cli.entry import cellmodel; sys.argv[0] = 'cellmodel'; cellmodel()"


@pytest.fixture(scope="module")
def home(demo_store):
    return demo_store("hash-16").folder.parents[2]


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
        assert all(each.is_error or len(each.content[0].text) <= 301 for each in found)  # the object is sent once
        return [each.content[0].text if each.is_error else each.structured_content for each in found]

    return anyio.run(asked)


def size(answer):
    return len(json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode())


def in_three_digits(content):
    return json.loads(json.dumps(content), parse_float=lambda number: float(f"{float(number):.3g}"))


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
    command = call_json("genekb", "resolve", "genes.txt", "--kb", "demo", "--home", home)
    assert by_file == by_link == by_list == in_three_digits(command)
    assert both.endswith("one of the two")
    assert "no store 'nosuch'" in unknown
    assert "outside of the folder" in store
    assert len(option["hits"]) == 1
    assert "greater than or equal to 1" in limit
    assert sorted(path.name for path in served.iterdir()) == ["10x", "far.txt", "genes.txt", "sub", "up"]


def test_names_come_back_as_given_or_are_refused_in_a_line(home, served):
    kb = {"kb": "demo"}
    asked = [
        *(("resolve_genes", kb | {"genes": [name, "CD3D"]}) for name in ("c,d", '"q"', "", "a\nb", "a\0b")),
        *(("resolve_genes", kb | {"file": name}) for name in ("x" * 5_000, "x\0", "gene.txt")),
        *(("resolve_genes", {"kb": name, "genes": ["CD3D"]}) for name in ("x" * 5_000, "x\0")),
        ("name_gene_sets", kb | {"sets": {"full": ["CD3D"], "bare": []}}),
        ("list_files", {}),
        ("list_files", {"folder": "10x"}),
        ("list_files", {"folder": "sub"}),
    ]
    comma, quote, *lines, bare, files, linked, sub = ask(make_server(home), *asked)
    assert [comma["losses"][0]["name"], quote["losses"][0]["name"]] == ["c,d", '"q"']
    ends = (
        ["'genes' has no gene, or a name that is empty or not in one line"] * 3
        + ["of a file or a store"] * 2
        + ["did you mean 'genes.txt'?"]
        + ["of a file or a store"] * 2
    )
    for line, end in zip(lines, ends, strict=True):
        assert line.endswith(end)
        assert (len(line) < 300, line.count("\n")) == (True, 0)
    assert bare.endswith("'bare' has no gene, or a name that is empty or not in one line")
    assert files["files"] == ["10x/", "far.txt", "genes.txt", "sub/", "up/"]
    assert "outside of the folder" in linked
    assert sub["files"] == ["near.txt"]


def test_long_answers_come_in_parts_that_together_are_all(home, served):
    search = {"kb": "demo", "query": "cell", "limit": 100, "detail": True}
    (part,) = ask(make_server(home), ("search_genes", search))
    found, n_parts = part["hits"], 1
    while "cut" in part and "offset" in part["cut"]:
        assert size(part) <= 20_000
        assert part["cut"].startswith("hits: entries ")
        (part,) = ask(make_server(home), ("search_genes", search | {"offset": len(found)}))
        found, n_parts = found + part["hits"], n_parts + 1
    command = call_json("genekb", "search", "cell", "--kb", "demo", "--home", home, "--limit", "100")
    assert (found, n_parts > 1) == (in_three_digits(command["hits"]), True)
    behind, many, long = ask(
        make_server(home),
        ("search_genes", search | {"offset": 100}),
        ("search_genes", search | {"limit": 101}),
        ("search_genes", search | {"query": "x" * 2_001}),
    )
    (short,) = ask(make_server(home), ("search_genes", search | {"detail": False}))
    assert size(short) <= 3_500
    assert short["hits"][0].items() <= found[0].items()
    assert "has 100 entries" in behind
    assert "less than or equal to 100" in many
    assert "at most 2,000 are searched" in long


def test_an_entry_that_is_too_long_by_itself_is_cut_too(home, served):
    names = [f"no such gene {number}" for number in range(2_000)]
    (answer,) = ask(
        make_server(home), ("name_gene_sets", {"kb": "demo", "sets": {"a": [*LISTS["0"], *names]}, "detail": True})
    )
    (one,) = answer["sets"]
    n_given = len(one["unknown"])
    assert one["unknown"] == names[:n_given]
    assert answer["cut"] == f"sets: unknown: entries 1 to {n_given} of 2000; offset={n_given} gives the next"
    assert 10_000 < size(answer) <= 20_000


def test_a_store_of_the_folder_is_used_and_nothing_is_written_there(home, served):
    shutil.copytree(next(path.parent for path in home.rglob("manifest.json")), served / "store")
    before = set(served.rglob("*"))
    calls = (("search_genes", {"kb": "store", "query": "T cell", "mode": "semantic"}),)
    (answer,) = ask(make_server(home), *calls)
    assert len(answer["hits"]) == 10
    assert set(served.rglob("*")) == before


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
        "list_stores": ({}, "genekb info"),
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
    alone = {"list_files", "describe_file", "describe_gene"}  # of no command
    assert [tool.name for tool in listed if tool.name not in alone] == list(commands)
    assert all(tool.annotations.read_only_hint and tool.description and tool.output_schema for tool in listed)
    given = {(tool.name, name): one for tool in listed for name, one in tool.input_schema["properties"].items()}
    assert all(one["description"] for one in given.values())
    assert given["search_genes", "limit"]["maximum"] == 100
    more = [("describe_file", {"file": "cells.h5ad"}), ("describe_gene", kb | {"gene": "CD3D"})]
    wrong = [("resolve_genes", kb | {"file": "../secret.txt"}), ("search_genes", kb | {"query": "x", "mode": "y"})]
    wrong += [("describe_gene", kb | {"gene": "no such"}), ("name_clusters", cells | {"cluster_key": "no such"})]
    short = [(name, arguments) for name, (arguments, _) in commands.items()]
    whole = [(name, arguments | {"detail": True}) for name, arguments in short]
    in_detail = [("describe_clusters", cells | {"cluster": one}) for one in ("T cell", "no such")]
    asked = [*short, *more, *whole, *wrong, *in_detail]
    found = ask(mcp.stdio_client(started), *asked)
    brief, whole, lines = (
        found[: len(short) + 2],
        found[len(short) + 2 : 2 * len(short) + 2],
        found[2 * len(short) + 2 :],
    )
    outside, bad, gene, column, one, nothing = lines
    assert max(size(answer) for answer in (*brief, one)) <= 3_500
    assert dict([*brief[-2]["columns"][-1].items()][:2]) == {"column": "label", "n_values": 2}
    assert (brief[-1]["symbol"], brief[-1]["text"][:5], len(brief[-1]["neighbors"])) == ("CD3D", "CD3D:", 5)
    (group,) = one["groups"]
    assert (group["cluster"], len(group["contributions"])) == ("T cell", 10)
    assert "no cluster 'no such'; there: " in nothing
    assert "outside of the folder" in outside
    assert "'hybrid', 'semantic' or 'keyword'" in bad
    assert "has no gene 'no such'" in gene
    assert "--" not in column
    for (name, (_, line)), answer in zip(commands.items(), whole, strict=True):
        told = in_three_digits(call_json(*line.split(), "--home", home))
        assert answer == told or ("cut" in answer and set(told) <= set(answer)), name
    assert {path: path.read_bytes() for path in served.iterdir() if path.is_file()} == before
