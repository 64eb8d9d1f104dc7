"""Names from two evidence sources: markers in the store, weights combined, permutation p values; names of cells."""

import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import cellmodel as cm
import genekb
from cellmodel.annotate.cell_types import (
    CellType,
    QueriedCells,
    TypeEvidence,
    cluster_profiles,
    combine_evidence,
    marker_specificity,
    marker_weights,
    read_cell_types,
    resolve_markers,
    standard_weights,
)
from cellmodel.annotate.levels import cell_mix, hold_cells, is_mixed, level_name, mix_text
from cellmodel.annotate.name_cells import TypeChoice, TypeNaming, contrast_relatives, name_by_types, name_each
from cellmodel.core.config import GraphConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.pp.neighbors import knn_graph, snn_weights
from tests.support.demo import demo_cells

N_GENES = 80
NAMES = [f"g{gene}" for gene in range(N_GENES)]
TYPES = {one.name: one for one in read_cell_types()}


@pytest.fixture(scope="module")
def stores(tmp_path_factory, ncbi_folder):
    home = tmp_path_factory.mktemp("home")
    taxa = {"human": ["human"], "mouse": ["mouse"], "both": ["human", "mouse"]}

    def built(name):
        source = genekb.read_ncbi_folder(ncbi_folder, taxa=taxa[name])
        return genekb.build(source, genekb.BuildConfig(name=name, models=("hash-16",)), home=home)

    return {name: genekb.open(built(name).folder) for name in taxa}


def evidence_of(*genes_of_types):
    """Types with five marker genes each, without text."""
    markers = sp.lil_matrix((len(genes_of_types), N_GENES))
    for row, genes in enumerate(genes_of_types):
        markers[row, genes] = 1
    markers = standard_weights(markers.tocsr())
    text = sp.csr_matrix(markers.shape)
    types = tuple(CellType(name=f"type {row}") for row in range(len(genes_of_types)))
    both = combine_evidence(text, markers, has_markers=np.ones(len(types), dtype=bool))
    return TypeEvidence(types=types, text=text, markers=markers, both=both, n_markers=np.diff(markers.indptr))


def test_a_cluster_is_named_by_the_type_whose_genes_lead_in_it_and_told_by_them():
    evidence = evidence_of(range(5), range(5, 10), range(10, 15))
    profiles = np.random.default_rng(0).normal(scale=0.1, size=(1, N_GENES))
    profiles[0, 5:10] = [2.0, 1.0, 1.5, 1.2, 1.1]
    (found,) = name_by_types(profiles, evidence, gene_names=NAMES, seed=0)
    assert (found.name, found.best) == ("type 1", "type 1")
    assert [gene.name for gene in found.genes] == ["g5", "g7", "g8", "g9", "g6"]
    assert all(gene.is_marker for gene in found.genes)
    assert sum(gene.contribution for gene in found.genes) == pytest.approx(found.score)
    assert found.margin == pytest.approx(found.score - found.runner_up_score)
    assert found.p_value == pytest.approx(1 / 201)
    (alone,) = name_by_types(profiles, evidence_of(range(5, 10)), gene_names=NAMES, seed=0)
    assert (alone.runner_up, alone.margin) == (None, alone.score)


def test_a_profile_without_order_stays_unassigned_and_p_values_are_even():
    evidence = evidence_of(range(5), range(5, 10), range(10, 15))
    profiles = np.random.default_rng(1).normal(size=(200, N_GENES))
    found = name_by_types(profiles, evidence, gene_names=NAMES, config=TypeNaming(n_permutations=99), seed=0)
    p_values = np.array([one.p_value for one in found])
    assert np.mean(p_values <= 0.2) == pytest.approx(0.2, abs=0.08)
    assert np.mean([one.name == "unassigned" for one in found]) > 0.9


