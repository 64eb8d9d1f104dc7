"""Encode the texts of a store shard by shard, reusing the vectors that already exist.

A shard is a pure function of the texts whose id falls into its range, and an atomic file: a killed encoding resumes
with the same bytes. An engine encodes; this module plans the shards and writes them.
"""

import filecmp
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genekb.builder.engine import LOCAL, EncodingJob, Engine, read_encoded
from genekb.core.errors import EncoderFailed
from genekb.core.progress import Progress
from genekb.core.resources import raise_resource_fault
from genekb.encoders import EncodedTexts, EncoderSpec
from genekb.files.atomic import share_file, write_json
from genekb.schema import FloatArray, IntArray
from genekb.store.writer import write_vectors

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
    return rows["text_id"].to_pylist(), read_encoded(rows) if rows.num_rows else None


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
