"""How much a gene tells: by the data, by its text, by how specific it is, and as weights; the low-data mode."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from cellmodel.core.config import RunConfig
from cellmodel.io.cells import cells_from_anndata
from cellmodel.pp.features import LOW_DATA_COMPONENTS
from cellmodel.pp.gene_weights import (
    TextAdapter,
    gene_specificity,
    information_weights,
    load_adapter,
    normal_scores,
    own_informativeness,
    specific_text,
    specific_weights,
    words_of,
)
from cellmodel.tl._run.pipeline import prepare, run
from cellmodel.tl.model.fitted import fit_model, predict
from tests.support.demo import demo_cells


@pytest.fixture(scope="module")
def expression():
    """Two groups of cells; the first 20 of 200 genes differ between them, with the mean of the others."""
    rng = np.random.default_rng(0)
    rates = np.full((60, 200), 2.75)
    rates[:, :20] = 1
    rates[:30, :10], rates[30:, 10:20] = 6, 6
    return sp.csr_matrix(np.log1p(rng.poisson(rates)).astype(np.float32))


@pytest.fixture(scope="module")
def pcs(expression):
    dense = expression.toarray() - expression.toarray().mean(axis=0)
    return np.linalg.svd(dense, full_matrices=False)[0][:, :5] * 10


def test_explained_variance_is_that_of_least_squares(expression, pcs):
    found = own_informativeness(expression, pcs)
    dense = expression.toarray().astype(np.float64)
    design = np.column_stack([np.ones(len(dense)), pcs])
    rest = dense - design @ np.linalg.lstsq(design, dense, rcond=None)[0]
    share = 1 - rest.var(axis=0) / dense.var(axis=0)
    np.testing.assert_allclose(found, normal_scores(share, dense.mean(axis=0)), atol=1e-6)


def test_genes_that_part_the_groups_come_first(expression, pcs):
    found = own_informativeness(expression, pcs)
    assert found[:20].min() > np.median(found[20:])
    assert found[:20].mean() > 1


def test_a_gene_without_variance_tells_nothing(expression, pcs):
    with_constant = sp.hstack([expression, sp.csr_matrix(np.ones((60, 1), dtype=np.float32))]).tocsr()
    found = own_informativeness(with_constant, pcs)
    assert np.isfinite(found).all()
    assert found[-1] < 0


def test_ranks_are_among_genes_of_like_mean():
    rng = np.random.default_rng(1)
    mean = np.sort(rng.gamma(1.0, 1.0, 400))
    scores = normal_scores(mean + 0.01 * rng.standard_normal(400), mean)
    assert abs(spearmanr(scores, mean)[0]) < 0.2
    assert abs(scores.mean()) < 1e-9


@pytest.mark.parametrize("strength", [0.0, 0.4])
def test_weights_grow_with_what_a_gene_tells_up_to_a_limit(strength):
    own, text = np.array([-9.0, -1.0, 0.0, 1.0, 9.0]), np.array([0.0, 0.5, 0.0, 0.5, 0.0])
    weights = information_weights(own, text, strength=strength)
    np.testing.assert_allclose(np.log(weights), strength * np.array([-2.0, -0.5, 0.0, 1.5, 2.0]), atol=1e-12)


def test_words_are_marked_whatever_their_case_and_number():
    a, b = words_of(["Insulin receptor. The insulin RECEPTOR", "INSULIN RECEPTOR the insulin receptor"])
    assert (a != b).nnz < a.nnz / 2
    assert float(words_of(["ribosomal protein"]).multiply(words_of(["ribosomal protein"])).sum()) == pytest.approx(1)


def test_an_adapter_learns_which_words_matter_and_leaves_genes_without_text_alone():
    texts = ["collagen of the matrix", "ribosomal protein", "collagen binding", "ribosomal subunit"]
    coefficients = np.asarray(words_of(["collagen"]).toarray() - words_of(["ribosomal"]).toarray()).ravel()
    found = TextAdapter(coefficients=coefficients)([*texts, None, ""])
    assert found[0] > 0 > found[1]
    assert found[2] > 0 > found[3]
    assert found[4:].tolist() == [0, 0]
    assert found[:4].mean() == pytest.approx(0)
    assert TextAdapter(coefficients=coefficients)([None]).tolist() == [0]


def test_the_shipped_adapter_knows_markers_from_housekeeping():
    adapter = load_adapter()
    markers = ["INS: insulin", "CD79A: CD79a molecule", "GCG: glucagon", "LYZ: lysozyme", "COL1A1: collagen type I"]
    housekeeping = [
        "PSMB2: proteasome 20S subunit beta 2",
        "NDUFA4: NDUFA4 mitochondrial complex associated",
        "SF3B1: splicing factor 3b subunit 1",
        "POLR2A: RNA polymerase II subunit A",
        "VPS35: VPS35 retromer complex component",
    ]
    found = adapter([*markers, *housekeeping])
    assert found[:5].mean() > found[5:].mean() + 0.5


@pytest.fixture(scope="module")
def cells():
    return cells_from_anndata(demo_cells()[:120].copy())


def test_knowledge_reaches_the_weights_and_none_leaves_the_own_statistic(cells, demo_kb):
    made = {
        knowledge: prepare(cells, demo_kb, RunConfig(low_data=True, knowledge=knowledge)).features
        for knowledge in ("real", "shuffled", "random", "none")
    }
    assert all(features.pcs.shape == (120, LOW_DATA_COMPONENTS) for features in made.values())
    bare = made["none"].gene_weights
    plain_pcs = prepare(cells, None, RunConfig(knowledge="none")).features.pcs
    own = own_informativeness(made["none"].expression, plain_pcs)
    np.testing.assert_allclose(bare, information_weights(own, None), rtol=1e-6)
    for knowledge in ("real", "shuffled", "random"):
        assert np.abs(np.log(made[knowledge].gene_weights / bare)).mean() > 0.05
    assert prepare(cells, demo_kb, RunConfig()).features.gene_weights is None


@pytest.mark.slow
def test_a_model_fitted_to_few_cells_places_them_where_they_were(cells, demo_kb):
    result = run(cells, demo_kb, RunConfig(low_data=True, n_words=0, n_clusters=4))
    found = predict(fit_model(cells, result), cells, demo_kb)
    assert (found.labels == result.labels).mean() > 0.9


EXPRESSION = sp.csr_matrix(np.array([[5.0, 1, 0, 2], [5, 0, 3, 0], [5, 4, 0, 0], [5, 0, 0, 0]]))


def test_weights_are_expression_times_specificity_and_sum_to_one():
    specificity = gene_specificity(EXPRESSION)
    np.testing.assert_allclose(specificity, [0, math.log(5 / 3), math.log(5 / 2), math.log(5 / 2)])
    weights = specific_weights(EXPRESSION, specificity=specificity).toarray()
    raw = EXPRESSION.toarray() * specificity
    np.testing.assert_allclose(weights[:3], raw[:3] / raw[:3].sum(axis=1, keepdims=True))
    assert not weights[3].any()  # nothing of its own
    top = specific_weights(EXPRESSION, specificity=np.ones(4), n_top=1).toarray()
    np.testing.assert_allclose(top, np.eye(4)[[0, 0, 0, 0]])


def test_text_does_not_move_with_the_vector_of_a_housekeeping_gene():
    vectors = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    moved = vectors.copy()
    moved[0] += 10
    np.testing.assert_allclose(specific_text(EXPRESSION, moved), specific_text(EXPRESSION, vectors), atol=1e-6)
