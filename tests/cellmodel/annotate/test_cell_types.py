"""Weights of genes, and scores by them, against plain dense arithmetic."""

import gzip
import re

import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.annotate.candidates import choose_types, of_tissues, read_candidates
from cellmodel.annotate.cell_types import (
    CellType,
    cell_scores,
    cluster_profiles,
    gene_texts,
    read_cell_types,
    standard_profiles,
    standard_weights,
    text_weights,
    type_nearness,
    widened_weights,
)
from cellmodel.annotate.levels import read_cell_groups
from cellmodel.core.errors import AlignmentTooLow, InputUnusable
from genekb.encoders import load_encoder


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def expression_of(rng, n_cells=60, n_genes=40):
    return sp.csr_matrix(np.log1p(rng.poisson(rng.uniform(0.05, 3, n_genes), (n_cells, n_genes))).astype(np.float32))


def test_text_weights_are_the_standardized_cosines_of_the_nearest_genes(rng):
    genes, queries, center = rng.normal(size=(30, 6)), rng.normal(size=(3, 6)), rng.normal(size=6)
    has_vector = np.arange(30) % 5 != 0
    found = text_weights(queries, gene_texts(genes, has_vector=has_vector), center=center, n_top=4).toarray()
    mean = genes[has_vector].mean(axis=0)
    for query, row in zip(queries, found, strict=True):
        cosines = np.full(30, -np.inf)
        for gene in np.flatnonzero(has_vector):
            a, b = query - center, genes[gene] - mean
            cosines[gene] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        nearest = np.argsort(-cosines)[:4]
        assert set(np.flatnonzero(row)) == set(nearest)
        known = cosines[has_vector]
        expected = (cosines[nearest] - known.mean()) / known.std()
        np.testing.assert_allclose(row[nearest] / row[nearest[0]], expected / expected[0], rtol=1e-9)


def test_the_score_is_a_correlation_in_deviations_of_permuted_genes_and_0_for_constant_weights(rng):
    profile, weights = rng.normal(size=200), np.full((2, 200), 0.7)
    weights[0] = np.where(np.arange(200) < 20, rng.uniform(size=200), 0)
    scores = standard_weights(sp.csr_matrix(weights)) @ standard_profiles(profile[None]).T
    expected = np.corrcoef(profile, weights[0])[0, 1] * np.sqrt(200)
    np.testing.assert_allclose(scores[:, 0], [expected, 0], atol=1e-6)


def test_cells_are_scored_as_dense_arithmetic_scores_them(rng):
    values = expression_of(rng, n_cells=150).toarray()
    values[:, 3] = np.eye(1, 150)[0] * 3  # more than ten standard deviations above the mean of its gene
    values[:, 7] = 0.0
    expression = sp.csr_matrix(values)
    weights = standard_weights(sp.random(5, 40, density=0.2, random_state=1, format="csr"))
    dense = expression.toarray().astype(np.float64)
    deviation = dense.std(axis=0)
    values = np.where(deviation > 0, (dense - dense.mean(axis=0)) / np.where(deviation > 0, deviation, 1), 0)
    expected = standard_profiles(np.minimum(values, 10.0)) @ weights.toarray().T
    np.testing.assert_allclose(cell_scores(expression, weights), expected, rtol=1e-4, atol=1e-4)


def test_profiles_are_clipped_mean_differences_in_standard_deviations(rng):
    expression, clusters = expression_of(rng), np.repeat([0, 1, 2], [3, 27, 30])
    dense = expression.toarray().astype(np.float64)
    values = (dense - dense.mean(axis=0)) / dense.std(axis=0)
    expected = np.clip([values[clusters == cluster].mean(axis=0) for cluster in range(3)], -2, 2)
    np.testing.assert_allclose(cluster_profiles(expression, clusters), expected, atol=1e-6)


def test_balanced_profiles_are_those_of_as_many_cells_a_cluster_whatever_its_size(rng):
    few = expression_of(rng, n_cells=60)
    clusters = np.repeat([0, 1, 2], 20)
    many = sp.vstack([few[:20]] * 9 + [few[20:]]).tocsr()
    of_many = np.concatenate([np.zeros(180, dtype=int), clusters[20:]])
    profiles = cluster_profiles(few, clusters, balanced=True)
    np.testing.assert_allclose(cluster_profiles(many, of_many, balanced=True), profiles, atol=0.03)
    np.testing.assert_allclose(profiles, cluster_profiles(few, clusters), atol=0.1)
    assert np.abs(cluster_profiles(many, of_many) - profiles).max() > 0.2


def test_a_query_means_the_type_whose_words_it_has_and_no_type_if_it_is_far_from_all(rng):
    table = rng.normal(size=(30, 16))
    table[:, -1] = 0
    nearness = type_nearness(np.stack([table[4], 100 * np.eye(16)[-1]]), table)
    assert nearness[0].argmax() == 4
    assert nearness[0, 4] == pytest.approx(1)
    assert np.count_nonzero(nearness[0] > 0.5) == 1
    assert not nearness[1].any()


def test_markers_of_a_type_that_is_meant_outweigh_the_text_and_others_leave_it_as_it_is(rng):
    text = standard_weights(sp.csr_matrix(np.eye(2, 10)))
    markers = standard_weights(sp.csr_matrix(np.eye(3, 10, k=5)))
    widened = widened_weights(text, markers, np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])).toarray()
    assert widened[0, 6] == pytest.approx(2 * widened[0, 0])
    assert np.count_nonzero(widened[0]) == 2
    np.testing.assert_allclose(widened[1], text.toarray()[1])


