from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genekb import schema
from genekb.core.errors import SchemaMismatch
from genekb.genes.coverage import explain_missing_texts, measure_coverage
from genekb.genes.resolve import RANKS, normalize_name, resolve_names
from genekb.sources.ncbi_bulk import read_ncbi_folder


@pytest.fixture(scope="module")
def mouse(ncbi_folder):
    return read_ncbi_folder(ncbi_folder, taxa=["mouse"])


def resolve(tables, names, **options):
    return resolve_names(names, name_table=tables.names, gene_ids=tables.genes["gene_id"], **options)


def resolve_in(rows, names, *, gene_ids=(), **options):
    """Resolve against a table of (name, GeneID, kind)."""
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    name_table = pa.Table.from_arrays([pa.array(column) for column in columns], names=schema.NAMES.names)
    known = sorted({row[1] for row in rows} | set(gene_ids))
    return resolve_names(
        names, name_table=name_table.cast(schema.NAMES), gene_ids=pa.chunked_array([known], pa.int64()), **options
    )


def found(resolution):
    """Status of each name with its gene, or with its candidates."""
    return [
        (str(status), *resolution.candidates.get(row, (int(gene),)))
        for row, (status, gene) in enumerate(zip(resolution.status, resolution.gene_ids, strict=True))
    ]


@pytest.mark.parametrize(
    ("name", "gene_id", "status"),
    [
        ("CD3D", 915, "symbol"),
        ("915", 915, "gene_id"),
        ("ENSG00000167286", 915, "ensembl"),
        ("ENSG00000167286.12", 915, "ensembl"),
        ("HGNC:1673", 915, "hgnc"),
        ("T3D", 915, "alias"),
        ("MARCH1", 55016, "alias"),
        ("SEPT2", 4735, "alias"),
        ("MT-ND3", 4537, "authority_symbol"),
        (" CD3D ", 915, "symbol"),
    ],
)
def test_every_kind_of_name_is_found(human, name, gene_id, status):
    resolution = resolve(human, [name])
    assert (resolution.gene_ids[0], resolution.status[0]) == (gene_id, status)


@pytest.mark.parametrize(("name", "genes"), [("MEMO1", (7795, 51072))])
def test_what_could_be_several_genes_is_reported_and_not_guessed(human, name, genes):
    resolution = resolve(human, ["CD3D", name])
    assert resolution.status[1] == "ambiguous"
    assert resolution.candidates == {1: genes}
    assert not resolution.is_resolved[1]


def test_before_the_rename_the_old_symbol_was_current(old_ncbi_folder):
    old = read_ncbi_folder(old_ncbi_folder, taxa=["human"])
    resolution = resolve(old, ["GBA", "GBAP1"])
    assert list(zip(resolution.gene_ids, resolution.status, strict=True)) == [(2629, "symbol"), (2630, "symbol")]


@pytest.mark.parametrize("name", ["cd3d", "Cd3d", "CD3", "", "RP11-782C8.1", "0", "-5", "99999999"])
def test_case_matters_and_nothing_is_found_by_likeness(human, name):
    assert resolve(human, [name]).status[0] == "unknown"


def test_orthologues_stand_in_only_when_asked(mouse):
    assert resolve(mouse, ["CD3D"]).status[0] == "unknown"
    found = resolve(mouse, ["CD3D"], use_orthologs=True)
    assert (found.gene_ids[0], found.status[0]) == (12500, "ortholog")
    assert resolve(mouse, ["INS"], use_orthologs=True).candidates == {0: (16333, 16334)}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("ENSMUSG00000032094.4", "ENSMUSG00000032094"),
        ("ENSDARG00000000001.7", "ENSDARG00000000001"),
        ("ENSG00000182378.13_PAR_Y", "ENSG00000182378"),
        ("ENSG00000182378_PAR_Y", "ENSG00000182378"),
        ("ENSGR0000182378.10", "ENSG00000182378"),
        ("ENSG00000223972.5_2", "ENSG00000223972"),
        ("RP11-1.2", "RP11-1.2"),
        ("AC004556.1", "AC004556.1"),
        ("ENST00000456328.2", "ENST00000456328.2"),
        ("FBgn0000003", "FBgn0000003"),
    ],
)
def test_only_ensembl_versions_are_taken_off(name, key):
    assert normalize_name(name) == key


