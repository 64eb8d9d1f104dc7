"""Write a store into a staging folder and commit it; its texts are encoded shard by shard.

A shard is a pure function of the texts whose id falls into its range, and an atomic file: a killed encoding resumes
with the same bytes. An engine encodes; this module plans the shards and writes them.
"""

import filecmp
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genekb.builder.engine import LOCAL, EncodingJob, Engine
from genekb.core.errors import EncoderFailed
from genekb.core.plugins import installed_version
from genekb.core.progress import Progress
from genekb.core.resources import note_on_interrupt, raise_resource_fault
from genekb.encoders import EncodedTexts, EncoderSpec
from genekb.encoders.base import GeneVectors
from genekb.encoders.imported.terms import mix_vectors
from genekb.files.atomic import TEMPORARY, canonical_json, share_file, write_json, write_text
from genekb.schema import SCHEMA_VERSION, TABLES, FloatArray, IntArray, literal, numbers, vector_matrix
from genekb.store.card import CROISSANT, describe_store, store_card
from genekb.store.files import ONLY_NAMES, check_files, remember_places
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

if TYPE_CHECKING:
    import pyarrow.dataset as ds

log = logging.getLogger(__name__)
SHARD_SIZE: Final = 512  # texts a shard, on average: what a kill can cost at most
RECIPE: Final = "recipe.json"


def encode_texts(
    job: EncodingJob,
    texts: pa.Table,
    *,
    folder: Path,
    vector_dtype: str,
    progress: Progress | None,
    engine: Engine = LOCAL,
) -> Counter[str]:
    """Encode every distinct text into files below ``folder / embeddings / encoder_id``.

    ``texts``: table in the schema :data:`genekb.schema.TEXTS`. ``folder``: staging folder of the store. Returns the
    number of texts encoded now, reused, kept from an interrupted run, and truncated in all. Raises ``EncoderFailed`` if
    vectors have another shape than the recipe says, or values that are not finite.
    """
    target = folder / "embeddings" / str(job.spec.encoder_id)
    job = replace(job, open=cache(job.open))
    if job.reuse is None:
        job.open().save(target)
    else:
        share_folder(job.reuse, target, with_vectors=False)
    write_json(job.spec.to_dict(), target / RECIPE)
    known = _open_shards(job.reuse) if job.reuse else None
    shards = plan_shards(texts)
    total = sum(len(shard) for shard in shards)

    def report(n_done: int) -> None:
        if progress:
            progress(str(job.spec.encoder_id), n_done, total)

    run = _Run(spec=job.spec, known=known, folder=target, vector_dtype=vector_dtype, report=report, earlier=job.reuse)
    engine = LOCAL if job.spec.family.is_remote else engine
    for number, encoded in engine.encode(run.missing(shards), job=job, state=target):
        run.finish(number, encoded)
    return run.counts


def plan_shards(texts: pa.Table) -> list[dict[str, str]]:
    """Split the distinct texts by ranges of their ids into shards text_id → text of about :data:`SHARD_SIZE`."""
    by_id = dict(sorted(zip(texts["text_id"].to_pylist(), texts["text"].to_pylist(), strict=True)))
    n_shards = max(1, round(len(by_id) / SHARD_SIZE))
    shards: list[dict[str, str]] = [{} for _ in range(n_shards)]
    for key, text in by_id.items():
        shards[int(key[:8], 16) * n_shards >> 32][key] = text
    return [shard for shard in shards if shard]


def known_text_ids(folder: Path) -> set[str]:
    """Ids of all texts that have a vector in a folder of shards."""
    shards = _open_shards(folder)
    return set(shards.to_table(columns=["text_id"])["text_id"].to_pylist()) if shards else set()


def _open_shards(folder: Path) -> "ds.Dataset | None":
    import pyarrow.dataset as ds  # imports pandas, which a store without vectors does not need

    parts = sorted(map(str, folder.glob("part-*.parquet")))
    shards = ds.dataset(parts, format="parquet") if parts else None
    for shard in shards.get_fragments() if shards else ():
        shard.ensure_complete_metadata()  # read once, not for every range
    return shards


