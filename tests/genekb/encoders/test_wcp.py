"""The encoder wcp, fitted on gene texts of NCBI: the same vectors whenever and wherever it is opened."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.builder.update import add_encoders, plan_update, update
from genekb.core.errors import EncoderFailed, NotAvailable, StoreCorrupt
from genekb.core.words import content_words
from genekb.encoders import EncoderSpec, load_encoder, reopen_encoder
from genekb.encoders.registry import choose_default
from genekb.encoders.wcp import pieces, right_vectors
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.store.search import search_genes

CONFIG = BuildConfig(name="human", models=("wcp",))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def old(old_ncbi_folder, home):
    source = read_ncbi_folder(old_ncbi_folder, taxa=["human"])
    return genekb.open(build(source, CONFIG, home=home).folder)


@pytest.fixture(scope="module")
def texts(old):
    return sorted(set(old.table("texts")["text"].to_pylist()))


@pytest.fixture(scope="module")
def encoder(texts):
    return load_encoder("wcp", corpus=texts)


def test_a_second_fit_in_any_order_of_the_texts_gives_the_same_bytes(encoder, texts, tmp_path):
    again = load_encoder("wcp", corpus=[*texts[::-1], texts[0]])
    assert again.spec == encoder.spec
    assert again.encode(texts).vectors.tobytes() == encoder.encode(texts).vectors.tobytes()
    for number, one in enumerate((encoder, again)):
        one.save(tmp_path / str(number))
    for path in sorted((tmp_path / "0").iterdir()):
        assert path.read_bytes() == (tmp_path / "1" / path.name).read_bytes()


def test_threads_do_not_change_the_fitted_state(texts, encoder, tmp_path):
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    code = (
        "import json, sys; from genekb.encoders import load_encoder;"
        f"print(load_encoder('wcp', corpus=json.load(open({str(tmp_path / 'texts.json')!r}))).spec.encoder_id)"
    )
    for threads in ("1", "3"):
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert run.stdout.strip() == encoder.spec.encoder_id


def test_a_reopened_encoder_gives_the_same_vectors(encoder, texts, tmp_path):
    encoder.save(tmp_path)
    again = reopen_encoder(EncoderSpec.from_dict(encoder.spec.to_dict()), tmp_path)
    query = [*texts[:20], "insulin secretion of beta cells"]
    assert again.encode(query).vectors.tobytes() == encoder.encode(query).vectors.tobytes()


def test_singular_plural_and_case_are_one_query(encoder):
    vectors = encoder.encode(["plasma cell", "plasma cells", "PLASMA-CELLS", "the Plasma Cells"]).vectors
    assert len(np.unique(vectors, axis=0)) == 1


def test_related_texts_come_together(old):
    hits = search_genes(old, "hormones that regulate blood glucose", mode="semantic", limit=5).hits
    assert "INS" in {hit.symbol for hit in hits}


def test_of_an_unknown_word_the_characters_are_known(encoder, texts):
    encoded = encoder.encode(["insulinlike", "insulin", "ξξξ"])
    assert encoded.n_tokens.tolist() == [0, 1, 0]
    assert encoded.vectors[0] @ encoded.vectors[1] > 0.3
    np.testing.assert_allclose(encoded.vectors[2], encoder.neutral, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(texts).vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("corpus", [["one gene"], ["a"], ["the of", "it"], ["TP53: tumor protein p53.", "x y z"]])
def test_a_few_texts_are_enough(corpus):
    encoder = load_encoder("wcp-16", corpus=corpus)
    assert encoder.spec.dim <= len(corpus)
    assert np.isfinite(encoder.encode([*corpus, "another text"]).vectors).all()


def test_its_number_of_dimensions_is_asked_for_by_name(texts):
    small = load_encoder("wcp-16", corpus=texts)
    assert (small.spec.name, small.spec.dim) == ("wcp-16", 16)
    assert small.encode(texts[:2]).vectors.shape == (2, 16)
    with pytest.raises(EncoderFailed, match="'wcp' is fitted on texts, and none were given"):
        load_encoder("wcp")
    with pytest.raises(ValueError, match="there is none"):
        load_encoder("wcp", corpus=[])


def test_an_update_encodes_the_new_texts_alone_and_keeps_the_state(old, ncbi_folder, home):
    source = read_ncbi_folder(ncbi_folder, taxa=["human"])
    plan = plan_update(old, source)
    result = update(old, source, plan, home=home)
    kb = genekb.open(result.folder)
    encoder_id = kb.encoder_id("wcp")
    assert list(kb.manifest.encoders) == list(old.manifest.encoders) == [encoder_id]
    assert result.n_encoded == plan.n_to_encode[encoder_id] < kb.manifest.n_unique_texts
    for name in ("wcp.safetensors", "wcp-vocabulary.json"):
        shared = [store.folder / "embeddings" / encoder_id / name for store in (old, kb)]
        assert shared[0].stat().st_ino == shared[1].stat().st_ino
    gene = int(kb.table("texts")["gene_id"][0].as_py())
    again = old.encoder("wcp").encode(kb.texts([gene])).vectors
    np.testing.assert_allclose(kb.vectors([gene], encoder="wcp").vectors, again, atol=1e-3)


def test_added_to_a_store_it_is_the_one_that_a_build_makes(old, old_ncbi_folder, tmp_path):
    source = read_ncbi_folder(old_ncbi_folder, taxa=["human"])
    bare = genekb.open(build(source, replace(CONFIG, models=("hash-8",)), home=tmp_path).folder)
    kb = genekb.open(add_encoders(bare, ["wcp"], load=load_encoder, home=tmp_path).folder)
    assert kb.encoder_id("wcp") == old.encoder_id("wcp")


def test_a_source_without_summaries_is_enough(old_ncbi_folder, tmp_path):
    folder = shutil.copytree(old_ncbi_folder, tmp_path / "source")
    for path in folder.glob("gene_summary*"):
        path.unlink()
    kb = genekb.open(build(read_ncbi_folder(folder, taxa=["human"]), CONFIG, home=tmp_path).folder)
    assert np.isfinite(kb.vector_table("wcp").vectors).all()


def test_a_damaged_or_foreign_state_is_refused(encoder, texts, tmp_path):
    encoder.save(tmp_path)
    other = load_encoder("wcp", corpus=texts[:9])
    with pytest.raises(StoreCorrupt, match="the state is not that of wcp-"):
        reopen_encoder(other.spec, tmp_path)
    with pytest.raises(NotAvailable, match="is revision '9' of wcp, this genekb knows 1; update genekb"):
        reopen_encoder(replace(encoder.spec, revision="9"), tmp_path)
    (tmp_path / "wcp-vocabulary.json").write_text("[]")
    with pytest.raises(StoreCorrupt, match="the state is not that of wcp-"):
        reopen_encoder(encoder.spec, tmp_path)
    (tmp_path / "wcp.safetensors").write_bytes(b"broken")
    with pytest.raises(StoreCorrupt, match="is damaged; build the store again"):
        reopen_encoder(encoder.spec, tmp_path)
    (tmp_path / "wcp.safetensors").unlink()
    with pytest.raises(NotAvailable, match="lacks the fitted state of wcp-"):
        reopen_encoder(encoder.spec, tmp_path)


def test_the_default_of_a_large_store_needs_no_weights():
    assert choose_default(20_000) == "wcp"
    assert choose_default(100) in {"minilm", "wcp"}


def test_words_and_their_pieces():
    assert content_words("The T-cells of IL2RA") == ["t", "cell", "il2ra"]
    assert pieces("t") == (" t ",)
    assert set(pieces("ins")) == {" in", "ins", "ns ", " ins", "ins ", " ins "}


def test_singular_vectors_are_those_of_a_full_decomposition():
    import scipy.sparse as sp

    random = np.random.default_rng(0)
    left = sp.random(60, 40, density=0.2, random_state=random, dtype=np.float32, format="csr")
    right = sp.random(40, 90, density=0.2, random_state=random, dtype=np.float32, format="csr")
    vectors, values = right_vectors([left, right], 5)
    _, expected, turned = np.linalg.svd((left @ right).toarray())
    np.testing.assert_allclose(values, expected[:5], rtol=1e-3)
    np.testing.assert_allclose(np.abs((turned[:5] @ vectors).diagonal()), 1, atol=1e-3)
