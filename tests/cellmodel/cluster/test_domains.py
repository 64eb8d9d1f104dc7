"""Domains of a tissue: what is found, that the order of the cells does not matter, and what is refused."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from cellmodel.cluster.domains import FITTED_CELLS, spatial_domains
from cellmodel.pp.spatial import spatial_graph


def layers(*, width=20, n_layers=3, depth=6, spread=1.5, seed=0):
    """Spots on a grid in layers, whose components differ by less than they vary; layer of each spot."""
    rng = np.random.default_rng(seed)
    rows, columns = np.divmod(np.arange(width * n_layers * depth), width)
    layer = rows // depth
    centres = rng.normal(size=(n_layers, 8))
    pcs = centres[layer] + rng.normal(0, spread, (len(layer), 8))
    order = np.argsort(-pcs.var(axis=0))
    return pcs[:, order].astype(np.float32), np.column_stack([rows, columns]).astype(float), layer


def found(pcs, places, n_clusters=3, seed=0):
    return spatial_domains(pcs, spatial_graph(places, n_neighbors=6), n_clusters=n_clusters, seed=seed)


def test_layers_that_overlap_in_expression_are_found_by_their_places():
    pcs, places, layer = layers()
    by_place = adjusted_rand_score(layer, found(pcs, places))
    shuffled = adjusted_rand_score(layer, found(pcs, np.random.default_rng(1).permutation(places)))
    assert by_place > 0.9
    assert shuffled < by_place - 0.3


def test_permuting_the_spots_permutes_the_domains():
    pcs, places, _ = layers()
    near = spatial_graph(places, n_neighbors=6)
    order = np.random.default_rng(2).permutation(len(pcs))
    labels, permuted = (
        spatial_domains(pcs[rows], near[rows][:, rows], n_clusters=3, seed=0) for rows in (np.arange(len(pcs)), order)
    )
    assert adjusted_rand_score(labels[order], permuted) == 1.0


def test_domains_are_numbered_by_size_and_the_same_for_a_seed():
    pcs, places, _ = layers(depth=4)
    labels = found(pcs, places, n_clusters=5, seed=3)
    sizes = np.bincount(labels)
    assert len(sizes) == 5
    assert (np.diff(sizes) <= 0).all()
    np.testing.assert_array_equal(labels, found(pcs, places, n_clusters=5, seed=3))


def test_one_domain_and_more_spots_than_are_fitted():
    pcs, places, layer = layers(width=100, depth=20)
    assert len(pcs) > FITTED_CELLS
    assert adjusted_rand_score(layer, found(pcs, places)) > 0.9
    assert not found(pcs[:50], places[:50], n_clusters=1).any()


@pytest.mark.parametrize("n_clusters", [0, 361])
def test_numbers_that_cannot_be_are_refused(n_clusters):
    pcs, places, _ = layers()
    with pytest.raises(ValueError, match=r"n_clusters must lie in 1 \.\. 360"):
        found(pcs, places, n_clusters=n_clusters)
