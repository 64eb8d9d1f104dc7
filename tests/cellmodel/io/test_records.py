"""A result that was made with one store does not meet another one unnoticed."""

import json

import numpy as np
import pytest

import genekb
from cellmodel import tl
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable, LineageMismatch
from cellmodel.io.cells import cells_from_anndata
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.io.records import check_lineage, check_records
from genekb.builder.update import add_encoders
from genekb.encoders import load_encoder
from genekb.genes.texts import find_template
from genekb.share.pull import PullConfig, pull_store
from genekb.share.push import push_store
from genekb.share.remotes import parse_address
from tests.support.demo import demo_cells
from tests.support.in_process import call, call_here, call_json


def build(home, name, *models, **settings):
    config = genekb.BuildConfig(name=name, models=models, **settings)
    return genekb.open(genekb.build(genekb.read_demo_table(), config, home=home).folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def kb(home):
    return build(home, "demo", "wcp-8", "hash-8")


@pytest.fixture(scope="module")
def other(home):
    """The same genes with other texts."""
    return build(home, "other", "wcp-8", template=find_template("names"))


@pytest.fixture(scope="module")
def longer(kb, tmp_path_factory):
    """The same store with one more encoder: another digest."""
    home = tmp_path_factory.mktemp("longer")
    return genekb.open(add_encoders(kb, ["random-8"], load=load_encoder, home=home).folder)


@pytest.fixture(scope="module")
def plain():
    adata = demo_cells()
    return adata[np.random.default_rng(0).permutation(adata.n_obs)[:200]].copy()


def clustered_with(adata, kb, **settings):
    config = RunConfig(n_words=0)
    return tl.cluster(adata, kb, n_clusters=3, recipe="pca-kmeans", config=config, copy=True, **settings)


@pytest.fixture(scope="module")
def clustered(plain, kb):
    return clustered_with(plain, kb)


def jobs(adata, **settings):
    """Every function that explains, names or carries over what a file holds."""
    return {
        "attribute": lambda kb: tl.attribute(adata, kb, **settings),
        "annotate": lambda kb: tl.annotate(adata, kb, **settings),
        "search": lambda kb: tl.search(adata, kb, query="T lymphocytes", **settings),
        "classify": lambda kb: tl.classify(adata.copy(), adata, kb, label_key="cellmodel", **settings),
    }


@pytest.mark.parametrize("job", ["attribute", "annotate", "search", "classify"])
def test_another_store_is_refused_before_anything_is_written_and_one_that_gained_an_encoder_breaks_no_result(
    clustered, kb, other, longer, job
):
    adata = clustered.copy()
    with pytest.raises(LineageMismatch) as caught:
        jobs(adata)[job](other)
    told = (kb.store_id, other.store_id, f'kb="{kb.manifest.digest[:16]}", or other_store=True')
    assert all(part in str(caught.value) for part in told)
    assert (set(adata.uns), set(adata.obs)) == (set(clustered.uns), set(clustered.obs))
    assert longer.store_id != kb.store_id
    jobs(adata)[job](longer)
    assert not any("clusters_from" in record for record in adata.uns.values() if isinstance(record, dict))
    check_records(cells_from_anndata(adata), key="cellmodel")  # as a report of all of it does


def test_the_same_store_by_name_release_digest_or_path_is_the_same(clustered, kb, home):
    cells = cells_from_anndata(clustered)
    for reference in ("demo", "demo@1", kb.manifest.digest, kb.manifest.digest[:16], kb.folder):
        given = genekb.open(reference, home=home)
        assert check_lineage(cells, given, RunConfig(), key="cellmodel") is None


@pytest.mark.parametrize("job", ["attribute", "annotate", "search"])
def test_a_difference_that_is_meant_is_recorded_on_both_sides(clustered, kb, other, job, caplog):
    adata = clustered.copy()
    jobs(adata, other_store=True)[job](other)
    key = {"attribute": "cellmodel_attribution", "annotate": "cellmodel_name", "search": "cellmodel_search"}[job]
    record = adata.uns[key]
    assert record["store_id"] == other.store_id
    assert record["clusters_from"] == {"store_id": kb.store_id, "encoder_id": kb.encoder_id("wcp-8")}
    assert "both are recorded" in caplog.text
    check_records(cells_from_anndata(adata), key="cellmodel")


def test_labels_that_were_made_with_another_store_are_carried_over_only_if_that_is_meant(clustered, kb, other):
    query = clustered[:50].copy()
    tl.classify(query, clustered, other, label_key="cellmodel", other_store=True)
    assert query.uns["cellmodel_class"]["clusters_from"]["store_id"] == kb.store_id
    tl.classify(query, clustered, other, label_key="bulk_labels", key_added="annotator")
    assert "clusters_from" not in query.uns["annotator"]
    tl.classify(query, clustered, kb, label_key="cellmodel", key_added="same")
    assert "clusters_from" not in query.uns["same"]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"template": find_template("names")}, {"vector_dtype": "float32"}], ids=str)
