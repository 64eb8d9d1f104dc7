"""Coordinates: the graph that they give, what is refused, labels smoothed by the cells around, and the command."""

from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from cellmodel.cluster.algorithms import smooth_by_majority
from cellmodel.core.config import GraphConfig, RunConfig, SpatialConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import cells_from_anndata, spatial_coordinates
from cellmodel.pp.features import make_features
from cellmodel.pp.neighbors import knn_graph, smooth, snn_weights
from cellmodel.pp.spatial import likeness, nearest_by_coordinates, spatial_graph
from cellmodel.tl._run.pipeline import run
from tests.support.grids import mostly_slow
from tests.support.in_process import call, call_json

SIDE = 12
HALVES = np.repeat([0, 1], SIDE * SIDE // 2)


def tissue(*, n_genes=60):
    """Counts of spots on a square grid, whose two halves differ in some genes, and faintly."""
    rng = np.random.default_rng(0)
    rates = np.full((SIDE * SIDE, n_genes), 1.5)
    rates[HALVES == 1, :20] *= 2.2
    counts = rng.poisson(rates).astype(np.float32)
    var = pd.DataFrame(index=[f"G{gene}" for gene in range(n_genes)])
    adata = anndata.AnnData(counts, obs=pd.DataFrame(index=[f"spot{spot}" for spot in range(len(counts))]), var=var)
    adata.obsm["spatial"] = np.stack(np.divmod(np.arange(SIDE * SIDE), SIDE), axis=1).astype(np.float32)
    return adata


@settings(deadline=None)
@given(n_cells=st.integers(1, 25), k=st.integers(1, 30), axes=st.integers(2, 3), seed=st.integers(0, 2**32 - 1))
def test_each_cell_is_linked_with_its_nearest_and_with_those_that_it_is_nearest_to(n_cells, k, axes, seed):
    places = np.random.default_rng(seed).random((n_cells, axes))
    expected = np.zeros((n_cells, n_cells))
    for cell in range(n_cells):
        others = [other for other in range(n_cells) if other != cell]
        others.sort(key=lambda other: np.linalg.norm(places[cell] - places[other]))
        assert nearest_by_coordinates(places, n_neighbors=k)[cell].tolist() == others[:k]
        for other in others[:k]:
            expected[cell, other] = expected[other, cell] = 1
    np.testing.assert_array_equal(spatial_graph(places, n_neighbors=k).toarray(), expected)


def test_cells_at_one_place_are_never_their_own_neighbors():
    places = np.vstack([np.zeros((9, 2)), np.ones((1, 2))])
    near = nearest_by_coordinates(places, n_neighbors=4)
    assert near.shape == (10, 4)
    assert not (near == np.arange(10)[:, None]).any()
    assert all(len(set(row)) == 4 for row in near.tolist())
    assert not spatial_graph(places, n_neighbors=4).diagonal().any()


@pytest.mark.parametrize(
    ("spatial", "message"),
    [
        (None, r'has no obsm\["spatial"\] \(it has: none\); leave `spatial` out'),
        (np.zeros((144, 1)), "has shape .144, 1. and type float64; two or three numbers a cell are needed"),
        (np.zeros((144, 4)), "two or three numbers a cell are needed"),
        (np.full((144, 2), "left"), "two or three numbers a cell are needed"),
        (
            np.vstack([np.arange(286).reshape(143, 2), [[np.nan, 0]]]),
            "is NaN or infinite for 1 cell; remove them",
        ),
        (np.ones((144, 2)), "puts all cells at one place"),
    ],
)
def test_coordinates_that_are_none_are_refused(spatial, message):
    adata = tissue()
    del adata.obsm["spatial"]
    if spatial is not None:
        adata.obsm["spatial"] = spatial
    with pytest.raises(InputUnusable, match=message):
        spatial_coordinates(adata, source="AnnData in memory")


def test_whole_numbers_and_three_dimensions_are_coordinates():
    adata = tissue()
    adata.obsm["spatial"] = np.arange(432).reshape(144, 3)
    found = spatial_coordinates(adata, source="AnnData in memory")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, adata.obsm["spatial"])


