"""Two data sets over the same genes: by GeneID, by orthologue, by text; matched as a double loop would."""

import math
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import cellmodel as cm
import genekb
from cellmodel.annotate.shared_genes import MAX_LANDMARKS, even_weights, is_mutual, joint_features, match_texts
from cellmodel.core.arrays import unit_rows
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import AlignmentTooLow, InputUnusable
from cellmodel.io.cells import cells_from_anndata
from genekb import schema
from tests.support.demo import variable_demo_cells

N_GENES, N_CELLS = 120, 90
TYPES = np.repeat([0, 1, 2], N_CELLS // 3)


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    """Two species whose genes have the same names and other symbols; all but ten human genes have an orthologue."""
    home = tmp_path_factory.mktemp("home")
    species = ((9606, 1000, "HUM"), (10090, 5000, "Mou"))
    rows = [f"{first + i}\t{tax}\t{stem}{i}\tword{i} term{i}" for tax, first, stem in species for i in range(N_GENES)]
    (home / "genes.tsv").write_text("\n".join(["gene_id\ttax_id\tsymbol\tname", *rows]))
    source = genekb.read_source(home / "genes.tsv", taxa=["human", "mouse"])
    orthologs = [
        {"gene_id": 5000 + i, "ortholog_gene_id": 1000 + i, "ortholog_symbol": f"HUM{i}"} for i in range(10, N_GENES)
    ]
    source = replace(source, orthologs=pa.Table.from_pylist(orthologs, schema=schema.ORTHOLOGS))
    return genekb.open(genekb.build(source, genekb.BuildConfig(name="two", models=("hash-256",)), home=home).folder)


def made_cells(seed, stem):
    """Three types, of which each has thirty genes of its own; sides differ in depth."""
    rates = np.ones((3, N_GENES))
    for one in range(3):
        rates[one, 30 * one : 30 * (one + 1)] = 6
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rates[TYPES] * (1 + seed)).astype(np.float32)
    names = pd.DataFrame(index=[f"{stem}{i}" for i in range(N_GENES)])
    return cells_from_anndata(ad.AnnData(counts, var=names, obs=pd.DataFrame(index=[f"c{i}" for i in range(N_CELLS)])))


@pytest.fixture(scope="module")
def sides():
    """Cells of human and of mouse."""
    return made_cells(0, "HUM"), made_cells(1, "Mou")


def share_right(joint):
    """Which of the query's cells lie nearest the mean of their own type in the reference."""
    reference, query = joint.features[: joint.n_reference], joint.features[joint.n_reference :]
    means = np.stack([reference[one == TYPES].mean(axis=0) for one in range(3)])
    return (unit_rows(query) @ unit_rows(means).T).argmax(axis=1) == TYPES


def test_matches_are_those_of_a_double_loop():
    rng = np.random.default_rng(0)
    reference, query = (unit_rows(rng.normal(size=(n, 5))) for n in (1030, 12))  # more than are compared at once
    weights, best = match_texts(reference, query)
    for gene in range(0, len(reference), 103):
        cosine = [sum(a * b for a, b in zip(reference[gene], other, strict=True)) for other in query]
        top = sorted(range(12), key=lambda other: -cosine[other])[:3]
        shares = np.exp([cosine[other] / 0.05 for other in top])
        expected = np.zeros(12)
        expected[top] = shares / shares.sum()
        np.testing.assert_allclose(weights[gene].toarray()[0], expected, atol=1e-9)
        assert best[gene] == pytest.approx(max(cosine[top[0]], 0))


def test_mutual_genes_are_those_of_a_double_loop():
    rng = np.random.default_rng(1)
    reference, query = (unit_rows(rng.normal(size=(n, 3))) for n in (40, 25))
    found = is_mutual(reference, query)
    for gene in range(40):
        there = max(range(25), key=lambda other: reference[gene] @ query[other])
        back = max(range(40), key=lambda one: reference[one] @ query[there])
        assert found[gene] == (back == gene)
    assert 0 < found.sum() <= 25


def test_genes_of_two_species_meet_by_text_and_by_orthologue(sides, kb):
    for genes_by, n_genes in (("text", N_GENES), ("orthologs", N_GENES - 10)):
        joint = joint_features(*sides, kb, RunConfig(), genes_by=genes_by)
        assert joint.features.shape == (2 * N_CELLS, n_genes)
        assert joint.n_genes == n_genes
        assert share_right(joint).mean() > 0.95


def test_permuted_texts_carry_nothing_over(sides, kb):
    configs = [RunConfig(knowledge="shuffled", seed=seed) for seed in range(8)]
    shares = [share_right(joint_features(*sides, kb, each, genes_by="text")).mean() for each in configs]
    assert np.mean(shares) < 0.6  # a third by chance; one permutation takes a type as a whole, rightly or wrongly


