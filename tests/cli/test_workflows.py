"""`cellmodel run` as a Nextflow module, as a Snakemake wrapper, and from R: each runs, offline."""

import re
import shutil
import textwrap
from pathlib import Path

import anndata
import pytest

import genekb
from genekb_cellmodel_cli import cellmodel as cli
from tests.support.batches import two_protocols
from tests.support.commands import commands_of
from tests.support.demo import demo_cells
from tests.support.processes import done, has_in_r

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "artifacts" / "workflows" / "nextflow" / "cellmodel" / "run"
WRAPPERS = ROOT / "artifacts" / "workflows" / "snakemake"
PAGE = ROOT / "docs" / "guide" / "r.md"
START = """library(Seurat)
seu <- CreateSeuratObject(Read10X("tenx"))
seu$donor <- rep(c("a", "b"), 350)
seu$age <- c(NA, seq_len(699))
"""
CALL = re.compile(r"cellmodel run\b.*?(?:\{log\}|\$\{args\})", re.DOTALL)


def outputs_of_main_nf():
    """What the module emits, by name: the path in Nextflow's spelling."""
    section = (MODULE / "main.nf").read_text().split("output:")[1].split("when:")[0]
    return dict((name, path) for path, name in re.findall(r'path\(?\s*"([^"]+)"\)?\s*,\s*emit: (\w+)', section))


@pytest.mark.parametrize("path", [MODULE / "main.nf", WRAPPERS / "bio" / "cellmodel" / "run" / "wrapper.py"])
def test_options_of_the_steps_are_those_of_the_command(path):
    known = {option for parameter in commands_of(cli.app)["run"].params for option in parameter.opts}
    used = set(re.findall(r"--[a-z][\w-]*", CALL.search(path.read_text())[0]))
    assert {"--kb", "--output", "--threads"} <= used <= known


def test_the_module_declares_what_it_emits():
    described = (MODULE / "meta.yml").read_text().split("\noutput:\n")[1].split("\ntopics:")[0]
    assert re.findall(r"^  (\w+):$", described, re.MULTILINE) == [*outputs_of_main_nf()]
    for path in outputs_of_main_nf().values():
        assert f"- {path}:" in described


@pytest.mark.parametrize(
    "path",
    [MODULE / "main.nf", MODULE / "environment.yml", WRAPPERS / "bio" / "cellmodel" / "run" / "environment.yaml"],
)
def test_the_version_is_that_of_the_package(path):
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert re.search(rf"genekb-cellmodel ?[:=]{re.escape(version)}\b", path.read_text())


@pytest.mark.parametrize("task", ["label_projection", "batch_integration"])
def test_a_component_of_openproblems_runs_by_its_par(task, demo_kb, tmp_path):
    import yaml

    folder = ROOT / "artifacts" / "workflows" / "openproblems" / task
    config = yaml.safe_load((folder / "config.vsh.yaml").read_text())
    own = {argument["name"].removeprefix("--") for argument in config["arguments"]}
    cells = two_protocols()
    cells.var_names = demo_kb.table("genes")["symbol"].to_pylist()[: cells.n_vars]
    cells.layers["counts"] = cells.X.copy()
    cells.obs = cells.obs.rename(columns={"kind": "label"})
    cells.uns |= {"dataset_id": "cells", "normalization_id": "log_cp10k"}
    parts = {"input": cells, "input_train": cells[:180], "input_test": cells[180:]}
    par = {name: str(tmp_path / f"{name}.h5ad") for name in (*parts, "output")} | {"kb": str(demo_kb.folder)}
    for name, part in parts.items():
        part.copy().write_h5ad(par[name])
    before, block, after = re.split(r"## VIASH (?:START|END)\n", (folder / "script.py").read_text())
    given = {}
    exec(block, given)  # what the script is given, and no more
    assert own <= set(given["par"]) <= set(par)
    exec(f"{before}par, meta = {par!r}, {{'name': {config['name']!r}}}\n{after}", {})
    output = anndata.read_h5ad(par["output"])
    assert set(output.uns) == {"dataset_id", "normalization_id", "method_id"}
    if task == "label_projection":
        assert (output.obs["label_pred"].to_numpy() == cells.obs["label"].to_numpy()[180:]).mean() > 0.9
    else:
        assert output.obsm["X_emb"].shape[0] == cells.n_obs