def test_one_gene_with_a_text_is_too_few(rng):
    with pytest.raises(AlignmentTooLow, match="1 gene of the cells has a vector"):
        gene_texts(np.eye(3, 2), has_vector=np.arange(3) == 0)


def test_every_type_has_a_name_of_its_own_a_tissue_a_definition_and_markers_that_no_other_shares():
    types = read_cell_types()
    assert len({one.name.lower() for one in types}) == len(types) >= 150
    for place, one in enumerate(types):
        assert one.tissue, one.name
        assert one.definition.endswith("."), one.name
        assert not re.search(r"CL:\d|[\t\"]", one.definition), one.name
        assert 6 <= len(one.genes) == len(set(one.genes)), one.name
        for other in types[:place]:
            n_shared = len(set(one.genes) & set(other.genes))
            assert n_shared <= 0.75 * min(len(one.genes), len(other.genes)), (one.name, other.name)


def plural(name):
    """The plural of a name; the noun of "interstitial cell of Cajal" or of a "... cell type 2" is its cell."""
    if name == "spermatogonium":
        return "spermatogonia"
    return re.sub(r"\bcell\b", "cells", name, count=1) if re.search(r"\bcell\b", name) else f"{name}s"


def test_every_name_in_any_number_case_and_hyphenation_has_the_vector_of_the_plain_name():
    types = read_cell_types()
    names = [one.name for one in types]
    wcp = load_encoder("wcp-64", corpus=[text for one in types for text in (one.name, one.text)])
    plain = wcp.encode(names)
    assert plain.n_tokens.min() > 0
    for change in (plural, str.upper, str.lower, str.title, lambda name: name.replace(" ", "-")):
        assert wcp.encode(list(map(change, names))).vectors.tobytes() == plain.vectors.tobytes(), change


def test_a_tissue_comes_with_the_cells_of_every_tissue_unless_it_alone_is_asked_for():
    chosen = {one.name for one in of_tissues(read_cell_types(), ["gut"])}
    assert {"enterocyte", "fibroblast", "macrophage", "plasma cell", "smooth muscle cell", "erythrocyte"} <= chosen
    assert {"Schwann cell", "lymphatic endothelial cell", "basal keratinocyte"} <= chosen
    assert not {"hepatocyte", "microglial cell", "alveolar macrophage"} & chosen
    assert "innate lymphoid cell type 3" in {one.name for one in of_tissues(read_cell_types(), ["lung"])}


def test_cell_lines_and_tumors_are_candidates_only_where_they_are_asked_for():
    assert {one.name for one in read_cell_types()} - {one.name for one in choose_types()} == {
        "lung adenocarcinoma cell", "erythroleukaemia cell", "acute promyelocytic leukemia cell",
        "B-lymphoblastoid cell",
    }  # fmt: skip
    for tissue in ("cell-line", "blood,tumor"):
        assert {"B-lymphoblastoid cell", "naive B cell"} <= {one.name for one in choose_types(tissue=tissue)}
    assert choose_types(["B-lymphoblastoid cell"])[0].genes
    assert {one.tissue for one in choose_types(tissue="gut")} == {""}  # it is known, and weighs no type


def test_tissues_are_chosen_and_an_unknown_one_is_refused():
    chosen = of_tissues(read_cell_types(), ["pancreas", "blood"], in_every=())
    assert {one.tissue for one in chosen} == {"pancreas", "blood"}
    with pytest.raises(InputUnusable, match="no tissue is named; give one or more groups"):
        of_tissues(read_cell_types(), [])
    with pytest.raises(InputUnusable, match="no cell type of tissue 'moon'; the table has blood, bone, brain"):
        of_tissues(read_cell_types(), ["moon"])


def test_a_users_list_is_read_and_names_of_the_table_bring_what_it_tells(tmp_path):
    (tmp_path / "a.txt").write_text("Podocytes\n\nmy cell\nT cells\n")
    podocyte, mine, t_cell = read_candidates(tmp_path / "a.txt")
    assert (podocyte.name, "NPHS2" in podocyte.genes) == ("Podocytes", True)
    assert (mine, mine.text) == (CellType(name="my cell"), "my cell")
    assert (t_cell.ontology_id, "CD3D" in t_cell.genes) == ("CL:0000084", True)  # a group of types
    (tmp_path / "b.csv").write_text('cell_type,genes,definition\nPodocytes,"CD3D, CD3E CD3D",\nx,,makes y\n')
    first, second = read_candidates(tmp_path / "b.csv")
    assert first == CellType(name="Podocytes", genes=("CD3D", "CD3E"), parent="kidney epithelial cell")
    assert second.text == "x: makes y"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.tsv", "type\tgenes\nT\tCD3D\n", "columns type, genes, not cell_type"),
        ("a.txt", " \n", "names no cell type"),
        ("a.txt", "T\nB\nT\n", "names T twice"),
        ("a.csv", "cell_type\n", "names no cell type"),
    ],
)
def test_what_is_no_list_is_refused_in_one_line(tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputUnusable, match=why):
        read_candidates(tmp_path / name)
    with pytest.raises(InputUnusable, match="cannot be read"):
        read_candidates(tmp_path / "absent.txt")


@pytest.mark.slow
def test_markers_are_symbols_of_the_human_release_or_of_mouse(real_data):
    symbols = set()
    for taxon in ("Homo_sapiens", "Mus_musculus"):
        path = real_data / "ncbi" / "2022-11" / f"{taxon}.gene_info.gz"
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            symbols |= {line.split("\t")[2] for line in stream}
    listed = (*read_cell_types(), *read_cell_groups())
    unknown = [(one.name, gene) for one in listed for gene in one.genes + one.mouse_genes if gene not in symbols]
    assert unknown == []