def test_a_few_measured_markers_are_enough_for_a_name_among_clusters_that_have_names():
    evidence = evidence_of(range(2), range(2, 5), range(5, 10), range(10, 15))
    profiles = np.random.default_rng(0).normal(scale=0.3, size=(4, N_GENES))
    profiles[:, 20:36] = 1.0  # a fifth of the genes leads in each
    for cluster, genes in enumerate((range(2), range(2, 5), range(5, 10), range(10, 15))):
        profiles[cluster, genes] = 1.8
    found = name_by_types(profiles, evidence, gene_names=NAMES, seed=0)
    assert [one.name for one in found] == [f"type {number}" for number in range(4)]
    assert [one.confidence for one in found] == ["high"] * 4
    assert all(one.share_markers == 1 and not one.reason for one in found)
    shuffled = np.random.default_rng(1).permuted(profiles, axis=1)
    assert {one.name for one in name_by_types(shuffled, evidence, gene_names=NAMES, seed=0)} == {"unassigned"}


def test_types_of_a_tissue_that_no_other_cluster_speaks_for_yield_to_those_of_every_tissue():
    vessel, other = TYPES["arterial endothelial cell"], TYPES["brain endothelial cell"]
    neurons = [TYPES[name] for name in ("excitatory neuron", "inhibitory interneuron")]
    types = (vessel, other, *neurons, TYPES["smooth muscle cell"], TYPES["fibroblast"])
    evidence = replace(evidence_of(*(range(5 * row, 5 * row + 5) for row in range(6))), types=types)
    profiles = np.random.default_rng(0).normal(scale=0.1, size=(3, N_GENES))
    profiles[0, :10] = [1.0] * 5 + [1.2] * 5  # a little more of the brain's
    in_artery, in_brain = profiles.copy(), profiles.copy()
    in_brain[1, 10:15] = in_brain[2, 15:20] = in_artery[1, 20:25] = in_artery[2, 25:30] = 1.5
    artery, brain = (name_by_types(each, evidence, gene_names=NAMES, seed=0) for each in (in_artery, in_brain))
    assert [one.name for one in artery] == [vessel.name, "smooth muscle cell", "fibroblast"]
    assert [one.name for one in brain] == [other.name, *(one.name for one in neurons)]
    assert artery[0].margin >= 0 <= brain[0].margin
    apart = replace(evidence, types=tuple(replace(one, parent="") if one is vessel else one for one in types))
    strong = in_artery.copy()
    strong[0, :5] = 0.1
    assert name_by_types(strong, apart, gene_names=NAMES, seed=0)[0].name == other.name  # nothing else comes near


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"naive CD4 T cell": 60, "memory CD4 T cell": 40}, "naive CD4 T cell"),
        ({"naive CD4 T cell": 59, "memory CD4 T cell": 41}, "CD4 T cell"),
        ({"cytotoxic CD8 T cell": 39, "memory CD4 T cell": 29, "naive CD4 T cell": 23, "naive B cell": 9}, "T cell"),
        ({"naive B cell": 100}, "lymphocyte"),  # cells that contradict the name
        ({"naive CD4 T cell": 30, "memory CD4 T cell": 25, "unassigned": 45}, "CD4 T cell"),  # of those with a name
        ({"memory CD4 T cell": 18, "unassigned": 82}, "naive CD4 T cell"),  # most have none
        ({"naive CD4 T cell": 50, "hepatocyte": 50}, "naive CD4 T cell"),  # no group holds both
    ],
)
def test_a_name_that_too_few_of_the_cells_have_gives_way_to_the_nearest_group_that_holds_them(names, expected):
    types = [TYPES[name] for name in ("naive CD4 T cell", *names) if name in TYPES]
    mix = cell_mix([name for name, n in names.items() for _ in range(n)])
    found = hold_cells(level_name(types, np.arange(len(types), 0.0, -1)), mix, types)
    assert found.name == expected
    assert is_mixed(found.name, "naive CD4 T cell", mix) == (names.get("naive CD4 T cell") != 60)
    assert mix_text(mix).startswith(f"{mix[0].fraction:.0%}".replace("%", f" % {mix[0].name}"))


