"""Build a store: plan which texts lack a vector, encode them shard by shard, commit with one rename.

A shard is a pure function of the texts whose id falls into its range, and an atomic file; so a build that was killed
goes on where it was and ends with the same bytes as one that was not.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genekb.documents import DEFAULT_TEMPLATE, Template, build_texts
from genekb.encoders import Encoder, load_encoder
from genekb.errors import EncoderFailed, SourceUnusable
from genekb.schema import SCHEMA_VERSION
from genekb.sources.tables import SourceTables
from genekb.store.card import store_card
from genekb.store.home import check_name, find_home
from genekb.store.manifest import Manifest, canonical_json
from genekb.store.writer import (
    TEMPORARY,
    commit,
    describe_stored,
    locked,
    write_json,
    write_table,
    write_text,
    write_vectors,
    writing_to,
)

log = logging.getLogger(__name__)
SHARD_SIZE: Final = 512  # texts a shard, on average: what a kill can cost at most
RECIPE: Final = "recipe.json"

Progress = Callable[[str, int, int], None]  # encoder_id, texts done, texts in all


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """How a store is built.

    Parameters
    ----------
    name
        ``NAME@RELEASE``, or ``NAME`` to take the release of the source.
    models
        Encoders by registry name, Hugging Face id or local folder; none builds texts alone.
    genes
        Type of gene that is given a text (``protein-coding``), or ``all``.
    only_names
        If given, only genes that one of these names stands for are given a text.
    template
        Template of the texts.
    vector_dtype
        Stored type of the vectors.
    compute_dtype
        ``auto``, ``float32`` or ``bfloat16``.
    device, threads, online
        Handed to the encoder; ``online`` allows a download of its weights.
    """

    name: str
    models: tuple[str, ...] = ("auto",)
    genes: str = "all"
    only_names: tuple[str, ...] | None = None
    template: Template = DEFAULT_TEMPLATE
    vector_dtype: Literal["float16", "float32"] = "float16"
    compute_dtype: str = "auto"
    device: str = "auto"
    threads: int | None = None
    online: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildResult:
    """The store that a build ended with.

    Parameters
    ----------
    folder
        Where it lies.
    manifest
        What it holds.
    n_encoded, n_kept
        Texts encoded now, and texts whose shard an earlier, interrupted run had left; over all encoders.
    """

    folder: Path
    manifest: Manifest
    n_encoded: int
    n_kept: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a build will do, before anything is written."""

    name: str
    texts: pa.Table
    selection: str
    n_unique_texts: int


def plan_build(source: SourceTables, config: BuildConfig) -> Plan:
    """Decide which genes get a text and which texts need a vector.

    Raises
    ------
    SourceUnusable
        If no gene of the selection has a usable text.
    """
    name = check_name(config.name if "@" in config.name else f"{config.name}@{source.release}")
    selected, selection = _select(source, config)
    texts = build_texts(source.genes, source.orthologs, template=config.template, selected=selected)
    if texts.num_rows == 0:
        raise SourceUnusable(f"no gene of the selection ({selection}) has a usable text; widen --genes or --only-genes")
    unique = len(texts["text_id"].unique())
    return Plan(name=name, texts=texts, selection=selection, n_unique_texts=unique)


def _select(source: SourceTables, config: BuildConfig) -> tuple[set[int] | None, str]:
    from genekb.resolve import resolve_names

    selected: set[int] | None = None
    words = [config.genes]
    if config.genes != "all":
        of_type = source.genes.filter(pc.equal(source.genes["type"], config.genes))
        if of_type.num_rows == 0:
            types = ", ".join(sorted(filter(None, source.genes["type"].unique().to_pylist())))
            raise SourceUnusable(f"no gene has the type {config.genes!r}; the source has {types}")
        selected = set(of_type["gene_id"].to_pylist())
    if config.only_names is not None:
        resolution = resolve_names(config.only_names, name_table=source.names, gene_ids=source.genes["gene_id"])
        found = set(resolution.gene_ids[resolution.is_resolved].tolist())
        selected = found if selected is None else selected & found
        digest = sha256("\n".join(sorted(set(config.only_names))).encode()).hexdigest()[:12]
        words.append(f"only the genes of {len(set(config.only_names))} names ({digest})")
    return selected, ", ".join(words)


def build(
    source: SourceTables, config: BuildConfig, *, home: Path | None = None, progress: Progress | None = None
) -> BuildResult:
    """Build a store, or go on with one that was interrupted.

    Parameters
    ----------
    source
        Gene records.
    home
        Artifact home, see :func:`genekb.store.home.find_home`.
    progress
        Called after each shard.

    Raises
    ------
    SourceUnusable
        If the selection holds no usable text.
    NotAvailable
        If an encoder is not on this machine, or the home cannot be written.
    StoreBusy
        If another process builds the same name.
    """
    plan = plan_build(source, config)
    corpus = plan.texts["text"].unique().to_pylist()
    encoders = [
        load_encoder(
            model,
            corpus=corpus,
            device=config.device,
            dtype=config.compute_dtype,
            threads=config.threads,
            online=config.online,
        )
        for model in config.models
    ]
    name_folder = find_home(home) / "stores" / plan.name
    with writing_to(name_folder), locked(name_folder):
        staging = name_folder / f".building-{_plan_key(source, plan, config, encoders)}"
        _write_tables(source, plan, staging)
        encoded = kept = 0
        counts: dict[str, dict[str, object]] = {}
        for encoder in encoders:
            n_encoded, n_kept, n_cut = _encode(encoder, plan.texts, staging, config.vector_dtype, progress)
            encoded, kept = encoded + n_encoded, kept + n_kept
            counts[str(encoder.spec.encoder_id)] = {
                "recipe": encoder.spec.to_dict(),
                "vector_dtype": config.vector_dtype,
                "n_vectors": n_encoded + n_kept,
                "n_texts_cut": n_cut,
            }
        manifest = _manifest(source, plan, config, counts, staging)
        folder = commit(staging, manifest)
    return BuildResult(folder=folder, manifest=manifest, n_encoded=encoded, n_kept=kept)