def _find_known(shards: "ds.Dataset", shard: Mapping[str, str]) -> tuple[list[str], EncodedTexts | None]:
    """Find the texts of a shard among others: their ids, ascending, and their vectors.

    The range of ids goes first: by Parquet's statistics few of the others are read for it.
    """
    is_near = (pc.field("text_id") >= min(shard)) & (pc.field("text_id") <= max(shard))
    rows = shards.to_table(filter=is_near & pc.field("text_id").isin(list(shard))).sort_by("text_id")
    if not rows.num_rows:
        return [], None
    counts = {name: rows[name].to_numpy() for name in ("n_tokens", "n_tokens_cut")}
    return rows["text_id"].to_pylist(), EncodedTexts(vectors=vector_matrix(rows["vector"]), **counts)


def share_folder(source: Path, target: Path, *, with_vectors: bool = True) -> None:
    """Share the vectors of an encoder and the files that it saved beside them."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and (with_vectors or not path.name.startswith("part-")):
            share_file(path, target / path.relative_to(source))


def _is_finished(path: Path, shard: Mapping[str, str]) -> bool:
    if not path.is_file():
        return False
    try:
        return pq.read_table(path, columns=["text_id"])["text_id"].to_pylist() == list(shard)
    except (pa.ArrowInvalid, OSError) as error:
        raise_resource_fault(error)
        log.warning("%s is damaged and is encoded again", path.name)
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Waiting:
    """A shard whose new texts are being encoded, and the known vectors of the others."""

    new: list[str]
    found: list[str]
    known: EncodedTexts | None


@dataclass(kw_only=True, slots=True)
class _Run:
    """Writes the shards of one encoder, and counts its texts."""

    spec: EncoderSpec
    known: "ds.Dataset | None"
    folder: Path
    vector_dtype: str
    report: Callable[[int], None]
    earlier: Path | None
    waiting: dict[int, _Waiting] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)  # n_encoded, n_reused, n_kept, n_cut

    def missing(self, shards: Sequence[Mapping[str, str]]) -> Iterator[tuple[int, list[str]]]:
        """Yield the number and the new texts of each shard; write those without new texts."""
        for number, shard in enumerate(shards):
            if _is_finished(self._path(number), shard):
                self._count(number, n_kept=len(shard))
                continue
            found, known = _find_known(self.known, shard) if self.known else ([], None)
            new = sorted(shard.keys() - set(found))
            self.waiting[number] = _Waiting(new=new, found=found, known=known)
            if new:
                yield number, [shard[key] for key in new]
            else:
                self._write(number, [])

    def finish(self, number: int, encoded: EncodedTexts) -> None:
        """Write a shard whose new texts have been encoded."""
        _check(encoded, self.spec, n_texts=len(self.waiting[number].new))
        self._write(number, [encoded])

    def _write(self, number: int, encoded: list[EncodedTexts]) -> None:
        shard = self.waiting.pop(number)
        parts = encoded if shard.known is None else [shard.known, *encoded]
        keys = [*shard.found, *shard.new]
        order = np.argsort(np.array(keys), kind="stable")
        vectors: FloatArray = np.concatenate([part.vectors for part in parts])[order]
        columns: dict[str, list[str] | IntArray] = {
            "text_id": sorted(keys),
            "n_tokens": np.concatenate([part.n_tokens for part in parts])[order],
            "n_tokens_cut": np.concatenate([part.n_tokens_cut for part in parts])[order],
        }
        path = self._path(number)
        write_vectors(columns, vectors, path=path, dtype=self.vector_dtype)
        same = self.earlier / path.name if self.earlier else None
        if same and same.is_file() and filecmp.cmp(same, path, shallow=False):
            share_file(same, path)
        self._count(number, n_reused=len(shard.found), n_encoded=len(shard.new))

    def _count(self, number: int, **n_texts: int) -> None:
        n_cut = pq.read_table(self._path(number), columns=["n_tokens_cut"])["n_tokens_cut"].to_numpy()
        self.counts.update(n_texts, n_cut=int(np.count_nonzero(n_cut)))
        self.report(self.counts.total() - self.counts["n_cut"])

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.parquet"


def _check(encoded: EncodedTexts, spec: EncoderSpec, *, n_texts: int) -> None:
    vectors = encoded.vectors
    if vectors.shape != (n_texts, spec.dim) or not np.isfinite(vectors).all():
        raise EncoderFailed(
            f"{spec.encoder_id} gave vectors of shape {vectors.shape} with "
            f"{int((~np.isfinite(vectors)).sum())} non-finite values, expected ({n_texts}, {spec.dim})"
        )


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
