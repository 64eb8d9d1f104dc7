from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import fisher_exact, hypergeom

from cellmodel.annotate.marker_overlap import display_name, name_clusters
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.markers import rank_markers

GENES = [f"g{gene}" for gene in range(100)]
PANEL = {"early": GENES[:8], "late": GENES[50:58], "elsewhere": [*GENES[90:95], "never measured"]}


def tables(*, shift=3.0):
    """Markers of three clusters of 30 cells: genes 0-9 rise in the first, 50-59 in the second, none in the third."""
    rng = np.random.default_rng(0)
    values = 3 + rng.random((90, 100))
    values[:30, :10] += shift
    values[30:60, 50:60] += shift
    return rank_markers(sp.csr_matrix(values), np.repeat([0, 1, 2], 30), gene_names=GENES, n_top=100)


def test_clusters_get_the_type_whose_genes_they_raise_and_others_none():
    names = name_clusters(tables(), PANEL, background=GENES)
    assert [name.name for name in names] == ["early", "late", "unassigned"]
    assert [name.cluster for name in names] == [0, 1, 2]
    assert set(names[0].genes) == set(PANEL["early"])
    assert [name.n_panel for name in names[:2]] == [8, 8]


def test_p_values_are_the_hypergeometric_tail_and_benjamini_hochberg_over_all_tests():
    markers = tables()
    found = name_clusters(markers, PANEL, background=GENES)
    chosen = [{m.name for m in table.markers if m.t > 0 and m.p_adjusted <= 0.05} for table in markers]
    measured = {name: set(genes) & set(GENES) for name, genes in PANEL.items()}
    p = np.array([
        [hypergeom(100, len(genes), len(own)).pmf(range(len(own & genes), 101)).sum() for genes in measured.values()]
        for own in chosen
    ])  # fmt: skip
    ranked = np.sort(p.ravel())
    for row, name in enumerate(found):
        best = p[row].min()
        adjusted = min(1, *(value * 9 / rank for rank, value in enumerate(ranked, start=1) if value >= best))
        assert name.p_value == pytest.approx(best)
        assert name.p_adjusted == pytest.approx(adjusted)


def test_the_p_value_is_that_of_fishers_exact_test():
    name = name_clusters(tables(), PANEL, background=GENES)[0]
    shared, rest = len(name.genes), name.n_markers - len(name.genes)
    counts = [[shared, rest], [8 - shared, 92 - rest]]
    assert name.p_value == pytest.approx(fisher_exact(counts, alternative="greater").pvalue)


def test_panel_genes_that_were_not_measured_change_nothing():
    noted = {name: [*genes, "x1", "x2"] for name, genes in PANEL.items()}
    assert name_clusters(tables(), noted, background=GENES) == name_clusters(tables(), PANEL, background=GENES)


def test_weak_overlap_leaves_a_cluster_unassigned_and_still_says_what_came_nearest():
    name = name_clusters(tables(), PANEL, background=GENES, min_overlap=9)[0]
    assert (name.name, name.best) == ("unassigned", "early")
    shown = display_name(name.name, best=name.best, reason=name.reason)
    assert shown == "unassigned (best: early, 8 of 9 shared genes)"
    one = name_clusters(tables(), {"early": GENES[:1]}, background=GENES)[0]
    assert (one.name, one.runner_up, one.runner_up_p_adjusted) == ("unassigned", None, 1.0)


def test_only_so_many_markers_count_and_lacking_genes_never_do():
    few = name_clusters(tables(), PANEL, background=GENES, n_markers=4)[0]
    assert (few.n_markers, len(few.genes) <= 4) == (4, True)
    lacked = name_clusters(tables(shift=-3.0), PANEL, background=GENES)  # each of two clusters lacks the one list
    assert [name.name for name in lacked[:2]] == ["late", "early"]


def test_equal_types_go_by_their_order_in_the_panel():
    twice = {"first": GENES[:8], "second": GENES[:8]}
    name = name_clusters(tables(), twice, background=GENES)[0]
    assert (name.name, name.runner_up) == ("first", "second")
    assert name.p_adjusted == name.runner_up_p_adjusted


def test_a_cluster_without_a_rest_is_unassigned():
    empty = replace(tables()[0], markers=(), is_tested=False)
    name = name_clusters([empty], PANEL, background=GENES)[0]
    assert (name.name, name.p_value, name.n_markers) == ("unassigned", 1.0, 0)


def test_what_cannot_be_named_is_refused():
    with pytest.raises(InputUnusable, match="0 genes of the panel's 1 types are among the 100 measured"):
        name_clusters(tables(), {"other species": ["Ins1"]}, background=GENES)
