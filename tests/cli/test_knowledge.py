"""The life of a store from the command line: built, updated, added to, compared, exported, cleared up."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from tests.support.in_process import call, call_json
from tests.support.loopback import serving


@pytest.fixture(scope="module")
def home(tmp_path_factory, old_ncbi_folder):
    folder = tmp_path_factory.mktemp("home")
    build = ["build", "--source", old_ncbi_folder, "--taxon", "human", "--model", "wcp-16", "--name", "human"]
    call_json("genekb", *build, "--home", folder)
    return folder


def test_an_update_says_what_it_will_encode_and_a_diff_what_changed(home, ncbi_folder, tmp_path):
    args = ["update", "human@2020-01", "--source", ncbi_folder, "--home", home]
    planned = call_json("genekb", *args, "--dry-run")
    assert not list((home / "stores").glob("human@2022-11"))
    code, out, err = call("genekb", *args, "--json")
    assert code == 0, err
    done = json.loads(out)
    (n_new,) = planned["n_to_encode"].values()
    assert f"{n_new} of {done['n_unique_texts']} texts are new and will be encoded" in err
    assert (done["n_encoded_now"], done["n_taken_from_parent"]) == (n_new, done["n_unique_texts"] - n_new)
    diff = call_json("genekb", "diff", "human@2020-01", "human@2022-11", "--home", home)
    assert diff["counts"] == {key: planned[key] for key in diff["counts"]}
    assert {"gene_id": 2629, "old": "GBA", "new": "GBA1"} in diff["changes"]["renamed"]
    code, out, _ = call("genekb", "diff", "human@2020-01", "human@2022-11", "--home", home)
    assert "GBA -> GBA1" in out
    assert "[-GBA:-] {+GBA1:+}" in out


def test_genes_without_names_are_refused_with_a_store_but_not_where_no_knowledge_is_asked_for(home, tmp_path):
    counts = np.random.default_rng(0).poisson(np.repeat([[1.0], [4.0]], 30, axis=0), (60, 40)).astype(np.float32)
    anndata.AnnData(counts, var=pd.DataFrame(index=[f"g{gene}" for gene in range(40)])).write_h5ad(tmp_path / "g.h5ad")
    cluster = [
        "cluster",
        tmp_path / "g.h5ad",
        "--kb",
        "human",
        "--home",
        home,
        "--n-clusters",
        2,
        "-o",
        tmp_path / "o.h5ad",
    ]
    code, _, err = call("cellmodel", *cluster)
    assert (code, "(--knowledge none clusters without texts of genes)" in err) == (3, True)
    code, _, err = call("cellmodel", *cluster, "--knowledge", "none")
    assert (code, "are clustered without" in err) == (0, True), err
    assert anndata.read_h5ad(tmp_path / "o.h5ad").obs["cellmodel"].nunique() == 2


def test_encoders_are_added_and_vectors_imported(home, tmp_path):
    added = call_json("genekb", "encode", "human@2020-01", "--model", "random-16", "--home", home)
    assert (added["n_encoded_now"], len(added["encoders"])) == (added["n_unique_texts"], 2)
    (tmp_path / "mine.json").write_text(json.dumps({"CD3D": [1.0, 2.0], "INS": [3.0, 4.0], "NOSUCH": [5.0, 6.0]}))
    args = ["encode", "human@2020-01", "--vectors", tmp_path / "mine.json", "--name", "mine", "--home", home]
    imported = call_json("genekb", *args)
    assert (imported["n_genes"], imported["n_unresolved"]) == (2, 1)
    assert imported["left_out"] == [{"name": "NOSUCH", "reason": "unknown to the store"}]
    code, shown, _ = call("genekb", *args[:4], "--name", "again", "--home", home)
    assert code == 0
    assert shown.startswith("2 of 3 vectors taken\nleft out: NOSUCH: unknown to the store\nencoder again-")
    code, _, err = call("genekb", *args)
    assert code == 3
    assert "has an encoder named 'mine' already; give another --name" in err
    out = tmp_path / "mine.npy"
    call_json("genekb", "export", "--kb", "human@2020-01", "--encoder", "mine", "-o", out, "--home", home)
    np.testing.assert_array_equal(np.load(out), [[1, 2], [3, 4]])
    code, out, err = call("genekb", "verify", "human@2020-01", "--home", home)
    assert code == 0, err


@pytest.mark.parametrize("ending", ["npz", "vec", "h5ad"])
def test_what_export_writes_import_takes(home, tmp_path, ending):
    path = tmp_path / f"v.{ending}"
    exported = call_json("genekb", "export", "--kb", "human@2020-01", "--encoder", "wcp-16", "-o", path, "--home", home)
    imported = call_json(
        "genekb", "encode", "human@2020-01", "--vectors", path, "--name", f"my-{ending}", "--home", home
    )
    assert imported["n_genes"] + len(imported["left_out"]) == exported["n_genes"]
    assert imported["encoder"] in imported["encoders"]


def test_a_malicious_pickle_is_refused_and_nothing_is_run(home, tmp_path):
    proof = tmp_path / "proof"
    (tmp_path / "evil.pickle").write_bytes(b"cos\nsystem\n(S'touch " + str(proof).encode() + b"'\ntR.")
    code, _, err = call(
        "genekb", "encode", "human", "--vectors", tmp_path / "evil.pickle", "--name", "evil", "--home", home
    )
    assert code == 3
    assert "system" in err
    assert not proof.exists()


def test_a_table_of_symbols_is_built_on_the_records_of_a_release(home, ncbi_folder, tmp_path):
    (tmp_path / "GenePT.json").write_text(json.dumps({"CD3D": "My own text.", "NOSUCH": "Nothing."}))
    args = ["build", "--source", tmp_path / "GenePT.json", "--name", "mine", "--model", "hash-16", "--home", home]
    code, _, err = call("genekb", *args)
    assert code == 3
    assert "with --names" in err
    built = call_json("genekb", *args, "--names", ncbi_folder)
    assert built["n_texts"] == 1
    assert built["dropped"]["symbol unknown"] == 1


def test_a_price_is_told_before_anything_is_sent(home, ncbi_folder, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    args = ["build", "--source", ncbi_folder, "--model", "text-embedding-3-small", "--home", home]
    price = call_json("genekb", *args, "--dry-run")["price"]["text-embedding-3-small"]
    assert 0 < price["dollars_at_most"] < 0.01
    code, _, err = call("genekb", *args)
    assert code == 4
    assert "OPENAI_API_KEY" in err


def test_unfinished_builds_are_removed_and_stores_are_kept(home):
    (home / "stores" / "human@2020-01" / ".building-0123456789abcdef").mkdir()
    planned = call_json("genekb", "gc", "--dry-run", "--home", home)
    done = call_json("genekb", "gc", "--home", home)
    assert [item["path"] for item in planned["removed"]] == [item["path"] for item in done["removed"]]
    assert not list((home / "stores" / "human@2020-01").glob(".building-*"))
    assert call("genekb", "verify", "human@2020-01", "--home", home)[0] == 0


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["update", "nosuch", "--source", "."], 4, "no store 'nosuch'"),
        (["encode", "human@2020-01", "--model", "nosuch/model"], 4, "is not on this machine"),
        (["diff", "human@2020-01", "nosuch"], 4, "no store 'nosuch'"),
        (["encode", "human@2020-01", "--vectors", "nosuch.npy", "--name", "x"], 3, "does not exist"),
        (["search", "insulin", "--kb", "human@2020-01", "--encoder", "nosuch"], 4, "has no encoder 'nosuch'"),
        (["export", "--kb", "human@2020-01", "-o", "x.nosuch"], 2, "nosuch"),
        (["encode", "human@2020-01"], 2, "give --model ENCODER"),
    ],
)
def test_mistakes_end_in_one_line_with_their_exit_code(home, args, code, told):
    found, out, err = call("genekb", *args, "--home", home)
    assert (found, out) == (code, "")
    assert told in err
    assert "Traceback" not in err


def test_what_is_downloaded_and_fetched_can_be_built_from(home, ncbi_folder, tmp_path, monkeypatch):
    files = {f"/{path.name}": path.read_bytes() for path in ncbi_folder.iterdir()}
    with serving(files=files) as server:
        args = ["download", tmp_path / "new", "--mirror", server.url, "--taxon", "human"]
        content = call_json("genekb", *args)
        code, _, err = call("genekb", *args, "--file", "nosuch")
    assert (code, "'nosuch' is not one of gene_info" in err) == (2, True)
    assert content["release"] == "2022-11-01"
    built = call_json(
        "genekb", "build", "--source", tmp_path / "new", "--release", "2022-11", "--model", "hash-8",
        "--name", "downloaded", "--home", home,
    )  # fmt: skip
    assert built["store"] == "downloaded@2022-11"
    code, _, err = call("genekb", "download", tmp_path / "off", "--mirror", server.url)
    assert code == 4
    assert "`genekb build`" in err
    (tmp_path / "genes.txt").write_text("CD3D\n")
    monkeypatch.delenv("NCBI_EMAIL", raising=False)
    code, _, err = call("genekb", "download", tmp_path / "few", "--gene", tmp_path / "genes.txt")
    assert code == 4
    assert "set NCBI_EMAIL" in err
