"""The table of cell types: whole, unambiguous, its genes known; a user's list in its place."""

import gzip
import re

import pytest

from cellmodel.annotate.candidates import choose_types, of_tissues, read_candidates
from cellmodel.annotate.cell_types import CellType, read_cell_types
from cellmodel.annotate.levels import read_cell_groups
from cellmodel.core.errors import InputUnusable
from genekb.encoders import load_encoder


@pytest.fixture(scope="module")
def wcp():
    """Fitted on what the table says of the types."""
    return load_encoder("wcp-64", corpus=[text for one in read_cell_types() for text in (one.name, one.text)])


def test_every_type_has_one_name_a_tissue_a_definition_and_distinct_markers():
    types = read_cell_types()
    assert len({one.name.lower() for one in types}) == len(types) >= 150
    for one in types:
        assert one.tissue, one.name
        assert one.definition.endswith("."), one.name
        assert 6 <= len(one.genes) == len(set(one.genes)), one.name
        assert not re.search(r"CL:\d|[\t\"]", one.definition + one.ontology_label), one.name


def test_every_label_of_the_ontology_has_one_identifier_and_no_other_type_has_any():
    types = read_cell_types()
    labeled = [one for one in types if one.ontology_label]
    assert len(labeled) >= 150
    for one in labeled:
        assert re.fullmatch(r"CL:\d{7}", one.ontology_id), one.name
    assert not any(one.ontology_id for one in types if not one.ontology_label)
    pairs = {(one.ontology_label, one.ontology_id) for one in labeled}
    assert len(pairs) == len({label for label, _ in pairs}) == len({term for _, term in pairs})


def plural(name):
    """The plural of a name; the noun of "interstitial cell of Cajal" or of a "... cell type 2" is its cell."""
    if name == "spermatogonium":
        return "spermatogonia"
    return re.sub(r"\bcell\b", "cells", name, count=1) if re.search(r"\bcell\b", name) else f"{name}s"


@pytest.mark.parametrize("change", [plural, str.upper, str.lower, str.title, lambda name: name.replace(" ", "-")])
def test_every_name_in_any_number_case_and_hyphenation_has_the_vector_of_the_plain_name(wcp, change):
    names = [one.name for one in read_cell_types()]
    plain, changed = (wcp.encode(each) for each in (names, list(map(change, names))))
    assert plain.n_tokens.min() > 0
    assert changed.vectors.tobytes() == plain.vectors.tobytes()


def test_no_two_types_share_most_of_their_markers():
    types = read_cell_types()
    for place, one in enumerate(types):
        for other in types[:place]:
            shared = set(one.genes) & set(other.genes)
            assert len(shared) <= 0.75 * min(len(one.genes), len(other.genes)), (one.name, other.name)


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


def test_a_users_list_is_read_and_bare_names_of_the_table_bring_what_it_tells(tmp_path):
    (tmp_path / "a.txt").write_text("Podocytes\n\nmy cell\n")
    podocyte, mine = read_candidates(tmp_path / "a.txt")
    assert podocyte.name == "Podocytes"
    assert "NPHS2" in podocyte.genes
    assert mine == CellType(name="my cell")
    assert mine.text == "my cell"
    (tmp_path / "b.csv").write_text('cell_type,genes,definition\npodocyte,"CD3D, CD3E CD3D",\nx,,makes y\n')
    first, second = read_candidates(tmp_path / "b.csv")
    assert first == CellType(name="podocyte", genes=("CD3D", "CD3E"), parent="kidney epithelial cell")
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
