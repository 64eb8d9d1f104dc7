"""Names from marker lists alone: forms of tables, T cells at each level, random lists, what cannot be used."""

import numpy as np
import pandas as pd
import pytest

import cellmodel as cm
import genekb
from cellmodel.annotate.cell_types import read_cell_types
from cellmodel.annotate.levels import read_cell_groups
from cellmodel.annotate.marker_lists import ListChoice, list_evidence, list_scores, name_lists
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import AlignmentTooLow, InputUnusable
from cellmodel.explain.marker_tables import MarkerLists, lists_of_columns, read_marker_lists, read_universe
from tests.support.in_process import call, call_json

T_CELL = ("CD3D", "CD3E", "CD3G", "CD2", "CD5", "CD6", "CD7", "LCK", "CD247", "BCL11B")


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    """All marker genes and 3,000 others, each with its symbol as text."""
    home = tmp_path_factory.mktemp("home")
    markers = {gene for one in (*read_cell_types(), *read_cell_groups()) for gene in one.genes}
    symbols = [*sorted(markers), *(f"OTHER{number}" for number in range(3000))]
    rows = [f"{number}\t9606\t{symbol}\tgene {symbol}" for number, symbol in enumerate(symbols, start=1)]
    (home / "genes.tsv").write_text("\n".join(["gene_id\ttax_id\tsymbol\tname", *rows]))
    config = genekb.BuildConfig(name="markers", models=("wcp-64",))
    return genekb.open(genekb.build(genekb.read_source(home / "genes.tsv", taxa=["human"]), config, home=home).folder)


def names_of(genes, kb, **choice):
    (found,) = name_lists(MarkerLists(genes={"0": genes}), kb, RunConfig(), choice=ListChoice(**choice)).names
    return found


def test_ten_genes_of_t_cells_are_a_t_cell_and_a_kind_of_it_where_a_type_is_asked_for(kb):
    broad, auto, fine = (names_of(T_CELL, kb, level=level) for level in ("broad", "auto", "fine"))
    assert (broad.name, broad.level, broad.parent) == ("T cell", "broad", "lymphocyte")
    assert (auto.name, auto.ontology_id, auto.reason) == ("T cell", "CL:0000084", "")
    assert fine.level == "fine"
    assert fine.name.endswith(("T cell", "thymocyte", "helper cell"))
    assert fine.p_value == pytest.approx(1 / 201)
    assert {gene.name for gene in broad.genes} <= set(T_CELL)
    assert broad.score == pytest.approx((0.1 * broad.text_score + broad.marker_score) / np.hypot(0.1, 1))


def test_scores_are_correlations_of_profile_and_weights(kb):
    gene_ids = np.sort(kb.vector_table("wcp-64").gene_ids)
    about = list_evidence(read_cell_types()[:3], kb, gene_ids=gene_ids)
    weights = about.evidence.both.toarray().T
    place = np.array([5, 2, 9])
    profile = np.zeros(len(gene_ids))
    profile[place] = [1.0, 0.75, 0.5]
    expected = [np.corrcoef(profile, row)[0, 1] * row.std() * len(profile) for row in weights.T]
    np.testing.assert_allclose(list_scores(weights, place), expected, rtol=1e-6)


def test_random_lists_stay_unassigned(kb):
    symbols = kb.table("genes")["symbol"].to_pylist()
    rng = np.random.default_rng(0)
    lists = {str(number): tuple(rng.choice(symbols, 12, replace=False)) for number in range(200)}
    found = name_lists(MarkerLists(genes=lists), kb, RunConfig(), choice=ListChoice()).names
    assert np.mean([one.name != "unassigned" for one in found]) <= 0.08  # .05 and three standard errors
    assert all((one.name == "unassigned") == bool(one.reason) for one in found)


def test_unknown_genes_are_listed_and_a_list_of_them_alone_is_unassigned(kb):
    lists = MarkerLists(genes={"a": (*T_CELL, "NOSUCH1"), "b": ("NOSUCH1", "NOSUCH2")})
    first, second = name_lists(lists, kb, RunConfig(), choice=ListChoice()).rows()
    assert (first["name"], first["unresolved"], first["n_genes"]) == ("T cell", ("NOSUCH1",), 10)
    assert (second["name"], second["reason"], second["n_genes"]) == ("unassigned", "no gene known", 0)
    with pytest.raises(AlignmentTooLow, match="none of the 2 genes of the lists is in markers"):
        name_lists(MarkerLists(genes={"b": lists.genes["b"]}), kb, RunConfig(), choice=ListChoice())


