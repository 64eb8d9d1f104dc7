"""Metadata of a store for programs, in the format Croissant 1.1 of MLCommons (JSON-LD), :cite:`akhtar2024croissant`.

As in the card, nothing depends on when, by whom or where the store was made; ``datePublished`` is that of the sources.
"""

import re
from typing import Any, Final

import pyarrow as pa

from genekb import schema
from genekb.store.card import cited_sources, model_name, source_terms, store_licence
from genekb.store.manifest import Manifest, StoredFile

CROISSANT: Final = "croissant.json"
_PARQUET: Final = "application/x-parquet"
_FORMATS: Final = {".parquet": _PARQUET, ".json": "application/json", ".md": "text/markdown", ".txt": "text/plain"}
_RELEASE: Final = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d))?")
_NCBI_GENE: Final = "https://www.ncbi.nlm.nih.gov/gene"
_DATA_TYPES: Final = {
    pa.int64(): "cr:Int64",
    pa.int32(): "cr:Int32",
    pa.float16(): "cr:Float16",
    pa.float32(): "cr:Float32",
    pa.string(): "sc:Text",
}
_DESCRIPTIONS: Final = {
    "genes": "One row a gene: NCBI's record of it.",
    "names": "Every name that a gene has or had, with its kind.",
    "orthologs": "Human orthologues of genes of other species.",
    "annotations": "Terms of a gene from a vocabulary: GO, groups of HGNC, GeneRIF sentences.",
    "texts": "The exact text of each gene; text_id is its SHA-256.",
}
_KEYS: Final = {"genes": "gene_id", "texts": "gene_id"}
_TERMS: Final = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileObject fileProperty fileSet format "
    "includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform"
)
# The names that the format defines for a reader that knows only JSON-LD.
_CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{key: f"cr:{key}" for key in _TERMS.split()},
}


def describe_store(manifest: Manifest) -> dict[str, Any]:
    """Content of ``croissant.json`` for a store whose other files, the card among them, the manifest lists."""
    licences = [terms.url for terms in source_terms(manifest) if terms.url]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": manifest.full_name,
        "description": (
            f"Gene knowledge store: {manifest.n_genes} genes of {len(manifest.taxa)} species, {manifest.n_texts} of "
            f"them with a text, and embeddings of the texts by {len(manifest.encoders)} encoders. README.md says more."
        ),
        "license": list(dict.fromkeys(licences)) or [store_licence(manifest).link],
        "citeAs": " ".join([*cited_sources(manifest), f"Store {manifest.full_name}, made with genekb."]),
        "keywords": ["genomics", "gene embeddings", "NCBI Gene"],
        "inLanguage": "en",
        **_origin(manifest),
        "distribution": [*map(_file_object, manifest.files), *map(_file_set, manifest.encoders)],
        "recordSet": [
            *(_table(name) for name in schema.TABLES),
            *(_vectors(manifest, encoder_id) for encoder_id in manifest.encoders),
        ],
    }


def _origin(manifest: Manifest) -> dict[str, str]:
    """Address, version and date, where the manifest has them."""
    found = {}
    if any("NCBI Gene" in stated for stated in manifest.licences):
        found["url"] = _NCBI_GENE
    date = _RELEASE.fullmatch(manifest.release)
    if date:
        year, month, day = date.groups()
        found |= {"datePublished": f"{year}-{month}-{day or '01'}", "version": f"{year}.{int(month)}.{int(day or 0)}"}
    return found


def _file_object(file: StoredFile) -> dict[str, Any]:
    ending = file.path[file.path.rfind(".") :]
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.n_bytes} B",
        "encodingFormat": _FORMATS.get(ending, "application/octet-stream"),
        "sha256": file.sha256,
    }


def _file_set(encoder_id: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"vectors-{encoder_id}",
        "name": f"vectors-{encoder_id}",
        "encodingFormat": _PARQUET,
        "includes": f"embeddings/{encoder_id}/part-*.parquet",
    }


def _table(name: str) -> dict[str, Any]:
    source = {"fileObject": {"@id": f"{name}.parquet"}}
    record_set = _record_set(name, schema.TABLES[name], source=source, description=_DESCRIPTIONS[name])
    return record_set | ({"key": {"@id": f"{name}/{_KEYS[name]}"}} if name in _KEYS else {})


def _vectors(manifest: Manifest, encoder_id: str) -> dict[str, Any]:
    entry = manifest.encoders[encoder_id]
    recipe = entry["recipe"]
    key = manifest.kind(encoder_id).keyed_by
    columns = schema.embeddings(int(recipe["dim"]), str(entry["vector_dtype"]), key=key)
    source = {"fileSet": {"@id": f"vectors-{encoder_id}"}}
    description = f"Vectors of {model_name(recipe)}, one a {key.removesuffix('_id')}."
    record_set = _record_set(encoder_id, columns, source=source, description=description)
    return record_set | {"key": {"@id": f"{encoder_id}/{key}"}}


def _record_set(name: str, columns: pa.Schema, *, source: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column.name}",
                "name": column.name,
                "source": source | {"extract": {"column": column.name}},
                **_type(column.type),
            }
            for column in columns
        ],
    }


def _type(column: pa.DataType) -> dict[str, Any]:
    if column in _DATA_TYPES:
        return {"dataType": _DATA_TYPES[column]}
    size = getattr(column, "list_size", -1)  # of a list of any length
    return {"dataType": _DATA_TYPES[column.value_type], "isArray": True, "arrayShape": str(size)}
