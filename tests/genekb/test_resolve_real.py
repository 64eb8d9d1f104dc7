"""The resolver on real releases of NCBI Gene: what is current stays what it is, what was renamed is followed."""

import csv
import gzip
from collections import Counter
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from genekb import schema
from genekb.errors import SpeciesMismatch
from genekb.resolve import resolve_names
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.species import check_species, guess_species

pytestmark = pytest.mark.slow
# Current symbols that two genes of the release share: rRNA clusters, mitochondrial genes of mouse strains and the like.
SHARED = {
    ("2020-01", "human"): 0, ("2020-01", "mouse"): 0, ("2021-07", "human"): 0, ("2021-07", "mouse"): 0,
    ("2021-07", "fly"): 0, ("2022-11", "human"): 0, ("2022-11", "mouse"): 0,
}  # fmt: skip


@cache
def read(folder, taxon):
    return read_ncbi_folder(folder, taxa=[taxon])


@pytest.fixture
def release(real_data):
    return lambda name, taxon: read(real_data / "ncbi" / name, taxon)


def resolve(tables, names, *, more=None):
    name_table = tables.names if more is None else pa.concat_tables([tables.names, more])
    return resolve_names(names, name_table=name_table, gene_ids=tables.genes["gene_id"])


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


@pytest.mark.parametrize(("name", "taxon"), SHARED)
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
        assert (resolution.status == "ambiguous").sum() == SHARED[name, taxon]
