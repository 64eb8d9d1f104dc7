"""Vectors in the forms of other programs, read back as those programs read them."""

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import genekb
from cellmodel.io.formats.gene_anndata import write_perturbations_h5ad
from genekb.core.errors import OutputUnusable, SourceUnusable
from genekb.query.export import N_SIMILAR, export_for, named_vectors, output_files, read_names
from tests.support.in_process import call, call_json

GENES = ("CD3D", "CD3E", "MS4A1", "NKG7", "CD79A")


@pytest.fixture(scope="module")
def home(demo_home):
    return demo_home


@pytest.fixture(scope="module")
def kb(demo_kb):
    return demo_kb


def test_a_table_for_scouter_is_indexed_by_the_names_that_were_given(kb, tmp_path):
    found = named_vectors(kb, GENES)
    export_for(found, tmp_path / "vectors.csv", program="scouter")
    embedding = pd.read_csv(tmp_path / "vectors.csv", index_col=0)
    assert embedding.index.tolist() == list(GENES)
    np.testing.assert_array_equal(embedding.to_numpy(np.float32), kb.vectors(GENES).vectors)
    embedding.loc["ctrl"] = 0.0  # as docs/guide/gene-tasks.md says
    assert np.isfinite(embedding.to_numpy()).all()
    assert (len(found.names), output_files(found, tmp_path / "vectors.csv")) == (5, (tmp_path / "vectors.csv",))


def test_a_graph_for_gears_joins_each_gene_with_itself_and_the_most_similar(kb, tmp_path):
    names = kb.table("genes")["symbol"].to_pylist()[:60]
    found = named_vectors(kb, names, allow_missing=True)
    export_for(found, tmp_path / "graph.csv", program="gears")
    edges = pd.read_csv(tmp_path / "graph.csv")
    assert list(edges) == ["source", "target", "importance"]
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    row = {name: number for number, name in enumerate(found.names)}
    for target, group in edges.groupby("target"):
        own = group[group["source"] == target]
        assert own["importance"].tolist() == [1.0]
        others = group[group["source"] != target]
        cosines = pd.Series(unit @ unit[row[target]], index=found.names).drop(target).nlargest(N_SIMILAR)
        expected = cosines[cosines > 0]
        assert set(others["source"]) == set(expected.index)
        np.testing.assert_allclose(others["importance"], expected[others["source"]], atol=2e-6)
    assert set(edges["target"]) == set(found.names)


def test_genepts_dict_and_its_arrays_hold_the_same_genes_and_come_back_as_they_are(home, kb, tmp_path):
    content = call_json(
        "genekb", "export", "--kb", "demo", "--home", home, "--for", "genept", "-o", tmp_path / "g.json"
    )
    assert content["files"] == [str(tmp_path / "g.json"), str(tmp_path / "g.npz")]
    by_symbol = json.loads((tmp_path / "g.json").read_text())
    with np.load(tmp_path / "g.npz", allow_pickle=False) as arrays:
        assert arrays["symbols"].tolist() == list(by_symbol)
        np.testing.assert_array_equal(arrays["vectors"], np.float32(list(by_symbol.values())))
        np.testing.assert_array_equal(arrays["vectors"], kb.vectors(arrays["gene_ids"]).vectors)
        assert str(arrays["store_digest"]) == kb.manifest.digest
    gene_ids = kb.vector_table().gene_ids
    for name in ("g.json", "g.npz"):
        line = ("encode", kb.folder, "--vectors", tmp_path / name, "--name", "again", "--home", tmp_path / name[2:])
        again = call_json("genekb", *line)
        assert (again["n_genes"], again["left_out"]) == (len(by_symbol), [])
        vectors = genekb.open(again["path"]).vectors(gene_ids, encoder="again").vectors
        assert vectors.tobytes() == kb.vectors(gene_ids).vectors.tobytes()


def test_helicals_dict_has_names_in_capitals(kb, tmp_path):
    found = named_vectors(kb, GENES)
    export_for(found, tmp_path / "h.json", program="helical")
    by_symbol = json.loads((tmp_path / "h.json").read_text())
    assert list(by_symbol) == list(map(str.upper, GENES))
    np.testing.assert_array_equal(np.float32(by_symbol["NKG7"]["embeddings"]), kb.vectors(["NKG7"]).vectors[0])


def test_a_space_for_pertpy_is_named_by_the_perturbed_genes(kb, tmp_path):
    found = named_vectors(kb, [*GENES, "NOSUCH"], allow_missing=True)
    assert write_perturbations_h5ad(found, tmp_path / "space.h5ad") == 5
    adata = anndata.read_h5ad(tmp_path / "space.h5ad")
    assert adata.obs_names.tolist() == adata.obs["perturbation"].tolist() == list(GENES)
    np.testing.assert_array_equal(adata["NKG7"].X[0], kb.vectors(["NKG7"]).vectors[0])
    assert adata.uns["genekb"]["store_id"] == kb.store_id
    assert (tmp_path / "space.missing.tsv").read_text() == "name\treason\nNOSUCH\tunknown\n"


def test_all_genes_are_written_by_symbol_if_none_are_named(kb):
    found = named_vectors(kb)
    assert len(found.names) == len(set(found.names)) == len(kb.table("texts"))
    assert (np.linalg.norm(found.vectors, axis=1) > 0).all()


def test_names_older_than_the_store_stay_as_they_were_given(kb):
    genes = kb.table("genes").to_pylist()
    names = kb.table("names").to_pylist()
    symbols = {gene["gene_id"]: gene["symbol"] for gene in genes}
    alias = next(
        row["name"] for row in names
        if row["kind"] == "alias" and kb.resolve([row["name"]]).gene_ids[0] == row["gene_id"]
    )  # fmt: skip
    found = named_vectors(kb, [alias])
    assert found.names == (alias,) != (symbols[found.gene_ids[0]],)


