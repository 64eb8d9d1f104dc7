"""Clusters named by marker genes: the overlap, panels from files, and from file to file."""

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import false_discovery_control, hypergeom

from cellmodel.annotate.candidates import read_panel
from cellmodel.annotate.marker_overlap import display_name, name_clusters
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.markers import rank_markers
from cellmodel.io.formats.anndata import read_anndata
from tests.support.demo import demo_cells
from tests.support.in_process import call_json

GENES = [f"g{gene}" for gene in range(100)]
PANEL = {"early": GENES[:8], "late": GENES[50:58], "elsewhere": [*GENES[90:95], "never measured"]}


def tables(*, shift=3.0):
    """Markers of three clusters of 30 cells: genes 0-9 rise in the first, 50-59 in the second, none in the third."""
    rng = np.random.default_rng(0)
    values = 3 + rng.random((90, 100))
    values[:30, :10] += shift
    values[30:60, 50:60] += shift
    return rank_markers(sp.csr_matrix(values), np.repeat([0, 1, 2], 30), gene_names=GENES, n_top=100)


def test_clusters_get_the_type_whose_genes_they_raise_and_others_none():
    names = name_clusters(tables(), PANEL, background=GENES)
    assert [name.name for name in names] == ["early", "late", "unassigned"]
    assert [name.cluster for name in names] == [0, 1, 2]
    assert set(names[0].genes) == set(PANEL["early"])
    assert [name.n_panel for name in names[:2]] == [8, 8]


def test_p_values_are_the_hypergeometric_tail_and_benjamini_hochberg_over_all_tests():
    markers = tables()
    found = name_clusters(markers, PANEL, background=GENES)
    chosen = [{m.name for m in table.markers if m.t > 0 and m.p_adjusted <= 0.05} for table in markers]
    measured = {name: set(genes) & set(GENES) for name, genes in PANEL.items()}
    p = np.array([
        [hypergeom(100, len(genes), len(own)).pmf(range(len(own & genes), 101)).sum() for genes in measured.values()]
        for own in chosen
    ])  # fmt: skip
    adjusted = false_discovery_control(np.minimum(p, 1).ravel()).reshape(p.shape)
    for name, row, adjusted_row in zip(found, p, adjusted, strict=True):
        assert (name.p_value, name.p_adjusted) == pytest.approx((row.min(), adjusted_row.min()))


def test_panel_genes_that_were_not_measured_change_nothing():
    noted = {name: [*genes, "x1", "x2"] for name, genes in PANEL.items()}
    assert name_clusters(tables(), noted, background=GENES) == name_clusters(tables(), PANEL, background=GENES)


def test_weak_overlap_leaves_a_cluster_unassigned_and_still_says_what_came_nearest():
    one = name_clusters(tables(), {"early": GENES[:1]}, background=GENES)[0]
    assert (one.name, one.runner_up, one.runner_up_p_adjusted) == ("unassigned", None, 1.0)
    shown = display_name(one.name, best=one.best, reason=one.reason)
    assert shown == "unassigned (best: early, 1 of 2 shared genes)"


def test_genes_that_a_cluster_lacks_never_count():
    lacked = name_clusters(tables(shift=-3.0), PANEL, background=GENES)  # each of two clusters lacks the one list
    assert [name.name for name in lacked[:2]] == ["late", "early"]


def test_equal_types_go_by_their_order_in_the_panel():
    twice = {"first": GENES[:8], "second": GENES[:8]}
    name = name_clusters(tables(), twice, background=GENES)[0]
    assert (name.name, name.runner_up) == ("first", "second")
    assert name.p_adjusted == name.runner_up_p_adjusted


def test_a_cluster_without_a_rest_is_unassigned():
    empty = replace(tables()[0], markers=(), is_tested=False)
    name = name_clusters([empty], PANEL, background=GENES)[0]
    assert (name.name, name.p_value, name.n_markers) == ("unassigned", 1.0, 0)


def test_what_cannot_be_named_is_refused():
    why = "0 genes of the panel's 1 types are among the 100 measured.*same species and spelling"
    with pytest.raises(InputUnusable, match=why):
        name_clusters(tables(), {"other species": ["Ins1"]}, background=GENES)


CELL_PANEL = {
    "T cell": ["CD3D", "CD3E", "CD3G", "IL7R", "CD27", "LTB"],
    "B cell": ["CD79A", "CD79B", "MS4A1", "CD74", "HLA-DRA"],
    "NK cell": ["NKG7", "GNLY", "GZMB", "PRF1", "CST7", "FGFBP2"],
    "monocyte": ["LYZ", "S100A8", "S100A9", "CST3", "FCN1", "CD14", "LST1"],
    "neuron": ["SYT1", "RBFOX3", "SNAP25"],
}


def test_a_panel_is_read_from_json_and_from_a_table(tmp_path):
    (tmp_path / "panel.json").write_text(json.dumps(CELL_PANEL))
    lines = [f"{name}\t{gene}" for name, genes in CELL_PANEL.items() for gene in genes]
    (tmp_path / "panel.tsv").write_text("\n".join(["cell_type\tgene", *lines]) + "\n")
    expected = {name: tuple(genes) for name, genes in CELL_PANEL.items()}
    assert read_panel(tmp_path / "panel.json") == read_panel(tmp_path / "panel.tsv") == expected


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.json", "[1]", "no object"),
        ("a.json", "{", "cannot be read"),
        ("a.json", "{}", "names no gene"),
        ("a.tsv", "type\tgene\nT\tCD3D\n", "none for the cluster"),
    ],
)
def test_what_is_no_panel_is_refused_in_one_line(tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputUnusable, match=why):
        read_panel(tmp_path / name)


def test_known_populations_get_their_names_and_cells_without_a_cluster_get_none(tmp_path):
    cells = demo_cells()
    cells.obs.iloc[:50, cells.obs.columns.get_loc("bulk_labels")] = None
    cells.write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "panel.json").write_text(json.dumps(CELL_PANEL))
    args = ["annotate", tmp_path / "cells.h5ad", "--markers", tmp_path / "panel.json", "--cluster-key", "bulk_labels"]
    told = call_json("cellmodel", *args, "-o", tmp_path / "named.h5ad")
    name_of = {row["cluster"]: row["name"] for row in told["clusters"]}
    assert name_of["CD19+ B"] == "B cell"
    assert name_of["CD56+ NK"] == "NK cell"
    assert name_of["CD14+ Monocyte"] == "monocyte"
    assert "neuron" not in name_of.values()
    written = read_anndata(tmp_path / "named.h5ad")
    expected = cells.obs["bulk_labels"].astype(object).map(name_of)
    assert written.obs["cellmodel_name"].astype(object).equals(expected)
    assert expected.isna().sum() == 50
    assert set(written.uns["cellmodel_name"]["names"]["cluster"]) == set(name_of)
