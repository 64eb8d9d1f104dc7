"""Encode the texts of a store shard by shard, reusing the vectors that already exist.

A shard is a pure function of the texts whose id falls into its range, and an atomic file: a killed encoding resumes
with the same bytes. An engine encodes; this module plans the shards and writes them.
"""

import filecmp
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genekb.builder.engine import LOCAL, EncodingJob, Engine
from genekb.core.errors import EncoderFailed
from genekb.core.resources import raise_resource_fault
from genekb.encoders import EncodedTexts, EncoderSpec
from genekb.files.atomic import share_file, write_json
from genekb.genes.texts import text_id
from genekb.schema import FloatArray, IntArray, vector_matrix
from genekb.store.writer import write_vectors

log = logging.getLogger(__name__)
SHARD_SIZE: Final = 512  # texts a shard, on average: what a kill can cost at most
RECIPE: Final = "recipe.json"

Progress = Callable[[str, int, int], None]  # encoder_id, texts done, texts in all


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingResult:
    """Number of texts of one encoder: encoded now, reused, kept from an interrupted run, and truncated in all."""

    n_encoded: int
    n_reused: int
    n_kept: int
    n_cut: int


def encode_texts(
    job: EncodingJob,
    texts: pa.Table,
    *,
    folder: Path,
    vector_dtype: str,
    progress: Progress | None,
    engine: Engine = LOCAL,
) -> EncodingResult:
    """Encode every distinct text into files below ``folder / embeddings / encoder_id``.

    ``texts``: table in the schema :data:`genekb.schema.TEXTS`. ``folder``: staging folder of the store. Raises
    ``EncoderFailed`` if vectors have another shape than the recipe says, or values that are not finite.
    """
    target = folder / "embeddings" / str(job.spec.encoder_id)
    job = replace(job, open=cache(job.open))
    if job.reuse is None:
        job.open().save(target)
    else:
        share_folder(job.reuse, target, with_vectors=False)
    write_json(job.spec.to_dict(), target / RECIPE)
    base = folder / "embeddings" / job.spec.model_id
    known = _KnownVectors(base if job.partner and base.is_dir() else job.reuse, partner=job.partner)
    shards = plan_shards(texts)
    total = sum(len(shard) for shard in shards)

    def report(n_done: int) -> None:
        if progress:
            progress(str(job.spec.encoder_id), n_done, total)

    run = _Run(job.spec, known, folder=target, vector_dtype=vector_dtype, report=report, earlier=job.reuse)
    engine = LOCAL if job.spec.family.one_process else engine
    for number, encoded in engine.encode(run.missing(shards), job=job, state=target):
        run.finish(number, encoded)
    return EncodingResult(n_encoded=run.n_encoded, n_reused=run.n_reused, n_kept=run.n_kept, n_cut=run.n_cut)


def plan_shards(texts: pa.Table) -> list[dict[str, str]]:
    """Split the distinct texts by ranges of their ids into shards text_id → text of about :data:`SHARD_SIZE`."""
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


class _KnownVectors:
    """Vectors in a folder of shards, read range by range."""

    def __init__(self, folder: Path | None, *, partner: Callable[[str], str] | None) -> None:
        self._parts = sorted(folder.glob("part-*.parquet")) if folder else []
        ranges = [_first_and_last(path) for path in self._parts]
        self._firsts = np.array([first for first, _ in ranges], dtype=np.str_)
        self._lasts = np.array([last for _, last in ranges], dtype=np.str_)
        self._partner = partner

    def find(self, shard: Mapping[str, str]) -> tuple[list[str], EncodedTexts | None]:
        """Find the known texts of a shard: their ids, ascending, and their vectors."""
        if not self._parts:
            return [], None
        wanted = {self._key(key, text): key for key, text in shard.items()}
        first, last = min(wanted), max(wanted)
        near = np.flatnonzero((self._firsts <= last) & (self._lasts >= first))
        if not near.size:
            return [], None
        condition = (pc.field("text_id") >= first) & (pc.field("text_id") <= last)
        rows = pa.concat_tables([pq.read_table(self._parts[part], filters=condition) for part in near])
        rows = rows.filter(pc.is_in(rows["text_id"], pa.array(list(wanted), pa.string())))
        if rows.num_rows == 0:
            return [], None
        keys = [wanted[key] for key in rows["text_id"].to_pylist()]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return [keys[row] for row in order], _encoded(rows.take(order))

    def _key(self, key: str, text: str) -> str:
        return str(text_id(self._partner(text))) if self._partner else key


