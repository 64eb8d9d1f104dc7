import csv
import json
from dataclasses import replace

import anndata
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

import genekb
from cellmodel.core.errors import InputUnusable
from cellmodel.io.formats.gene_anndata import read_genes_h5ad, write_genes_h5ad
from genekb.builder.plan import BuildConfig, build
from genekb.builder.update import import_vectors
from genekb.core.errors import NotAvailable, OutputUnusable, SourceUnusable
from genekb.encoders.imported.vectors import read_foreign
from genekb.query.export import export_store

KINDS = ("npy", "npz", "json", "word2vec", "safetensors", "parquet", "duckdb")
SUFFIXES = {"word2vec": "vec"}
BY_SYMBOL = {"json", "word2vec"}  # whose keys are symbols, so that genes of one symbol cannot be parted


@pytest.fixture(scope="module")
def kb(human_store):
    return human_store("hash-32", "wcp-8")


@pytest.fixture(scope="module")
def stores(kb, human_store):
    return {"float16": kb, "float32": human_store("wcp-8", vector_dtype="float32")}


@pytest.fixture
def expected(kb):
    """GeneIDs that have a vector, ascending, and their vectors."""
    gene_ids = kb.table("texts")["gene_id"].to_numpy()
    return gene_ids, kb.vectors(gene_ids, encoder="hash-32").vectors


def test_npy_has_the_vectors_and_its_genes_beside_it(kb, expected, tmp_path):
    result = export_store(kb, tmp_path / "out.npy", kind="npy", encoder="hash-32")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected[1])
    with (tmp_path / "out.genes.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [int(row["gene_id"]) for row in rows] == expected[0].tolist()
    assert rows[0]["symbol"] == "CD3D"
    assert result.files == (tmp_path / "out.npy", tmp_path / "out.genes.tsv")
    assert result.n_genes == len(rows)


def test_json_loads_as_genept_users_load_it(kb, expected, tmp_path):
    result = export_store(kb, tmp_path / "out.json", kind="json", encoder="hash-32")
    embeddings = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    symbols = dict(zip(kb.table("genes")["gene_id"].to_pylist(), kb.table("genes")["symbol"].to_pylist(), strict=True))
    first = {}
    for gene_id, vector in zip(*expected, strict=True):
        first.setdefault(symbols[gene_id], vector)  # the lower GeneID, since they ascend
    assert set(embeddings) == set(first)
    for symbol, vector in first.items():
        np.testing.assert_array_equal(np.array(embeddings[symbol], dtype=np.float32), vector)
    assert result.n_duplicate_symbols == len(expected[0]) - len(first)


def test_a_symbol_of_two_genes_keeps_the_lower_gene_id(human, tmp_path):
    symbols = ["CD3D" if symbol == "CD3E" else symbol for symbol in human.genes["symbol"].to_pylist()]
    column = human.genes.column_names.index("symbol")
    genes = human.genes.set_column(column, human.genes.schema.field("symbol"), pa.array(symbols))
    config = BuildConfig(name="twice", models=("hash-8",))
    kb = genekb.open(build(replace(human, genes=genes), config, home=tmp_path / "home").folder)
    result = export_store(kb, tmp_path / "out.json", kind="json", gene_ids=[916, 915, 930])
    content = json.loads((tmp_path / "out.json").read_text())
    assert (set(content), result.n_duplicate_symbols, result.n_genes) == ({"CD3D", "CD19"}, 1, 2)
    np.testing.assert_array_equal(np.float32(content["CD3D"]), kb.vectors([915]).vectors[0])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("kind", [*(kind for kind in KINDS if kind != "duckdb"), "h5ad"])
def test_every_export_is_imported_again_as_it_is_bit_by_bit(stores, tmp_path, kind, dtype):
    kb, path = stores[dtype], tmp_path / f"v.{SUFFIXES.get(kind, kind)}"
    if kind == "h5ad":
        write_genes_h5ad(kb, path, encoder="wcp-8")
        foreign = read_genes_h5ad(path)
    else:
        export_store(kb, path, kind=kind, encoder="wcp-8")
        foreign = read_foreign(path)
    result = import_vectors(kb, foreign, name="again", home=tmp_path)
    gene_ids = kb.vector_table("wcp-8").gene_ids
    if kind in BY_SYMBOL:
        assert dict(result.left_out).keys() == {"MEMO1"}
        gene_ids = gene_ids[~np.isin(gene_ids, kb.resolve(["MEMO1"]).candidates[0])]
    found = genekb.open(result.build.folder).vector_table("again")
    assert found.gene_ids.tolist() == gene_ids.tolist()
    assert found.vectors[found.rows].tobytes() == kb.vectors(gene_ids, encoder="wcp-8").vectors.tobytes()


def test_npz_is_read_without_pickle_and_word2vec_as_gensim_reads_it(kb, expected, tmp_path):
    for kind in ("npz", "word2vec"):
        export_store(kb, tmp_path / f"out.{kind}", kind=kind, encoder="hash-32")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["vectors"], expected[1])
        np.testing.assert_array_equal(arrays["gene_ids"], expected[0])
        assert arrays["symbols"][0] == "CD3D"
        assert str(arrays["encoder_id"]) == kb.encoder_id("hash-32")
    header, first, *rest = (tmp_path / "out.word2vec").read_text().splitlines()
    assert header == f"{len(rest) + 1} 32"
    np.testing.assert_array_equal(np.array(first.split(" ")[1:], dtype=np.float32), expected[1][0])


