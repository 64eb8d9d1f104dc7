import gzip

import numpy as np
import pytest

from genekb.resolve import count_other_case, measure_coverage, normalise_name, resolve_names
from genekb.sources.ncbi_bulk import read_ncbi_folder


@pytest.fixture(scope="module")
def human(ncbi_folder):
    return read_ncbi_folder(ncbi_folder, taxa=["human"])


@pytest.fixture(scope="module")
def mouse(ncbi_folder):
    return read_ncbi_folder(ncbi_folder, taxa=["mouse"])


def resolve(tables, names, **options):
    return resolve_names(names, name_table=tables.names, gene_ids=tables.genes["gene_id"], **options)


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


@pytest.mark.parametrize(("name", "genes"), [("MEMO1", (7795, 51072)), ("SARS", (6301, 54938)), ("GBA", (2629, 2630))])
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


def test_names_of_another_species_are_recognised_by_case(mouse):
    resolution = resolve(mouse, ["CD3D", "CD19", "GCG", "NOTHING"])
    assert count_other_case(resolution, mouse.names) == 3


@pytest.mark.parametrize(("given", "key"), [("ENSMUSG00000032094.4", "ENSMUSG00000032094"), ("RP11-1.2", "RP11-1.2")])
def test_only_ensembl_versions_are_taken_off(given, key):
    assert normalise_name(given) == key


def test_coverage_counts_genes_and_counts_and_says_why(human):
    resolution = resolve(human, ["CD3D", "T3D", "SARS", "XYZ", "MALAT1"])
    coverage = measure_coverage(
        resolution, has_text=np.array([True, True, False, False, False]), counts=np.array([4.0, 1.0, 2.0, 1.0, 2.0])
    )
    assert (coverage.n_names, coverage.n_resolved, coverage.n_with_text, coverage.n_duplicates) == (5, 3, 2, 1)
    assert coverage.share_genes == pytest.approx(0.4)
    assert coverage.share_counts == pytest.approx(0.5)
    assert sum(count for _, count, _ in coverage.by_status) == 5
    assert [(loss.name, loss.reason) for loss in coverage.losses] == [
        ("SARS", "ambiguous: 6301, 54938"),
        ("MALAT1", "GeneID 378938 has no text in this store"),
        ("XYZ", "unknown to the store"),
    ]


def test_no_current_symbol_is_taken_for_another_gene(real_data):
    tables = read_ncbi_folder(real_data / "ncbi" / "2022-11", taxa=["human"])
    symbols, gene_ids = (tables.genes[name].to_pylist() for name in ("symbol", "gene_id"))
    resolution = resolve(tables, symbols)
    found = resolution.gene_ids
    assert all(got in (0, own) for got, own in zip(found, gene_ids, strict=True))
    assert (resolution.status[found == 0] == "ambiguous").all()
    assert (found > 0).mean() > 0.998


def test_real_renames_between_two_releases_are_followed(real_data):
    def symbols(release):
        with gzip.open(real_data / "ncbi" / release / "Homo_sapiens.gene_info.gz", "rt") as stream:
            rows = (line.split("\t")[:10] for line in stream)
            return {row[1]: row[2] for row in rows if row[0] == "9606" and row[9] == "protein-coding"}

    old, new = symbols("2020-01"), symbols("2022-11")
    renamed = {old[gene]: int(gene) for gene in old.keys() & new.keys() if old[gene] != new[gene]}
    tables = read_ncbi_folder(real_data / "ncbi" / "2022-11", taxa=["human"])
    resolution = resolve(tables, list(renamed))
    wanted = np.array(list(renamed.values()))
    right = resolution.gene_ids == wanted
    ambiguous = resolution.status == "ambiguous"
    assert len(renamed) > 150
    assert (right | ambiguous).mean() > 0.9
    assert right.mean() > 0.85
    followed_elsewhere = ~right & ~ambiguous & resolution.is_resolved
    assert set(resolution.status[followed_elsewhere]) <= {"symbol", "authority_symbol"}
