import pyarrow as pa
import pytest

from genekb import schema
from genekb.core.errors import CoverageTooLow, SpeciesMismatch
from genekb.genes.resolve import resolve_names
from genekb.genes.species import check_species, count_other_case, guess_species
from genekb.sources.ncbi_bulk import read_ncbi_folder

MOUSE_NAMES = [f"Gene{letter}{number}" for letter in "abcdef" for number in range(10)]
HUMAN_NAMES = [name.upper() for name in MOUSE_NAMES]


def name_table_of(names, kind="symbol"):
    rows = {"name": names, "gene_id": range(1, len(names) + 1), "kind": [kind] * len(names)}
    return pa.table({name: pa.array(list(column)) for name, column in rows.items()}).cast(schema.NAMES)


def check(names, table, taxa, **options):
    resolution = resolve_names(names, name_table=table, gene_ids=pa.chunked_array([[1]], pa.int64()), **options)
    check_species(resolution, store_taxa=taxa, name_table=table)


@pytest.mark.parametrize(
    ("names", "guess"),
    [
        ([f"ENSMUSG{number:011}.2" for number in range(30)], (10090,)),
        ([f"FBgn{number:07}" for number in range(30)], (7227,)),
        ([f"Y{letter}R{number:03}W" for letter in "ABC" for number in range(10)], (4932, 559292)),
        (MOUSE_NAMES, (10090, 10116)),
        (HUMAN_NAMES, (9606, 9031, 9823, 9598, 9544, 9541, 9483)),
        (MOUSE_NAMES[:30] + HUMAN_NAMES[30:], None),
        ([f"ENSG{n:011}" for n in range(30)] + [f"ENSMUSG{n:011}" for n in range(30)], None),
        (MOUSE_NAMES[:19], None),
        ([f"g{number}" for number in range(500)], None),
        ([], None),
    ],
)
def test_a_species_is_guessed_by_prefix_or_letters_or_not_at_all(names, guess):
    result = guess_species(names, name_table=name_table_of(MOUSE_NAMES))
    assert (result and result.tax_ids) == guess
    n_names = len(set(names))
    assert result is None or result.evidence.startswith(f"{n_names} of {n_names} ")


def test_names_of_another_species_are_refused_with_the_shares_and_the_way_out():
    message = (
        r"look like mouse or rat \(60 of 60 symbols are written as Cd3d is\), the store is of human \(tax_id 9606\): "
        r"0 of 60 \(0.0%\) are names in it, 60 \(100.0%\) would be if case were ignored; use a store of mouse or rat"
    )
    with pytest.raises(SpeciesMismatch, match=message) as caught:
        check(MOUSE_NAMES, name_table_of(HUMAN_NAMES), [9606])
    assert isinstance(caught.value, CoverageTooLow)
    assert "orthologs" not in str(caught.value)
    with pytest.raises(SpeciesMismatch, match="30 of 30 identifiers have the prefix of mouse"):
        check([f"ENSMUSG{number:011}" for number in range(30)], name_table_of(HUMAN_NAMES), [9606])


def test_orthologues_are_the_way_out_where_the_store_has_them():
    table = pa.concat_tables([name_table_of(MOUSE_NAMES), name_table_of(HUMAN_NAMES, kind="ortholog")])
    with pytest.raises(SpeciesMismatch, match="or orthologs=True"):
        check(HUMAN_NAMES, table, [10090])
    check(HUMAN_NAMES, table, [10090], use_orthologs=True)


def test_enough_names_as_they_stand_outweigh_those_in_another_case():
    aliases = [f"ALIAS{number}" for number in range(15)]
    table = pa.concat_tables([name_table_of(HUMAN_NAMES), name_table_of(aliases, kind="alias")])
    junk = [f"?{number}" for number in range(65)]
    check(aliases + MOUSE_NAMES[:20] + junk, table, [9606])
    with pytest.raises(SpeciesMismatch):
        check(aliases[:3] + MOUSE_NAMES[:20] + junk, table, [9606])


@pytest.mark.parametrize(
    ("names", "taxa"),
    [
        (HUMAN_NAMES, [9606]),
        (MOUSE_NAMES[:19], [9606]),
        (MOUSE_NAMES, [9606, 10090]),
        (MOUSE_NAMES + HUMAN_NAMES, [9606]),
        ([f"g{number}" for number in range(500)], [9606]),
        ([f"ENSG{number:011}" for number in range(500)], [9606]),
        ([], [9606]),
    ],
)
def test_names_that_prove_nothing_pass(names, taxa):
    check(names, name_table_of(HUMAN_NAMES), taxa)


def test_names_of_another_species_are_recognized_by_case(ncbi_folder):
    mouse = read_ncbi_folder(ncbi_folder, taxa=["mouse"])
    names = ["CD3D", "CD19", "GCG", "NOTHING"]
    resolution = resolve_names(names, name_table=mouse.names, gene_ids=mouse.genes["gene_id"])
    assert count_other_case(resolution, mouse.names) == 3
