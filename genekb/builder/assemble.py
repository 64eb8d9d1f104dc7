"""Write a store into a staging folder and commit it: every store is written this way."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genekb.builder.encode import RECIPE, encode_texts, share_folder
from genekb.builder.engine import LOCAL, EncodingJob, Engine
from genekb.core.plugins import installed_version
from genekb.core.progress import Progress
from genekb.core.resources import note_on_interrupt
from genekb.encoders import EncoderSpec
from genekb.encoders.base import GeneVectors
from genekb.encoders.imported.terms import mix_vectors
from genekb.files.atomic import TEMPORARY, canonical_json, share_file, write_json, write_text
from genekb.schema import SCHEMA_VERSION, TABLES, literal, numbers, vector_matrix
from genekb.store.card import CROISSANT, describe_store, store_card
from genekb.store.files import check_files, remember_places
from genekb.store.home import find_home
from genekb.store.manifest import Manifest
from genekb.store.reader import Store
from genekb.store.writer import (
    commit,
    describe_file,
    describe_stored,
    locked,
    write_table,
    write_vectors,
    writing_to,
)

ONLY_NAMES: Final = "only_names.txt"
_KEPT: Final = "finished shards are kept, the same command goes on where it was"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreContent:
    """What a store will hold besides vectors."""

    # its provenance, and the encoders of the parent whose files are shared; what tables, new encoders and files say is
    # added when it is written
    manifest: Manifest
    parent_folder: Path = Path()  # of the parent, where it has encoders
    tables: Mapping[str, pa.Table]  # of :mod:`genekb.schema`, by name
    # files of the parent that hold these tables already, by name of the table: shared, not written again
    table_files: Mapping[str, Path] = field(default_factory=dict)
    # names that limited the genes with a text, kept with the store so that an update can apply them again
    only_names: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedVectors:
    """Vectors of genes to be mixed of encoders of the same store, once these are there."""

    spec: EncoderSpec
    weights: Mapping[str, float]  # by encoder_id of the part


Vectors = EncodingJob | GeneVectors | MixedVectors


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildResult:
    """The store that a build ended with, and texts over all encoders."""

    folder: Path
    manifest: Manifest
    n_encoded: int  # encoded now
    n_reused: int  # whose vector an earlier store had
    n_kept: int  # whose shard an earlier, interrupted run had left


def assemble(
    content: StoreContent,
    vectors: Sequence[Vectors],
    *,
    home: Path | None,
    vector_dtype: str = "float16",
    progress: Progress | None = None,
    engine: Engine = LOCAL,
) -> BuildResult:
    """Write a store, or resume one that was interrupted.

    ``vectors``: encoders in the order in which the store lists them; the first is its default. Raises ``NotAvailable``
    if the home cannot be written, or an encoder is not on this machine; ``StoreBusy`` if another process writes it.
    """
    name_folder = find_home(home) / "stores" / content.manifest.full_name
    entries: dict[str, Mapping[str, Any]] = {}
    totals = Counter[str]()
    with writing_to(name_folder), locked(name_folder), note_on_interrupt(_KEPT):
        staging = name_folder / f".building-{_plan_key(content, vectors, vector_dtype)}"
        _write_tables(content, staging)
        _share_vectors(content, staging)
        for item in sorted(vectors, key=lambda each: isinstance(each, MixedVectors)):  # behind their parts
            if isinstance(item, EncodingJob):
                counts = encode_texts(
                    item,
                    content.tables["texts"],
                    folder=staging,
                    vector_dtype=vector_dtype,
                    progress=progress,
                    engine=engine,
                )
                totals.update(counts)
                n_vectors = counts.total() - counts["n_cut"]
                entries[_encoder_id(item)] = _entry(item.spec, vector_dtype, n_vectors, counts["n_cut"])
            else:
                if isinstance(item, MixedVectors):
                    item = _mix(item, content.tables["texts"], staging)  # noqa: PLW2901 - as it is written
                dtype = "float32" if item.spec.kind == "foreign" else vector_dtype
                _write_gene_vectors(item, staging, dtype=dtype)
                entries[_encoder_id(item)] = _entry(item.spec, dtype, len(item.gene_ids), 0)
        encoders = {**content.manifest.encoders, **{key: entries[key] for key in map(_encoder_id, vectors)}}
        manifest = _manifest(content, encoders, staging)
        folder = commit(staging, manifest)
        jobs = [item for item in vectors if isinstance(item, EncodingJob)]
        remember_places(name_folder, {str(job.spec.encoder_id): job.model_folder for job in jobs})
    n_encoded, n_reused, n_kept = (totals[name] for name in ("n_encoded", "n_reused", "n_kept"))
    return BuildResult(folder=folder, manifest=manifest, n_encoded=n_encoded, n_reused=n_reused, n_kept=n_kept)


def _mix(item: MixedVectors, texts: pa.Table, staging: Path) -> GeneVectors:
    """Mix the vectors of encoders that lie in the staging folder."""
    parts = []
    for encoder_id in item.weights:
        files = sorted((staging / "embeddings" / encoder_id).glob("part-*.parquet"))
        table = pa.concat_tables([pq.read_table(path) for path in files])
        vectors = vector_matrix(table["vector"])
        if "gene_id" in table.column_names:
            parts.append((numbers(table["gene_id"]), vectors))
        else:
            rows = numbers(pc.index_in(texts["text_id"], table["text_id"].combine_chunks())).astype(np.int64)
            parts.append((numbers(texts["gene_id"]), vectors[rows]))
    gene_ids, vectors = mix_vectors(parts, list(item.weights.values()))
    return GeneVectors(spec=item.spec, gene_ids=gene_ids, vectors=vectors)


def _encoder_id(item: Vectors) -> str:
    return str(item.spec.encoder_id)


def _entry(spec: EncoderSpec, vector_dtype: str, n_vectors: int, n_cut: int) -> dict[str, Any]:
    return {"recipe": spec.to_dict(), "vector_dtype": vector_dtype, "n_vectors": n_vectors, "n_texts_cut": n_cut}


def _plan_key(content: StoreContent, vectors: Sequence[Vectors], vector_dtype: str) -> str:
    """Identity of the work: a run resumes only what would become the same store."""
    manifest = content.manifest
    plan = {key: getattr(manifest, key) for key in ("sources", "selection", "options", "template", "parent")}
    plan |= {
        "schema": SCHEMA_VERSION,
        "vector_dtype": vector_dtype,
        "encoders": [*manifest.encoders, *map(_encoder_id, vectors)],
        "texts": sha256("".join(content.tables["texts"]["text_id"].to_pylist()).encode()).hexdigest(),
    }
    return sha256(canonical_json(plan).encode()).hexdigest()[:16]


def _write_tables(content: StoreContent, staging: Path) -> None:
    for part in staging.rglob(f"*{TEMPORARY}"):
        part.unlink()
    for name in TABLES:
        path = staging / f"{name}.parquet"
        if name in content.table_files:
            share_file(content.table_files[name], path)
        else:
            write_table(content.tables[name], path)
    if content.only_names is not None:
        write_text("".join(f"{name}\n" for name in sorted(set(content.only_names))), staging / ONLY_NAMES)


def _share_vectors(content: StoreContent, staging: Path) -> None:
    for encoder_id in content.manifest.encoders:
        target = staging / "embeddings" / encoder_id
        rmtree(target, ignore_errors=True)  # an interrupted run may have left something else
        share_folder(content.parent_folder / "embeddings" / encoder_id, target)


def _write_gene_vectors(item: GeneVectors, staging: Path, *, dtype: str) -> None:
    """Write vectors of genes; in float32 those that were made elsewhere, whose precision may matter."""
    folder = staging / "embeddings" / str(item.spec.encoder_id)
    write_vectors({"gene_id": item.gene_ids}, item.vectors, path=folder / "part-00000.parquet", dtype=dtype)
    write_json(item.spec.to_dict(), folder / RECIPE)


def _manifest(content: StoreContent, encoders: Mapping[str, Mapping[str, Any]], staging: Path) -> Manifest:
    genes, texts = content.tables["genes"], content.tables["texts"]
    manifest = replace(
        content.manifest,
        taxa=tuple(sorted(genes["tax_id"].unique().to_pylist())),
        n_genes=genes.num_rows,
        n_texts=texts.num_rows,
        n_unique_texts=len(texts["text_id"].unique()),
        n_ortholog_texts=int(pc.sum(pc.equal(texts["origin"], literal("ortholog"))).as_py() or 0),
        encoders=encoders,
        files=(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        created_by=f"genekb {installed_version()}",
    )
    write_text(store_card(manifest), staging / "README.md")
    (staging / CROISSANT).unlink(missing_ok=True)  # an interrupted run may have left one, which must not list itself
    manifest = replace(manifest, files=describe_stored(staging))
    write_json(describe_store(manifest), staging / CROISSANT)
    return replace(manifest, files=(*manifest.files, describe_file(staging / CROISSANT, folder=staging)))


def kept_names(store: Store) -> tuple[str, ...] | None:
    """Gene names that a store was restricted to; None where it kept none."""
    path = store.folder / ONLY_NAMES
    return tuple(filter(None, path.read_text(encoding="utf-8").split("\n"))) if path.is_file() else None


def unchanged_tables(store: Store, tables: Mapping[str, pa.Table]) -> dict[str, Path]:
    """Files of a store that hold the same tables."""
    listed = {file.path for file in store.manifest.files}
    files = {name: store.folder / f"{name}.parquet" for name in tables if f"{name}.parquet" in listed}
    return {name: path for name, path in files.items() if store.table(name).equals(tables[name])}


def content_of(store: Store) -> StoreContent:
    """Content of a store, its vectors too, for its successor; all files are checked first."""
    store.check_whole()
    check_files(store.folder, store.manifest)  # the new manifest must not bless damage
    tables = {name: store.table(name) for name in TABLES}
    return StoreContent(
        manifest=replace(store.manifest, parent=store.manifest.digest),
        parent_folder=store.folder,
        tables=tables,
        table_files=unchanged_tables(store, tables),
        only_names=kept_names(store),
    )
