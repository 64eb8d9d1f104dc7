"""Genes of several data sets: matched by name, by id and by orthologues; the set that does not fit is named."""

import gzip
from pathlib import Path

import numpy as np
import pytest

import genekb
from cellmodel.core.errors import AlignmentTooLow
from cellmodel.pp.gene_match import GeneTable, match_genes

N = 120
HEADER = (Path(__file__).parents[2] / "data/ncbi/human_gene_info_2022-11.tsv").read_text().split("\n")[0]


def write_species(folder, species, tax_id, stem, *, first_id, ensembl):
    rows = [
        f"{tax_id}\t{first_id + i}\t{stem}{i}\t-\tOLD{stem}{i}\tEnsembl:{ensembl}{i:011d}\t1\t1p1\tprotein {i}"
        f"\tprotein-coding\t{stem}{i}\t-\tO\t-\t20221106\t-"
        for i in range(N)
    ]
    with gzip.open(folder / f"{species}.gene_info.gz", "wt") as stream:
        stream.write("\n".join([HEADER, *rows, ""]))


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A store of human, one of mouse, and one of both; all but ten genes have an orthologue."""
    folder = tmp_path_factory.mktemp("ncbi") / "2022-11"
    folder.mkdir()
    write_species(folder, "Homo_sapiens", 9606, "HUM", first_id=1000, ensembl="ENSG")
    write_species(folder, "Mus_musculus", 10090, "Mou", first_id=5000, ensembl="ENSMUSG")
    with gzip.open(folder / "gene_orthologs.gz", "wt") as stream:
        stream.write("#tax_id\tGeneID\trelationship\tOther_tax_id\tOther_GeneID\n")
        stream.writelines(f"9606\t{1000 + i}\tOrtholog\t10090\t{5000 + i}\n" for i in range(10, N))
    found = {}
    for name, taxa in {"human": ["human"], "mouse": ["mouse"], "both": ["human", "mouse"]}.items():
        config = genekb.BuildConfig(name=name, models=("hash-16",))
        source = genekb.read_ncbi_folder(folder, taxa=taxa)
        found[name] = genekb.open(genekb.build(source, config, home=folder.parent).folder)
    return found


def table(source, names, totals=None):
    return GeneTable(source=source, names=tuple(names), totals=np.ones(len(names)) if totals is None else totals)


def symbols(numbers, stem="HUM"):
    return [f"{stem}{i}" for i in numbers]


def test_symbols_ensembl_ncbi_ids_and_older_symbols_are_one_gene_each(stores):
    order = np.random.default_rng(0).permutation(N)
    sets = [
        table("a", symbols(range(N))),
        table("b", [f"ENSG{i:011d}.{i % 4 + 1}" for i in order]),
        table("c", [str(1000 + i) for i in order[::-1]]),
        table("d", [f"OLDHUM{i}" for i in range(N - 5)]),
    ]
    found = match_genes(sets, stores["human"])
    assert found.names == tuple(symbols(range(N - 5)))
    assert found.n_by_id == N - 5
    for each, columns in zip(sets, found.columns, strict=True):
        ids = stores["human"].resolve([each.names[column] for column in columns]).gene_ids
        np.testing.assert_array_equal(ids, 1000 + np.arange(N - 5))


def test_equal_names_are_kept_in_the_order_of_the_first_set_with_repeated_and_unknown_ones(stores):
    names = [*symbols(range(60)), "novel", "HUM3", "OLDHUM3"]
    first = match_genes([table("a", names), table("b", names[::-1])], stores["human"])
    assert first.names == tuple(names)
    assert [names[::-1][column] for column in first.columns[1]] == names
    assert first.n_by_id == 0
    assert (first.n_resolved, first.species) == ((len(names) - 1,) * 2, ("human",) * 2)
    by_name = match_genes([table("a", names), table("b", names)], None)
    assert (by_name.names, by_name.n_resolved, by_name.species) == (tuple(names), (), ())


@pytest.mark.parametrize(
    ("columns", "totals", "other", "chosen"),
    [
        (["OLDHUM100", "HUM100"], [5, 1], "1100", 0),
        (["OLDHUM100", "HUM100"], [1, 5], "1100", 1),
        (["HUM100", "OLDHUM100"], [1, 1], "HUM100", 0),
        (["HUM100", "OLDHUM100"], [0, 5], "HUM100", 1),
    ],
)
def test_of_several_columns_of_a_gene_that_with_the_highest_total_is_taken(stores, columns, totals, other, chosen):
    shared = symbols(range(60))
    sets = [table("a", [*shared, *columns], np.r_[np.ones(60), totals]), table("b", [*shared, other])]
    found = match_genes(sets, stores["human"])
    assert found.names == (*shared, "HUM100")
    assert found.columns[0].tolist() == [*range(60), 60 + chosen]


def test_two_species_are_matched_by_orthologues_of_a_store_of_both_or_of_the_other(stores):
    human = table("human.h5ad", symbols(range(N)))
    mouse = table("mouse.h5ad", symbols(range(N), "Mou"))
    both = match_genes([human, mouse], stores["both"])
    assert both.names == tuple(symbols(range(10, N)))
    assert both.by_ortholog == (False, True)
    assert (both.n_resolved, both.species) == ((N, N), ("human", "mouse"))
    by_mouse = match_genes([human, mouse], stores["mouse"])
    assert by_mouse.names == tuple(symbols(range(10, N), "Mou"))
    assert by_mouse.by_ortholog == (True, False)
    assert (by_mouse.n_resolved, by_mouse.species) == ((N - 10, N), ("human", "mouse"))
    for found in (both, by_mouse):
        assert found.columns[0].tolist() == found.columns[1].tolist() == list(range(10, N))


def test_a_species_that_the_store_cannot_match_is_named_with_the_way_out(stores):
    human = table("human.h5ad", [f"ENSG{i:011d}" for i in range(N)])
    mouse = table("mouse.h5ad", [f"ENSMUSG{i:011d}" for i in range(N)])
    with pytest.raises(
        AlignmentTooLow, match=r"mouse\.h5ad: .*look like mouse.*give a store of both species"
    ) as caught:
        match_genes([human, mouse], stores["human"])
    assert "\n" not in str(caught.value)


def test_sets_without_shared_genes_are_refused_and_the_one_that_does_not_fit_is_named(stores):
    sets = [table("a", symbols(range(N))), table("b", symbols(range(5, N))), table("c", [f"x{i}" for i in range(N)])]
    with pytest.raises(AlignmentTooLow, match=r"c and a and b share 0 genes \(x0, .*50 are needed; .*leave c out"):
        match_genes(sets, stores["human"])
    with pytest.raises(AlignmentTooLow, match=r"share 0 genes .*give a store \(`kb`\)"):
        match_genes([sets[0], table("e", [f"ENSG{i:011d}" for i in range(N)])], None)
    assert len(match_genes([table("p", symbols(range(12))), sets[0]], None).names) == 12  # a small panel


def test_genes_without_names_are_refused():
    numbered = table("numbers.h5ad", [str(i) for i in range(N)])
    with pytest.raises(AlignmentTooLow, match=r"numbers\.h5ad: the genes are numbered .*gene_key"):
        match_genes([numbered, numbered], None)