def test_components_are_averaged_over_the_tissue_by_how_alike_its_neighbors_are_and_linked():
    cells = cells_from_anndata(tissue())
    without = make_features(cells, RunConfig(knowledge="none"))
    spatial = make_features(cells, RunConfig(knowledge="none", spatial=SpatialConfig(n_neighbors=4)))
    assert without.spatial is None
    near = spatial_graph(tissue().obsm["spatial"], n_neighbors=4)
    weight = likeness(without.smoothed, near)
    assert 0 < weight < 1
    np.testing.assert_allclose(spatial.pcs, smooth(without.pcs, weight * near, n_steps=1), rtol=1e-5, atol=1e-6)
    graph = snn_weights(knn_graph(spatial.pcs, config=GraphConfig()))
    assert (spatial.graph != graph).nnz == 0
    np.testing.assert_allclose(spatial.smoothed, smooth(spatial.pcs, graph), rtol=1e-5, atol=1e-6)


def mixed_types():
    """Counts of three clear types; of each cell, the type."""
    rng, types = np.random.default_rng(3), np.arange(240) % 3
    rates = 0.5 + 3.0 * (np.arange(60) // 20 == types[:, None])
    adata = anndata.AnnData(rng.poisson(rates).astype(np.float32))
    adata.obsm["spatial"] = rng.random((240, 2)).astype(np.float32)
    return adata, types


@pytest.mark.parametrize("n_clusters", [3, None])
def test_coordinates_change_nothing_where_types_are_mixed_cell_by_cell(n_clusters):
    adata, types = mixed_types()
    config = RunConfig(knowledge="none", n_clusters=n_clusters, n_words=0, spatial=SpatialConfig())
    assert adjusted_rand_score(types, run(cells_from_anndata(adata), None, config).labels) == 1.0


def test_permuting_the_spots_permutes_the_domains():
    adata = tissue()
    order = np.random.default_rng(2).permutation(len(HALVES))
    config = RunConfig(knowledge="none", n_clusters=4, n_words=0, spatial=SpatialConfig())
    labels, permuted = (run(cells_from_anndata(each), None, config).labels for each in (adata, adata[order].copy()))
    assert adjusted_rand_score(labels[order], permuted) == 1.0


@pytest.mark.parametrize("recipe", mostly_slow(["fused", "scrcl"], "fused"))
def test_coordinates_find_faint_regions_that_expression_alone_does_not(recipe):
    def agreement(spatial):
        config = RunConfig(recipe=recipe, knowledge="none", n_clusters=2, n_words=0, spatial=spatial)
        return adjusted_rand_score(HALVES, run(cells_from_anndata(tissue()), None, config).labels)

    assert agreement(SpatialConfig()) > agreement(None) + 0.1


def test_a_recipe_that_does_not_use_places_says_so_unless_labels_are_smoothed():
    cells = cells_from_anndata(tissue())
    config = RunConfig(recipe="pca-kmeans", knowledge="none", n_clusters=2, n_words=0, spatial=SpatialConfig())
    with pytest.raises(
        InputUnusable, match="recipe 'pca-kmeans' does not use the coordinates of cells; use fused or scrcl"
    ):
        run(cells, None, config)
    assert run(cells, None, replace(config, spatial=SpatialConfig(smooth_labels=True))).labels.max() == 1


@pytest.mark.parametrize("name", ["n_neighbors", "n_voters"])
def test_numbers_of_neighbors_below_one_are_refused(name):
    with pytest.raises(ValueError, match="n_neighbors and n_voters must be >= 1"):
        SpatialConfig(**{name: 0})


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 9))
def test_each_cell_takes_the_cluster_of_most_around_it(seed, k):
    rng = np.random.default_rng(seed)
    clusters = rng.permutation(np.concatenate([np.arange(4), rng.integers(0, 4, 16)]))
    near = np.array([rng.choice(np.delete(np.arange(20), cell), k, replace=False) for cell in range(20)])
    expected = []
    for cell in range(20):
        votes = np.bincount(clusters[[cell, *near[cell]]], minlength=4)
        winners = np.flatnonzero(votes == votes.max()).tolist()
        expected.append(clusters[cell] if clusters[cell] in winners else winners[0])
    while lost := set(clusters.tolist()) - set(expected):
        expected = [own if own in lost else new for own, new in zip(clusters.tolist(), expected, strict=True)]
    found = smooth_by_majority(clusters, near)
    assert len(set(zip(found.tolist(), expected, strict=True))) == len(set(expected)) == len(set(found.tolist())) == 4
    assert (np.diff(np.bincount(found)) <= 0).all()


