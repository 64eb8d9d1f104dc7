"""Metadata of a store: the README that the Hugging Face Hub reads, licences of its parts, and Croissant for programs.

Nothing in it depends on when, by whom or where the store was made: two builds of the same sources give the same bytes.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa

from genekb import schema
from genekb.encoders.base import folder_name, is_folder_path
from genekb.encoders.kinds import KINDS, find_entry, kind_of
from genekb.genes.taxa import taxon_name
from genekb.store.manifest import Manifest, StoredFile

# Terms as publishers write them, licence id of the Hugging Face Hub, and their text; each stricter than the one before.
# A work of the US government carries no licence, so the Hub has no id for it.
_KNOWN: Final = (
    ("public domain", "", "https://www.ncbi.nlm.nih.gov/home/about/policies/"),
    ("cc0", "cc0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    ("mit", "mit", "https://opensource.org/license/mit"),
    ("bsd-3-clause", "bsd-3-clause", "https://opensource.org/license/bsd-3-clause"),
    ("apache-2.0", "apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    ("cc by 4.0", "cc-by-4.0", "https://creativecommons.org/licenses/by/4.0/"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Terms of one part of a store."""

    part: str  # a source, or the model of an encoder
    stated: str  # what its publisher says
    url: str  # text of the terms; empty where they are not known to this tool
    rank: int  # how much they ask of a user, from 0 (nothing); -1 where they are not known to this tool
    note: str = ""  # what the registry says of a model
    is_own: bool = False  # whether the part belongs to this tool


@dataclass(frozen=True, kw_only=True, slots=True)
class Licence:
    """Licence of a store as a whole: the Hub's name (``other`` where it has none), our own name, and its text."""

    hub_id: str
    name: str
    link: str


def source_terms(manifest: Manifest) -> tuple[Terms, ...]:
    """Terms of each source, as the manifest records them."""
    parts = (part.strip() for stated in manifest.licences for part in stated.split(";"))
    found = []
    for part in dict.fromkeys(filter(None, parts)):
        source, has_name, stated = part.partition(":")
        found.append(_terms(source if has_name else "sources", (stated if has_name else part).strip()))
    return tuple(found)


def encoder_terms(recipe: Mapping[str, Any]) -> Terms:
    """Terms of the model behind an encoder."""
    model = str(recipe["model_id"] or recipe["name"])
    entry = None if kind_of(recipe).is_imported else find_entry(str(recipe["model_id"]))
    note = entry.note if entry is not None else ""
    if kind_of(recipe).is_built_in:
        return replace(_terms(model, "BSD-3-Clause"), note=note, is_own=True)
    if entry is not None:
        return replace(_terms(model, entry.licence), note=note)
    return _terms(model, kind_of(recipe).licence)


def store_licence(manifest: Manifest) -> Licence:
    """Strictest terms of the sources, which cover the others; ``other`` where those of any part are not known."""
    sources = source_terms(manifest)
    encoders = [encoder_terms(entry["recipe"]) for entry in manifest.encoders.values()]
    if not sources or min(terms.rank for terms in (*sources, *encoders)) < 0:
        return Licence(hub_id="other", name="see-the-licence-of-each-part", link="README.md#licences")
    stated, hub_id, url = _KNOWN[max(terms.rank for terms in sources)]
    return Licence(hub_id=hub_id or "other", name=stated.replace(" ", "-"), link=url)


def _terms(part: str, stated: str) -> Terms:
    words = stated.lower().replace("-", " ")
    for rank, (name, _, url) in enumerate(_KNOWN):
        if re.fullmatch(rf"(.*, )?{re.escape(name.replace('-', ' '))}( \(.*\))?", words):
            return Terms(part=part, stated=stated, url=url, rank=rank)
    return Terms(part=part, stated=stated, url="", rank=-1)


_CITATIONS: Final = {  # by a word of the source's name
    "NCBI Gene": "Brown GR et al. Gene: a gene-centered information resource at NCBI. Nucleic Acids Research 43, "
    "D36-D42 (2015). https://doi.org/10.1093/nar/gku1055",
    "Gene Ontology": "The Gene Ontology Consortium. The Gene Ontology knowledgebase in 2023. Genetics 224, iyad031 "
    "(2023). https://doi.org/10.1093/genetics/iyad031",
    "HGNC": "Seal RL et al. Genenames.org: the HGNC resources in 2023. Nucleic Acids Research 51, D1003-D1009 (2023). "
    "https://doi.org/10.1093/nar/gkac888",
}
_SIZES: Final = (("n<1K", 0), ("1K<n<10K", 10**3), ("10K<n<100K", 10**4), ("100K<n<1M", 10**5), ("1M<n<10M", 10**6))
_MANY_TAXA: Final = 5
_END: Final = "---\n"


