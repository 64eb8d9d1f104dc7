"""Hypothesis strategies for counts, features, graphs and pairs of labelings."""

import numpy as np
import scipy.sparse as sp
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

seeds = st.integers(0, 2**32 - 1)


@st.composite
def counts(draw, *, max_cells=12, max_genes=10):
    """Small raw counts, empty cells and empty genes among them."""
    shape = draw(st.tuples(st.integers(1, max_cells), st.integers(1, max_genes)))
    dense = draw(hnp.arrays(np.int64, shape, elements=st.one_of(st.just(0), st.integers(0, 500))))
    return sp.csr_matrix(dense.astype(np.float32))


@st.composite
def features(draw, *, min_cells=2, max_cells=24, max_dims=4):
    """Integer points: equal cells, zero rows and ties are frequent."""
    shape = draw(st.tuples(st.integers(min_cells, max_cells), st.integers(1, max_dims)))
    return draw(hnp.arrays(np.int64, shape, elements=st.integers(-3, 3))).astype(np.float32)


@st.composite
def neighbor_lists(draw, *, max_cells=14):
    """For each cell the numbers of its neighbors, as many for each, never itself."""
    n_cells = draw(st.integers(2, max_cells))
    k = draw(st.integers(1, n_cells - 1))
    others = [[cell for cell in range(n_cells) if cell != own] for own in range(n_cells)]
    return [sorted(draw(st.permutations(cells))[:k]) for cells in others]


@st.composite
def weighted_graphs(draw, *, max_cells=12):
    """Symmetric non-negative weights with zeros on the diagonal; isolated cells may occur."""
    n_cells = draw(st.integers(1, max_cells))
    upper = draw(hnp.arrays(np.float64, (n_cells, n_cells), elements=st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0])))
    upper = np.triu(upper, 1)
    return sp.csr_matrix(upper + upper.T)


@st.composite
def labelings(draw, *, max_cells=25, max_classes=5):
    """Two labelings of the same cells, each of which uses 0 .. n-1 without gaps."""
    n_cells = draw(st.integers(1, max_cells))
    codes = st.lists(st.integers(0, max_classes - 1), min_size=n_cells, max_size=n_cells)
    return tuple(np.unique(draw(codes), return_inverse=True)[1] for _ in range(2))
