"""`cellmodel compare` and the stores that the clusters of either file were made with."""

import json
from dataclasses import replace

import numpy as np
import pytest

import genekb
from cellmodel import tl
from cellmodel.compared_files import CompareOutputs, SideFile, compare_files
from cellmodel.comparison import CompareConfig
from cellmodel.config import RunConfig
from cellmodel.demo import find_demo_cells
from cellmodel.errors import LineageMismatch
from cellmodel.readers import read_anndata
from genekb.share.addresses import parse_address
from genekb.share.pull import PullConfig, pull_store
from genekb.share.push import push_store
from tests.in_process import call_here

FEW = CompareConfig(n_permutations=5)


def build(home, name, *models):
    config = genekb.BuildConfig(name=name, models=models)
    return genekb.open(genekb.build(genekb.read_demo_table(), config, home=home).folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def kb(home):
    return build(home, "demo", "lsa-8", "hash-8")


@pytest.fixture(scope="module")
def other(home):
    """The same genes and texts under another name: another store."""
    return build(home, "other", "lsa-8")


@pytest.fixture(scope="module")
def files(kb, other, tmp_path_factory):
    """Halves of the demo cells: one clustered with either store, and one without."""
    folder = tmp_path_factory.mktemp("cells")
    every = read_anndata(find_demo_cells()).raw.to_adata()
    order = np.random.default_rng(0).permutation(every.n_obs)
    for name, rows, store in (("a", order[:200], kb), ("b", order[200:400], other)):
        half = every[np.sort(rows)].copy()
        tl.cluster(half, store, n_clusters=3, recipe="pca-kmeans", config=RunConfig(n_words=0))
        half.write_h5ad(folder / f"{name}.h5ad")
    return {path.stem: path for path in folder.glob("*.h5ad")}


def compared(a, b, *, encoder=None, outputs=None):
    return compare_files(a, b, RunConfig(encoder=encoder), compare=FEW, outputs=outputs)


def test_either_file_with_a_store_that_is_not_its_own_is_refused_before_anything_is_written(files, kb, other, tmp_path):
    outputs = CompareOutputs(table=tmp_path / "out.tsv")
    own, wrong = SideFile(path=files["a"], kb=kb), SideFile(path=files["b"], kb=kb)
    told = (
        f"made with store {other.store_id}, {kb.store_id} was given; give --kb-b {other.manifest.digest[:16]}, or --oth"
    )
    with pytest.raises(LineageMismatch, match=rf"'cellmodel' of .*b\.h5ad was {told}"):
        compared(own, wrong, outputs=outputs)
    told = (
        f"made with store {other.store_id}, {kb.store_id} was given; give --kb {other.manifest.digest[:16]}, or --oth"
    )
    with pytest.raises(LineageMismatch, match=rf"'cellmodel' of .*b\.h5ad was {told}"):
        compared(wrong, own, outputs=outputs)
    assert not (tmp_path / "out.tsv").exists()


def test_each_file_with_its_own_store_is_compared(files, kb, other):
    found = compared(SideFile(path=files["a"], kb=kb), SideFile(path=files["b"], kb=other))
    assert found.store_ids == (kb.store_id, other.store_id)
    assert found.made_with == (None, None)
    assert len(found.pairs) == 9


def test_a_difference_that_is_meant_is_told_with_the_result(files, kb, other, caplog):
    meant = SideFile(path=files["b"], kb=kb, other_store=True)
    found = compared(SideFile(path=files["a"], kb=kb), meant)
    assert found.made_with[0] is None
    assert (found.made_with[1].store_id, found.store_ids[1]) == (other.store_id, kb.store_id)
    assert other.store_id in caplog.text


def test_clusters_from_elsewhere_go_with_any_store(files, kb):
    sides = [SideFile(path=files[name], kb=kb, cluster_key="bulk_labels") for name in ("a", "b")]
    assert compared(*sides).made_with == (None, None)


def test_an_encoder_counts_where_the_store_chose_it(files, kb):
    own = SideFile(path=files["a"], kb=kb)
    assert compared(own, own, encoder="hash-8").encoder_id == kb.encoder_id("hash-8")
    assert compared(own, own).encoder_id == kb.encoder_id("lsa-8")


@pytest.mark.slow
def test_texts_are_read_by_the_first_stores_encoder_where_the_second_was_pulled_without_it(files, kb, tmp_path):
    push_store(kb, parse_address(str(tmp_path / "shared")))
    parts = []
    for name in ("hash-8", "lsa-8"):
        config = PullConfig(encoders=(name,))
        pulled = pull_store(parse_address(str(tmp_path / "shared")), config, home=tmp_path / name)
        parts.append(genekb.open(pulled.folder))
    sides = [
        SideFile(path=files[name], kb=part, cluster_key="bulk_labels") for name, part in zip("ab", parts, strict=True)
    ]
    found = compared(*sides)
    whole = compared(*(replace(side, kb=kb) for side in sides), encoder="hash-8")
    assert found.encoder_id == whole.encoder_id == kb.encoder_id("hash-8")
    meanings = [[pair.meaning for pair in one.pairs] for one in (found, whole)]
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
    assert meant["clusters_from"] == [None, {"store_id": other.store_id, "encoder_id": other.encoder_id("lsa-8")}]
    assert f"b.h5ad were made with {other.store_id}, and read with {kb.store_id}" in told("--other-store").out