def test_missing_genes_are_refused_by_name_and_never_become_zeros(kb, tmp_path):
    with pytest.raises(
        SourceUnusable, match=r"no vector in .* for 2 of 7 genes: NOSUCH \(unknown\).*allow_missing=True"
    ):
        named_vectors(kb, [*GENES, "NOSUCH", "NOR THIS"])
    found = named_vectors(kb, [*GENES, "NOSUCH", "NOR THIS"], allow_missing=True)
    assert found.names == GENES
    export_for(found, tmp_path / "vectors.csv", program="scouter")
    assert (tmp_path / "vectors.missing.tsv").read_text().splitlines() == [
        "name\treason",
        "NOSUCH\tunknown",
        "NOR THIS\tunknown",
    ]
    with pytest.raises(SourceUnusable, match=r"for 1 of 1 gene: NOSUCH \(unknown\); correct the names$"):
        named_vectors(kb, ["NOSUCH"], allow_missing=True)


def test_a_list_of_perturbations_names_each_gene_once(tmp_path):
    (tmp_path / "list.txt").write_text("CD3D+ctrl\nctrl\nCD3D+NKG7\n\nMS4A1\n")
    assert read_names(tmp_path / "list.txt") == ("CD3D", "NKG7", "MS4A1")


def test_a_file_that_exists_is_not_replaced(kb, tmp_path):
    found = named_vectors(kb, [*GENES, "NOSUCH"], allow_missing=True)
    (tmp_path / "vectors.missing.tsv").touch()
    with pytest.raises(OutputUnusable, match=r"vectors\.missing\.tsv exists"):
        export_for(found, tmp_path / "vectors.csv", program="scouter")
    assert not (tmp_path / "vectors.csv").exists()
    export_for(found, tmp_path / "vectors.csv", program="scouter", overwrite=True)


def test_a_graph_needs_two_genes(kb, tmp_path):
    with pytest.raises(SourceUnusable, match="needs at least 2 genes"):
        export_for(named_vectors(kb, ["CD3D"]), tmp_path / "graph.csv", program="gears")


@pytest.fixture
def genes(tmp_path):
    path = tmp_path / "genes.txt"
    path.write_text("\n".join([*GENES, "NOSUCH"]))
    return path


@pytest.mark.parametrize(
    ("program", "suffix"), [("gears", "csv"), ("genept", "json"), ("scouter", "csv"), ("pertpy", "h5ad")]
)
def test_the_command_refuses_then_lists_missing_genes(home, genes, tmp_path, program, suffix):
    path = tmp_path / f"out.{suffix}"
    line = ("export", "--kb", "demo", "--home", home, "--for", program, "--genes", genes, "-o", path)
    code, _, err = call("genekb", *line)
    assert code == 3
    assert "for 1 of 6 genes: NOSUCH" in err
    assert not path.exists()
    content = call_json("genekb", *line, "--allow-missing")
    assert content["missing"] == {"NOSUCH": "unknown"}
    beside = ["out.npz"] if program == "genept" else []
    assert content["files"] == [str(path), *(str(tmp_path / name) for name in (*beside, "out.missing.tsv"))]
    assert all(Path(file).is_file() for file in content["files"])
    assert content["n_genes"] == 5


def test_a_list_of_genes_serves_the_other_formats_too(home, genes, tmp_path):
    line = ("export", "--kb", "demo", "--home", home, "--genes", genes, "-o", tmp_path / "out.json")
    assert call("genekb", *line)[0] == 3
    assert call_json("genekb", *line, "--allow-missing")["missing"] == ["NOSUCH"]
    assert set(json.loads((tmp_path / "out.json").read_text())) == set(GENES)


def test_the_function_writes_what_the_command_does(home, kb, genes, tmp_path):
    call_json(
        "genekb", "export", "--kb", "demo", "--home", home, "--for", "genept", "--genes", genes, "--allow-missing",
        "-o", tmp_path / "a.json",
    )  # fmt: skip
    made = genekb.export(kb, tmp_path / "b.json", program="genept", genes=[*GENES, "NOSUCH"], allow_missing=True)
    assert [file.name for file in made.files] == ["b.json", "b.npz", "b.missing.tsv"]
    assert (made.n_genes, made.n_without_vector) == (len(GENES), 1)
    assert made.files[0].read_bytes() == (tmp_path / "a.json").read_bytes()
    with pytest.raises(ValueError, match="list them with `genes`"):
        genekb.export(kb, tmp_path / "c.csv", program="gears")


WRONG = {
    ("--for", "gears", "-o", "out.csv"): (2, "list them with --genes"),
    ("--for", "scouter", "-o", "out.pkl"): (2, "write scouter as .csv"),
    ("--for", "genept", "-o", "out.npz"): (2, "write genept as .json"),
    ("--for", "scouter", "-o", "out.csv", "--format", "npz"): (2, "leave out --format"),
    ("--allow-missing", "-o", "out.npz"): (2, "give it with --genes"),
    ("--genes", "no-such-list", "-o", "out.npz"): (3, "cannot be read as a list of genes"),
}


@pytest.mark.parametrize("options", WRONG, ids=" ".join)
def test_a_wrong_choice_is_one_line(home, options):
    expected, message = WRONG[options]
    code, _, err = call("genekb", "export", "--kb", "demo", "--home", home, *options)
    assert code == expected
    assert message in err