def test_text_reads_no_table_of_orthologues(sides, kb):
    """The first ten genes have no orthologue in the table, and meet all the same."""
    joint = joint_features(*sides, kb, RunConfig(), genes_by="text")
    first = [sides[0].names.index(f"HUM{i}") for i in range(10)]
    reference, query = joint.features[: joint.n_reference, first], joint.features[joint.n_reference :, first]
    for side in (reference, query):
        assert side[TYPES == 0].mean() > 0.2
        assert side[TYPES != 0].mean() < 0


def test_a_gene_scaled_on_each_side_does_not_see_the_other(sides, kb):
    human, mouse = sides
    deeper = made_cells(3, "Mou")
    first, second = (joint_features(human, query, kb, RunConfig(), genes_by="orthologs") for query in (mouse, deeper))
    np.testing.assert_array_equal(first.features[:N_CELLS], second.features[:N_CELLS])
    assert not np.array_equal(first.features[N_CELLS:], second.features[N_CELLS:])


def test_too_few_shared_genes_are_refused_with_a_hint(sides, kb):
    with pytest.raises(AlignmentTooLow, match=r"0 genes of .* are shared by ids, 50 are needed.*genes_by=.orthologs"):
        joint_features(*sides, kb, RunConfig(), genes_by="ids")
    human, mouse = sides
    few = cells_from_anndata(mouse.adata[:, :40].copy())
    with pytest.raises(AlignmentTooLow, match=r"genes of .* are shared by text, 50 are needed.*both species"):
        joint_features(human, few, kb, RunConfig(), genes_by="text")
    with pytest.raises(InputUnusable, match="needs knowledge"):
        joint_features(*sides, kb, RunConfig(knowledge="none"), genes_by="text")


def test_weights_are_one_over_the_density():
    points = np.random.default_rng(0).normal(size=(12, 3))
    squared = [[sum((a - b) ** 2 for a, b in zip(u, v, strict=True)) for v in points] for u in points]
    width = 0.25 * float(np.median(squared))
    density = [sum(math.exp(-d / (2 * width)) for d in row) for row in squared]
    expected = np.array([1 / d for d in density])
    np.testing.assert_allclose(even_weights(points), expected / expected.sum(), rtol=1e-9)


def test_a_weighted_mean_does_not_move_with_the_shares_of_two_crowds():
    rng = np.random.default_rng(1)
    sizes = {"even": (150, 150), "uneven": (240, 60)}
    crowds = {name: [rng.normal(center, 0.1, size=(n, 2)) for center, n in zip((0, 5), ns, strict=True)]
              for name, ns in sizes.items()}  # fmt: skip
    means = {name: even_weights(np.concatenate(c)) @ np.concatenate(c) for name, c in crowds.items()}
    np.testing.assert_allclose(means["even"], 2.5, atol=0.3)
    np.testing.assert_allclose(means["uneven"], means["even"], atol=0.3)


def test_the_order_of_cells_does_not_matter_even_where_some_alone_are_landmarks():
    points = np.random.default_rng(2).normal(size=(MAX_LANDMARKS + 500, 4))
    order = np.random.default_rng(3).permutation(len(points))
    np.testing.assert_allclose(even_weights(points[order]), even_weights(points)[order], rtol=1e-9)


def test_equal_cells_weigh_the_same():
    assert even_weights(np.ones((4, 2))).tolist() == pytest.approx([0.25] * 4)


@pytest.mark.parametrize(
    ("knowledge", "symbols"),
    [
        ("real", ["CD79A", "CD79B", "MS4A1"]),
        ("real", ["GNLY", "NKG7", "GZMB"]),
        ("real", ["CD3D", "CD3E", "CD3G"]),
        ("shuffled", ["CD79A", "CD79B", "MS4A1"]),
    ],
)
def test_cells_near_the_text_of_genes_in_the_joint_space_express_them_unless_texts_are_shuffled(
    demo_store, knowledge, symbols
):
    kb, adata = demo_store("wcp-128"), variable_demo_cells()
    cm.tl.embed(adata, kb, knowledge=knowledge)
    joint = adata.uns["cellmodel"]["joint"]
    vectors = kb.vectors(kb.resolve(symbols).gene_ids).vectors
    placed = unit_rows((vectors - joint["whitening_mean"]) @ joint["whitening_components"] @ joint["text_head"])
    near = np.argsort(-(adata.obsm["X_cellmodel_joint"] @ placed.mean(axis=0)))[:40]
    is_expressed = adata.raw[:, symbols].X > 0
    assert (is_expressed[near].mean() > 1.8 * is_expressed.mean()) == (knowledge == "real")
