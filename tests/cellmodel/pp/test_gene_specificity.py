"""Specific text: genes that every cell expresses do not count."""

import math

import numpy as np
import scipy.sparse as sp

from cellmodel.pp.gene_weights import gene_specificity, specific_text, specific_weights

EXPRESSION = sp.csr_matrix(np.array([[5.0, 1, 0, 2], [5, 0, 3, 0], [5, 4, 0, 0], [5, 0, 0, 0]]))


def test_a_gene_of_every_cell_has_no_specificity():
    expected = [0, math.log(5 / 3), math.log(5 / 2), math.log(5 / 2)]
    np.testing.assert_allclose(gene_specificity(EXPRESSION), expected)


def test_weights_are_expression_times_specificity_and_sum_to_one():
    specificity = gene_specificity(EXPRESSION)
    weights = specific_weights(EXPRESSION, specificity=specificity).toarray()
    raw = EXPRESSION.toarray() * specificity
    np.testing.assert_allclose(weights[:3], raw[:3] / raw[:3].sum(axis=1, keepdims=True))
    assert not weights[3].any()  # nothing of its own


def test_only_the_top_genes_are_read():
    weights = specific_weights(EXPRESSION, specificity=np.ones(4), n_top=1).toarray()
    np.testing.assert_allclose(weights, np.eye(4)[[0, 0, 0, 0]])


def test_text_does_not_move_with_the_vector_of_a_housekeeping_gene():
    vectors = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    moved = vectors.copy()
    moved[0] += 10
    np.testing.assert_allclose(specific_text(EXPRESSION, moved), specific_text(EXPRESSION, vectors), atol=1e-6)
