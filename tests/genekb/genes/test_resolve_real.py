"""The resolver on real releases of NCBI Gene: what is current stays what it is, what was renamed is followed."""

import csv
import gzip
from collections import Counter
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest

from genekb import schema
from genekb.core.errors import SpeciesMismatch
from genekb.genes import antibodies
from genekb.genes.resolve import resolve_names
from genekb.genes.species import check_species, guess_species
from genekb.sources.ncbi_bulk import read_ncbi_folder

pytestmark = pytest.mark.slow
# Genes whose current symbol another gene of the release has too: tRNAs, loci of disorders, mouse translocations.
N_SHARED = {
    ("2020-01", "human"): 55, ("2020-01", "mouse"): 562, ("2021-07", "human"): 17, ("2021-07", "mouse"): 563,
    ("2021-07", "fly"): 0, ("2022-11", "human"): 122, ("2022-11", "mouse"): 563,
}  # fmt: skip
SETS = [
    ("scrna/baron_cross_species_350", "human"), ("scrna/darmanis", "human"), ("scrna/kang_ifnb_2800", "human"),
    ("scrna/segerstolpe_hvg2000", "human"), ("spatial/dlpfc_151673", "human"), ("bad/not_counts_rpkm", "human"),
    ("scrna/baron_mouse", "mouse"), ("scrna/paul15_2660", "mouse"), ("scrna/usoskin_150", "mouse"),
    ("scrna/zeisel_1464x1000", "mouse"),
]  # fmt: skip
TAX_IDS = {"human": 9606, "mouse": 10090}


@cache
def read(folder, taxon):
    return read_ncbi_folder(folder, taxa=[taxon])


@pytest.fixture
def release(real_data):
    return lambda name, taxon: read(real_data / "ncbi" / name, taxon)


def resolve(tables, names, *, more=None):
    name_table = tables.names if more is None else pa.concat_tables([tables.names, more])
    return resolve_names(names, name_table=name_table, gene_ids=tables.genes["gene_id"])


def gene_names(path):
    with h5py.File(path) as file:
        var = file["var"]
        return var[var.attrs["_index"]].asstr()[:].tolist()


@cache
def hgnc_names(path):
    """Aliases and previous symbols of HGNC's complete set; some rows of the file have more columns than its header."""
    rows = []
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            for column, kind in (("alias_symbol", "alias"), ("prev_symbol", "retired_symbol")):
                if (row["entrez_id"] or "").isdigit():
                    rows += [(name, int(row["entrez_id"]), kind) for name in filter(None, row[column].split("|"))]
    columns = zip(*rows, strict=True)
    return pa.Table.from_arrays([pa.array(column) for column in columns], names=schema.NAMES.names).cast(schema.NAMES)


@pytest.mark.parametrize(("name", "taxon"), N_SHARED)
def test_every_current_symbol_is_its_own_gene_or_shared_by_two(release, real_data, name, taxon):
    tables = release(name, taxon)
    symbols, gene_ids = (tables.genes[column].to_pylist() for column in ("symbol", "gene_id"))
    shared = {symbol for symbol, count in Counter(symbols).items() if count > 1}
    more = hgnc_names(real_data / "ncbi" / "other" / "hgnc_complete_set.txt.gz") if taxon == "human" else None
    for names in (None, more):
        resolution = resolve(tables, symbols, more=names)
        expected = np.where([symbol in shared for symbol in symbols], 0, gene_ids)
        assert (resolution.gene_ids == expected).all()
        assert set(resolution.status.tolist()) <= {"symbol", "ambiguous"}
        assert (resolution.status == "ambiguous").sum() == N_SHARED[name, taxon]


@pytest.mark.parametrize(
    ("gene_type", "with_hgnc", "share"),
    [(None, False, 0.97), (None, True, 0.98), ("protein-coding", False, 0.95), ("protein-coding", True, 0.985)],
)
def test_what_was_renamed_between_two_releases_is_followed(release, real_data, gene_type, with_hgnc, share):
    old, new = (release(name, "human").genes for name in ("2020-01", "2022-11"))
    now = dict(zip(new["gene_id"].to_pylist(), new["symbol"].to_pylist(), strict=True))
    rows = zip(*(old[column].to_pylist() for column in ("gene_id", "symbol", "type")), strict=True)
    renamed = {
        gene: symbol
        for gene, symbol, own_type in rows
        if now.get(gene, symbol) != symbol and gene_type in {None, own_type}
    }
    more = hgnc_names(real_data / "ncbi" / "other" / "hgnc_complete_set.txt.gz") if with_hgnc else None
    resolution = resolve(release("2022-11", "human"), list(renamed.values()), more=more)
    right = resolution.gene_ids == np.array(list(renamed))
    assert len(renamed) == (1717 if gene_type is None else 279)
    assert right.mean() > share
    # The other genes that an old symbol leads to have it as their current symbol: it was given to them.
    assert set(resolution.status[resolution.is_resolved & ~right].tolist()) <= {"symbol"}


