"""Clusters named by marker genes, from file to file."""

import json

import numpy as np
import pytest

from cellmodel.annotate.candidates import read_panel
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import ReadConfig
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.io.writers import WriteConfig
from cellmodel.tl._annotate import OverlapJob
from cellmodel.tl._demo import find_demo_cells
from cellmodel.tl._run.task import run_on_file
from tests.support.in_process import call, call_json

PANEL = {
    "T cell": ["CD3D", "CD3E", "CD3G", "IL7R", "CD27", "LTB"],
    "B cell": ["CD79A", "CD79B", "MS4A1", "CD74", "HLA-DRA"],
    "NK cell": ["NKG7", "GNLY", "GZMB", "PRF1", "CST7", "FGFBP2"],
    "monocyte": ["LYZ", "S100A8", "S100A9", "CST3", "FCN1", "CD14", "LST1"],
    "neuron": ["SYT1", "RBFOX3", "SNAP25"],
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    cells = read_anndata(find_demo_cells()).raw.to_adata()
    where = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    cells.write_h5ad(where)
    return where


def test_a_panel_is_read_from_json_and_from_a_table(tmp_path):
    (tmp_path / "panel.json").write_text(json.dumps(PANEL))
    lines = [f"{name}\t{gene}" for name, genes in PANEL.items() for gene in genes]
    (tmp_path / "panel.tsv").write_text("\n".join(["cell_type\tgene", *lines]) + "\n")
    expected = {name: tuple(genes) for name, genes in PANEL.items()}
    assert read_panel(tmp_path / "panel.json") == read_panel(tmp_path / "panel.tsv") == expected


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.json", "[1]", "no object"),
        ("a.json", "{", "cannot be read"),
        ("a.json", "{}", "names no gene"),
        ("a.tsv", "type\tsymbol\nT\tCD3D\n", "its columns are type, symbol"),
        ("a.csv", "", "its columns are none"),
    ],
)
def test_what_is_no_panel_is_refused_in_one_line(tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputUnusable, match=why):
        read_panel(tmp_path / name)


def test_known_populations_get_their_names(path, tmp_path):
    (tmp_path / "panel.json").write_text(json.dumps(PANEL))
    args = ["annotate", path, "--markers", tmp_path / "panel.json", "--cluster-key", "bulk_labels"]
    told = call_json("cellmodel", *args, "-o", tmp_path / "named.h5ad")
    name_of = {row["cluster"]: row["name"] for row in told["clusters"]}
    assert name_of["CD19+ B"] == "B cell"
    assert name_of["CD56+ NK"] == "NK cell"
    assert name_of["CD14+ Monocyte"] == "monocyte"
    assert "neuron" not in name_of.values()
    written = read_anndata(tmp_path / "named.h5ad")
    assert (written.obs["cellmodel_name"].astype(str) == written.obs["bulk_labels"].astype(str).map(name_of)).all()
    assert set(written.uns["cellmodel_name"]["names"]["cluster"]) == set(name_of)


def test_cells_without_a_cluster_get_no_name(path, tmp_path):
    (tmp_path / "panel.json").write_text(json.dumps(PANEL))
    cells = read_anndata(path)
    labels = cells.obs["bulk_labels"]
    cells.obs["kind"] = np.select([labels == "CD19+ B", labels == "CD56+ NK"], [0.0, 1.0], np.nan)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    task = OverlapJob(panel=read_panel(tmp_path / "panel.json"), cluster_key="kind")
    write = WriteConfig(output=tmp_path / "named.h5ad", key_added="name")
    found = run_on_file(tmp_path / "cells.h5ad", task, read=ReadConfig(), write=write)
    assert [(name, one.name) for name, one in zip(found.found.names, found.names, strict=True)] == [
        ("0", "B cell"), ("1", "NK cell"),
    ]  # fmt: skip
    assert (read_anndata(tmp_path / "named.h5ad").obs["name"].isna() == cells.obs["kind"].isna()).all()


def test_errors_come_before_any_output(path, tmp_path):
    (tmp_path / "panel.json").write_text(json.dumps({"yeast": ["YAL001C", "YAL002W"]}))
    args = ["annotate", path, "--markers", tmp_path / "panel.json", "-o", tmp_path / "o.h5ad"]
    code, _, err = call("cellmodel", *args)
    assert (code, "no column 'cellmodel'" in err) == (3, True)
    code, _, err = call("cellmodel", *args, "--cluster-key", "bulk_labels")
    assert (code, "same species and spelling" in err) == (3, True)
    assert not (tmp_path / "o.h5ad").exists()