def test_a_lone_cell_takes_the_cluster_around_it_and_a_cluster_that_would_vanish_keeps_its_cells(caplog):
    clusters = np.array([0, 0, 0, 1, 0, 1, 1, 2])
    near = np.array([[1, 2], [0, 2], [0, 1], [2, 4], [2, 1], [6, 3], [5, 3], [4, 2]])
    assert smooth_by_majority(clusters, near).tolist() == [0, 0, 0, 0, 0, 1, 1, 2]
    assert "clusters of size 1 would vanish when labels are smoothed; they keep their spots" in caplog.text


def test_voters_are_a_small_fraction_of_a_small_array_and_as_set_on_a_large_one():
    assert [SpatialConfig().voters_of(n_cells=n) for n in (20, 269, 530, 3611)] == [4, 4, 8, 50]
    assert SpatialConfig(n_voters=3).voters_of(n_cells=269) == 3


@pytest.mark.parametrize("spatial", mostly_slow([SpatialConfig(), SpatialConfig(smooth_labels=True)], SpatialConfig()))
def test_thin_layers_of_a_small_array_are_not_lost_by_coordinates(spatial):
    across, along = np.divmod(np.arange(256), 16)
    layers = np.searchsorted([2, 4, 6, 9], np.hypot(across - 7.5, along - 7.5))  # rings two or three spots wide
    rng = np.random.default_rng(0)
    rates = 0.6 + 0.8 * (np.arange(100) // 20 == layers[:, None])
    adata = anndata.AnnData(rng.poisson(rates).astype(np.float32))
    adata.obsm["spatial"] = np.stack([across, along], axis=1).astype(np.float32)

    def agreement(config):
        run_config = RunConfig(knowledge="none", n_clusters=5, n_words=0, spatial=config)
        return adjusted_rand_score(layers, run(cells_from_anndata(adata), None, run_config).labels)

    assert agreement(spatial) >= agreement(None)


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    path = tmp_path_factory.mktemp("spots") / "spots.h5ad"
    tissue().write_h5ad(path)
    return path


@pytest.mark.slow
def test_the_command_finds_faint_regions_by_place_and_smooths_them(spots, tmp_path):
    def share_in_place(*extra):
        output = tmp_path / f"{len(extra)}.h5ad"
        call_json("cellmodel", "cluster", spots, "--recipe", "scrcl", "--knowledge", "none", "--n-clusters", "2",
                  *extra, "-o", output)  # fmt: skip
        found = anndata.read_h5ad(output).obs["cellmodel"].astype(int).to_numpy()
        return max(np.mean(found == HALVES), np.mean(found != HALVES))

    plain, smoothed = share_in_place(), share_in_place("--spatial", "--smooth-labels")
    assert smoothed > max(plain, 0.9)


def test_smoothing_without_places_is_wrong_usage_and_missing_places_are_an_error(tmp_path):
    adata = tissue()
    del adata.obsm["spatial"]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    command = ("cellmodel", "cluster", tmp_path / "cells.h5ad", "--knowledge", "none", "-o", tmp_path / "out.h5ad")
    code, _, errors = call(*command, "--smooth-labels")
    assert code == 2
    assert "give --spatial too" in " ".join(errors.split())
    code, _, errors = call(*command, "--spatial")
    assert code == 3
    assert 'has no obsm["spatial"]' in errors
    assert not (tmp_path / "out.h5ad").exists()