def test_other_texts_or_vectors_under_the_same_names_are_another_store(clustered, kb, tmp_path, settings):
    namesake = build(tmp_path, "demo", "wcp-8", **settings)
    assert namesake.store_id.partition(":")[0] == kb.store_id.partition(":")[0]
    with pytest.raises(LineageMismatch, match=f"{kb.store_id}, {namesake.store_id} was given"):
        tl.search(clustered, namesake, query="T lymphocytes")


@pytest.mark.slow
def test_a_part_of_a_longer_store_that_has_the_encoder_is_accepted_and_one_without_it_is_not(
    plain, kb, longer, tmp_path
):
    adata = clustered_with(plain, kb, encoder="hash-8")
    push_store(longer, parse_address(str(tmp_path / "shared")))
    pull_store(parse_address(str(tmp_path / "shared")), PullConfig(encoders=("hash-8",)), home=tmp_path / "home")
    tl.search(adata, genekb.open("demo", home=tmp_path / "home"), query="T lymphocytes")
    assert "clusters_from" not in adata.uns["cellmodel_search"]
    without = build(tmp_path / "without", "demo", "wcp-8")
    with pytest.raises(LineageMismatch, match=f"store {kb.store_id}, {without.store_id} was given"):
        tl.search(adata, without, query="T lymphocytes", overwrite=True)


def test_an_older_record_without_a_content_id_needs_its_store_on_this_machine(
    clustered, kb, longer, home, tmp_path, monkeypatch
):
    monkeypatch.setenv("GENEKB_HOME", str(home))
    adata = clustered.copy()
    adata.uns["cellmodel"] = {key: value for key, value in adata.uns["cellmodel"].items() if key != "content_id"}
    cells = cells_from_anndata(adata)
    assert check_lineage(cells, longer, RunConfig(), key="cellmodel") is None
    monkeypatch.setenv("GENEKB_HOME", str(tmp_path))
    with pytest.raises(LineageMismatch, match=f"store {kb.store_id}, {longer.store_id} was given"):
        check_lineage(cells, longer, RunConfig(), key="cellmodel")
    assert check_lineage(cells_from_anndata(clustered), longer, RunConfig(), key="cellmodel") is None


def test_an_encoder_counts_where_the_store_chose_it(plain, kb):
    adata = clustered_with(plain, kb, encoder="hash-8")
    hashed, first = kb.encoder_id("hash-8"), kb.encoder_id()
    with pytest.raises(
        LineageMismatch, match=f'encoder {hashed}, the first one of {kb.store_id} is {first}; give encoder="{hashed}"'
    ):
        tl.search(adata, kb, query="T lymphocytes")
    tl.search(adata, kb, query="T lymphocytes", config=RunConfig(encoder="hash-8"), key_added="with_it")
    tl.search(adata, kb, query="T lymphocytes", config=RunConfig(encoder="wcp-8"), key_added="named")
    assert "clusters_from" not in adata.uns["named"]
    tl.search(adata, kb, query="T lymphocytes", other_store=True, key_added="meant")
    assert adata.uns["meant"]["clusters_from"]["encoder_id"] == hashed


@pytest.mark.slow
def test_clusters_from_elsewhere_and_those_made_without_knowledge_go_with_any_store(plain, clustered, kb, other):
    assert clustered.uns["cellmodel"]["store_id"] == kb.store_id
    tl.search(clustered.copy(), other, query="T lymphocytes", cluster_key="bulk_labels")
    for store in (None, kb):
        adata = clustered_with(plain, store, knowledge="none")
        tl.search(adata, other, query="T lymphocytes")
        assert "clusters_from" not in adata.uns["cellmodel_search"]


@pytest.mark.parametrize(
    "record", [None, "text", 3, np.arange(3), {}, {"store_id": 7}, {"store_id": ""}, {"store_id": {"a": "b"}}]
)
def test_what_is_no_record_of_ours_stands_in_nobodys_way(plain, other, record):
    adata = plain.copy()
    adata.uns["cellmodel"] = record
    assert check_lineage(cells_from_anndata(adata), other, RunConfig(), key="cellmodel") is None
    check_records(cells_from_anndata(adata), key="cellmodel")


ABOUT_CLUSTERS = {
    "names": {"cluster_key": "cellmodel"},
    "evidence": {"params": {"cluster_key": "cellmodel"}},
    "search": {"params": {"cluster_key": "", "query": "T lymphocytes"}},
}


