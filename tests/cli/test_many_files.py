"""`cellmodel cluster` and `embed` with files of several formats and names of genes: what is reported and refused."""

import shutil

import anndata
import numpy as np
import pytest
from scipy.io import mmwrite

from tests.support.demo import variable_demo_cells
from tests.support.in_process import call, call_json

PLAIN = ("--recipe", "pca-kmeans", "--n-clusters", "4", "--values", "log1p")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_kb):
    """700 blood cells in three files: symbols in .h5ad, GeneIDs in a 10x folder, symbols in a table."""
    folder = tmp_path_factory.mktemp("files")
    cells = variable_demo_cells()
    cells = anndata.AnnData(cells.raw.X if cells.raw is not None else cells.X, obs=cells.obs, var=cells.raw.var)
    a, b, c = cells[:300].copy(), cells[300:600, ::-1].copy(), cells[600:].copy()
    a.write_h5ad(folder / "a.h5ad")
    (folder / "b").mkdir()
    ids = demo_kb.resolve(b.var_names).gene_ids
    names = [str(gene) if gene else name for gene, name in zip(ids, b.var_names, strict=True)]
    mmwrite(folder / "b" / "matrix.mtx", b.X.T.tocoo())
    (folder / "b" / "barcodes.tsv").write_text("".join(f"{name}\n" for name in b.obs_names))
    (folder / "b" / "features.tsv").write_text("".join(f"{name}\t{name}\n" for name in names))
    c.to_df().to_csv(folder / "c.csv")
    return folder


@pytest.mark.slow
def test_files_of_three_formats_and_two_kinds_of_names_are_one(folder, tmp_path, demo_home):
    output, report = tmp_path / "all.h5ad", tmp_path / "report.html"
    content = call_json(
        "cellmodel", "cluster", folder / "a.h5ad", folder / "b", folder / "c.csv", *PLAIN, "--kb", "demo",
        "--home", demo_home, "-o", output, "--report", report, "--save-model", tmp_path / "model",
    )  # fmt: skip
    assert [row["sample"] for row in content["files"]] == ["a", "b", "c"]
    assert [row["n_cells"] for row in content["files"]] == [300, 300, 100]
    assert max(row["n_lost"] for row in content["files"]) < 5
    assert content["notes"][0].endswith("of them by id under different names")
    cells = anndata.read_h5ad(output)
    whole = variable_demo_cells()
    assert cells.obs_names.tolist() == whole.obs_names.tolist()
    assert cells.obs["sample"].value_counts().to_dict() == {"a": 300, "b": 300, "c": 100}
    shared = [name for name in cells.var_names if name in whole.raw.var_names]
    assert len(shared) > 700
    np.testing.assert_allclose(cells[:, shared].X.toarray(), whole.raw[:, shared].X.toarray(), rtol=1e-5)
    assert "3 files (" in report.read_text()
    again = call_json("cellmodel", "predict", output, "--model", tmp_path / "model", "-o", tmp_path / "p.h5ad",
                      "--key-added", "again", "--kb", "demo", "--home", demo_home)  # fmt: skip
    assert again["n_cells"] == 700
    embedded = tmp_path / "embedded.h5ad"
    call_json(
        "cellmodel", "cluster", "--no-clusters", folder / "a.h5ad", folder / "c.csv", *PLAIN[:2], *PLAIN[4:],
        "--knowledge", "none", "--batch-key", "sample", "-o", embedded,
    )  # fmt: skip
    assert anndata.read_h5ad(embedded).uns["cellmodel"]["batches"]["n_cells"] == {"a": 300, "c": 100}


def test_folders_of_one_name_are_told_apart_everywhere(folder, tmp_path):
    paths = []
    for name in ("d1", "d2"):
        paths.append(tmp_path / name / "outs" / "filtered_feature_bc_matrix")
        shutil.copytree(folder / "b", paths[-1])
    output, report = tmp_path / "all.h5ad", tmp_path / "report.html"
    words = ("--knowledge", "none", *PLAIN, "-o", output, "--report", report)
    code, out, err = call("cellmodel", "cluster", *paths, *words)
    assert (code, [line.split(":")[0] for line in err.splitlines() if " 300 cells" in line]) == (0, ["d1", "d2"])
    assert out.count("filtered_feature_bc_matrix") == 0
    cells = anndata.read_h5ad(output)
    assert cells.obs["sample"].value_counts().to_dict() == {"d1": 300, "d2": 300}
    assert cells.uns["cellmodel"]["input"]["source"] == "2 files (d1, d2)"
    assert cells.uns["cellmodel"]["input"]["files"]["file"].tolist() == ["d1", "d2"]
    assert "Clusters of 2 files (d1, d2)" in report.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.h5ad", "a.h5ad"), "is given twice"),
        (("a.h5ad", "c.csv", "--spatial"), "leave --spatial out"),
        (("a.h5ad", "c.csv", "--sample-key", "donor"), "has no column 'donor' in obs"),
        (("a.h5ad", "--sample-key", "donor"), "is one; leave it out"),
        (("a.h5ad", "c.csv", "--out-of-core", "yes"), "c.csv: only .h5ad"),
        (("a.h5ad", "absent.h5ad"), "absent.h5ad does not exist"),
    ],
)
def test_what_cannot_be_joined_ends_in_one_line(folder, tmp_path, arguments, message):
    paths = [folder / each if each.endswith((".h5ad", ".csv")) else each for each in arguments]
    code, out, err = call(
        "cellmodel", "cluster", *paths, "--knowledge", "none", *PLAIN, "-o", tmp_path / "out.h5ad"
    )  # fmt: skip
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_an_input_is_refused(folder):
    code, _, err = call(
        "cellmodel", "cluster", folder / "c.csv", folder / "a.h5ad", "--knowledge", "none", *PLAIN, "--overwrite",
        "-o", folder / "a.h5ad",
    )  # fmt: skip
    assert (code, err.count("\n")) == (3, 1)
    assert "a.h5ad is an input" in err
