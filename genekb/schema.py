"""The Arrow schema of every table of a store, and the version of the whole."""

from collections.abc import Sequence
from typing import Literal, NewType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

GeneID = NewType("GeneID", int)  # NCBI Gene identifier: the only join key
TaxID = NewType("TaxID", int)  # NCBI taxonomy identifier
TextID = NewType("TextID", str)  # sha256 (hex) of the exact text
EncoderID = NewType("EncoderID", str)  # name + short hash of the recipe

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
StrArray = NDArray[np.str_]

SCHEMA_VERSION = 2

GENES = pa.schema(
    [
        pa.field("gene_id", pa.int64(), nullable=False),
        pa.field("tax_id", pa.int32(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("type", pa.string()),
        pa.field("chromosome", pa.string()),
        pa.field("map_location", pa.string()),
        pa.field("summary", pa.string()),
        pa.field("designations", pa.list_(pa.string())),
        pa.field("aliases", pa.list_(pa.string())),
        pa.field("status", pa.string()),
        pa.field("modified", pa.string()),
    ]
)

NAMES = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("gene_id", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
    ]
)

ORTHOLOGS = pa.schema(
    [
        pa.field("gene_id", pa.int64(), nullable=False),
        pa.field("ortholog_gene_id", pa.int64(), nullable=False),
        pa.field("ortholog_symbol", pa.string(), nullable=False),
        pa.field("ortholog_summary", pa.string()),
    ]
)

# Terms of a gene from a vocabulary: GO terms, gene groups of HGNC, GeneRIF sentences.
ANNOTATIONS = pa.schema(
    [
        pa.field("gene_id", pa.int64(), nullable=False),
        # go_process, go_function, go_component, gene_group, generif, function or description
        pa.field("vocabulary", pa.string(), nullable=False),
        pa.field("term_id", pa.string(), nullable=False),  # GO:0006915; HGNC's group number; PubMed id of a GeneRIF
        pa.field("term", pa.string(), nullable=False),
        pa.field("evidence", pa.string()),  # evidence code of GO
    ]
)

TEXTS = pa.schema(
    [
        pa.field("gene_id", pa.int64(), nullable=False),
        pa.field("text_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("template", pa.int32(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),  # "own" or "ortholog"
        pa.field("origin_gene_id", pa.int64(), nullable=False),
    ]
)

# What the texts are made of, so that no run has to split them again; its rows are those of TEXTS.
WORDS = pa.schema(
    [
        pa.field("gene_id", pa.int64(), nullable=False),
        # a number for each sentence, the same for sentences that are the same letter for letter
        pa.field("sentence", pa.list_(pa.int32()), nullable=False),
        # runs of letters and digits in lower case; "," ends a clause, "." a sentence
        pa.field("word", pa.list_(pa.dictionary(pa.int32(), pa.string())), nullable=False),
    ]
)

TABLES = {
    "genes": GENES,
    "names": NAMES,
    "orthologs": ORTHOLOGS,
    "annotations": ANNOTATIONS,
    "texts": TEXTS,
    "words": WORDS,
}


def embeddings(dim: int, dtype: str = "float16", *, key: Literal["text_id", "gene_id"] = "text_id") -> pa.Schema:
    """Describe one shard of vectors; ``key``: a vector belongs to a text, or, if it was made elsewhere, to a gene."""
    value = {"float16": pa.float16(), "float32": pa.float32()}[dtype]
    vector = pa.field("vector", pa.list_(value, dim), nullable=False)
    if key == "gene_id":
        return pa.schema([pa.field("gene_id", pa.int64(), nullable=False), vector])
    tokens = [pa.field(name, pa.int32(), nullable=False) for name in ("n_tokens", "n_tokens_cut")]
    return pa.schema([pa.field("text_id", pa.string(), nullable=False), *tokens, vector])


def vector_column(vectors: NDArray[np.floating]) -> pa.FixedSizeListArray:
    """Turn a matrix (row, dim) into an Arrow column, a list of numbers a row."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).ravel()), vectors.shape[1])


def vector_matrix(column: pa.ChunkedArray) -> FloatArray:
    """Turn an Arrow column of vectors into a matrix (row, dim), float32."""
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.iterchunks()]
    flat = np.concatenate(values) if values else np.empty(0)
    return flat.astype(np.float32, copy=False).reshape(-1, column.type.list_size)


def strings(values: Sequence[str | None]) -> pa.StringArray:
    """Make an Arrow column of strings; unlike ``pa.array`` it does not import pandas, which takes 0.2 s."""
    encoded = ["" if value is None else value for value in values]
    content = "".join(encoded)
    data = content.encode()
    lengths = map(len, encoded if len(data) == len(content) else [value.encode() for value in encoded])
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(lengths, dtype=np.int64, count=len(encoded)), out=offsets[1:])
    buffers = [pa.py_buffer(offsets), pa.py_buffer(data)]
    if None in values:
        is_there = np.packbits([value is not None for value in values], bitorder="little")
        return pa.Array.from_buffers(pa.large_string(), len(encoded), [pa.py_buffer(is_there), *buffers]).cast(
            pa.string()
        )
    return pa.LargeStringArray.from_buffers(len(encoded), *buffers).cast(pa.string())


def integers(values: Sequence[int] | IntArray) -> pa.Int64Array:
    """Make an Arrow column of integers without importing pandas, see :func:`strings`."""
    array = np.ascontiguousarray(np.asarray(values, dtype=np.int64))
    return pa.Array.from_buffers(pa.int64(), len(array), [None, pa.py_buffer(array)])


def literal(value: str | None) -> pa.StringScalar:
    """Make a value that Arrow's functions take beside a column without importing pandas, see :func:`strings`."""
    return strings([value])[0]


def literals(value: str, n_rows: int) -> pa.StringArray:
    """Repeat a value in a column without importing pandas, see :func:`strings`."""
    return strings([value]).take(integers(np.zeros(n_rows, dtype=np.int64)))


def empty(table_schema: pa.Schema) -> pa.Table:
    """Make a table without rows and without importing pandas, see :func:`strings`."""
    return pa.Table.from_batches([], table_schema)


def numbers(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Give an Arrow column of numbers without gaps as an array, read-only, without importing pandas."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.from_dlpack(array)


def in_order_of_genes(table: pa.Table) -> pa.Table:
    """Sort rows by GeneID; nothing is copied where they are."""
    gene_ids = numbers(table["gene_id"])
    return table if (gene_ids[1:] >= gene_ids[:-1]).all() else table.sort_by("gene_id")


def rows_of(table: pa.Table, gene_ids: IntArray | Sequence[int]) -> pa.Table:
    """Take the rows of some genes, in their order; nulls for a gene that the table lacks."""
    wanted = integers(gene_ids)
    return table.take(pc.index_in(wanted, table["gene_id"].combine_chunks()))