@pytest.mark.parametrize("record", ABOUT_CLUSTERS.values(), ids=ABOUT_CLUSTERS)
def test_names_and_evidence_of_another_store_are_found(clustered, other, record):
    adata = clustered.copy()
    adata.uns["cellmodel_later"] = record | {"store_id": other.store_id, "encoder_id": "wcp-8-0123"}
    cells = cells_from_anndata(adata)
    with pytest.raises(LineageMismatch, match=r"'cellmodel_later' of .* make it again with one of the two") as caught:
        check_records(cells, key="cellmodel")
    assert adata.uns["cellmodel"]["store_id"] in str(caught.value)
    assert other.store_id in str(caught.value)
    check_records(cells, key="cellmodel", other_store=True)


@pytest.mark.slow
def test_a_report_of_a_file_with_two_stores_is_refused_unless_that_is_meant(clustered, other, tmp_path):
    adata = clustered.copy()
    adata.uns["cellmodel_later"] = {"cluster_key": "cellmodel", "store_id": other.store_id}
    adata.write_h5ad(tmp_path / "two.h5ad")
    args = ("report", tmp_path / "two.h5ad", "-o", tmp_path / "r.html")
    code, _, err = call("cellmodel", *args)
    assert code == 5
    assert adata.uns["cellmodel"]["store_id"] in err
    assert other.store_id in err
    assert not (tmp_path / "r.html").exists()
    assert call("cellmodel", *args, "--other-store")[0] == 0
    assert other.store_id in (tmp_path / "r.html").read_text()


def test_a_report_shows_what_is_about_other_clusters_or_is_meant(clustered, other):
    adata = clustered.copy()
    of_leiden = {"cluster_key": "leiden", "store_id": other.store_id}
    another_run = {"recipe": "fused", "store_id": other.store_id, "params": {"knowledge": "real"}}
    meant = {"cluster_key": "cellmodel", "store_id": other.store_id, "clusters_from": dict(adata.uns["cellmodel"])}
    adata.uns |= {"of_leiden": of_leiden, "another_run": another_run, "meant": meant}
    check_records(cells_from_anndata(adata), key="cellmodel")
    adata.uns["meant"]["clusters_from"] = {"store_id": "older@1:0123"}  # the clusters were made anew since
    with pytest.raises(LineageMismatch, match="'meant' of"):
        check_records(cells_from_anndata(adata), key="cellmodel")


def test_a_mismatch_is_told_before_the_species_is_looked_at(clustered, tmp_path, ncbi_folder):
    mouse = genekb.read_ncbi_folder(ncbi_folder, taxa=["mouse"])
    store = genekb.open(genekb.build(mouse, genekb.BuildConfig(name="mouse", models=("hash-8",)), home=tmp_path).folder)
    with pytest.raises(LineageMismatch):
        tl.annotate(clustered, store)
    with pytest.raises(InputUnusable):
        tl.annotate(clustered, store, other_store=True)


@pytest.mark.slow
def test_a_command_ends_with_5_and_the_way_out_that_it_tells_works(clustered, kb, other, home, tmp_path):
    clustered.write_h5ad(path := tmp_path / "out.h5ad")
    before = path.read_bytes()
    search = ("search", path, "T lymphocytes", "--home", home)
    code, out, err = call("cellmodel", *search, "--kb", "other", "-o", tmp_path / "found.h5ad")
    assert (code, out) == (5, "")
    (line,) = [line for line in err.splitlines() if line.startswith("cellmodel: error: ")]
    assert all(told in line for told in (kb.store_id, other.store_id, "--other-store"))
    assert not (tmp_path / "found.h5ad").exists()
    assert path.read_bytes() == before
    assert call_json("cellmodel", *search, "--kb", kb.manifest.digest[:16])["store_id"] == kb.store_id
    told = call_json("cellmodel", *search, "--kb", "other", "--other-store", "-o", tmp_path / "found.h5ad")
    stored = read_anndata(tmp_path / "found.h5ad").uns["cellmodel_search"]
    for record in (told, stored):
        assert (record["store_id"], record["clusters_from"]["store_id"]) == (other.store_id, kb.store_id)
    code, _, err = call("cellmodel", "report", tmp_path / "found.h5ad", "-o", tmp_path / "r.html")
    assert code == 0, err
    assert f"clusters made with {kb.store_id}" in (tmp_path / "r.html").read_text()