def test_one_marker_is_no_better_than_chance_among_all_types_and_three_are_a_name(kb):
    alone, three = names_of(("CD3D",), kb), names_of(("CD3D", "CD3E", "CD3G"), kb, level="broad")
    assert (alone.name, alone.confidence, alone.reason) == ("unassigned", "", f"adjusted p {alone.p_adjusted:.2g}")
    assert (three.name, three.reason) == ("T cell", "")


def test_lists_of_mouse_symbols_are_read_as_the_human_genes_of_these_symbols(kb):
    lists = {"mouse": tuple(map(str.capitalize, T_CELL)), "human": T_CELL, "none": ("Spo11a", "nosuch")}
    named = name_lists(MarkerLists(genes=lists), kb, RunConfig(), choice=ListChoice())
    mouse, human, none = named.rows()
    assert (mouse["name"], mouse["score"], mouse["n_genes"]) == (human["name"], human["score"], len(T_CELL))
    assert (mouse["genes"][0].upper(), mouse["unresolved"]) == (human["genes"][0], ())
    assert (none["name"], none["reason"]) == ("unassigned", "no gene known")
    assert named.n_orthologs == len(T_CELL)
    own = name_lists(MarkerLists(genes={"human": T_CELL}), kb, RunConfig(), choice=ListChoice())
    assert own.n_orthologs == 0


def test_tables_of_seurat_scanpy_and_plain_ones_give_the_same_lists(tmp_path):
    seurat = '"","p_val","avg_log2FC","pct.1","pct.2","p_val_adj","cluster","gene"\n'
    seurat += '"a",0,3.1,.9,.1,0,"0","CD3D"\n"b",0,2.1,.9,.1,0,"0","CD2"\n"c",0,-1,.9,.1,0,"0","LYZ"\n'
    seurat += '"d",.1,1,.9,.1,.9,"0","ACTB"\n"e",0,1,.9,.1,0,"1","LYZ"\n'
    (tmp_path / "seurat.csv").write_text(seurat)
    scanpy = "group\tnames\tscores\tlogfoldchanges\tpvals\tpvals_adj\n0\tCD3D\t9\t2\t0\t0\n0\tCD2\t8\t2\t0\t0\n"
    scanpy += "0\tLYZ\t-4\t-2\t0\t0\n0\tACTB\t1\t1\t0\t.9\n1\tLYZ\t9\t2\t0\t0\n"
    (tmp_path / "scanpy.tsv").write_text(scanpy)
    (tmp_path / "plain.csv").write_text("gene,cluster,rank\nCD2,0,2\nCD3D,0,1\nCD2,0,3\nLYZ,1,1\n")
    tables = [read_marker_lists(tmp_path / name) for name in ("seurat.csv", "scanpy.tsv", "plain.csv")]
    assert [table.genes for table in tables] == [{"0": ("CD3D", "CD2"), "1": ("LYZ",)}] * 3
    assert [table.n_lower for table in tables] == [2, 2, 0]
    assert [table.n_repeated for table in tables] == [0, 0, 1]
    (tmp_path / "twice.csv").write_text("cluster,gene,gene\n0,CD2,CD3D\n")
    assert read_marker_lists(tmp_path / "twice.csv").genes == {"0": ("CD3D",)}
    scored = lists_of_columns({"cluster": [0, 0], "gene": ["a", "b"], "score": [1, 2.5]}, source="x")
    assert scored.genes == {"0": ("b", "a")}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "cluster;gene\n0;CD3D\n0;CD2\n"),
        ("a.csv", "0,CD3D,CD2\n"),
        ("a.txt", "0;CD3D;CD2\n1;MS4A1\n"),
        ("a.gmt", "0\tmine\tCD3D\tCD2\n"),
    ],
)
def test_lists_of_other_forms_are_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_marker_lists(tmp_path / name).genes["0"] == ("CD3D", "CD2")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gene\nCD3D\n", "columns gene, and none for the cluster; name it cluster or group"),
        ("cluster,symbol\n0,CD3D\n", "none for the gene; name it gene or names; taken are .gmt; a table with"),
        ("cluster,gene\n0,CD3D\n,CD2\n", "row 2 of .* has no cluster"),
        ("cluster,gene\n0,CD3D\n0,\n", "row 2 of .* has no gene"),
        ("cluster,gene\n", "names no marker gene"),
        ("cluster,gene,score\n0,CD3D,high\n", "row 1 of .*: score is 'high', which is no number"),
        ("cluster,gene,score\n0,CD3D,-1\n", "names no marker gene"),
    ],
)
def test_what_is_no_list_is_refused_in_one_line(tmp_path, text, why):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputUnusable, match=why):
        read_marker_lists(tmp_path / "a.csv")
    with pytest.raises(InputUnusable, match="cannot be read"):
        read_marker_lists(tmp_path / "absent.csv")