def store_card(manifest: Manifest) -> str:
    """Write the card of a store: a header in YAML, then contents, sources, licences and how to read it."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    environment.filters |= {"cell": _cell, "json": partial(json.dumps, ensure_ascii=False), "number": "{:,}".format}
    template = environment.from_string(_asset("card.md.j2"))
    encoders = {encoder_id: entry["recipe"] for encoder_id, entry in manifest.encoders.items()}
    first = next(iter(encoders), "")
    terms = [(f"`{key}` ({model_name(recipe)})", encoder_terms(recipe)) for key, recipe in encoders.items()]
    return template.render(
        manifest=manifest,
        tables=schema.TABLES,
        licence=store_licence(manifest),
        licences=[*((terms.part, terms) for terms in source_terms(manifest)), *terms],
        has_ncbi_summaries=any("NCBI Gene" in stated for stated in manifest.licences),
        species=_species(manifest),
        species_ids=_species(manifest, with_ids=True),
        size=next(name for name, least in reversed(_SIZES) if manifest.n_genes >= least),
        first=first,
        key=manifest.kind(first).keyed_by if first else "",
        model_name=model_name,
        dropped=", ".join(f"{count:,} {reason}" for reason, count in manifest.dropped.items() if count),
        limits=_limits(manifest),
        citations=_citations(manifest),
    )


def _asset(name: str) -> str:
    return files("genekb.store").joinpath(name).read_text(encoding="utf-8")


def without_header(card: str) -> str:
    """Text of a card without its metadata; older cards have none."""
    return card.split(f"\n{_END}", 1)[1].lstrip() if card.startswith(_END) else card


def model_name(recipe: Mapping[str, Any]) -> str:
    """Name of a model for readers elsewhere: of a folder its last part alone."""
    model_id = str(recipe["model_id"] or recipe["name"])
    return folder_name(model_id) if is_folder_path(model_id) else model_id


def cited_sources(manifest: Manifest) -> list[str]:
    """Cite the sources that the manifest's terms name."""
    stated = " ".join(manifest.licences)
    return [reference for source, reference in _CITATIONS.items() if source in stated]


def _species(manifest: Manifest, *, with_ids: bool = False) -> str:
    if len(manifest.taxa) > _MANY_TAXA:
        return f"{len(manifest.taxa):,} species"
    return ", ".join(f"{taxon_name(taxon)} ({taxon})" if with_ids else taxon_name(taxon) for taxon in manifest.taxa)


def _limits(manifest: Manifest) -> list[str]:
    """Limits of the encoders of a store."""
    recipes = {encoder_id: entry["recipe"] for encoder_id, entry in manifest.encoders.items()}
    kinds = {recipe["kind"] for recipe in recipes.values()}
    code = {encoder_id: recipe["code_sha256"] for encoder_id, recipe in recipes.items() if recipe.get("code_sha256")}
    notes = {encoder_id: encoder_terms(recipe).note for encoder_id, recipe in recipes.items()}
    return [
        *(kind.limit for name, kind in KINDS.items() if name in kinds and kind.limit),
        *(
            f"`{encoder_id}`: made by running Python code of its model (sha256 {sha256}). A query in it runs that code "
            "again, and only with trust_remote_code=True; its vectors are used without."
            for encoder_id, sha256 in code.items()
        ),
        *(f"`{encoder_id}`: {note}." for encoder_id, note in notes.items() if note),
    ]


def _citations(manifest: Manifest) -> list[str]:
    store = f"Store {manifest.full_name}, made with genekb; name the `digest` in `manifest.json`."
    recipes = [entry["recipe"] for entry in manifest.encoders.values() if not encoder_terms(entry["recipe"]).is_own]
    models = [
        f"Encoder {model_name(recipe)}, revision {recipe['revision'] or 'not stated'}; cite it as its authors ask."
        for recipe in recipes
    ]
    return [*cited_sources(manifest), store, *models]


def _cell(value: object) -> str:
    """Keep a value on one line and inside its cell."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


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
    "words": "The words of each text in reading order: a comma ends a clause, a full stop a sentence.",
}
_KEYS: Final = {"genes": "gene_id", "texts": "gene_id", "words": "gene_id"}


def describe_store(manifest: Manifest) -> dict[str, Any]:
    """Content of ``croissant.json`` for a store whose other files, the card among them, the manifest lists."""
    licences = [terms.url for terms in source_terms(manifest) if terms.url]
    return {
        "@context": json.loads(_asset("croissant_context.json")),  # for a reader that knows only JSON-LD
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


def _node(kind: str, name: str, **properties: Any) -> dict[str, Any]:
    return {"@type": f"cr:{kind}", "@id": name, "name": name, **properties}


def _file_object(file: StoredFile) -> dict[str, Any]:
    media_type = _FORMATS.get(PurePosixPath(file.path).suffix, "application/octet-stream")
    size = f"{file.n_bytes} B"
    url = file.path
    return _node("FileObject", url, contentUrl=url, contentSize=size, encodingFormat=media_type, sha256=file.sha256)


def _file_set(encoder_id: str) -> dict[str, Any]:
    parts = f"embeddings/{encoder_id}/part-*.parquet"
    return _node("FileSet", f"vectors-{encoder_id}", encodingFormat=_PARQUET, includes=parts)


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
    fields = [
        _node("Field", f"{name}/{column.name}", **_type(column.type))
        | {"name": column.name, "source": source | {"extract": {"column": column.name}}}
        for column in columns
    ]
    return _node("RecordSet", name, description=description, field=fields)


def _type(column: pa.DataType) -> dict[str, Any]:
    if column in _DATA_TYPES:
        return {"dataType": _DATA_TYPES[column]}
    size = getattr(column, "list_size", -1)  # of a list of any length
    value = column.value_type.value_type if pa.types.is_dictionary(column.value_type) else column.value_type
    return {"dataType": _DATA_TYPES[value], "isArray": True, "arrayShape": str(size)}