RETIRED = [
    ("SELENOF", 9403, "symbol"), ("SEP15", 9403, "retired_symbol"), ("77", 9403, "retired_id"),
    ("NEW1", 1, "symbol"), ("OLD", 1, "retired_symbol"), ("OLD", 3, "alias"), ("NEW2", 2, "symbol"),
    ("NEW1", 2, "retired_symbol"), ("SPLIT", 1, "retired_symbol"), ("SPLIT", 2, "retired_symbol"),
    ("78", 1, "retired_id"), ("78", 2, "retired_id"), ("9403", 2, "retired_id"), ("77", 3, "alias"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("SEP15", ("retired_symbol", 9403)),
        ("77", ("retired_id", 9403)),
        ("OLD", ("retired_symbol", 1)),  # which is NEW1, and no further
        ("NEW1", ("symbol", 1)),  # it was also the symbol of gene 2
        ("9403", ("gene_id", 9403)),
        ("SPLIT", ("ambiguous", 1, 2)),
        ("78", ("ambiguous", 1, 2)),
    ],
)
def test_what_is_retired_is_followed_once_and_never_before_what_is_current(name, result):
    assert found(resolve_in(RETIRED, [name])) == [result]


def test_the_placeholder_symbol_of_a_gene_is_known_after_it_got_another():
    rows = [("NEW", 100132707, "symbol"), ("LOC5", 5, "symbol"), ("LOC5", 6, "retired_symbol"), ("LOC7", 8, "symbol")]
    names = ["LOC100132707", "LOC5", "LOC7", "LOC9", "loc100132707", "LOC0100132707"]
    expected = [("retired_symbol", 100132707), ("symbol", 5), ("symbol", 8), *[("unknown", 0)] * 3]
    assert found(resolve_in(rows, names, gene_ids=[7])) == expected


def test_a_kind_of_name_that_is_not_known_is_an_error_and_not_a_loss():
    with pytest.raises(SchemaMismatch, match=r"names of kind barcode are unknown .*update genekb"):
        resolve_in([("A", 1, "barcode")], ["A"])


DATED = [
    ("MARCHF1", 55016, "symbol"), ("MARCH1", 55016, "alias"), ("MTARC1", 64757, "symbol"),
    ("MARCHF3", 115123, "symbol"),
    ("SEPTIN2", 4735, "symbol"), ("SEPT2", 4735, "alias"), ("SEPT2", 23157, "alias"), ("SEPTIN1", 1731, "symbol"),
    ("DELEC1", 50514, "symbol"), ("DEC1", 50514, "alias"), ("DEC1", 8553, "alias"), ("SEP15", 9403, "alias"),
    ("OCT1", 5451, "alias"), ("OCT1", 6580, "alias"), ("SEPTIN12", 124404, "symbol"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["2-Sep", "Sep-2", "02-Sep", "Sep-02", "2-Sept", "2.sep", "X2.Sep", "2011-09-02"])
def test_a_date_stands_for_the_gene_that_it_was(name):
    assert found(resolve_in(DATED, [name])) == [("date", 4735)]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("1-Mar", ("ambiguous", 55016, 64757)),  # MARCHF1 and MTARC1 both were March 1
        ("2001-03-01 00:00:00", ("ambiguous", 55016, 64757)),
        ("3-Mar", ("date", 115123)),
        ("1-Dec", ("date", 50514)),
        ("15-Sep", ("date", 9403)),
        ("1-Oct", ("ambiguous", 5451, 6580)),
        ("2012-09-01", ("ambiguous", 1731, 124404)),  # September 1, or September 2012
        ("4-Jul", ("unknown", 0)),
        ("40-Mar", ("unknown", 0)),
        ("2011-09-31", ("unknown", 0)),
        ("Mar-1-3", ("unknown", 0)),
    ],
)
def test_a_date_that_could_be_several_genes_is_reported_and_any_other_is_unknown(name, result):
    assert found(resolve_in(DATED, [name])) == [result]


def test_dates_of_mouse_genes_have_their_spelling():
    rows = [("Marchf4", 381270, "symbol"), ("Septin4", 18952, "symbol"), ("Sept2", 18000, "alias")]
    expected = [("date", 381270), ("date", 18952), ("date", 18000)]
    assert found(resolve_in(rows, ["4-Mar", "4-Sep", "2-Sep"])) == expected


def test_numbers_are_dates_only_if_all_are_days_of_one_year():
    serials = ["41154", "40971"]  # 2 September and 3 March 2012
    assert found(resolve_in(DATED, serials)) == [("date", 4735), ("date", 115123)]
    for others in ([], ["36588"], ["41120"], ["123456"]):  # none; another year; another month; a GeneID
        assert found(resolve_in(DATED, ["41154", *others]))[0] == ("unknown", 0)
    assert found(resolve_in(DATED, serials, gene_ids=[41154])) == [("gene_id", 41154), ("unknown", 0)]


def test_a_known_name_is_no_date():
    rows = [*DATED, ("Sep-2", 7, "alias")]
    assert found(resolve_in(rows, ["Sep-2", "Sep.2"])) == [("alias", 7), ("mangled", 7)]


