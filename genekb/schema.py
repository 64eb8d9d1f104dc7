"""The Arrow schema of every table of a store, and the version of the whole."""

from typing import Literal, NewType

import numpy as np
import pyarrow as pa
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
    """Give the schema of one shard of vectors.

    ``dim``: length of every vector. ``dtype``: stored type, ``float16`` or ``float32``. ``key``: what a vector hangs
    on: a text, or, for vectors that were made elsewhere, a gene.
    """
    value = {"float16": pa.float16(), "float32": pa.float32()}[dtype]
    vector = pa.field("vector", pa.list_(value, dim), nullable=False)
    if key == "gene_id":
        return pa.schema([pa.field("gene_id", pa.int64(), nullable=False), vector])
    return pa.schema(
        [
            pa.field("text_id", pa.string(), nullable=False),
            pa.field("n_tokens", pa.int32(), nullable=False),
            pa.field("n_tokens_cut", pa.int32(), nullable=False),
            vector,
        ]
    )
