"""Vectors in the order of a model's vocabulary."""

import json

import numpy as np
import pytest
from safetensors import safe_open

import genekb as gk
from genekb.core.errors import SourceUnusable
from genekb.query.vocabulary import read_vocabulary
from tests.support.in_process import call, call_json

TOKENS = ("<pad>", "MS4A1", "<cls>", "CD3D", "NOSUCH1", "T3D", "NOSUCH2")


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({token: row for row, token in reversed(list(enumerate(TOKENS)))}))
    return path


def test_rows_are_in_the_order_of_the_vocabulary_and_a_mask_says_which_are_real(vocabulary, demo_home, demo_kb):
    base = ("genekb", "export", "--kb", "demo", "--home", demo_home, "--order")
    content = call_json(*base, vocabulary, "-o", vocabulary.with_name("v.npz"))
    assert {key: content[key] for key in ("n_tokens", "n_genes", "n_without_vector")} == {
        "n_tokens": 7, "n_genes": 3, "n_without_vector": 2,
    }  # fmt: skip
    call_json(*base, vocabulary.parent, "-o", vocabulary.with_name("w.safetensors"))  # the folder of the model
    with np.load(vocabulary.with_name("v.npz"), allow_pickle=False) as arrays:
        assert arrays["tokens"].tolist() == list(TOKENS)
        assert arrays["mask"].tolist() == [False, True, False, True, False, True, False]
        rows = arrays["vectors"]
        assert not rows[~arrays["mask"]].any()
        np.testing.assert_array_equal(rows[arrays["mask"]], demo_kb.vectors(["MS4A1", "CD3D", "CD3D"]).vectors)
    with safe_open(vocabulary.with_name("w.safetensors"), "numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("vectors"), rows)
        assert file.metadata()["store_digest"] == demo_kb.manifest.digest
    missing = vocabulary.with_name("v.missing.tsv").read_text().split()
    assert missing == ["name", "reason", "NOSUCH1", "unknown", "NOSUCH2", "unknown"]


def test_tokens_without_a_vector_are_counted_and_named(demo_kb, tmp_path, caplog):
    found = gk.export(demo_kb, tmp_path / "v.npz", order=["CD3D", "MS4A1", "LYZ", "NOSUCH", "NOR THIS"])
    assert (found.n_genes, found.n_without_vector) == (3, 2)
    assert "2 of 5 genes are zeros, false in the mask: 0 genes without a vector, 2 unknown: NOSUCH" in caplog.text


def test_a_store_of_another_species_is_refused(demo_kb, tmp_path):
    tokens = ["<pad>", "Cd3d", "Ms4a1", "LYZ"]
    with pytest.raises(SourceUnusable, match=r"1 of 3 tokens are genes of demo@.*not Cd3d, Ms4a1; is the store of"):
        gk.export(demo_kb, tmp_path / "v.npz", order=tokens)
    assert not list(tmp_path.glob("v.*"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"CD3D": 0, "MS4', "is not whole JSON"),
        ('{"CD3D": 0, "MS4A1": 2}', "2 tokens, whose rows must be 0 to 1, each once; see row 1"),
        ('["CD3D", "CD3D"]', "see row 0"),
        ('{"CD3D": [0.1]}', "must map each token to the number of its row"),
        ("3", "must map each token"),
    ],
)
def test_a_vocabulary_that_is_damaged_is_refused(text, match, tmp_path):
    (tmp_path / "vocab.json").write_text(text)
    with pytest.raises(SourceUnusable, match=match):
        read_vocabulary(tmp_path)


def test_a_folder_without_its_vocabulary_and_options_that_exclude_each_other(vocabulary, demo_home, tmp_path):
    base = ("genekb", "export", "--kb", "demo", "--home", demo_home, "--order")
    (tmp_path / "half").mkdir()
    code, _, err = call(*base, tmp_path / "half", "-o", tmp_path / "v.npz")
    assert (code, "half holds no vocab.json" in err) == (3, True)
    code, _, err = call(*base, vocabulary, "--for", "gears", "-o", tmp_path / "v.npz")
    assert (code, "--order gives the rows itself" in err) == (2, True)
