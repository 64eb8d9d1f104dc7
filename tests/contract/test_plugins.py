"""Recipes and encoders of other packages: the package of docs/tutorials/plug-ins.md, and packages that are broken."""

import json
import logging
import re
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import anndata
import numpy as np
import pytest

import cellmodel as cm
from cellmodel.core.config import RunConfig
from cellmodel.pp import integrate
from cellmodel.recipes import registry as recipes
from genekb.encoders import registry as encoders
from tests.support.in_process import call_here
from tests.support.processes import call, call_json

PAGE = (Path(__file__).parents[2] / "docs" / "tutorials" / "plug-ins.md").read_text()


def install(folder, *, name, groups, version):
    """Put a distribution's metadata where a Python path finds it, as pip would."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    head = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n"
    (info / "METADATA").write_text(head)
    lines = [f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in group_lines.items())
             for group, group_lines in groups.items()]  # fmt: skip
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package that docs/tutorials/plug-ins.md shows."""
    folder = tmp_path_factory.mktemp("site")
    (project,) = (tomllib.loads(block)["project"] for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
    install(folder, name=project["name"], version=project["version"], groups=project["entry-points"])
    modules = re.findall(r"%%writefile (\w+\.py)\n(.*?)```", PAGE, re.DOTALL)
    assert [name for name, _ in modules] == ["nmf_recipe.py", "letter_encoder.py"]
    for name, code in modules:
        (folder / name).write_text(code)
    return folder


@pytest.fixture
def beside(installed, tmp_path, monkeypatch):
    """Installs another package for this process."""

    def add(**groups):
        install(
            tmp_path, name="worse", version="0.1", groups={key.replace("_", "."): each for key, each in groups.items()}
        )
        for folder in (installed, tmp_path):
            monkeypatch.syspath_prepend(folder)
        for known in (recipes, encoders, integrate):
            known.plugins.cache_clear()

    yield add
    for known in (recipes, encoders, integrate):
        known.plugins.cache_clear()


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    rng = np.random.default_rng(0)
    means = np.repeat(rng.gamma(0.3, 3, (3, 200)), 40, axis=0)
    adata = anndata.AnnData(rng.poisson(means).astype(np.float32))
    adata.obs["cell_type"] = np.repeat(["a", "b", "c"], 40)
    adata.obs_names, adata.var_names = [f"C{number}" for number in range(120)], [f"G{number}" for number in range(200)]
    folder = tmp_path_factory.mktemp("labeled")
    adata.write_h5ad(folder / "three.h5ad")
    return folder


@pytest.mark.slow
def test_cluster_and_bench_take_the_recipe_of_a_plug_in(beside, labeled, tmp_path, capsys, monkeypatch):
    beside()
    cells, given = labeled / "three.h5ad", ("--recipe", "nmf", "--knowledge", "none", "--n-clusters", 3)
    ended = call_here(("cellmodel", "cluster", cells, *given, "-o", tmp_path / "out.h5ad"), capsys, monkeypatch)
    assert ended.code == 0, ended.err
    record = anndata.read_h5ad(tmp_path / "out.h5ad").uns["cellmodel"]
    assert record["recipe"] == record["params"]["recipe"] == "nmf"
    assert record["versions"]["cell-extras"] == "1.0"
    given = ("--recipes", "nmf", "--seeds", "0", "--n-clusters", "given", "-o", tmp_path / "bench", "--json")
    ended = call_here(("cellmodel", "bench", labeled, *given), capsys, monkeypatch)
    assert [row["recipe"] for row in json.loads(ended.out)["rows"]] == ["nmf"], ended.err


def test_cluster_takes_the_integration_of_a_plug_in(beside, labeled, tmp_path, capsys, monkeypatch):
    (tmp_path / "worse.py").write_text(
        "import numpy as np\n"
        "def center(pcs, batches, seed):\n"
        "    means = np.stack([pcs[batches == batch].mean(axis=0) for batch in range(batches.max() + 1)])\n"
        "    return pcs - means[batches]\n"
        "def cut(pcs, batches, seed):\n"
        "    return pcs[:, :3]\n"
    )
    beside(cellmodel_integrations={"center": "worse:center", "cut": "worse:cut", "harmony": "worse:cut"})
    adata = anndata.read_h5ad(labeled / "three.h5ad")
    adata.obs["batch"] = np.arange(120) % 2
    adata.write_h5ad(tmp_path / "cells.h5ad")
    shared = ("cellmodel", "cluster", tmp_path / "cells.h5ad", "--knowledge", "none", "--batch-key", "batch")
    given = ("--integration", "center", "-o", tmp_path / "o.h5ad")
    ended = call_here((*shared, *given), capsys, monkeypatch)
    assert ended.code == 0, ended.err
    record = anndata.read_h5ad(tmp_path / "o.h5ad").uns["cellmodel"]
    assert record["batches"]["integration"] == "center"
    assert record["versions"]["worse"] == "0.1"
    ended = call_here((*shared, "--integration", "cut", "-o", tmp_path / "p.h5ad"), capsys, monkeypatch)
    assert ended.code == 4
    assert "plug-in 'cut' of worse 0.1 cannot be used: it gave float32 of shape (120, 3), finite floats" in ended.err


def test_python_takes_a_recipe_that_is_installed_nowhere(installed, labeled):
    spec = spec_from_file_location("nmf_recipe", installed / "nmf_recipe.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    adata = anndata.read_h5ad(labeled / "three.h5ad")
    cm.tl.cluster(adata, recipe=module.RECIPE, knowledge="none", n_clusters=3)
    assert adata.uns["cellmodel"]["recipe"] == "nmf"
    assert adata.obsm["X_cellmodel"].shape == (120, 10)
    cm.tl.embed(adata, recipe=module.RECIPE, knowledge="none", overwrite=True)
    assert RunConfig(recipe=module.RECIPE).to_dict() == RunConfig(recipe="nmf").to_dict()


def test_build_and_search_take_the_encoder_of_a_plug_in(installed, tmp_path):
    built = call_json("genekb", "build", "--model", "letters", "--home", tmp_path, plugins=installed)
    assert [name.rsplit("-", 1)[0] for name in built["encoders"]] == ["letters"]
    given = ("search", "T cell receptor", "--kb", "demo", "--encoder", "letters", "--home", tmp_path)
    assert len(call_json("genekb", *given, "--limit", "3", plugins=installed)["hits"]) == 3
    code, _, err = call("genekb", *given)
    assert (code, err.count("\n")) == (4, 1)
    assert "was made by a plug-in of cell-extras, which is not installed here" in err
    source = (installed / "letter_encoder.py").read_text()
    later = tmp_path / "later"
    later.mkdir()
    (later / "letter_encoder.py").write_text(source.replace('revision="1"', 'revision="2"'))
    install(later, name="cell-extras", groups={"genekb.encoders": {"letters": "letter_encoder:load"}}, version="2.0")
    code, _, err = call("genekb", *given, plugins=later)
    assert (code, "is version 1, this genekb has 2" in err) == (4, True)


def test_help_and_models_list_plug_ins_with_their_distribution(installed):
    code, out, err = call("cellmodel", "cluster", "--help", plugins=installed)
    assert (code, f"<{'|'.join(recipes.BUILT_IN)}|nmf>" in out, err) == (0, True, "")
    models = {row["name"]: row for row in call_json("genekb", "info", "--models", plugins=installed)["models"]}
    assert models["letters"]["note"] == "plug-in of cell-extras 1.0"
    assert (models["letters"]["where"], models["letters"]["licence"]) == ("plug-in", "MIT")


def test_the_shell_completes_a_plug_ins_encoder(installed, monkeypatch):
    for name, value in {"_GENEKB_COMPLETE": "complete_bash", "COMP_CWORD": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COMP_WORDS", "genekb build --model lett")
    assert call("genekb", plugins=installed)[:2] == (0, "letters\n")


def test_names_stay_with_whoever_has_them_first(beside, caplog):
    wanted = dict.fromkeys(("fused", "nmf", "no+name", "own"), "nmf_recipe:RECIPE")
    beside(cellmodel_recipes=wanted, genekb_encoders={"wcp-256": "letter_encoder:load", "auto": "letter_encoder:load"})
    with caplog.at_level(logging.WARNING):
        assert recipes.recipe_names() == (*recipes.BUILT_IN, "nmf", "own")
        assert set(encoders.plugins()) == {"letters"}
    assert [record.getMessage() for record in caplog.records] == [
        "cellmodel.recipes: 'fused' of worse 0.1 is left out: a built-in has that name",
        "cellmodel.recipes: 'nmf' of worse 0.1 is left out: cell-extras 1.0 has that name",
        "cellmodel.recipes: 'no+name' of worse 0.1 is left out: a name is [a-z0-9._-]",
        "genekb.encoders: 'auto' of worse 0.1 is left out: a built-in has that name",
        "genekb.encoders: 'wcp-256' of worse 0.1 is left out: a built-in has that name",
    ]
    assert recipes.find_recipe("nmf").represent.__module__ == "nmf_recipe"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("no_such_module:RECIPE", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("pathlib:Path", "pathlib:Path is a type, a Recipe of that name is needed"),
        ("nmf_recipe:RECIPE", "nmf_recipe:RECIPE is a Recipe named 'nmf', a Recipe of that name is needed"),
    ],
)
def test_a_recipe_that_breaks_the_contract_ends_its_own_command_in_one_line(
    beside, labeled, place, reason, capsys, monkeypatch
):
    beside(cellmodel_recipes={"other": place})
    ended = call_here(
        ("cellmodel", "bench", labeled / "three.h5ad", "--off", "--recipes", "other", "-o", "out"), capsys, monkeypatch
    )
    message = f"plug-in 'other' of worse 0.1 cannot be used: {reason}; mend or uninstall it"
    assert (ended.code, ended.err) == (4, f"cellmodel: error: {message}\n")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("letter_encoder:load", "its spec must have name='other', kind='plugin' and a revision, got EncoderSpec(name="),
        ("string:digits", "TypeError: 'str' object is not callable"),
    ],
)
def test_an_encoder_that_breaks_the_contract_ends_its_own_command_in_one_line(
    beside, place, reason, capsys, monkeypatch, tmp_path
):
    beside(genekb_encoders={"other": place})
    ended = call_here(("genekb", "build", "--model", "other", "--home", tmp_path / "home"), capsys, monkeypatch)
    assert (ended.code, ended.err.count("\n")) == (4, 1)
    assert f"plug-in 'other' of worse 0.1 cannot be used: {reason}" in ended.err


def test_an_unknown_recipe_is_wrong_usage_and_suggests_the_nearest(beside, labeled, capsys, monkeypatch, tmp_path):
    beside()
    told = "recipe 'nmff' is not one of fused, scllm-dsc, .*, nmf; did you mean 'nmf'\\?"
    for command in (("cluster", "x.h5ad", "--recipe", "nmff"), ("bench", labeled, "--recipes", "nmff")):
        ended = call_here(("cellmodel", *command, "-o", tmp_path / "out"), capsys, monkeypatch)
        assert ended.code == 2
        assert re.search(told, ended.err)


@pytest.mark.parametrize("name", recipes.BUILT_IN)
def test_a_recipe_has_the_name_that_the_registry_gives_it(name):
    assert recipes.find_recipe(name).name == name