def test_a_cluster_takes_the_name_of_what_parts_it_from_its_sibling():
    shared, own, of_sibling = range(10), range(10, 15), range(15, 20)
    evidence = evidence_of([*shared, *own], [*shared, *of_sibling])
    profiles = np.zeros((3, N_GENES))
    profiles[:2, :10] = 1.0
    profiles[0, 10:20] = [0.6] * 5 + [0.7] * 5  # less of the other's genes than the other, and more of its own
    profiles[1, 10:20] = [0.1] * 5 + [1.2] * 5
    alone = name_by_types(profiles[:1], evidence, gene_names=NAMES, seed=0)
    first, second, third = name_by_types(profiles, evidence, gene_names=NAMES, seed=0)
    assert alone[0].name == "type 1"
    assert (first.name, second.name, third.name) == ("type 0", "type 1", "unassigned")
    np.testing.assert_array_equal(contrast_relatives(profiles[:2]), profiles[:2])  # neither of two has two relatives


def test_cells_take_the_names_of_groups_of_neighbors_and_noise_makes_no_candidate():
    evidence = evidence_of(range(5), range(5, 10), range(10, 15), range(15, 20), range(20, 25))
    truth = np.repeat([0, 1, 2], [150, 120, 30])  # types 3 and 4 are in no cell
    rng = np.random.default_rng(0)
    raised = np.zeros((len(truth), N_GENES))
    for kind in range(3):
        raised[np.ix_(truth == kind, range(5 * kind, 5 * kind + 5))] = 1
    counts = sp.csr_matrix(np.log1p(rng.poisson(0.5 + 0.8 * raised)).astype(np.float32))
    known = QueriedCells(expression=counts, gene_names=tuple(NAMES), alignment=None)
    graph = snn_weights(knn_graph(np.eye(3)[truth] + rng.normal(scale=0.05, size=(300, 3)), config=GraphConfig()))
    clusters = np.minimum(truth, 1)  # the third group has no cluster of its own
    named = name_by_types(cluster_profiles(counts, clusters), evidence, gene_names=NAMES, seed=0)
    names, scores = name_each(known, evidence, clusters=named, graph=graph, seed=0)
    assert np.mean(np.array(names) == np.array([f"type {kind}" for kind in truth])) > 0.95
    assert set(names) <= {"type 0", "type 1", "type 2", "unassigned"}
    assert len(scores) == len(names) == 300


@pytest.mark.parametrize("name", ["???", "-", "\U0001f9a0"])
def test_a_type_without_a_letter_or_digit_is_refused_before_any_work(name):
    with pytest.raises(InputUnusable, match=f"cell type '{re.escape(name)}' holds no letter or digit"):
        TypeChoice(types=(CellType(name="B cell"), CellType(name=name, genes=("CD3D",))))


def test_evidence_sources_add_up_to_a_score_with_standard_deviation_one():
    rng = np.random.default_rng(2)
    text, markers = (standard_weights(sp.csr_matrix(np.eye(2, 500, k=shift))) for shift in (0, 100))
    markers = sp.vstack([markers[0], sp.csr_matrix((1, 500))]).tocsr()
    both = combine_evidence(text, markers, has_markers=np.array([True, False]))
    scores = np.array([both @ rng.normal(size=500) for _ in range(4000)])
    np.testing.assert_allclose(scores.std(axis=0), 1, atol=0.04)
    assert both[0, 100] == pytest.approx(10 * both[0, 0])


def test_markers_resolve_by_their_own_symbol_else_by_every_orthologue(stores):
    assert resolve_markers(["CD3D", "nonsense"], stores["human"]) == {"CD3D": (915,), "nonsense": ()}
    assert resolve_markers(["CD3D"], stores["mouse"]) == {"CD3D": (12500,)}
    assert resolve_markers(["Cd3d"], stores["mouse"]) == {"Cd3d": (12500,)}
    assert resolve_markers(["CD3D", "Cd3d"], stores["both"]) == {"CD3D": (915, 12500), "Cd3d": (12500,)}


def test_markers_that_the_store_knows_and_the_cells_lack_lower_the_weight(stores):
    kb = stores["human"]
    types = [CellType(name="a", genes=("CD3D", "CD3E", "nonsense")), CellType(name="b", genes=("CD3D",))]
    ids = np.array([915, 0, 930, 931, 2641])
    found, n_known = marker_weights(types, ids, kb)
    found = found.toarray()
    assert n_known.tolist() == [2, 1]
    assert found[1, 0] == pytest.approx(np.sqrt(5 / 4))  # deviations of one gene in five have length one
    assert found[0, 0] == pytest.approx(found[1, 0] * np.sqrt(1 / 2))


