"""Controls without knowledge: a random vector for each text, and another text's vector for each text."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genekb.core.errors import NotAvailable, SchemaMismatch, StoreCorrupt
from genekb.encoders.controls import BuiltInEncoder, ShuffledEncoder, reopen_shuffled
from genekb.encoders.wcp.encoder import reopen_wcp
from genekb.encoders.wcp.fit import fit_wcp
from genekb.genes.texts import text_id

TEXTS = [
    "insulin lowers blood glucose",
    "glucagon raises blood glucose",
    "a sodium channel of nerve cells",
    "an enzyme that cuts cell walls",
    "a receptor of T cells",
]
corpora = st.lists(st.text(alphabet="abcdeé1 ", min_size=1, max_size=6).filter(lambda text: text.strip()), max_size=12)


def test_a_random_vector_depends_on_the_text_alone():
    encoder = BuiltInEncoder("random", name="random-16", dim=16)
    together = encoder.encode(TEXTS).vectors
    alone = np.vstack(
        [BuiltInEncoder("random", name="random-16", dim=16).encode([text]).vectors for text in TEXTS[::-1]]
    )[::-1]
    assert together.tobytes() == alone.tobytes()
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_a_random_vector_is_the_documented_draw():
    seed = int(hashlib.sha256(b"INS").hexdigest(), 16)
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal(8)
    found = BuiltInEncoder("random", name="random-8", dim=8).encode(["INS"]).vectors[0]
    np.testing.assert_allclose(found, drawn / np.linalg.norm(drawn), atol=1e-6)
    expected = [0.3634, -0.478252, -0.322772, -0.147356, -0.196499, 0.501577, 0.035764, 0.471009]
    np.testing.assert_allclose(found, expected, atol=1e-5)  # whatever the machine


def test_random_vectors_favor_no_direction_and_no_pair():
    vectors = (
        BuiltInEncoder("random", name="random-64", dim=64).encode([f"gene {number}" for number in range(2000)]).vectors
    )
    spectrum = np.linalg.eigvalsh(np.cov(vectors.T))
    assert spectrum.max() / spectrum.min() < 2.1  # Marchenko-Pastur: ((1 + s) / (1 - s))^2 = 2.06, s^2 = 64 / 2000
    assert np.abs(vectors.mean(axis=0)).max() < 5 / np.sqrt(64 * 2000)


def test_a_text_without_letters_is_refused():
    with pytest.raises(ValueError, match="text 1"):
        BuiltInEncoder("random", name="random-8", dim=8).encode(["INS", "..."])


@given(corpus=corpora)
def test_partners_are_a_permutation_of_the_corpus_that_keeps_nothing_in_place(corpus):
    distinct = set(corpus)
    shuffled = ShuffledEncoder(BuiltInEncoder("hash", name="hash-8", dim=8), corpus=corpus)
    partners = {text: shuffled.partner(text) for text in distinct}
    assert set(partners.values()) == distinct
    assert len(distinct) == 1 or all(text != partner for text, partner in partners.items())


@given(corpus=corpora, order=st.randoms(use_true_random=False))
def test_partners_and_identity_do_not_see_order_and_repeats_of_the_corpus(corpus, order):
    base = BuiltInEncoder("hash", name="hash-8", dim=8)
    other = [*corpus, *corpus]
    order.shuffle(other)
    first, second = (ShuffledEncoder(base, corpus=texts) for texts in (corpus, other))
    assert first.spec == second.spec
    assert [first.partner(text) for text in corpus] == [second.partner(text) for text in corpus]


def test_each_text_gets_the_vector_of_its_partner_and_a_query_its_own():
    base = BuiltInEncoder("hash", name="hash-32", dim=32)
    shuffled = ShuffledEncoder(base, corpus=TEXTS)
    vectors, own = shuffled.encode(TEXTS).vectors, base.encode(TEXTS).vectors
    assert sorted(row.tobytes() for row in vectors) == sorted(row.tobytes() for row in own)
    assert not (vectors == own).all(axis=1).any()
    assert shuffled.encode(["glucose"]).vectors.tobytes() == base.encode(["glucose"]).vectors.tobytes()


def test_the_order_of_partners_is_the_documented_one():
    def key(text):
        return hashlib.sha256(b"shuffled-1" + text_id(text).encode()).hexdigest()

    order = sorted(TEXTS, key=key)
    shuffled = ShuffledEncoder(BuiltInEncoder("hash", name="hash-8", dim=8), corpus=TEXTS)
    assert [shuffled.partner(text) for text in order] == order[1:] + order[:1]


def test_the_recipe_names_the_base_and_changes_with_the_corpus():
    base = BuiltInEncoder("hash", name="hash-8", dim=8)
    spec = ShuffledEncoder(base, corpus=TEXTS).spec
    assert (spec.name, spec.kind, spec.model_id, spec.dim) == ("shuffled-hash-8", "shuffled", base.spec.encoder_id, 8)
    assert ShuffledEncoder(base, corpus=TEXTS[1:]).spec.encoder_id != spec.encoder_id
    long = ShuffledEncoder(BuiltInEncoder("random", name="r" * 80, dim=8), corpus=TEXTS).spec
    assert len(long.name) == 80


def test_what_is_shuffled_is_not_shuffled_again():
    once = ShuffledEncoder(BuiltInEncoder("hash", name="hash-8", dim=8), corpus=TEXTS)
    with pytest.raises(ValueError, match="is shuffled already"):
        ShuffledEncoder(once, corpus=TEXTS)


def test_a_shuffled_encoder_is_opened_again_for_queries_with_the_state_of_its_base(tmp_path):
    base = fit_wcp(TEXTS, name="wcp-4", dim=4)
    shuffled = ShuffledEncoder(base, corpus=TEXTS)
    shuffled.save(tmp_path)
    again = reopen_shuffled(shuffled.spec, tmp_path, reopen=reopen_wcp)
    assert again.spec == shuffled.spec
    query = ["blood glucose of nerve cells"]
    assert again.encode(query).vectors.tobytes() == shuffled.encode(query).vectors.tobytes()


@pytest.mark.parametrize(
    ("content", "error", "told"),
    [
        (None, NotAvailable, "is missing"),
        ("{", StoreCorrupt, "is damaged"),
        ("[]", SchemaMismatch, "is not valid"),
        (
            json.dumps(BuiltInEncoder("hash", name="hash-9", dim=9).spec.to_dict()),
            StoreCorrupt,
            "is the recipe of hash-9-",
        ),
    ],
)
def test_a_base_recipe_that_is_not_that_of_the_base_is_refused(tmp_path, content, error, told):
    shuffled = ShuffledEncoder(BuiltInEncoder("hash", name="hash-8", dim=8), corpus=TEXTS)
    shuffled.save(tmp_path)
    (tmp_path / "base-recipe.json").unlink()
    if content is not None:
        (tmp_path / "base-recipe.json").write_text(content)
    with pytest.raises(error, match=told):
        reopen_shuffled(
            shuffled.spec, tmp_path, reopen=lambda spec, _: BuiltInEncoder("hash", name=spec.name, dim=spec.dim)
        )
