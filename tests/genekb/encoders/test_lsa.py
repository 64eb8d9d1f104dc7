import pytest

from genekb.encoders import lsa


@pytest.mark.parametrize("revision", ["1", "2"])
def test_terms_are_counted_as_the_library_counts_them(revision):
    texts = ["T cells, a T-cell and B CELLS", "", "cell cell cell; ümlaut_x 3", "nothing"]
    fitted = lsa._counter(revision, min_df=1).fit(texts[:3])
    vocabulary = fitted.get_feature_names_out().tolist()
    found = lsa._count_terms(texts, vocabulary, revision=revision)
    assert found.toarray().tolist() == fitted.transform(texts).toarray().tolist()