def test_a_gene_of_many_types_weighs_less_than_one_of_few(stores):
    kb = stores["human"]
    many, few, unlisted = marker_specificity(np.array([915, 2641, 1]), kb)  # CD3D, GCG
    assert 0 < many < 0.6 < few < unlisted == 1
    found, _ = marker_weights([CellType(name="a", genes=("CD3D", "GCG"))], np.array([915, 2641, 1, 0, 0, 0]), kb)
    assert found[0, 1] / found[0, 0] == pytest.approx(few / many)


def test_annotate_in_memory_names_clusters_and_leaves_cells_without_one_alone(demo_kb):
    kb = demo_kb
    adata = demo_cells()
    adata.obs["group"] = adata.obs["bulk_labels"].astype(object)
    adata.obs.iloc[:50, adata.obs.columns.get_loc("group")] = None
    types = [CellType(name="B", genes=("CD79A", "CD79B", "MS4A1")), CellType(name="T", genes=("CD3D", "CD3E", "CD3G"))]
    found = cm.tl.annotate(adata, kb, cluster_key="group", candidates=types, copy=True)
    names = found.obs["cellmodel_name"]
    assert names[:50].isna().all()
    assert (names[found.obs["group"] == "CD19+ B"] == "B").all()
    assert found.uns["cellmodel_name"]["names"].set_index("cluster").loc["CD4+/CD45RO+ Memory", "best"] == "T"
    assert "cellmodel_name" not in adata.obs
    of_table = [
        replace(one, name=name, parent=name[2:], level="")
        for one, name in zip(types, ("x B cell", "x T cell"), strict=True)
    ]
    broad = cm.tl.annotate(adata, kb, cluster_key="group", candidates=of_table, level="broad", copy=True)
    rows = broad.uns["cellmodel_name"]["names"].set_index("cluster")
    assert rows.loc["CD19+ B", ["name", "level", "parent"]].tolist() == ["B cell", "broad", "B-lineage lymphocyte"]
    assert set(broad.obs["cellmodel_name_cell"].dropna()) <= {"B cell", "T cell", "unassigned"}


def test_each_level_of_the_tree_gets_the_group_that_its_names_share(demo_kb, tmp_path):
    kb = demo_kb
    adata = demo_cells()
    cm.tl.cluster(adata, kb, recipe="pca-kmeans", n_clusters=6)
    cm.tl.annotate(adata, kb)
    adata.write_h5ad(tmp_path / "named.h5ad")
    obs, levels, named = adata.obs, adata.uns["cellmodel_name"]["levels"], adata.uns["cellmodel_name"]["names"]
    mixed = set(named["name"][named["is_mixed"]])
    assert list(levels["level"].unique()) == [1, 2]
    assert (obs["cellmodel_name_level_2"].astype(str) == obs["cellmodel_name"].astype(str)).all()
    for row in levels[levels["level"] == 1].itertuples():
        inside = obs["cellmodel_level_1"] == row.group
        assert set(obs.loc[inside, "cellmodel_name_level_1"]) == {row.name}
        own = [name for name in obs.loc[inside, "cellmodel_name"].unique() if name != "unassigned"]
        assert len(own) < 2 or row.name not in set(own) - mixed  # a group above them, not one of them
    assert "cellmodel_name_level_3" not in obs


def test_markers_of_mouse_count_in_a_store_of_mouse_alone(stores):
    for taxon, expected in (("human", 0), ("mouse", 1)):
        symbol = stores[taxon].table("genes")["symbol"].to_pylist()[0]
        one = CellType(name="a", mouse_genes=(symbol,))
        ids = stores[taxon].resolve([symbol]).gene_ids
        weights, n_known = marker_weights([one], np.array([ids[0], 1, 2]), stores[taxon])
        assert (n_known.tolist(), weights.nnz) == ([expected], expected)
