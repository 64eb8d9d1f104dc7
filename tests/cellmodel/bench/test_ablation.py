"""Parts left out: each variant changes one thing, differences are paired, labels enter the measures alone."""

import numpy as np
import pytest

import cellmodel as cm
from cellmodel.bench.changes import WITHOUT, changed_config, part_changes
from cellmodel.bench.tables import paired_rows
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import cells_from_anndata
from cellmodel.recipes.fused import TERMS
from cellmodel.recipes.registry import BUILT_IN, find_recipe
from cellmodel.tl._run.pipeline import run
from tests.support.demo import variable_demo_cells
from tests.support.grids import mostly_slow
from tests.support.in_process import call, call_json


@pytest.fixture(scope="module")
def home(demo_home):
    return demo_home


@pytest.fixture(scope="module")
def adata():
    return variable_demo_cells()[:200].copy()


@pytest.fixture(scope="module")
def path(adata, tmp_path_factory):
    where = tmp_path_factory.mktemp("ablation") / "cells.h5ad"
    without = adata.copy()
    without.obs["empty"] = ""
    without.write_h5ad(where)
    return where


@pytest.fixture(scope="module")
def ablated(path, demo_kb, tmp_path_factory):
    def ablated(label_key, *seeds):
        output = tmp_path_factory.mktemp("out")
        given = {"recipes": "fused+kmeans", "seeds": seeds, "kb": demo_kb, "n_clusters": 5, "off": True}
        found = cm.bench.bench(path, output, label_key=label_key, **given)
        if found.failures:
            raise InputUnusable(found.failures[0][2])
        return {f"{row.setting} {row.value}".strip(): row for row in paired_rows(found.rows)}

    return ablated


@pytest.fixture(scope="module")
def found(ablated):
    return ablated("bulk_labels", 0, 1)


def test_every_part_has_a_variant_that_changes_it_alone():
    planned, skipped = part_changes("fused", knowledge="real")
    assert planned == [
        *(("knowledge", kind) for kind in ("shuffled", "random", "none")),
        ("path1_weight", 1.0),
        ("path1_weight", 0.0),
        *((WITHOUT, term.name) for term in TERMS),
    ]
    assert skipped == []
    configs = [changed_config(RunConfig(), change) for change in planned]
    assert {config.semantics.path1_weight for config in configs} == {0.5, 1.0, 0.0}
    assert [config.knowledge for config in configs][:4] == ["shuffled", "random", "none", "real"]


def test_what_would_change_nothing_is_said_and_not_run():
    planned, skipped = part_changes("pca-kmeans", knowledge="none")
    assert planned == []
    assert ["reads no text" in skipped[0], "two are needed" in skipped[1]] == [True, True]


@pytest.mark.parametrize(
    "name", mostly_slow([name for name in BUILT_IN if find_recipe(name).uses_text], "fused", "genept-w")
)
def test_a_recipe_that_needs_text_refuses_to_go_without_and_its_ablation_does_not_ask_it_to(adata, name):
    cells, config = cells_from_anndata(adata[:60].copy()), RunConfig(recipe=name, knowledge="none", n_words=0)
    if find_recipe(name).needs_text:
        with pytest.raises(InputUnusable, match="leave out `knowledge`"):
            run(cells, None, config)
    else:
        assert run(cells, None, config, with_clusters=False).text is None
    planned, skipped = part_changes(name, knowledge="real")
    asked = ("knowledge", "none") in planned
    assert asked is not find_recipe(name).needs_text
    assert any("cannot do without texts" in line for line in skipped) is not asked


@pytest.mark.parametrize("name", [name for name in BUILT_IN if find_recipe(name).train is not None])
def test_objectives_that_a_recipe_names_are_its_own(name):
    recipe = find_recipe(name)
    assert len(set(recipe.objectives)) == len(recipe.objectives) > 0


@pytest.mark.slow
def test_the_text_moves_the_embedding_and_not_the_clusters_of_fused(found):
    assert next(iter(found)) == ""
    assert all(row.mean["same_clusters"] == 1 for row in found.values())
    assert found["knowledge none"].difference["ari"] == 0
    assert found["knowledge random"].difference["purity"] != 0
    assert found["without align"].difference["purity"] != 0


@pytest.mark.slow
def test_differences_are_paired_by_seed(found, ablated):
    single = [ablated("bulk_labels", seed) for seed in (0, 1)]
    for name, row in found.items():
        values = [rows[name].mean["purity"] - rows[""].mean["purity"] for rows in single]
        assert row.difference["purity"] == pytest.approx(np.mean(values))
        assert row.sd["purity"] == pytest.approx(np.std(values))


@pytest.mark.slow
def test_labels_enter_the_measures_alone(ablated, found):
    bare = ablated(None, 0, 1)
    assert not {"ari", "purity"} & set(bare[""].mean)
    for name, without in bare.items():
        measures = {name: value for name, value in without.mean.items() if name != "seconds"}
        assert measures.items() <= found[name].mean.items()
    with pytest.raises(InputUnusable, match="names 0 types, 2 are needed"):
        ablated("empty", 0)


@pytest.mark.slow
def test_the_command_prints_a_table_and_one_object(path, home, tmp_path):
    args = ["bench", path, "--off", "--kb", "demo", "--home", home, "--truth", "bulk_labels", "--seeds", "0"]
    args += ["--n-clusters", "5", "--recipes", "fused+kmeans", "-o", tmp_path / "out"]
    content = call_json("cellmodel", *args)
    assert content["rows"][0]["setting"] == ""
    code, out, _ = call("cellmodel", *args)
    assert (code, out.count("| knowledge ")) == (0, 3)
    row = next(row for row in content["rows"] if (row["setting"], row["value"]) == ("knowledge", "random"))
    difference = row["purity"] - content["rows"][0]["purity"]
    assert f"{row['purity']:.3f} ({difference:+.3f} ± 0.000)" in out