@pytest.fixture(scope="module")
def files(kb, other, tmp_path_factory):
    """Halves of the demo cells: one clustered with either store, and one without."""
    folder = tmp_path_factory.mktemp("cells")
    every = demo_cells()
    order = np.random.default_rng(0).permutation(every.n_obs)
    for name, rows, store in (("a", order[:200], kb), ("b", order[200:400], other)):
        half = every[np.sort(rows)].copy()
        tl.cluster(half, store, n_clusters=3, recipe="pca-kmeans", config=RunConfig(n_words=0))
        half.write_h5ad(folder / f"{name}.h5ad")
    return {path.stem: path for path in folder.glob("*.h5ad")}


def compared(files, kb, kb_b, *, names="ab", **arguments):
    a, b = (files[name] for name in names)
    return tl.compare(a, b, kb, kb_b=kb_b, permutations=5, **arguments).attrs


def test_either_file_with_a_store_that_is_not_its_own_is_refused_before_anything_is_written(files, kb, other, tmp_path):
    for names, argument in (("ab", "kb_b"), ("ba", "kb")):
        told = (
            f"made with store {other.store_id}, {kb.store_id} was given; give "
            f"{argument}=.{other.manifest.digest[:16]}., or oth"
        )
        with pytest.raises(LineageMismatch, match=rf"'cellmodel' of .*b\.h5ad was {told}"):
            compared(files, kb, kb, names=names, output=tmp_path / "out.tsv")
    assert not (tmp_path / "out.tsv").exists()


@pytest.mark.parametrize(
    ("second", "arguments"),
    [
        ("other", {}),
        ("kb", {"cluster_key": "bulk_labels"}),
        pytest.param("longer", {"names": "aa"}, marks=pytest.mark.slow),
    ],
    ids=["each with its own store", "clusters from elsewhere", "a store that gained an encoder"],
)
def test_files_that_fit_their_stores_are_compared(files, kb, request, second, arguments):
    kb_b = request.getfixturevalue(second)
    found = compared(files, kb, kb_b, **arguments)
    assert (found["store_ids"], found["clusters_from"]) == ([kb.store_id, kb_b.store_id], [None, None])


def test_a_difference_that_is_meant_is_told_with_the_result(files, kb, other, caplog):
    found = compared(files, kb, kb, other_store=True)
    assert found["clusters_from"][0] is None
    assert (found["clusters_from"][1]["store_id"], found["store_ids"][1]) == (other.store_id, kb.store_id)
    assert other.store_id in caplog.text


def test_in_a_comparison_an_encoder_counts_where_the_store_chose_it(files, kb):
    assert compared(files, kb, kb, names="aa", encoder="hash-8")["encoder"] == kb.encoder_id("hash-8")
    assert compared(files, kb, kb, names="aa")["encoder"] == kb.encoder_id("wcp-8")


@pytest.mark.slow
def test_texts_are_read_by_the_first_stores_encoder_where_the_second_was_pulled_without_it(files, kb, tmp_path):
    push_store(kb, parse_address(str(tmp_path / "shared")))
    parts = []
    for name in ("hash-8", "wcp-8"):
        config = PullConfig(encoders=(name,))
        pulled = pull_store(parse_address(str(tmp_path / "shared")), config, home=tmp_path / name)
        parts.append(genekb.open(pulled.path))
    found = compared(files, *parts, cluster_key="bulk_labels")
    whole = compared(files, kb, kb, cluster_key="bulk_labels", encoder="hash-8")
    assert found["encoder"] == whole["encoder"] == kb.encoder_id("hash-8")
    meanings = [[pair["meaning"] for pair in one["pairs"]] for one in (found, whole)]
    np.testing.assert_allclose(*meanings, atol=2e-3)  # vectors of a store are float16


@pytest.mark.slow
def test_the_command_ends_with_5_and_the_way_out_works(files, home, kb, other, tmp_path, capsys, monkeypatch):
    def told(*args):
        words = ("cellmodel", "compare", files["a"], files["b"], "--kb", "demo", "--home", home, "--permutations", "5")
        return call_here((*words, *args), capsys, monkeypatch)

    refused = told("-o", tmp_path / "out.tsv")
    assert (refused.code, refused.out) == (5, "")
    assert f"give --kb-b {other.manifest.digest[:16]}, or --other-store" in refused.err
    assert not (tmp_path / "out.tsv").exists()
    right = json.loads(told("--kb-b", other.manifest.digest[:16], "--json").out)
    assert (right["store_ids"], right["clusters_from"]) == ([kb.store_id, other.store_id], [None, None])
    meant = json.loads(told("--other-store", "--json").out)
    assert meant["clusters_from"] == [None, {"store_id": other.store_id, "encoder_id": other.encoder_id("wcp-8")}]
    assert f"b.h5ad were made with {other.store_id}, and read with {kb.store_id}" in told("--other-store").out