@pytest.mark.slow
def test_the_script_of_the_nextflow_module_writes_all_that_it_declares(demo_kb, tmp_path):
    demo_cells().write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "kb").symlink_to(demo_kb.folder)
    values = {"cells": "cells.h5ad", "kb": "kb", "prefix": "test", "task.cpus": "1", "task.process": "CELLMODEL_RUN",
              "args": "--recipe pca-kmeans --n-clusters 6"}  # fmt: skip
    script = (MODULE / "main.nf").read_text().split("script:")[1].split("stub:")[0].split('"""')[1]
    script = re.sub(r"(?<!\\)\$\{([\w.]+)\}", lambda found: values[found[1]], script)
    script = textwrap.dedent(script).replace("\\$", "$").replace("\\\\", "\\")
    done(["bash", "-euo", "pipefail", "-c", script], tmp_path)
    for path in outputs_of_main_nf().values():
        assert list(tmp_path.glob(path.replace("${prefix}", "test"))), path
    versions = (tmp_path / "versions.yml").read_text()
    assert re.fullmatch(r'"CELLMODEL_RUN":\n    genekb-cellmodel: \d+\.\d+\.\d+\n', versions)
    assert {"cellmodel", "cellmodel_name"} <= set(anndata.read_h5ad(tmp_path / "test.h5ad").obs)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="needs Snakemake: pip install snakemake")
def test_the_snakemake_wrapper_runs_its_own_test(tmp_path):
    snakefile = WRAPPERS / "bio" / "cellmodel" / "run" / "test" / "Snakefile"
    prefix = f"{WRAPPERS.as_uri()}/"
    done(["snakemake", "-s", snakefile, "--wrapper-prefix", prefix, "--cores", "1", "named.h5ad"], tmp_path)
    assert anndata.read_h5ad(tmp_path / "named.h5ad").obs["cellmodel_name"].nunique() > 1
    assert "natural killer cell" in (tmp_path / "named.html").read_text()
    assert (tmp_path / "tables" / "cells.tsv").is_file()
    assert "cluster" in (tmp_path / "logs" / "cellmodel_run.log").read_text()


@pytest.mark.slow
def test_the_page_for_r_runs_from_seurat_and_back(tmp_path):
    if not has_in_r("Seurat", "hdf5r"):
        pytest.skip("needs R with Seurat and hdf5r: apt install r-cran-seurat r-cran-hdf5r")
    from scipy.io import mmwrite

    genekb.build(genekb.read_demo_table(), genekb.BuildConfig(name="human", models=("wcp-32",)), home=tmp_path / "home")
    (tmp_path / "tenx").mkdir()
    cells = demo_cells()
    mmwrite(tmp_path / "tenx" / "matrix.mtx", cells.X.T.tocoo())
    (tmp_path / "tenx" / "barcodes.tsv").write_text("\n".join(cells.obs_names) + "\n")
    (tmp_path / "tenx" / "genes.tsv").write_text("".join(f"{gene}\t{gene}\n" for gene in cells.var_names))
    parts = [START]
    for language, block in re.findall(r"```(r|bash)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        command = f"env -u LD_LIBRARY_PATH {block.strip()}"  # R's own libraries are not those of Python
        parts.append(block if language == "r" else f"stopifnot(system('{command}') == 0)\n")
    parts.append('write.csv(cbind(seu[[]], ident = as.character(Idents(seu))), "back.csv")\n')
    parts.append('write.csv(Embeddings(seu, "cm"), "z.csv")\n')
    (tmp_path / "page.R").write_text("\n".join(parts))
    done(["Rscript", "page.R"], tmp_path)
    import numpy as np
    import pandas as pd

    back, out = pd.read_csv(tmp_path / "back.csv", index_col=0), anndata.read_h5ad(tmp_path / "out.h5ad")
    assert (out.obs_names == cells.obs_names).all()
    assert (out.obs["donor"] == back["donor"]).all()
    assert out.obs["age"].isna().tolist() == [True] + [False] * 699
    np.testing.assert_allclose(out.X.toarray(), cells.X.toarray(), atol=1e-5)
    assert (back["cellmodel_name"] == out.obs["cellmodel_name"].astype(str)).all()
    assert back["name"].notna().all()
    np.testing.assert_allclose(pd.read_csv(tmp_path / "z.csv", index_col=0), out.obsm["X_cellmodel"], atol=1e-5)
