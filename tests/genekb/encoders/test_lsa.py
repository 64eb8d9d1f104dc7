import pytest
import scipy.sparse as sp

from genekb.encoders import lsa


@pytest.mark.parametrize("revision", ["1", "2"])
def test_terms_are_counted_as_the_library_counts_them(revision):
    texts = ["T cells, a T-cell and B CELLS", "", "cell cell cell; ümlaut_x 3", "nothing"]
    fitted = lsa._counter(revision, min_df=1).fit(texts[:3])
    vocabulary = fitted.get_feature_names_out().tolist()
    counts = lsa._count_terms(texts, vocabulary, revision=revision)
    found = sp.csr_matrix(counts, shape=(len(texts), len(vocabulary)))
    assert found.toarray().tolist() == fitted.transform(texts).toarray().tolist()
