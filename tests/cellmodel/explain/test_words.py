import csv
import gzip

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from cellmodel.explain.words import ClusterWords, words_by_moments
from cellmodel.pp.moments import cluster_moments

THEMES = {
    0: "It takes part in platelet aggregation.",
    1: "The hormone insulin acts on islets.",
    2: "It presents peptides of pathogens.",
}
NAMES = ["platelet aggregation", "hormone insulin", "pathogens"]
N_GENES, N_CELLS, PER_THEME = 150, 90, 8
GENES = [f"G{gene}" for gene in range(N_GENES)]
LETTERS = "bcdfghjklmnp"
FILLER = [f"{a}a{b}o{c}" for a in LETTERS for b in LETTERS[:4] for c in LETTERS[:2]]  # 96 words that mean nothing


def planted(seed: int, *, theme: bool = True) -> tuple[sp.csr_matrix, np.ndarray, list[str | None]]:
    """Three clusters; genes 8c .. 8c+7 lead in cluster c and, with ``theme``, share a sentence in their texts."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(3), N_CELLS // 3)
    rates = np.full((3, N_GENES), 0.7)
    texts: list[str | None] = []
    for gene in range(N_GENES):
        filler = " ".join(rng.choice(FILLER, 12, replace=False))
        if gene < 3 * PER_THEME:
            rates[gene // PER_THEME, gene] = 4.0
        texts.append(f"G{gene}: {filler}. {THEMES[gene // PER_THEME] if theme and gene < 3 * PER_THEME else ''}")
    counts = rng.poisson(rates[clusters])
    return sp.csr_matrix(np.log1p(counts).astype(np.float32)), clusters, texts


def describe(seed: int = 0, *, n_permutations: int = 60, **change: object) -> tuple[ClusterWords, ...]:
    names = ("expression", "clusters", "texts")
    data = dict(zip(names, planted(0), strict=True)) | {"gene_names": GENES, "n_words": 5} | change
    moments = cluster_moments(data.pop("expression"), data.pop("clusters"))
    return words_by_moments(*moments, n_permutations=n_permutations, seed=seed, **data)


def test_planted_words_come_first_once_by_their_phrase_with_their_genes_and_sentences():
    for words, name, sentence in zip(describe(), NAMES, THEMES.values(), strict=True):
        top, *others = words.words
        assert (top.term, top.n_genes, words.n_cells) == (name, PER_THEME, N_CELLS // 3)
        assert top.p_adjusted == pytest.approx(1 / 61)
        assert {gene.name for gene in top.genes} < set(GENES[words.cluster * PER_THEME :][:PER_THEME])
        assert {gene.sentence for gene in top.genes} == {sentence}
        assert [g.contribution for g in top.genes] == sorted((g.contribution for g in top.genes), reverse=True)
        scores = [word.score for word in words.words]
        assert scores == sorted(scores, reverse=True)
        assert not any({gene.sentence for gene in word.genes} == {sentence} for word in others)
        assert not set(name.split()) & {word.term for word in others}


def test_word_stays_when_it_says_more_than_the_phrase():
    texts = planted(0)[2]
    for gene in range(3, PER_THEME):
        texts[gene] = texts[gene].replace(THEMES[0], "Platelet and aggregation.")
    terms = {word.term for word in describe(texts=texts)[0].words}
    assert {"platelet", "aggregation"} & terms  # five genes hold the words apart, three the phrase
    assert "platelet aggregation" not in terms


def test_term_of_a_single_upregulated_gene_is_not_a_word():
    expression, _, texts = planted(0)
    for gene in (0, 100, 101):  # one leads in cluster 0, two lead nowhere
        texts[gene] = f"{texts[gene]} A kinesin."
    values = expression.toarray()
    values[:, [100, 101]] = 0.5
    (words, *_) = describe(expression=sp.csr_matrix(values), texts=texts, n_words=500)
    assert "kinesin" not in {word.term for word in words.words}
    assert all(word.n_genes >= 3 for word in words.words)


def test_same_seed_gives_the_same_bytes_and_another_seed_the_same_scores():
    first, second, other = describe(3), describe(3), describe(4)
    assert repr(first).encode() == repr(second).encode()
    assert [w.score for c in first for w in c.words] == [w.score for c in other for w in c.words]


def test_texts_without_structure_give_few_significant_words():
    best = []
    for seed in range(12):
        expression, clusters, texts = planted(seed, theme=False)
        found = describe(seed, expression=expression, clusters=clusters, texts=texts, n_words=3, n_permutations=99)
        best.extend(words.words[0].p_adjusted for words in found)
    assert np.mean(np.array(best) <= 0.05) <= 0.12  # 0.05 expected of 36 clusters
    assert np.mean(best) > 0.35


def test_shuffled_texts_lose_the_planted_words():
    texts = planted(0)[2]
    order = np.random.default_rng(5).permutation(N_GENES)
    significant = [w for c in describe(texts=[texts[gene] for gene in order]) for w in c.words if w.p_adjusted <= 0.05]
    assert len(significant) <= 1


@settings(max_examples=5, deadline=None)
@given(order=st.permutations(range(N_CELLS)), new_name=st.permutations(range(3)))
def test_order_of_cells_and_names_of_clusters_do_not_matter(order, new_name):
    expression, clusters, _ = planted(0)
    renamed = describe(expression=expression[order], clusters=np.array(new_name)[clusters[order]])
    assert [words.cluster for words in renamed] == [0, 1, 2]
    for found, expected in zip((renamed[new] for new in new_name), describe(), strict=True):
        same, wanted = (
            [(w.term, w.n_genes, w.p_value, w.p_adjusted, [gene.name for gene in w.genes]) for w in one.words]
            for one in (found, expected)
        )
        assert same == wanted
        np.testing.assert_allclose([w.score for w in found.words], [w.score for w in expected.words], rtol=1e-6)


def test_weight_is_the_contrast_of_a_double_loop():
    expression, clusters, _ = planted(0)
    dense = expression.toarray().astype(np.float64)
    for words in describe():
        for gene in words.words[0].genes:
            values = dense[:, int(gene.name[1:])]
            inside, rest = values[clusters == words.cluster], values[clusters != words.cluster]
            error = np.sqrt(inside.var(ddof=1) / len(inside) + rest.var(ddof=1) / len(rest))
            assert gene.contribution == pytest.approx((inside.mean() - rest.mean() - error) / values.std(), rel=1e-6)


def test_clusters_that_cannot_be_contrasted_have_no_words():
    assert [c.words for c in describe(clusters=np.zeros(N_CELLS, np.int64))] == [()]
    lonely = planted(0)[1].copy()
    lonely[0] = 3
    result = describe(clusters=lonely)
    assert (result[3].n_cells, result[3].words) == (1, ())
    assert result[0].words[0].term == "platelet aggregation"


@pytest.mark.parametrize("text", [None, "", "  "])
def test_genes_without_text_are_left_out(text):
    assert [c.words for c in describe(texts=[text] * N_GENES)] == [()] * 3
    (first, *_) = describe(texts=[text, *planted(0)[2][1:]])
    assert first.words[0].n_genes == PER_THEME - 1
    assert "G0" not in {gene.name for gene in first.words[0].genes}


def test_genes_seen_in_fewer_than_three_cells_are_left_out():
    values = planted(0)[0].toarray()
    values[:, 0] = np.arange(N_CELLS) < 2
    assert describe(expression=sp.csr_matrix(values))[0].words[0].n_genes == PER_THEME - 1


def test_no_word_and_no_permutation_are_refused():
    with pytest.raises(ValueError, match="must be >= 1, got 0 and 60"):
        describe(n_words=0)
    with pytest.raises(ValueError, match="must be >= 1, got 5 and 0"):
        describe(n_permutations=0)


@pytest.mark.slow
def test_words_of_blood_cells_name_what_the_cells_do(real_data):
    def human(name):
        with gzip.open(real_data / "ncbi" / "2022-11" / name, "rt") as file:
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            return [row for row in rows if row[0] == "9606"]

    summaries = {row[1]: row[3] for row in human("gene_summary.gz")}
    texts = {row[2]: f"{row[2]}: {row[8]}. {summaries.get(row[1], '')}" for row in human("Homo_sapiens.gene_info.gz")}
    cells = ad.read_h5ad(real_data / "scrna" / "pbmc3k.h5ad")
    total = np.asarray(cells.X.sum(axis=1)).ravel()
    expression = sp.csr_matrix(sp.diags(1e4 / total) @ cells.X).log1p()
    names = [str(name) for name in cells.var_names]
    types, clusters = np.unique(cells.obs["cell_type"].astype(str), return_inverse=True)
    found = words_by_moments(
        *cluster_moments(expression, clusters), texts=list(map(texts.get, names)), gene_names=names, n_words=6, seed=0
    )
    significant = {types[c.cluster]: {w.term for w in c.words if w.p_adjusted <= 0.05} for c in found}
    for cell_type, term in {
        "B": "b cell",
        "NK": "natural killer",
        "CD8 T": "t cell",
        "Platelet": "platelet",
        "CD14+ Mono": "macrophage",  # "monocyte" is not among the first six
        "DC": "dendritic cell",
    }.items():
        assert term in significant[cell_type]
