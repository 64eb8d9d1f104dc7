"""Classes of clusters by the texts of genes: weights as a double loop would find them; types that share no gene."""

import numpy as np
import pytest

from cellmodel.annotate.label_transfer import N_NEAREST, SHARPNESS, classify_by_text, match_weights
from cellmodel.annotate.shared_genes import TextMatch
from cellmodel.core.arrays import unit_rows

N_GENES, N_EACH = 90, 30


def test_weights_are_those_of_a_double_loop():
    rng = np.random.default_rng(0)
    reference, query = (unit_rows(rng.normal(size=(n, 4))) for n in (25, 14))
    weights = match_weights(reference, query).toarray()
    cosine = [[float(one @ other) for other in query] for one in reference]

    def mean_of_nearest(values):
        return float(np.mean(sorted(values)[-N_NEAREST:]))

    across = [mean_of_nearest(row) for row in cosine]
    down = [mean_of_nearest([row[other] for row in cosine]) for other in range(len(query))]
    similarity = np.array([[2 * cosine[g][o] - across[g] - down[o] for o in range(14)] for g in range(25)])
    for gene in range(25):
        top = sorted(range(14), key=lambda other: -similarity[gene, other])[:N_NEAREST]
        expected = np.zeros(14)
        expected[top] = np.exp((similarity[gene, top] - similarity.max()) / SHARPNESS)
        np.testing.assert_allclose(weights[gene], expected, rtol=1e-9)


@pytest.fixture
def match():
    """Three types with thirty genes each; those of the query in another order, with texts near to what they are."""
    rng = np.random.default_rng(1)
    types, order = np.repeat([0, 1, 2], N_EACH), rng.permutation(N_GENES)
    own = np.repeat([0, 1, 2], N_GENES // 3)

    def cells():
        return ((types[:, None] == own[None, :]) * 2.0 + rng.normal(size=(len(types), N_GENES))).astype(np.float32)

    vectors = unit_rows(rng.normal(size=(N_GENES, 40)))
    others = unit_rows(vectors + 0.15 * rng.normal(size=vectors.shape))
    query = cells()
    return types, TextMatch(
        reference=cells(),
        query=query[:, order],
        query_features=query @ rng.normal(size=(N_GENES, 10)).astype(np.float32),
        reference_vectors=vectors,
        query_vectors=others[order],
    )


def test_types_are_found_by_genes_that_are_alike_in_text_alone(match):
    types, cells = match
    found = classify_by_text(cells, labelled=np.arange(len(types)), classes=types, seed=0)
    assert found.shape == (len(types), 3)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert np.mean(found.argmax(axis=1) == types) > 0.9
    again = classify_by_text(cells, labelled=np.arange(len(types)), classes=types, seed=0)
    np.testing.assert_array_equal(found, again)