def _plan_key(source: SourceTables, plan: Plan, config: BuildConfig, encoders: Sequence[Encoder]) -> str:
    content = {
        "schema": SCHEMA_VERSION,
        "files": [asdict(file) for file in source.files],
        "release": source.release,
        "selection": plan.selection,
        "template": config.template.number,
        "vector_dtype": config.vector_dtype,
        "encoders": [str(encoder.spec.encoder_id) for encoder in encoders],
        "texts": sha256("".join(plan.texts["text_id"].to_pylist()).encode()).hexdigest(),
    }
    return sha256(canonical_json(content).encode()).hexdigest()[:16]


def _write_tables(source: SourceTables, plan: Plan, staging: Path) -> None:
    for part in staging.rglob(f"*{TEMPORARY}"):
        part.unlink()
    write_table(source.genes, staging / "genes.parquet")
    write_table(source.names, staging / "names.parquet")
    write_table(plan.texts, staging / "texts.parquet")


def _encode(
    encoder: Encoder, texts: pa.Table, staging: Path, vector_dtype: str, progress: Progress | None
) -> tuple[int, int, int]:
    folder = staging / "embeddings" / str(encoder.spec.encoder_id)
    encoder.save(folder)
    write_json(encoder.spec.to_dict(), folder / RECIPE)
    shards = plan_shards(texts)
    total = sum(len(shard) for shard in shards)
    encoded = kept = cut = 0
    for number, shard in enumerate(shards):
        path = folder / f"part-{number:05d}.parquet"
        if _is_finished(path, shard):
            kept += len(shard)
        else:
            _encode_shard(encoder, shard, path, vector_dtype)
            encoded += len(shard)
        cut += int(np.count_nonzero(pq.read_table(path, columns=["n_tokens_cut"])["n_tokens_cut"].to_numpy()))
        if progress:
            progress(str(encoder.spec.encoder_id), encoded + kept, total)
    return encoded, kept, cut


def plan_shards(texts: pa.Table) -> list[dict[str, str]]:
    """Split the distinct texts by ranges of their ids into shards of about :data:`SHARD_SIZE`.

    Returns
    -------
    A list of mappings text_id → text, each ordered by text_id; empty shards are left out.
    """
    by_id = dict(sorted(zip(texts["text_id"].to_pylist(), texts["text"].to_pylist(), strict=True)))
    n_shards = max(1, round(len(by_id) / SHARD_SIZE))
    shards: list[dict[str, str]] = [{} for _ in range(n_shards)]
    for key, text in by_id.items():
        shards[int(key[:8], 16) * n_shards >> 32][key] = text
    return [shard for shard in shards if shard]


def _is_finished(path: Path, shard: dict[str, str]) -> bool:
    if not path.is_file():
        return False
    try:
        return pq.read_table(path, columns=["text_id"])["text_id"].to_pylist() == list(shard)
    except (pa.ArrowInvalid, OSError):
        log.warning("%s is damaged and is encoded again", path.name)
        return False


def _encode_shard(encoder: Encoder, shard: dict[str, str], path: Path, vector_dtype: str) -> None:
    result = encoder.encode(list(shard.values()))
    vectors = result.vectors
    if vectors.shape != (len(shard), encoder.spec.dim) or not np.isfinite(vectors).all():
        raise EncoderFailed(
            f"{encoder.spec.encoder_id} gave vectors of shape {vectors.shape} with "
            f"{int((~np.isfinite(vectors)).sum())} non-finite values, expected ({len(shard)}, {encoder.spec.dim})"
        )
    write_vectors(list(shard), vectors, (result.n_tokens, result.n_tokens_cut), path=path, dtype=vector_dtype)


def _manifest(
    source: SourceTables, plan: Plan, config: BuildConfig, encoders: dict[str, dict[str, object]], staging: Path
) -> Manifest:
    name, _, release = plan.name.partition("@")
    base = Manifest(
        name=name,
        release=release,
        taxa=tuple(sorted(source.genes["tax_id"].unique().to_pylist())),
        sources=tuple(asdict(file) for file in source.files),
        dropped=source.dropped,
        selection=plan.selection,
        template={"number": config.template.number, "name": config.template.name},
        n_genes=source.genes.num_rows,
        n_texts=plan.texts.num_rows,
        n_unique_texts=plan.n_unique_texts,
        n_ortholog_texts=int(pc.sum(pc.equal(plan.texts["origin"], "ortholog")).as_py() or 0),
        encoders=encoders,
        files=(),
        licences=(source.licence,),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        created_by=f"genekb {code_version()}",
    )
    write_text(store_card(base), staging / "README.md")
    return _with_files(base, staging)


def _with_files(manifest: Manifest, staging: Path) -> Manifest:
    from dataclasses import replace

    return replace(manifest, files=describe_stored(staging))


def code_version() -> str:
    """Version of the installed distribution, or ``unknown`` when run from a source tree."""
    try:
        return version("genekb-cellmodel")
    except PackageNotFoundError:
        return "unknown"
