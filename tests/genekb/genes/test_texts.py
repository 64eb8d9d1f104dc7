import hashlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genekb import schema
from genekb.genes.texts import DEFAULT_TEMPLATE, TEMPLATES, build_texts, find_template, text_id, write_texts
from genekb.sources.ncbi_bulk import read_ncbi_folder
from tests.support import gene_texts

GENE = {
    "gene_id": 1,
    "symbol": "ABC1",
    "name": "a clear name",
    "summary": "It does a thing.",
    "designations": ["other name", "third name"],
    "aliases": ["X1", "X2"],
    "type": "protein-coding",
    "map_location": "1p1",
}


def gene_text(record, template):
    row = {"tax_id": 9606} | record
    return write_texts(pa.Table.from_pylist([row], schema.GENES), template).to_pylist()[0]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("summary", "ABC1: a clear name. It does a thing."),
        ("names", "a clear name. Also: other name; third name."),
        ("symbol", "ABC1."),
        ("full", "ABC1: a clear name. Type: protein-coding. Aliases: X1; X2. Location: 1p1. It does a thing."),
    ],
)
def test_each_template_writes_its_fields_in_order(template, text):
    assert gene_text(GENE, find_template(template)) == text


def test_without_a_summary_other_designations_stand_in():
    assert gene_text(GENE | {"summary": None}, DEFAULT_TEMPLATE) == "ABC1: a clear name. Also: other name; third name."


@pytest.mark.parametrize(
    "name", ["uncharacterized LOC123", "predicted gene 8730", "RIKEN cDNA 0610007P14 gene", None, "ABC1"]
)
def test_a_gene_whose_text_would_say_nothing_has_none(name):
    bare = GENE | {"name": name, "summary": None, "designations": None}
    assert gene_text(bare, DEFAULT_TEMPLATE) is None


def test_an_unknown_template_is_refused():
    with pytest.raises(ValueError, match="'poem' is not one of summary, names, symbol, full"):
        find_template("poem")


def test_template_numbers_and_names_are_distinct():
    assert len({template.number for template in TEMPLATES}) == len({template.name for template in TEMPLATES}) == 9


fields = st.one_of(st.none(), st.just(""), st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1))


@given(name=fields, summary=fields, designations=st.one_of(st.none(), st.lists(st.just("alternative"), max_size=2)))
def test_missing_fields_leave_no_trace(name, summary, designations):
    record = {"gene_id": 1, "symbol": "SYM", "name": name, "summary": summary, "designations": designations}
    text = gene_text(record, DEFAULT_TEMPLATE)
    if text is not None:
        assert "None" not in text.replace(str(name), "").replace(str(summary), "")
        assert "  " not in text
        assert ".." not in text
        assert text == text.strip()


odd = st.one_of(
    st.none(),
    st.sampled_from(
        ["LOC12", "novel gene", "ABC", "a\u00a0b  c\t", " é ", "ends!", "ends.", "x; " * 90, "ü" * 250, ""]
    ),
    st.text(max_size=12),
)
records = st.fixed_dictionaries(
    {"symbol": st.sampled_from(["ABC", "X 1", "LOC12"]), "name": odd, "summary": odd, "type": odd, "map_location": odd}
    | dict.fromkeys(("designations", "aliases"), st.one_of(st.none(), st.lists(odd.filter(bool), max_size=3)))
)


@given(rows=st.lists(records, max_size=6), template=st.sampled_from(TEMPLATES), data=st.data())
def test_texts_of_a_table_are_those_of_its_records_one_by_one(rows, template, data):
    values = st.lists(st.sampled_from(["binding", "a sentence.", "é  è"]), max_size=2)
    lists = st.fixed_dictionaries({}, optional={"go_terms": values, "generifs": values})
    terms = {number: data.draw(lists) for number in range(1, len(rows))}
    full = [{"gene_id": number, "tax_id": 9606} | row for number, row in enumerate(rows)]
    written = write_texts(pa.Table.from_pylist(full, schema.GENES), template, terms).to_pylist()
    assert written == [gene_texts.gene_text(row | terms.get(row["gene_id"], {}), template) for row in full]


def test_text_id_is_the_sha256_of_the_exact_text():
    assert text_id("é") == hashlib.sha256("é".encode()).hexdigest()


def test_summary_of_the_orthologue_stands_in_and_is_marked(ncbi_folder):
    tables = read_ncbi_folder(ncbi_folder, taxa=["mouse"])
    rows = {
        row["gene_id"]: row
        for row in build_texts(tables.genes, tables.orthologs, template=DEFAULT_TEMPLATE).to_pylist()
    }
    assert (rows[12478]["origin"], rows[12478]["origin_gene_id"]) == ("ortholog", 930)
    assert rows[12478]["text"] == (
        "Cd19: CD19 antigen. Coreceptor that lowers the threshold of B cell activation by antigen."
    )
    assert (rows[12500]["origin"], rows[12500]["origin_gene_id"]) == ("own", 12500)


def test_a_human_gene_with_two_mouse_genes_serves_both(ncbi_folder):
    tables = read_ncbi_folder(ncbi_folder, taxa=["mouse"])
    rows = {
        row["gene_id"]: row
        for row in build_texts(tables.genes, tables.orthologs, template=DEFAULT_TEMPLATE).to_pylist()
    }
    assert rows[16333]["origin_gene_id"] == rows[16334]["origin_gene_id"] == 3630


def test_several_orthologues_of_other_symbols_are_not_guessed():
    genes = pa.Table.from_pylist([GENE | {"summary": None, "tax_id": 10090, "symbol": "Abc1"}], schema.GENES)
    pairs = [
        {"gene_id": 1, "ortholog_gene_id": number, "ortholog_symbol": f"ABC{number}", "ortholog_summary": "Text."}
        for number in (7, 8)
    ]
    texts = build_texts(genes, pa.Table.from_pylist(pairs, schema.ORTHOLOGS), template=DEFAULT_TEMPLATE)
    assert texts["origin"].to_pylist() == ["own"]


def test_equal_texts_have_one_id_and_selection_limits_who_gets_one(human):
    texts = build_texts(human.genes, human.orthologs, template=DEFAULT_TEMPLATE, selected={915, 916})
    assert texts["gene_id"].to_pylist() == [915, 916]
