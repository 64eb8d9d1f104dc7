"""The packed Cell Ontology, and free labels mapped to its terms."""

import csv
from importlib.resources import files

import pytest

import cellmodel as cm
from cellmodel.annotate.ontology import map_label, read_labels, read_ontology
from cellmodel.core.errors import InputUnusable


def test_terms_have_names_and_ancestors_and_none_is_deprecated():
    terms = read_ontology()
    assert len(terms) == 3324
    assert "Treg" in terms["CL:0000815"].synonyms
    assert terms["CL:0000815"].ancestors["CL:0000084"] == 2
    assert not any(term.label.startswith("obsolete") for term in terms.values())
    assert all(set(term.ancestors) <= set(terms) for term in terms.values())


def test_a_label_or_identifier_of_the_ontology_is_its_own_term():
    for term in list(read_ontology().values())[::40]:
        assert map_label(term.label.upper())[1:4] == (term.id, term.label, "high")
    assert map_label("dendritic cell, human").id == "CL:0001056"
    assert map_label("CL:0000084").name == "T cell"


@pytest.mark.parametrize(
    ("label", "name", "confidence"),
    [
        ("B cells", "B cell", "high"),
        ("Tregs", "regulatory T cell", "high"),
        ("0_CD4 T", "CD4-positive, alpha-beta T cell", "high"),
        ("Mono_CD14", "CD14-positive monocyte", "high"),
        ("FCGR3A+ Mono", "CD14-low, CD16-positive monocyte", "high"),
        ("CD4+ T helper 1", "T-helper 1 cell", "high"),
        ("CD4+/CD45RA+/CD25- Naive T", "naive thymus-derived CD4-positive, alpha-beta T cell", "high"),
        ("γδ T", "gamma-delta T cell", "high"),
        ("L2/3 IT", "L2/3 intratelencephalic projecting glutamatergic neuron", "high"),
        ("L5 IT", "L5 intratelencephalic projecting glutamatergic neuron", "high"),
        ("Pvalb", "pvalb GABAergic interneuron", "high"),
        ("Oligo", "oligodendrocyte", "high"),
        ("cDC2", "CD1c-positive myeloid dendritic cell", "high"),
        ("pDCs", "plasmacytoid dendritic cell", "high"),
        ("haematopoietic stem cell", "hematopoietic stem cell", "high"),
        ("T cells 2", "T cell", "high"),
        ("Fibroblast_3", "fibroblast", "high"),
        ("Lung_AT2", "pulmonary alveolar type 2 cell", "high"),
        ("alpha", "pancreatic A cell", "medium"),  # what it often means
        ("CRTAM+ gamma-delta T cells", "gamma-delta T cell", "medium"),  # the broader term, as one word is not covered
        ("Goblet (nasal)", "goblet cell", "medium"),
        ("PC", "plasma cell", "medium"),
        ("Müller glia", "Mueller cell", "medium"),  # synonyms
        ("Neuroblasts", "neuroblast (sensu Vertebrata)", "medium"),  # and there are those of other animals
        ("T/NK cells", "mature NK T cell", "low"),
    ],
)
def test_labels_of_the_field_are_sure_unless_they_have_several_meanings_or_more_words(label, name, confidence):
    found = map_label(label)
    assert (found.name, found.confidence) == (name, confidence)
    assert found.score == 1 or confidence != "high"
    assert read_ontology()[found.id].label == name


@pytest.mark.parametrize(
    "label",
    ["unknown", "Doublets", "cluster 7", "7", "low quality", "immune_other", "In", "???", "K562", "(" * 100_000],
)
def test_what_is_no_cell_type_has_none(label):
    assert map_label(label)[1:4] == ("", "", "none")


def test_words_of_the_table_are_distinct_and_what_a_label_alone_means_is_a_term():
    lines = files("cellmodel.annotate").joinpath("data", "label_words.tsv").read_text().splitlines()
    rows = list(csv.DictReader(lines, delimiter="\t"))
    assert {row["where"] for row in rows} == {"names", "labels", "alone", "nothing"}
    assert len({(*sorted(row["words"].split()), row["where"]) for row in rows}) == len(rows)
    alone = [row["meaning"] for row in rows if row["where"] == "alone"]
    assert not [meaning for meaning in alone if map_label(meaning).score < 1]


def test_labels_come_from_lists_columns_and_series_each_once(tmp_path):
    plain, table = tmp_path / "labels.txt", tmp_path / "labels.csv"
    plain.write_text("B cells\n\nNK\nB cells\n")
    table.write_text("cell_type,n\nB cells,3\n,1\nNK,2\n")
    assert read_labels(plain) == ["B cells", "NK", "B cells"]
    found = cm.tl.map_labels([*read_labels(plain), *read_labels(table, "cell_type"), float("nan")])
    assert found["id"].tolist() == ["CL:0000236", "CL:0000623", ""]
    assert found["alternatives"][0].startswith("CL:")
    for column in (None, "type"):
        with pytest.raises(InputUnusable, match="name"):
            read_labels(table, column)
    with pytest.raises(InputUnusable, match="no label to map"):
        cm.tl.map_labels(["", " "])
