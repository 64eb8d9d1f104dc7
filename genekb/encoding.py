"""Encode the texts of a store shard by shard, taking over the vectors that already exist.

A shard is a pure function of the texts whose id falls into its range, and an atomic file; so an encoding that was
killed goes on where it was and ends with the same bytes as one that was not.
"""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genekb.documents import text_id
from genekb.encoders import EncodedTexts, Encoder, EncoderSpec
from genekb.errors import EncoderFailed
from genekb.files import write_json
from genekb.store.writer import write_vectors
from genekb.types import FloatArray, IntArray

log = logging.getLogger(__name__)
SHARD_SIZE: Final = 512  # texts a shard, on average: what a kill can cost at most
RECIPE: Final = "recipe.json"

Progress = Callable[[str, int, int], None]  # encoder_id, texts done, texts in all


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingJob:
    """One encoder's work on the texts of a store.

    Parameters
    ----------
    spec
        The recipe.
    open
        Loads the encoder; called when the first text has to be encoded.
    reuse
        Folder of vectors by the same recipe and of the same stored type, from which known texts are taken.
    place
        Local folder that the encoder was given as, if it was.
    partner
        For a shuffled encoder: the text whose vector a text is given. The vectors are then taken from the folder of
        the base encoder, where one is being built beside this one.
    """

    spec: EncoderSpec
    open: Callable[[], Encoder]
    reuse: Path | None = None
    place: Path | None = None
    partner: Callable[[str], str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingResult:
    """Texts of one encoder: encoded now, taken from elsewhere, left by an interrupted run, and cut in all."""

    n_encoded: int
    n_reused: int
    n_kept: int
    n_cut: int


def encode_texts(
    job: EncodingJob, texts: pa.Table, *, folder: Path, vector_dtype: str, progress: Progress | None
) -> EncodingResult:
    """Give every distinct text a vector, in files below ``folder / embeddings / encoder_id``.

    Parameters
    ----------
    texts
        Table in the schema :data:`genekb.schema.TEXTS`.
    folder
        Staging folder of the store.

    Raises
    ------
    EncoderFailed
        If the encoder gives vectors of another shape, or values that are not finite.
    """
    target = folder / "embeddings" / str(job.spec.encoder_id)
    opened = _Opened(job.open)
    if job.reuse is None:
        opened.get().save(target)
    else:
        _copy_state(job.reuse, target)
    write_json(job.spec.to_dict(), target / RECIPE)
    base = folder / "embeddings" / job.spec.model_id
    known = _KnownVectors(base if job.partner and base.is_dir() else job.reuse, partner=job.partner)
    shards = plan_shards(texts)
    total = sum(len(shard) for shard in shards)
    encoded = reused = kept = cut = 0
    for number, shard in enumerate(shards):
        path = target / f"part-{number:05d}.parquet"
        if _is_finished(path, shard):
            kept += len(shard)
        else:
            n_reused = _write_shard(job.spec, opened, known, shard=shard, path=path, vector_dtype=vector_dtype)
            reused, encoded = reused + n_reused, encoded + len(shard) - n_reused
        cut += int(np.count_nonzero(pq.read_table(path, columns=["n_tokens_cut"])["n_tokens_cut"].to_numpy()))
        if progress:
            progress(str(job.spec.encoder_id), encoded + reused + kept, total)
    return EncodingResult(n_encoded=encoded, n_reused=reused, n_kept=kept, n_cut=cut)


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


def known_text_ids(folder: Path) -> pa.ChunkedArray:
    """Ids of all texts that have a vector in a folder of shards."""
    parts = sorted(folder.glob("part-*.parquet"))
    tables = [pq.read_table(path, columns=["text_id"]) for path in parts]
    return pa.chunked_array([chunk for table in tables for chunk in table["text_id"].iterchunks()], pa.string())


class _Opened:
    """An encoder that is loaded when it is first asked for."""

    def __init__(self, load: Callable[[], Encoder]) -> None:
        self._load = load
        self._encoder: Encoder | None = None

    def get(self) -> Encoder:
        """Give the encoder."""
        if self._encoder is None:
            self._encoder = self._load()
        return self._encoder


class _KnownVectors:
    """Vectors that lie in a folder of shards; read range by range, never all at once."""

    def __init__(self, folder: Path | None, *, partner: Callable[[str], str] | None) -> None:
        self._parts = sorted(folder.glob("part-*.parquet")) if folder else []
        self._partner = partner

    def find(self, shard: Mapping[str, str]) -> tuple[list[str], EncodedTexts | None]:
        """Give the ids of the shard's texts that are known, ascending, and what is known of them."""
        if not self._parts:
            return [], None
        wanted = {self._key(key, text): key for key, text in shard.items()}
        condition = (pc.field("text_id") >= min(wanted)) & (pc.field("text_id") <= max(wanted))
        rows = pa.concat_tables([pq.read_table(path, filters=condition) for path in self._parts])
        rows = rows.filter(pc.is_in(rows["text_id"], pa.array(list(wanted), pa.string())))
        if rows.num_rows == 0:
            return [], None
        keys = [wanted[key] for key in rows["text_id"].to_pylist()]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return [keys[row] for row in order], _encoded(rows.take(order))

    def _key(self, key: str, text: str) -> str:
        return str(text_id(self._partner(text))) if self._partner else key


def _encoded(rows: pa.Table) -> EncodedTexts:
    vectors = rows["vector"].combine_chunks()
    flat = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return EncodedTexts(
        vectors=flat.reshape(len(vectors), -1),
        n_tokens=rows["n_tokens"].to_numpy(),
        n_tokens_cut=rows["n_tokens_cut"].to_numpy(),
    )


def _copy_state(source: Path, target: Path) -> None:
    """Copy what an encoder saved beside its vectors."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.name.startswith("part-"):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def _is_finished(path: Path, shard: Mapping[str, str]) -> bool:
    if not path.is_file():
        return False
    try:
        return pq.read_table(path, columns=["text_id"])["text_id"].to_pylist() == list(shard)
    except (pa.ArrowInvalid, OSError):
        log.warning("%s is damaged and is encoded again", path.name)
        return False


def _write_shard(
    spec: EncoderSpec, opened: _Opened, known: _KnownVectors, *, shard: Mapping[str, str], path: Path, vector_dtype: str
) -> int:
    """Write one shard and give the number of vectors that were taken over."""
    found, taken = known.find(shard)
    new = [key for key in shard if key not in set(found)]
    parts = [] if taken is None else [taken]
    if new:
        parts.append(_encode(spec, opened.get(), [shard[key] for key in new]))
    order = np.argsort(np.array([*found, *new]), kind="stable")
    vectors: FloatArray = np.concatenate([part.vectors for part in parts])[order]
    tokens: IntArray = np.concatenate([part.n_tokens for part in parts])[order]
    cut: IntArray = np.concatenate([part.n_tokens_cut for part in parts])[order]
    write_vectors(list(shard), vectors, (tokens, cut), path=path, dtype=vector_dtype)
    return len(found)


def _encode(spec: EncoderSpec, encoder: Encoder, texts: Sequence[str]) -> EncodedTexts:
    result = encoder.encode(texts)
    vectors = result.vectors
    if vectors.shape != (len(texts), spec.dim) or not np.isfinite(vectors).all():
        raise EncoderFailed(
            f"{spec.encoder_id} gave vectors of shape {vectors.shape} with "
            f"{int((~np.isfinite(vectors)).sum())} non-finite values, expected ({len(texts)}, {spec.dim})"
        )
    return result
