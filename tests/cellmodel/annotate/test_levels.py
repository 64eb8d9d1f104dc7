"""Groups of cell types against the Cell Ontology; answers at a level, and where the best types disagree."""

import numpy as np
import pytest

from cellmodel.annotate.cell_types import CellType, read_cell_types
from cellmodel.annotate.levels import (
    broad_group,
    common_group,
    level_name,
    lineage_of,
    read_cell_groups,
    shared_genes,
    shared_name,
)
from cellmodel.annotate.marker_lists import ListChoice
from cellmodel.annotate.name_cells import TypeNaming
from cellmodel.annotate.ontology import read_ontology

TYPES = {one.name: one for one in read_cell_types()}
GROUPS = {one.name: one for one in read_cell_groups()}
WITHOUT_GROUP = {
    "Leydig cell", "granulosa cell", "trophoblast cell", "melanocyte", "airway basal cell", "neural progenitor cell",
    "hepatoblast",
}  # fmt: skip


def test_identifiers_and_labels_are_those_of_the_ontology():
    for one in (*TYPES.values(), *GROUPS.values()):
        assert one.ontology_label == (read_ontology()[one.ontology_id].label if one.ontology_id else ""), one.name
    assert sum(bool(one.ontology_id) for one in TYPES.values()) >= 150
    assert all(one.ontology_id for one in GROUPS.values())


def test_a_parent_is_an_ancestor_in_the_ontology_or_refines_what_that_says():
    table = TYPES | GROUPS
    term_of = {one.name: one.ontology_id for one in table.values() if one.ontology_id}
    for one in table.values():
        if not (one.parent and one.ontology_id) or one.ontology_id == term_of.get(one.parent):
            continue
        ancestors = read_ontology()[one.ontology_id].ancestors
        groups = {name for name in GROUPS if term_of[name] in ancestors}
        is_refined = groups <= {each.name for each in lineage_of(one)}
        assert one.parent not in term_of or term_of[one.parent] in ancestors or is_refined, (one.name, one.parent)


def test_names_are_distinct_every_path_ends_and_nearly_every_type_has_a_group():
    assert not set(TYPES) & set(GROUPS)
    for one in (*TYPES.values(), *GROUPS.values()):
        path = [each.name for each in lineage_of(one)]
        assert len(path) == len(set(path)), one.name
        assert one.level in {"", "broad"}
    assert {name for name, one in TYPES.items() if not one.parent} == WITHOUT_GROUP


def test_a_group_without_genes_takes_those_that_half_of_its_members_share():
    members = [
        CellType(name=name, parent="kin", genes=genes) for name, genes in zip("abc", ("XYZ", "XZ", "QX"), strict=True)
    ]
    assert shared_genes("kin", members) == ("X", "Z")
    assert shared_genes("kin", members[:1]) == ()
    assert {"CD4", "CD3D"} <= set(GROUPS["helper T cell"].genes)


def level_of(scores, **options):
    return level_name([TYPES[name] for name in scores], np.array(list(scores.values())), **options)


def test_the_best_type_is_named_where_it_is_clear_and_its_group_where_broad_is_asked_for():
    scores = {"naive CD4 T cell": 5.0, "memory CD4 T cell": 3.0, "natural killer cell": 4.9}
    found = level_of(scores)
    assert (found.name, found.level, found.parent) == ("naive CD4 T cell", "fine", "CD4 T cell")
    assert level_of(scores, level="fine") == found
    broad = level_of(scores, level="broad")
    assert (broad.name, broad.level, broad.parent, broad.ontology_id) == ("T cell", "broad", "lymphocyte", "CL:0000084")
    assert broad.members == ("naive CD4 T cell",)


def test_relatives_that_disagree_give_their_nearest_common_group():
    found = level_of({"naive CD4 T cell": 5.0, "memory CD4 T cell": 4.95, "natural killer cell": 4.9})
    assert (found.name, found.level, found.members) == (
        "CD4 T cell", "middle", ("naive CD4 T cell", "memory CD4 T cell"),
    )  # fmt: skip
    found = level_of({"naive CD4 T cell": 5.0, "naive CD8 T cell": 4.95})
    assert (found.name, found.level) == ("T cell", "broad")
    assert level_of({"naive CD4 T cell": 5.0, "naive CD8 T cell": 4.95}, max_gap=0.005).level == "fine"


def test_a_type_that_holds_another_is_their_common_group_and_types_of_no_kin_have_none():
    assert common_group([TYPES["Kupffer cell"], TYPES["macrophage"]]) == TYPES["macrophage"]
    assert common_group([TYPES["hepatocyte"], TYPES["erythrocyte"]]) is None
    assert broad_group(TYPES["melanocyte"]) == TYPES["melanocyte"]
    assert level_of({"hepatocyte": 5.0, "erythrocyte": 5.0}).name == "hepatocyte"


def test_an_unknown_level_is_refused_and_a_type_of_no_table_is_its_own():
    for config in (TypeNaming, ListChoice):
        with pytest.raises(ValueError, match="is not one of auto, fine, broad"):
            config(level="coarse")
    mine = [CellType(name="mine"), CellType(name="yours")]
    assert level_name(mine, np.array([2.0, 2.0]), level="broad").name == "mine"


def test_a_group_with_markers_of_its_own_is_the_answer_where_it_scores_twice_as_high():
    types, groups = [TYPES["naive CD4 T cell"], TYPES["naive CD8 T cell"]], [GROUPS["T cell"], GROUPS["CD4 T cell"]]
    for highest, name in ((9.0, "naive CD4 T cell"), (11.0, "T cell")):
        found = level_name(types, np.array([5.0, 3.0]), groups=groups, group_scores=np.array([highest, 4.0]))
        assert found.name == name
    assert found.members == ("naive CD4 T cell", "naive CD8 T cell")


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["CD4 T cell", "CD8 T cell"], "T cell"),
        (["T cell", "B cell"], "lymphocyte"),
        (["monocyte", "T cell"], "leukocyte"),
        (["T cell", "unassigned"], "T cell"),
        (["unassigned", "unassigned"], "unassigned"),
        (["T cell", "hepatocyte", "T cell"], "T cell, hepatocyte"),
        (["my T cell", "CD8 T cell"], "T cell"),  # a type of the user
    ],
)
def test_groups_of_clusters_share_a_name(names, shared):
    own = {"my T cell": CellType(name="my T cell", parent="T cell")}
    parents = [one.parent if (one := (TYPES | own).get(name)) else "" for name in names]
    assert shared_name(names, parents) == shared