def test_safetensors_and_parquet_carry_vectors_ids_and_lineage(kb, expected, tmp_path):
    for kind in ("safetensors", "parquet"):
        export_store(kb, tmp_path / f"out.{kind}", kind=kind, encoder="hash-32")
    with safe_open(tmp_path / "out.safetensors", "numpy") as stream:
        np.testing.assert_array_equal(stream.get_tensor("gene_ids"), expected[0])
        np.testing.assert_array_equal(stream.get_tensor("vectors"), expected[1])
        metadata = stream.metadata()
    table = pq.read_table(tmp_path / "out.parquet")
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), expected[1])
    assert table["gene_id"].to_pylist() == expected[0].tolist()
    of_parquet = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    for found in (metadata, of_parquet):
        assert found["store_id"] == kb.store_id
        assert found["encoder_id"] == kb.encoder_id("hash-32")
        assert found["licence"] == "; ".join(kb.manifest.licences)


def test_duckdb_holds_every_table_and_encoder(kb, expected, tmp_path):
    result = export_store(kb, tmp_path / "out.duckdb", kind="duckdb")
    with duckdb.connect(str(tmp_path / "out.duckdb"), read_only=True) as connection:
        for name in ("genes", "names", "texts", "annotations", "orthologs"):
            assert connection.sql(f"from {name}").to_arrow_table().cast(kb.table(name).schema).equals(kb.table(name))
        rows = connection.execute('select gene_id, vector from "vectors_hash-32" order by gene_id').fetchnumpy()
        kind = connection.execute('select typeof(vector) from "vectors_wcp-8" limit 1').fetchone()
        nearest = connection.execute(
            'select symbol from "vectors_wcp-8" join genes using (gene_id) order by array_cosine_similarity(vector, '
            '(select vector from "vectors_wcp-8" where gene_id = 915)) desc limit 1'
        ).fetchone()
    np.testing.assert_array_equal(rows["gene_id"], expected[0])
    np.testing.assert_array_equal(np.stack(rows["vector"]), expected[1])
    assert (kind, nearest) == (("FLOAT[8]",), ("CD3D",))
    assert len(result.encoders) == 2


def test_h5ad_has_genes_as_rows(kb, expected, tmp_path):
    n_genes = write_genes_h5ad(kb, tmp_path / "genes.h5ad", encoder="hash-32")
    adata = anndata.read_h5ad(tmp_path / "genes.h5ad")
    assert n_genes == adata.n_obs
    np.testing.assert_array_equal(adata.X, expected[1])
    assert adata.X.dtype == np.float32
    assert adata.obs_names.tolist() == [str(gene_id) for gene_id in expected[0]]
    assert adata.obs.loc["915", ["symbol", "type", "tax_id"]].tolist() == ["CD3D", "protein-coding", 9606]
    about = adata.uns["genekb"]
    assert (about["store_id"], about["encoder_id"]) == (kb.store_id, kb.encoder_id("hash-32"))
    with pytest.raises(InputUnusable, match="exists; give another name"):
        write_genes_h5ad(kb, tmp_path / "genes.h5ad")
    with pytest.raises(InputUnusable, match=r"write h5ad as \.h5ad"):
        write_genes_h5ad(kb, tmp_path / "genes.zarr")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_replaced_only_on_request_and_nothing_else_is_left(kb, tmp_path, kind):
    path = tmp_path / f"out.{kind}"
    path.write_text("mine")
    mode = path.stat().st_mode
    with pytest.raises(OutputUnusable, match=r"exists; give another name, or overwrite=True"):
        export_store(kb, path, kind=kind)
    assert path.read_text() == "mine"
    export_store(kb, path, kind=kind, overwrite=True)
    assert path.stat().st_size > 100
    assert path.stat().st_mode == mode
    beside = {"out.genes.tsv"} if kind == "npy" else set()
    assert {file.name for file in tmp_path.iterdir()} == {path.name, *beside}


def test_the_list_of_genes_beside_a_matrix_is_not_replaced_unasked(kb, tmp_path):
    (tmp_path / "out.genes.tsv").write_text("mine")
    with pytest.raises(OutputUnusable, match=r"out\.genes\.tsv exists"):
        export_store(kb, tmp_path / "out.npy", kind="npy")
    assert not (tmp_path / "out.npy").exists()


def test_genes_come_in_the_order_asked_and_those_without_a_vector_are_counted(kb, tmp_path):
    result = export_store(kb, tmp_path / "o.npy", kind="npy", encoder="wcp-8", gene_ids=[4069, 999_999, 915, 4069])
    assert (result.n_genes, result.n_without_vector) == (3, 1)
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), kb.vectors([4069, 915, 4069], encoder="wcp-8").vectors)
    with pytest.raises(SourceUnusable, match="none of 1 genes has a vector"):
        export_store(kb, tmp_path / "p.npy", kind="npy", gene_ids=[1])
    with pytest.raises(ValueError, match="a DuckDB file holds the whole store"):
        export_store(kb, tmp_path / "p.duckdb", kind="duckdb", gene_ids=[915])


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_cannot_be_written_is_one_line_and_a_missing_folder_is_made(kb, tmp_path, kind):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnusable, match=r"cannot be written: \S+/file is not a folder; make it first"):
        export_store(kb, tmp_path / "file" / f"out.{kind}", kind=kind)
    assert export_store(kb, tmp_path / "new" / "folder" / f"out.{kind}", kind=kind).files[0].is_file()


def test_a_store_without_encoders_exports_its_tables(human_store, tmp_path):
    kb = human_store()
    assert export_store(kb, tmp_path / "out.duckdb", kind="duckdb").encoders == ()
    with pytest.raises(NotAvailable):
        export_store(kb, tmp_path / "out.npy", kind="npy")
