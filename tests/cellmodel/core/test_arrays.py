import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellmodel.core.arrays import content_order


@given(seed=st.integers(0, 2**32 - 1), n_cells=st.integers(1, 40), n_values=st.integers(1, 6))
def test_cells_are_ordered_as_by_sorting_their_features_one_after_the_other(seed, n_cells, n_values):
    features = np.random.default_rng(seed).integers(-n_values, n_values, (n_cells, 3)).astype(np.float32)
    rows = [tuple(row) for row in features.tolist()]
    expected = sorted(range(n_cells), key=lambda cell: (rows[cell], cell))
    assert content_order(features).tolist() == expected


@pytest.mark.parametrize("values", [[0.0, -0.0, 0.0], [1.0, 1.0, 1.0]])
def test_cells_that_do_not_differ_stay_as_they_stand(values):
    assert content_order(np.array(values)[:, None]).tolist() == [0, 1, 2]
