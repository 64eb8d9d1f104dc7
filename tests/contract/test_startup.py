"""Nothing heavy is loaded where a user waits for help or for an import; benchmarks/speed/startup.py takes the times."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "torch", "transformers", "sentence_transformers", "torch_geometric", "scanpy", "sklearn", "anndata", "pandas",
    "scipy", "numpy", "pyarrow", "duckdb", "faiss", "sknetwork", "matplotlib", "jinja2", "h5py", "zarr", "ray", "umap",
    "numba", "tokenizers", "safetensors", "huggingface_hub", "httpx", "tenacity", "Bio", "fsspec",
    "pydantic", "rich", "jaxtyping", "platformdirs", "filelock",
}  # fmt: skip
LOADED = f"""
import sys

def check(what):
    loaded = {HEAVY!r} & {{name.split(".")[0] for name in sys.modules}}
    assert not loaded, f"{{what}} loads {{sorted(loaded)}}"
"""
EVERY_HELP = """
from genekb_cellmodel_cli.{name} import app, main

def help_of(*words):
    sys.argv = ["{name}", *words, "--help"]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0
    check(" ".join(sys.argv))
    print("checked", *words)

def below(command, *words):
    help_of(*words)
    for name, child in getattr(command, "commands", {{}}).items():
        below(child, *words, name)

import typer.main
below(typer.main.get_command(app))
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-c", LOADED + code], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}", "PATH": ""},
    )  # fmt: skip


@pytest.mark.parametrize(
    "code", ["import genekb", "import cellmodel", "import genekb_cellmodel_cli.genekb, genekb_cellmodel_cli.cellmodel"]
)
def test_importing_loads_nothing_heavy(code):
    result = run(f"{code}\ncheck({code!r})")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("name", "leaf"), [("genekb", "build"), ("cellmodel", "cluster")])
def test_no_help_loads_anything_heavy(name, leaf):
    result = run(EVERY_HELP.format(name=name))
    assert result.returncode == 0, result.stderr
    assert f"checked {leaf}" in result.stdout.splitlines()


def test_recipes_that_pass_no_messages_over_a_graph_do_not_load_torch_geometric():
    others = "for name in BUILT_IN:\n    if not name.startswith('sc'): find_recipe(name)\n"
    code = "from cellmodel.recipes.registry import BUILT_IN, find_recipe\nimport cellmodel.tl\n" + others
    result = run(code + "assert 'torch' in sys.modules and 'torch_geometric' not in sys.modules")
    assert result.returncode == 0, result.stderr


def test_a_heavy_import_would_be_noticed():
    result = run("import pydantic\ncheck('this')")
    assert result.returncode == 1
    assert "this loads ['pydantic']" in result.stderr


def test_the_list_of_commands_says_each_first_sentence_whole():
    listed = run("from genekb_cellmodel_cli.genekb import main\nsys.argv = ['genekb', '--help']\nmain()").stdout
    described = " ".join(listed.split("Commands:")[1].split())
    assert "..." not in described
    assert "an interrupted download goes on." in described