def _first_and_last(path: Path) -> tuple[str, str]:
    """First and last id of a shard, from the statistics of Parquet if it has them."""
    groups = pq.read_metadata(path)
    ranges = [groups.row_group(group).column(0).statistics for group in range(groups.num_row_groups)]
    if all(found is not None and found.has_min_max for found in ranges):
        return min(found.min for found in ranges), max(found.max for found in ranges)
    keys = pq.read_table(path, columns=["text_id"])["text_id"]
    return pc.min(keys).as_py(), pc.max(keys).as_py()


def _encoded(rows: pa.Table) -> EncodedTexts:
    return EncodedTexts(
        vectors=vector_matrix(rows["vector"]),
        n_tokens=rows["n_tokens"].to_numpy(),
        n_tokens_cut=rows["n_tokens_cut"].to_numpy(),
    )


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

    keys: list[str]
    new: list[str]
    found: list[str]
    known: EncodedTexts | None


class _Run:
    """Writes the shards of one encoder, and counts encoded, reused, kept and truncated texts."""

    def __init__(
        self, spec: EncoderSpec, known: _KnownVectors, *, folder: Path, vector_dtype: str,
        report: Callable[[int], None], earlier: Path | None = None,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._known = known
        self._folder = folder
        self._vector_dtype = vector_dtype
        self._report = report
        self._earlier = earlier
        self._waiting: dict[int, _Waiting] = {}
        self.n_encoded = self.n_reused = self.n_kept = self.n_cut = 0

    def missing(self, shards: Sequence[Mapping[str, str]]) -> Iterator[tuple[int, list[str]]]:
        """Yield the number and the new texts of each shard; write those without new texts."""
        for number, shard in enumerate(shards):
            path = self._path(number)
            if _is_finished(path, shard):
                self.n_kept += len(shard)
                self._count_cut(number)
                continue
            found, known = self._known.find(shard)
            new = [key for key in shard if key not in set(found)]
            self._waiting[number] = _Waiting(keys=list(shard), new=new, found=found, known=known)
            if new:
                yield number, [shard[key] for key in new]
            else:
                self._write(number, [])

    def finish(self, number: int, encoded: EncodedTexts) -> None:
        """Write a shard whose new texts have been encoded."""
        _check(encoded, self._spec, n_texts=len(self._waiting[number].new))
        self._write(number, [encoded])

    def _write(self, number: int, encoded: list[EncodedTexts]) -> None:
        shard = self._waiting.pop(number)
        parts = encoded if shard.known is None else [shard.known, *encoded]
        order = np.argsort(np.array([*shard.found, *shard.new]), kind="stable")
        vectors: FloatArray = np.concatenate([part.vectors for part in parts])[order]
        tokens: IntArray = np.concatenate([part.n_tokens for part in parts])[order]
        cut: IntArray = np.concatenate([part.n_tokens_cut for part in parts])[order]
        path = self._path(number)
        write_vectors(shard.keys, vectors, (tokens, cut), path=path, dtype=self._vector_dtype)
        same = self._earlier / path.name if self._earlier else None
        if same and same.is_file() and filecmp.cmp(same, path, shallow=False):
            share_file(same, path)
        self.n_reused, self.n_encoded = self.n_reused + len(shard.found), self.n_encoded + len(shard.new)
        self._count_cut(number)

    def _count_cut(self, number: int) -> None:
        n_cut = pq.read_table(self._path(number), columns=["n_tokens_cut"])["n_tokens_cut"].to_numpy()
        self.n_cut += int(np.count_nonzero(n_cut))
        self._report(self.n_encoded + self.n_reused + self.n_kept)

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:05d}.parquet"


def _check(encoded: EncodedTexts, spec: EncoderSpec, *, n_texts: int) -> None:
    vectors = encoded.vectors
    if vectors.shape != (n_texts, spec.dim) or not np.isfinite(vectors).all():
        raise EncoderFailed(
            f"{spec.encoder_id} gave vectors of shape {vectors.shape} with "
            f"{int((~np.isfinite(vectors)).sum())} non-finite values, expected ({n_texts}, {spec.dim})"
        )
