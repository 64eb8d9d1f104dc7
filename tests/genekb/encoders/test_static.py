"""Static word vectors: against a plain mean over tokens, against sentence-transformers, and for unknown words."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.encoders.local.encoder import load_static
from genekb.encoders.local.files import static_folder

model2vec = pytest.importorskip("model2vec", reason="the extra static is not installed")

ROOT = Path(__file__).parents[3]
WORDS = ["[UNK]", "silent", "insulin", "hormone", "of", "beta", "cells", "glucose"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 6)).astype(np.float32)
VECTORS[1] = 0


def make_tokenizer():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A real, tiny model2vec folder."""
    path = tmp_path_factory.mktemp("static") / "tiny-static"
    model2vec.StaticModel(VECTORS, make_tokenizer(), config={"model_type": "model2vec"}).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder):
    return load_static(folder, name="tiny-static", model_id="folder:tiny-static")


def mean_direction(words):
    total = np.zeros(6)
    for word in words:
        total += VECTORS[WORDS.index(word)]
    return total / np.linalg.norm(total)


@given(st.lists(st.lists(st.sampled_from(WORDS[2:]), min_size=1, max_size=9), min_size=1, max_size=5))
def test_a_text_is_the_mean_of_its_tokens(encoder, texts):
    found = encoder.encode([" xyzzy ".join(words) for words in texts])
    np.testing.assert_allclose(found.vectors, [mean_direction(words) for words in texts], atol=1e-5)
    assert found.n_tokens.tolist() == [len(words) for words in texts]
    assert not found.n_tokens_cut.any()


def test_a_text_is_read_to_its_end(encoder):
    words = ["glucose"] * 600 + ["insulin"] * 1400
    found = encoder.encode([" ".join(words)])
    np.testing.assert_allclose(found.vectors[0], mean_direction(words), atol=1e-5)
    assert (found.n_tokens[0], found.n_tokens_cut[0]) == (2000, 0)


def test_a_text_without_a_token_that_counts_gets_the_neutral_vector(encoder):
    found = encoder.encode(["xyzzy plugh", "insulin xyzzy", "silent"])
    neutral = VECTORS.mean(axis=0) / np.linalg.norm(VECTORS.mean(axis=0))
    np.testing.assert_allclose(found.vectors[[0, 2]], [neutral, neutral], atol=1e-5)
    np.testing.assert_allclose(found.vectors[1], mean_direction(["insulin"]), atol=1e-5)
    assert found.n_tokens.tolist() == [0, 1, 0]


def test_a_prompt_shifts_the_vector_but_is_not_counted(folder):
    prompted = load_static(folder, name="tiny-static", model_id="m", prompt="hormone of ")
    found = prompted.encode(["insulin", "xyzzy"])
    np.testing.assert_allclose(found.vectors[0], mean_direction(["hormone", "of", "insulin"]), atol=1e-5)
    assert found.n_tokens.tolist() == [1, 0]


def test_the_first_dims_alone_are_kept(folder, encoder):
    first = load_static(folder, name="tiny-static-4", model_id="m", dim=4)
    kept = encoder.encode(["insulin hormone", "xyzzy"]).vectors[:, :4]
    expected = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    np.testing.assert_allclose(first.encode(["insulin hormone", "xyzzy"]).vectors, expected, atol=1e-6)
    with pytest.raises(EncoderFailed, match="has 6 dims, 7 cannot be kept"):
        load_static(folder, name="tiny", model_id="m", dim=7)


def test_the_same_folder_gives_the_same_recipe_and_bytes(folder, encoder):
    texts = [f"insulin {'hormone ' * (number % 50)}" for number in range(2500)]
    counted = []
    first = encoder.encode(texts, progress=counted.append)
    again = load_static(folder, name="tiny-static", model_id="folder:tiny-static")
    assert again.spec == encoder.spec
    assert (again.spec.kind, again.spec.dim, again.spec.max_tokens) == ("static", 6, 0)
    assert again.encode(texts).vectors.tobytes() == first.vectors.tobytes()
    assert again.encode(texts[::-1]).vectors[::-1].tobytes() == first.vectors.tobytes()
    assert sum(counted) == len(texts)
    assert encoder.encode([]).vectors.shape == (0, 6)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_tables_of_small_types_are_averaged_in_float32(tmp_path, dtype):
    table = (VECTORS * 30).astype(dtype)
    model2vec.StaticModel(table, make_tokenizer()).save_pretrained(tmp_path)
    found = load_static(tmp_path, name="small", model_id="m").encode(["insulin hormone of"]).vectors[0]
    mean = table[2:5].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_static_folder_of_sentence_transformers_gives_what_that_library_gives(tmp_path, normalize):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    table = StaticEmbedding(make_tokenizer(), embedding_weights=VECTORS)
    modules = [table, Normalize()] if normalize else [table]
    theirs = SentenceTransformer(modules=modules, device="cpu")
    theirs.save(str(tmp_path / "st"))
    assert static_folder(tmp_path / "st")
    texts = ["insulin hormone", "glucose of beta cells"]
    ours = load_static(tmp_path / "st", name="st", model_id="m").encode(texts).vectors
    expected = theirs.encode(texts, normalize_embeddings=True)
    assert (ours * expected).sum(axis=1).min() > 0.99999


def test_a_static_folder_is_known_by_its_small_files_alone(folder, tmp_path):
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "x.Transformer", "path": ""}]))
    code = (
        "import sys; from pathlib import Path; from genekb.encoders.local.files import static_folder;"
        "print(*(bool(static_folder(Path(path))) for path in sys.argv[1:]),"
        "*sorted({'model2vec', 'torch', 'tokenizers', 'safetensors'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path), str(tmp_path / "gone")]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)})
    assert result.stdout.split() == ["True", "False", "False"]


def test_what_is_missing_or_damaged_is_told(folder, tmp_path, monkeypatch):
    with pytest.raises(NotAvailable, match=r"has no model\.safetensors; give a folder"):
        load_static(tmp_path, name="tiny", model_id="m")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(EncoderFailed, match="'tiny' cannot be loaded by model2vec"):
        load_static(tmp_path, name="tiny", model_id="m")
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(NotAvailable, match=r"pip install 'genekb-cellmodel\[static\]'"):
        load_static(folder, name="tiny", model_id="m")