@pytest.mark.parametrize("name", ["mt-Co1", "MT-Co1", "mt.Co1", "MTCO1", "mt_co1", "Mt:CO1"])
def test_the_mitochondrial_prefix_may_be_written_in_any_way(name):
    rows = [("COX1", 4512, "symbol"), ("MT-CO1", 4512, "authority_symbol"), ("MTOR", 2475, "symbol")]
    assert found(resolve_in(rows, [name, "MT-OR", "MT-CO9"])) == [
        ("mitochondrial", 4512),
        ("unknown", 0),
        ("unknown", 0),
    ]


def test_a_nuclear_gene_is_never_taken_for_a_mitochondrial_one():
    rows = [("MTTP", 4547, "symbol"), ("TRNP", 4571, "symbol"), ("MT-TP", 4571, "authority_symbol")]
    assert found(resolve_in(rows, ["MTTP", "MT-TP", "mt-Tp"])) == [
        ("symbol", 4547), ("authority_symbol", 4571), ("mitochondrial", 4571),
    ]  # fmt: skip


def test_without_an_authority_mitochondrial_proteins_have_the_symbols_of_ncbi():
    rows = [("COX2", 1, "symbol"), ("CYTB", 2, "symbol"), ("PTGS2", 3, "symbol"), ("RNR1", 4, "symbol")]
    expected = [("mitochondrial", 1), ("mitochondrial", 2), ("unknown", 0)]
    assert found(resolve_in(rows, ["MT-CO2", "mt-Cytb", "MT-RNR1"])) == expected


def test_a_nuclear_gene_with_the_alias_of_a_mitochondrial_one_does_not_stand_in():
    rows = [("PTGS2", 5743, "symbol"), ("COX2", 5743, "alias")]
    assert found(resolve_in(rows, ["MT-CO2", "COX2"])) == [("unknown", 0), ("alias", 5743)]


def test_another_spelling_of_a_mitochondrial_gene_is_found_beside_the_authority_s():
    rows = [("CYTB", 17711, "symbol"), ("mt-Cytb", 17711, "authority_symbol")]
    assert found(resolve_in(rows, ["mt-Cyb", "MT-CYB", "MT-CYTB"])) == [("mitochondrial", 17711)] * 3


RENAMED = [
    ("HLA-DRA", 3122, "symbol"), ("5S_rRNA", 1, "alias"), ("0610007P14Rik", 2, "symbol"), ("NKX2-1", 7080, "symbol"),
    ("A-B", 3, "symbol"), ("A/B", 4, "symbol"), ("MATR3", 9782, "symbol"), ("AC004556.1", 5, "alias"),
    ("915", 6, "alias"), ("MIR1184-1", 7, "symbol"), ("MIR1184", 7, "alias"), ("AC004556", 8, "alias"),
    ("SARS", 9, "alias"), ("SARS", 10, "alias"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("HLA.DRA", ("mangled", 3122)),
        ("X5S_rRNA", ("mangled", 1)),
        ("X0610007P14Rik", ("mangled", 2)),
        ("NKX2.1", ("mangled", 7080)),
        ("A.B", ("ambiguous", 3, 4)),
        ("HLA_DRA", ("unknown", 0)),  # R leaves _ as it is, so this is not its work
        ("hla.dra", ("unknown", 0)),
        ("X915", ("unknown", 0)),
        ("RP11-34P13.7", ("unknown", 0)),
    ],
)
def test_names_that_r_made_valid_are_read_back(name, result):
    assert found(resolve_in(RENAMED, [name])) == [result]


def test_a_numbered_copy_needs_the_name_that_it_copies():
    names = [
        "MATR3",
        "MATR3.1",
        "MATR3-2",
        "SARS",
        "SARS.1",
        "NKX2",
        "NKX2-1",
        "AC004556",
        "AC004556.1",
        "zzz",
        "zzz.1",
    ]
    copies = dict(zip(names, found(resolve_in(RENAMED, names)), strict=True))
    assert copies["MATR3.1"] == copies["MATR3-2"] == ("mangled", 9782)
    assert copies["SARS.1"] == ("ambiguous", 9, 10)
    assert (copies["NKX2-1"], copies["AC004556.1"]) == (("symbol", 7080), ("alias", 5))
    assert copies["zzz.1"] == ("unknown", 0)
    assert found(resolve_in(RENAMED, ["MATR3.1"])) == [("unknown", 0)]


def test_a_member_of_a_family_is_no_copy():
    assert found(resolve_in(RENAMED, ["MIR1184", "MIR1184-2"])) == [("alias", 7), ("unknown", 0)]


def test_copies_count_as_duplicates():
    resolution = resolve_in(RENAMED, ["MATR3", "MATR3.1"])
    coverage = measure_coverage(resolution, has_text=np.array([True, True]), counts=np.array([3.0, 1.0]))
    assert coverage.n_duplicates == 1
    assert coverage.by_status == (("symbol", 1, 0.75), ("mangled", 1, 0.25))


