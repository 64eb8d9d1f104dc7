"""Themes and their p values: planted ones are found, chance is calibrated, and every figure has a second opinion."""

from functools import cache

import numpy as np
import pytest

from cellmodel.core.random import generator
from cellmodel.explain import attribution
from cellmodel.explain.attribution import AttributionTest, theme_weights
from cellmodel.explain.enrichment import GeneSet
from cellmodel.explain.terms import permutation_of_texts
from cellmodel.explain.words import NamedTerms, Theme, choose_themes, named_terms

N_GENES, PER_THEME = 160, 8
TOPICS = ("Platelet aggregation.", "Antigen presentation.")
NAMES = [f"G{gene}" for gene in range(N_GENES)]
FILLER = "abcdefghijklmnop"


def planted(seed: int, *, theme: bool = True) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two groups, each leading in the genes of one topic, whose vectors lie together as their texts do."""
    rng = np.random.default_rng(seed)
    differences = rng.normal(0, 0.15, (N_GENES, 2))
    vectors = rng.standard_normal((N_GENES, 12)).astype(np.float32)
    texts = [f"Word{' word'.join(rng.choice(list(FILLER), 3, replace=False))}." for _ in range(N_GENES)]
    for topic, sentence in enumerate(TOPICS):
        center = 2 * rng.standard_normal(12)
        for gene in range(topic * PER_THEME, (topic + 1) * PER_THEME):
            texts[gene] += f" {sentence}"
            vectors[gene] = center + 0.5 * rng.standard_normal(12)
            if theme:
                differences[gene, topic] += 1.5
    return differences, vectors, texts


def terms_of(seed: int = 0, *, theme: bool = True, gene_sets: tuple[GeneSet, ...] = ()) -> NamedTerms:
    return named_terms(planted(seed, theme=theme)[2], gene_ids=range(N_GENES), gene_sets=gene_sets)


@cache
def attribution_of(
    seed: int = 0, *, theme: bool = True, n_permutations: int = 60, run: int = 0, gene_sets: tuple[GeneSet, ...] = ()
) -> AttributionTest:
    differences, vectors, _ = planted(seed, theme=theme)
    texts, rng = (
        permutation_of_texts(terms_of(seed, theme=theme, gene_sets=gene_sets).presence),
        generator(run, "deals"),
    )
    return attribution.test_attribution(differences, vectors, texts=texts, n_permutations=n_permutations, rng=rng)


def themes_of(*gene_sets: GeneSet) -> tuple[tuple[Theme, ...], ...]:
    found, terms = attribution_of(gene_sets=gene_sets), terms_of(gene_sets=gene_sets)
    return choose_themes(found, planted(0)[0], terms=terms, gene_names=NAMES, n_themes=3)


def test_planted_themes_come_first_with_their_genes_shares_and_sentences():
    found = attribution_of()
    for group, (sentence, (top, *_)) in enumerate(zip(TOPICS, themes_of(), strict=True)):
        name = sentence.lower().rstrip(".")
        genes = range(group * PER_THEME, (group + 1) * PER_THEME)
        assert top.term == name
        assert set(name.split()) <= set(top.also)
        assert (top.source, top.n_genes, top.p_adjusted) == ("text", PER_THEME, pytest.approx(1 / 61))
        assert {gene.name for gene in top.genes} == {f"G{gene}" for gene in genes}
        assert {gene.sentence for gene in top.genes} == {sentence}
        parts = found.contributions[list(genes), group]
        assert top.share == pytest.approx(parts.sum() / found.distances[group])
        assert [gene.contribution for gene in top.genes] == sorted(parts, reverse=True)


def test_gene_sets_name_themes_beside_texts_and_join_those_of_the_same_genes():
    same = GeneSet(source="go_process", set_id="GO:1", name="platelet activation", gene_ids=frozenset(range(PER_THEME)))
    tiny = GeneSet(source="go_process", set_id="GO:2", name="tiny", gene_ids=frozenset({0, 1, 9999}))
    other = GeneSet(source="go_process", set_id="GO:3", name="half", gene_ids=frozenset(range(8, 12)))
    first, second = themes_of(same, tiny, other)
    assert "platelet activation" in (first[0].term, *first[0].also)
    assert "half" in (second[0].term, *second[0].also)
    every = {term for themes in (first, second) for theme in themes for term in (theme.term, *theme.also)}
    assert "tiny" not in every  # two of the genes are there, three are needed


def test_theme_named_by_a_gene_set_gives_the_set_as_its_evidence():
    differences, vectors, _ = planted(0)
    sets = (GeneSet(source="go_process", set_id="GO:1", name="clotting", gene_ids=frozenset(range(PER_THEME))),)
    terms = named_terms([""] * N_GENES, gene_ids=range(N_GENES), gene_sets=sets)
    texts = permutation_of_texts(terms.presence)
    found = attribution.test_attribution(differences, vectors, texts=texts, n_permutations=9, rng=generator(0, "deals"))
    (theme,) = choose_themes(found, differences, terms=terms, gene_names=NAMES, n_themes=3)[0]
    assert (theme.term, theme.source, theme.genes[0].sentence) == ("clotting", "go_process", "GO:1 clotting")


def test_scores_weights_and_p_values_follow_a_slow_second_way():
    differences, vectors, _ = planted(3)
    found = attribution_of(3)
    permuted, rng = permutation_of_texts(terms_of(3).presence), generator(0, "deals")

    def distance_and_parts(of_gene):
        step = sum(differences[gene, 0] * vectors[of_gene[gene]].astype(float) for gene in range(N_GENES))
        length = np.linalg.norm(step)
        return length, [
            differences[gene, 0] * float(vectors[of_gene[gene]] @ (step / length)) for gene in range(N_GENES)
        ]

    length, parts = distance_and_parts(np.arange(N_GENES))
    assert found.distances[0] == pytest.approx(length)
    hits, gene_hits = 0, np.zeros(N_GENES)
    for _ in range(60):
        text_of_gene = np.argsort(permuted.draw(rng))
        other, other_parts = distance_and_parts(text_of_gene)
        hits += other >= length
        gene_hits += np.array(other_parts) >= np.array(parts)
    assert found.distance_p[0] == pytest.approx((1 + hits) / 61)
    np.testing.assert_allclose(found.gene_p[:, 0], (1 + gene_hits) / 61)
    weights = theme_weights(differences, found)[:, 0]
    expected = [np.sqrt(c) if c > 0 and d > 0 else 0.0 for c, d in zip(parts, differences[:, 0], strict=True)]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_without_structure_p_values_are_those_of_chance():
    best, distances = [], []
    for seed in range(30):
        found = attribution_of(seed, theme=False, n_permutations=19)
        best.extend(found.terms.p_adjusted.min(axis=0))
        distances.extend(found.distance_p)
    for values in (best, distances):
        assert np.mean(np.array(values) <= 0.1) <= 0.2  # 0.1 expected of 60
        assert 0.35 < np.mean(values) < 0.7


def test_same_seed_gives_the_same_bytes_and_another_seed_the_same_scores():
    first, again, other = attribution_of(1), attribution_of.__wrapped__(1), attribution_of(1, run=7)
    assert first.gene_p.tobytes() == again.gene_p.tobytes()
    for name in ("p_value", "p_adjusted"):
        assert getattr(first.terms, name).tobytes() == getattr(again.terms, name).tobytes()
    assert first.terms.score.tobytes() == other.terms.score.tobytes()
    assert first.gene_p.tobytes() != other.gene_p.tobytes()


def test_no_permutation_is_refused():
    with pytest.raises(ValueError, match="n_permutations must be >= 1, got 0"):
        attribution_of(0, n_permutations=0)
