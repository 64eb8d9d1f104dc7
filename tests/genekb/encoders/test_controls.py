"""The control without knowledge: a random vector for each text."""

import hashlib

import numpy as np
import pytest

from genekb.encoders.registry import BuiltInEncoder

TEXTS = [
    "insulin lowers blood glucose",
    "glucagon raises blood glucose",
    "a sodium channel of nerve cells",
    "an enzyme that cuts cell walls",
    "a receptor of T cells",
]


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
