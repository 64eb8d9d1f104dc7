import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cellmodel.perturb.model import gene_aucs, mean_gene_auc


def draw(seed=0, n=400):
    rng = np.random.default_rng(seed)
    genes, labels = rng.integers(0, 12, n), (rng.random(n) < 0.3).astype(float)
    labels[genes == 3], labels[genes == 5] = 0.0, 1.0
    return genes, labels, rng.integers(0, 9, n) / 4.0


def test_the_area_of_each_gene_is_that_of_scikit_learn_ties_included():
    genes, labels, scores = draw()
    found = gene_aucs(genes, labels, scores)
    assert np.isnan(found[[3, 5]]).all()
    for gene in set(range(12)) - {3, 5}:
        inside = genes == gene
        assert found[gene] == pytest.approx(roc_auc_score(labels[inside], scores[inside]))
    assert mean_gene_auc(genes, labels, scores) == pytest.approx(np.nanmean(found))


def test_counts_are_as_good_as_repeated_pairs():
    genes, labels, scores = draw(1)
    counts = np.random.default_rng(2).integers(0, 4, len(genes))
    repeated = gene_aucs(*(np.repeat(each, counts) for each in (genes, labels, scores)))
    np.testing.assert_allclose(gene_aucs(genes, labels, scores, counts=counts.astype(float)), repeated)


def test_no_gene_of_both_labels_is_nan_and_no_warning():
    assert np.isnan(mean_gene_auc(np.array([0, 1]), np.array([0.0, 1.0]), np.array([0.5, 0.1])))