def test_random_lists_are_drawn_from_a_universe(kb, tmp_path):
    (tmp_path / "genes.txt").write_text("\n".join([*T_CELL, *kb.table("genes")["symbol"].to_pylist()[:200]]))
    universe = read_universe(tmp_path / "genes.txt")
    named = name_lists(MarkerLists(genes={"0": T_CELL}), kb, RunConfig(), choice=ListChoice(universe=universe))
    assert 200 <= named.n_universe <= 210
    assert named.names[0].name == "T cell"
    with pytest.raises(InputUnusable, match="the universe has 10 genes of the store, too few"):
        names_of(T_CELL, kb, universe=T_CELL)


@pytest.mark.slow
def test_a_table_of_pandas_and_a_mapping_give_a_table(kb):
    frame = pd.DataFrame({"cluster": ["t"] * 10, "gene": T_CELL})
    found = cm.tl.annotate_markers(frame, kb)
    pd.testing.assert_frame_equal(found, cm.tl.annotate_markers({"t": T_CELL}, kb))
    assert found.loc[0, ["cluster", "name", "level", "parent"]].tolist() == ["t", "T cell", "broad", "lymphocyte"]
    assert found.loc[0, "genes"].split()[0] in T_CELL
    assert cm.tl.annotate_markers({"t": T_CELL, "none": []}, kb)["name"].tolist() == ["T cell", "unassigned"]
    with pytest.raises(InputUnusable, match="markers names no gene"):
        cm.tl.annotate_markers({"none": []}, kb)
    with pytest.raises(ValueError, match="names come from a store"):
        cm.tl.annotate_markers(frame)


def test_the_command_writes_names_and_lists_what_is_unknown(kb, tmp_path):
    rows = [f"0,{gene}" for gene in (*T_CELL, "NOSUCH")]
    (tmp_path / "lists.csv").write_text("\n".join(["cluster,gene", *rows]))
    args = ("cellmodel", "annotate", "--marker-lists", tmp_path / "lists.csv", "-o", tmp_path / "names.csv")
    told = call_json(*args, "--kb", kb.folder)
    assert (told["clusters"][0]["name"], told["clusters"][0]["unresolved"]) == ("T cell", ["NOSUCH"])
    code, out, err = call(*args[:-2], "--kb", kb.folder)
    assert (code, err, out.splitlines()[1].split()[:4]) == (0, "", ["0", str(len(T_CELL)), "T", "cell"])
    written = pd.read_csv(tmp_path / "names.csv")
    assert written.loc[0, ["name", "level", "unresolved"]].tolist() == ["T cell", "broad", "NOSUCH"]
    for wrong in (("x.h5ad", "--kb", kb.folder), ("--markers", tmp_path / "names.csv", "--level", "broad")):
        assert call(*args, *wrong)[0] != 0
    (tmp_path / "panel.tsv").write_text("cell_type\tgene\nT\tCD3D\nT\tCD3E\nT\tCD2\nB\tMS4A1\nB\tCD79A\nB\tCD19\n")
    (tmp_path / "universe.txt").write_text("\n".join([*T_CELL, "MS4A1", "CD79A", "CD19", *map(str, range(500))]))
    alone = ("--markers", tmp_path / "panel.tsv", "--universe", tmp_path / "universe.txt", "--overwrite")
    named = call_json(*args, *alone)["clusters"][0]
    assert (named["name"], named["genes"], named["n_genes"]) == ("T", ["CD3D", "CD3E", "CD2"], 10)
