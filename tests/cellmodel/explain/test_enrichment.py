"""Over-represented gene sets against counting by hand, and the files that gene sets come from."""

from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import false_discovery_control

import cellmodel as cm
import genekb
from cellmodel.core.errors import InputUnusable
from cellmodel.explain.enrichment import GeneSet, enrich, read_gmt, stored_gene_sets
from genekb import schema
from tests.support.demo import demo_cells

KILLING = ("GNLY", "GZMB", "NKG7", "PRF1")
ALL = {"min_shared": 1, "max_p": 1.0, "n_sets": 100}


def sets_of(members: dict[str, set[int]], source: str = "file") -> list[GeneSet]:
    return [GeneSet(source=source, set_id="", name=name, gene_ids=frozenset(genes)) for name, genes in members.items()]


def test_p_values_are_those_of_counting_all_ways_to_deal():
    measured, group = range(1, 31), [4, 2, 9, 1]
    (found,) = enrich([group], sets_of({"a": {1, 2, 3, 4, 99}, "b": {9, 20, 21, 22, 23}}), measured=measured, **ALL)
    for one, n_set, shared in zip(found, (4, 5), (3, 1), strict=True):
        ways = sum(comb(n_set, x) * comb(30 - n_set, 4 - x) for x in range(shared, 5))
        assert one.p_value == pytest.approx(ways / comb(30, 4))
        assert (one.n_set, one.n_group, one.n_measured, len(one.gene_ids)) == (n_set, 4, 30, shared)
        assert one.fold == pytest.approx(shared / (n_set * 4 / 30))
    assert found[0].gene_ids == (4, 2, 1)  # in the order of the group


def test_adjustment_is_benjamini_hochbergs_over_all_groups_and_within_each_source():
    rng = np.random.default_rng(0)
    members = {str(number): set(rng.choice(200, 20, replace=False).tolist()) for number in range(12)}
    groups = [rng.choice(200, 30, replace=False).tolist() for _ in range(3)]
    both = enrich(groups, [*sets_of(members, "x"), *sets_of(members, "y")], measured=range(200), **ALL)
    alone = enrich(groups, sets_of(members, "x"), measured=range(200), **ALL)
    told = [(one.p_value, one.p_adjusted) for group in alone for one in group]
    assert sorted(told) == sorted(
        (one.p_value, one.p_adjusted) for group in both for one in group if one.gene_set.source == "x"
    )
    p, adjusted = np.array(told).T
    of_all = [*p, *[1.0] * (36 - len(p))]  # sets that share no gene are not told
    np.testing.assert_allclose(adjusted, false_discovery_control(of_all)[: len(p)])


def test_weak_small_and_huge_sets_are_left_out():
    members = {"hit": set(range(10)), "tiny": {0, 1}, "huge": set(range(600)), "weak": {5, 90, 91, 92}}
    (found, nothing) = enrich([list(range(8)), [95]], sets_of(members), measured=range(1000))
    assert [one.gene_set.name for one in found] == ["hit"]
    assert nothing == ()
    assert enrich([[1]], [], measured=range(5)) == ((),)


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    """The demo store with GO terms of a few genes, and a sentence about one, which is no gene set."""
    source = genekb.read_demo_table()
    ids = dict(zip(source.genes["symbol"].to_pylist(), source.genes["gene_id"].to_pylist(), strict=True))
    rows = [("GO:1", "binding", "CD3D"), *(("GO:2", "killing", gene) for gene in KILLING)]
    table = [
        {"gene_id": ids[gene], "vocabulary": "go_process", "term_id": term, "term": name, "evidence": "IDA"}
        for term, name, gene in rows
    ]
    table.append({"gene_id": ids["CD3D"], "vocabulary": "generif", "term_id": "1", "term": "A study.", "evidence": ""})
    source = replace(source, annotations=pa.Table.from_pylist(table, schema=schema.ANNOTATIONS))
    config = genekb.BuildConfig(name="demo", models=("hash-32",))
    return genekb.open(genekb.build(source, config, home=tmp_path_factory.mktemp("home")).folder)


def test_sets_of_a_store_are_its_terms_with_their_genes_and_are_tested_in_cells(kb):
    cd3d, *killing = kb.resolve(["CD3D", *KILLING]).gene_ids.tolist()
    assert [(one.source, one.set_id, one.name, set(one.gene_ids)) for one in stored_gene_sets(kb)] == [
        ("go_process", "GO:1", "binding", {cd3d}),
        ("go_process", "GO:2", "killing", set(killing)),
    ]
    adata = demo_cells()
    cm.tl.attribute(adata, kb, cluster_key="bulk_labels", permutations=5)
    enriched = adata.uns["cellmodel_attribution"]["enrichment"].query("cluster == 'CD56+ NK'").iloc[0]
    assert enriched[["set", "set_id", "source", "n_shared"]].tolist() == ["killing", "GO:2", "go_process", 4]


def test_gmt_names_are_resolved_by_the_store(kb, tmp_path, caplog):
    cd3d, gnly = kb.resolve(["CD3D", "GNLY"]).gene_ids.tolist()
    path = tmp_path / "sets.gmt"
    path.write_text(f"T\thttp://x\tCD3D\t{gnly}\t\n\nNK\tna\tGNLY\tNOSUCH1\tNOSUCH2\tNOSUCH3\tNOSUCH4\n")
    first, second = read_gmt(path, kb)
    assert (first.source, first.set_id, first.name) == ("sets.gmt", "http://x", "T")
    assert first.gene_ids == {cd3d, gnly}
    assert second.gene_ids == {gnly}
    assert "3 of the 7 gene names" in caplog.text


def test_a_gmt_ends_its_lines_at_newlines_alone(kb, tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_bytes("T\tof\u2028two\x85lines\tCD3D\r\nNK\tna\tGNLY\r\n".encode())
    assert [one.set_id for one in read_gmt(path, kb)] == ["of\u2028two\x85lines", "na"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no set"),
        ("T\tCD3D\n", "line 1 of .* has 2 columns"),
        ("T\tna\tCD3D\nT\tna\tGNLY\n", "line 2 of .* names 'T' again"),
        ("T\tna\tYAL001C\tYAL002W\n", r"0 of the 2 gene names .*YAL001C.* same species\?"),
        (b"\xff\xfe\x00", "cannot be read as a GMT file"),
    ],
)
def test_what_is_no_gmt_is_refused_in_one_line(kb, tmp_path, text, why):
    path = tmp_path / "sets.gmt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputUnusable, match=why):
        read_gmt(path, kb)
    with pytest.raises(InputUnusable, match="cannot be read"):
        read_gmt(Path(tmp_path / "absent.gmt"), kb)
