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

SCHEMA_VERSION = 2  # 2: tables of orthologues and annotations, options in the manifest, vectors that hang on genes
READABLE_VERSIONS = (1, 2)

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
        # go_process, go_function, go_component, gene_group or generif
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

TABLES = {"genes": GENES, "names": NAMES, "orthologs": ORTHOLOGS, "annotations": ANNOTATIONS, "texts": TEXTS}


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


def rows_of(table: pa.Table, gene_ids: IntArray | Sequence[int]) -> pa.Table:
    """Take the rows of some genes, in their order; nulls for a gene that the table lacks."""
    wanted = pa.array(np.asarray(gene_ids, dtype=np.int64))
    return table.take(pc.index_in(wanted, table["gene_id"].combine_chunks()))
