"""Classes of clusters by the texts of genes: weights of optimal transport; types that share no gene."""

import numpy as np
import pytest

from cellmodel.annotate.label_transfer import SHARPNESS, classify_by_text, match_weights
from cellmodel.annotate.shared_genes import TextMatch
from cellmodel.core.arrays import unit_rows

N_GENES, N_EACH = 90, 30


@pytest.mark.slow
def test_weights_are_those_of_optimal_transport():
    ot, rng = pytest.importorskip("ot"), np.random.default_rng(0)
    around = rng.normal(size=4)
    reference, query = (unit_rows(around + 0.2 * rng.normal(size=(n, 4))) for n in (25, 14))
    weights = match_weights(reference, query)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    plan = ot.sinkhorn(np.full(25, 1 / 25), np.full(14, 1 / 14), -reference @ query.T, reg=SHARPNESS, stopThr=1e-12)
    np.testing.assert_allclose(weights, 25 * plan, atol=0.01)


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
    found = classify_by_text(cells, labeled=np.arange(len(types)), classes=types, seed=0)
    assert found.shape == (len(types), 3)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert np.mean(found.argmax(axis=1) == types) > 0.9
    again = classify_by_text(cells, labeled=np.arange(len(types)), classes=types, seed=0)
    np.testing.assert_array_equal(found, again)