def test_gene_ids_of_an_old_release_are_themselves_or_unknown(release):
    old = release("2020-01", "human").genes["gene_id"].to_pylist()
    new = set(release("2022-11", "human").genes["gene_id"].to_pylist())
    resolution = resolve(release("2022-11", "human"), list(map(str, old)))
    assert resolution.gene_ids.tolist() == [gene if gene in new else 0 for gene in old]
    assert set(resolution.status.tolist()) == {"gene_id", "unknown"}


@pytest.mark.parametrize(("file", "taxon"), SETS)
def test_cells_pass_their_own_species_and_are_refused_by_the_other(release, real_data, file, taxon):
    names = gene_names(real_data / f"{file}.h5ad")
    other = {"human": "mouse", "mouse": "human"}[taxon]
    for store in (taxon, other):
        tables = release("2022-11", store)
        assert TAX_IDS[taxon] in guess_species(names, name_table=tables.names).tax_ids
        check_species(resolve(tables, names), store_taxa=TAX_IDS.values(), name_table=tables.names)
    own = release("2022-11", taxon)
    check_species(resolve(own, names), store_taxa=[TAX_IDS[taxon]], name_table=own.names)
    with pytest.raises(SpeciesMismatch, match=f"the store is of {other}"):
        check_species(resolve(tables, names), store_taxa=[TAX_IDS[other]], name_table=tables.names)


def test_nothing_tells_the_species_of_made_up_names(release, real_data):
    names = gene_names(real_data / "bad" / "no_gene_names.h5ad")
    tables = release("2022-11", "human")
    assert guess_species(names, name_table=tables.names) is None
    check_species(resolve(tables, names), store_taxa=[9606], name_table=tables.names)


@pytest.mark.parametrize(
    ("file", "taxon", "found", "ambiguous"),
    [
        ("scrna/usoskin_150", "mouse", 24, {"2-Mar", "40970"}),
        ("scrna/zeisel_1464x1000", "mouse", 2, set()),
        ("bad/not_counts_rpkm", "human", 26, set()),
    ],
)
def test_dates_in_real_cells_are_septins_and_their_like(release, real_data, file, taxon, found, ambiguous):
    tables = release("2022-11", taxon)
    resolution = resolve(tables, gene_names(real_data / f"{file}.h5ad"))
    symbols = dict(zip(tables.genes["gene_id"].to_pylist(), tables.genes["symbol"].to_pylist(), strict=True))
    dates = {symbols[gene].rstrip("0123456789").upper() for gene in resolution.gene_ids[resolution.status == "date"]}
    assert (resolution.status == "date").sum() == found
    assert dates <= {"SEPTIN", "MARCHF", "DELEC", "SELENOF"}
    assert ambiguous <= {resolution.names[row] for row in resolution.candidates}


def test_clone_names_stay_what_they_are(release, real_data):
    names = gene_names(real_data / "scrna" / "pbmc3k.h5ad")
    resolution = resolve(release("2022-11", "human"), names)
    repaired = {name for name, status in zip(names, resolution.status, strict=True) if status == "mangled"}
    assert repaired == {"CRYBG3.1", "CRIP1.1", "NAA60.1", "RBL1.1", "PNRC2.1", "SRSF10.1"}


@pytest.mark.parametrize(("taxon", "prefix"), [("human", "MT-"), ("mouse", "mt-")])
def test_mitochondrial_symbols_are_found_however_the_prefix_is_written(release, taxon, prefix):
    tables = release("2022-11", taxon)
    names = tables.names
    official = {
        name: gene
        for name, gene, kind in zip(*(names[column].to_pylist() for column in schema.NAMES.names), strict=True)
        if name.startswith(prefix) and kind in {"symbol", "authority_symbol"}
    }
    assert len(official) == 37
    for written in (str, str.upper, str.lower, str.title, lambda name: name.replace("-", ".")):
        resolution = resolve(tables, [written(name) for name in official])
        assert resolution.gene_ids.tolist() == list(official.values())


def test_every_antigen_is_a_current_symbol(release):
    path = Path(antibodies.__file__).with_name("antibodies.tsv")
    rows = [line.split("\t") for line in path.read_text().splitlines() if not line.startswith("#")][1:]
    wanted = {gene for _, genes in rows for gene in genes.split(",")}
    assert len({name for name, _ in rows}) == len(rows)
    known = {taxon: set(release("2022-11", taxon).genes["symbol"].to_pylist()) for taxon in ("human", "mouse")}
    assert wanted <= known["human"] | known["mouse"]