GIVEN = ["A", "B", "A-1", "A.1", "A-2", "7", "3", "MARCHF1", "1-Mar", "MT-CO1", "mt.Co1", "36951", "X7A", "7A", "ENSG1"]
REPAIRED = {"mitochondrial", "date", "mangled"}
KINDS = sorted(RANKS.keys() - REPAIRED - {"gene_id"})
table_rows = st.tuples(st.sampled_from(GIVEN), st.integers(1, 4), st.sampled_from(KINDS))
tables = st.lists(table_rows, max_size=12, unique=True)
given_names = st.lists(st.sampled_from(GIVEN), max_size=10)


@given(rows=tables, names=given_names, data=st.data())
def test_no_result_depends_on_the_order_of_names_or_of_rows(rows, names, data):
    order = data.draw(st.permutations(range(len(names))))
    shuffled_rows = data.draw(st.permutations(rows))
    first = found(resolve_in(rows, names))
    second = found(resolve_in(shuffled_rows, [names[row] for row in order]))
    assert second == [first[row] for row in order]


@given(rows=tables, names=given_names, more=tables)
def test_no_other_name_of_another_gene_changes_what_a_current_symbol_stands_for(rows, names, more):
    other = [(name, gene, kind) for name, gene, kind in more if kind in {"alias", "retired_symbol", "retired_id"}]
    symbols = [name for name in names if any(name == row[0] and row[2] == "symbol" for row in rows)]
    genes = range(1, 5)
    before = resolve_in(rows, symbols, gene_ids=genes)
    assert found(resolve_in([*rows, *other], symbols, gene_ids=genes)) == found(before)


@given(rows=tables, names=given_names)
def test_what_is_a_name_is_never_repaired(rows, names):
    known = {name for name, _, kind in rows if kind != "ortholog"}
    for name, (status, *_) in zip(names, found(resolve_in(rows, names)), strict=True):
        assert name not in known or status not in {"unknown", *REPAIRED}


def test_a_loss_says_why_the_gene_has_no_text(human):
    names = ["MALAT1", "NOT-A-GENE", "ERCC-00002"]
    coverage = measure_coverage(
        resolve(human, names),
        has_text=np.array([False, False, False]),
        explain=partial(explain_missing_texts, genes=human.genes),
    )
    assert [loss.reason for loss in coverage.losses] == [
        "GeneID 378938 (type ncRNA) was not selected", "unknown to the store", "spike-in control, not a gene",
    ]  # fmt: skip
    record = {name: [None] for name in schema.GENES.names} | {"gene_id": [7], "tax_id": [9606], "symbol": ["LOC7"]}
    genes = pa.table({name: pa.array(record[name], schema.GENES.field(name).type) for name in schema.GENES.names})
    assert explain_missing_texts([7], genes=genes) == {
        7: "GeneID 7 (type unknown) has no informative name or summary or designations"
    }


def test_a_name_of_several_genes_is_that_of_the_renamed_one_or_of_the_one_that_no_other_name_has(human):
    for name, gene in (("SARS", 6301), ("GBA", 2629)):  # SARS1, GBA1
        assert found(resolve(human, [name])) == [("alias", gene)]
    rows = [("TAZ", 6901, "alias"), ("TAZ", 25937, "alias"), ("WWTR1", 25937, "symbol"), ("TAFAZZIN", 6901, "symbol")]
    assert found(resolve_in(rows, ["TAZ", "WWTR1"])) == [("alias", 6901), ("symbol", 25937)]
    assert found(resolve_in(rows, ["TAZ", "WWTR1", "TAFAZZIN"]))[0] == ("ambiguous", 6901, 25937)
    twice = found(resolve_in([*rows, ("ZAT", 6901, "alias"), ("ZAT", 25937, "alias")], ["TAZ", "ZAT", "WWTR1"]))
    assert [status for status, *_ in twice] == ["ambiguous", "ambiguous", "symbol"]


def test_coverage_counts_genes_and_counts_and_says_why(human):
    resolution = resolve(human, ["CD3D", "T3D", "MEMO1", "XYZ", "MALAT1"])
    coverage = measure_coverage(
        resolution, has_text=np.array([True, True, False, False, False]), counts=np.array([4.0, 1.0, 2.0, 1.0, 2.0])
    )
    assert (coverage.n_names, coverage.n_resolved, coverage.n_with_text, coverage.n_duplicates) == (5, 3, 2, 1)
    assert coverage.share_genes == pytest.approx(0.4)
    assert coverage.share_counts == pytest.approx(0.5)
    assert sum(count for _, count, _ in coverage.by_status) == 5
    assert [(loss.name, loss.reason) for loss in coverage.losses] == [
        ("MEMO1", "ambiguous: 7795, 51072"),
        ("MALAT1", "GeneID 378938 has no text in this store"),
        ("XYZ", "unknown to the store"),
    ]
