"""Sentences that an encoder has read, kept on disk by their hash, so that none is read twice.

Files are only ever added, each under its final name at once, so several runs may share a folder, and a run that was
killed goes on with what it had. The folder may be deleted at any time; nothing but time is lost.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float, Int

import genekb
from genekb.core.progress import Progress, progress
from genekb.core.resources import raise_resource_fault
from genekb.encoders import EncodedTexts, Encoder
from genekb.files.replace import temporary_sibling
from genekb.store.home import find_home

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)
BATCH: Final = 512  # sentences a file: what a kill can cost at most
QUIET_S: Final = 2.0  # of work before progress is reported
_KEY, _VECTOR, _COUNTS = "sentence_sha256", "vector", ("n_tokens", "n_tokens_cut")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadSentences:
    """Vectors of sentences as an encoder gave them, in the order asked."""

    # (sentence, dim) float32; the same bytes whether read now or taken from the cache
    vectors: Float[np.ndarray, "sentence dim"]
    # n_tokens, n_tokens_cut: tokens of each sentence, and how many of them, at its end, the encoder did not read
    n_tokens: Int[np.ndarray, " sentence"]
    n_tokens_cut: Int[np.ndarray, " sentence"]
    n_encoded: int  # sentences that were encoded now; the others came from the cache


def sentence_folder(kb: genekb.Store, encoder_id: str) -> Path:
    """Where an encoder's sentences are kept: in the home that the store lies in, else in the user's artifact home."""
    stores = kb.folder.absolute().parent.parent
    home = stores.parent if stores.name == "stores" else find_home()
    return home / "cache" / "sentences" / encoder_id


def folder_bytes(folder: Path) -> int:
    """Bytes that a folder of sentences takes on disk; 0 if there is none."""
    return sum(path.stat().st_size for path in folder.glob("*.parquet"))


def read_sentences(
    sentences: Sequence[str], encoder: Encoder, *, folder: Path | None, progress: Progress = progress
) -> ReadSentences:
    """Encode sentences in batches, keeping each batch as it is done and taking over those that are kept already.

    ``sentences``: distinct, each with at least one letter or digit. They are encoded in the order of their hashes, so
    the order given changes nothing. ``folder``: of this encoder's sentences; None keeps nothing. Where it cannot be
    written, the run goes on without. ``progress``: called after each batch, once the work has taken longer than
    :data:`QUIET_S`. Raises ``ValueError`` if a sentence is given twice, or holds no letter or digit;
    ``EncoderFailed`` if a vector is not finite or has no length.
    """
    keys = [hashlib.sha256(sentence.encode()).digest() for sentence in sentences]
    row_of = {key: row for row, key in enumerate(keys)}
    if len(row_of) < len(keys):
        raise ValueError(f"{len(keys) - len(row_of)} of {len(keys)} sentences are given twice; give each once")
    spec = encoder.spec
    vectors = np.empty((len(keys), spec.dim), dtype=np.float32)
    counts = np.zeros((len(keys), 2), dtype=np.int32)
    missing = np.ones(len(keys), dtype=bool)
    for rows, kept in _kept(folder, row_of, encoder_id=str(spec.encoder_id), dim=spec.dim) if folder else ():
        _place(vectors, counts, rows, kept)
        missing[rows] = False
    todo = np.array(sorted(np.flatnonzero(missing).tolist(), key=keys.__getitem__), dtype=np.int64)
    started = time.monotonic()
    for start in range(0, len(todo), BATCH):
        rows = todo[start : start + BATCH]
        encoded = encoder.encode([sentences[row] for row in rows])
        _place(vectors, counts, rows, encoded)
        if folder and not _keep([keys[row] for row in rows], encoded, folder=folder, encoder_id=str(spec.encoder_id)):
            folder = None
        if time.monotonic() - started > QUIET_S:
            progress("sentences", len(keys) - len(todo) + start + len(rows), len(keys))
    if folder and len(todo):
        megabytes = folder_bytes(folder) / 1e6
        log.info("%d sentences encoded; %s holds %.1f MB, delete it at any time", len(todo), folder, megabytes)
    return ReadSentences(vectors=vectors, n_tokens=counts[:, 0], n_tokens_cut=counts[:, 1], n_encoded=len(todo))


def _place(
    vectors: Float[np.ndarray, "sentence dim"],
    counts: Int[np.ndarray, "sentence two"],
    rows: Int[np.ndarray, " row"],
    encoded: EncodedTexts,
) -> None:
    vectors[rows] = encoded.vectors
    counts[rows] = np.column_stack([encoded.n_tokens, encoded.n_tokens_cut])


def _kept(
    folder: Path, row_of: dict[bytes, int], *, encoder_id: str, dim: int
) -> Iterator[tuple[Int[np.ndarray, " row"], EncodedTexts]]:
    """Give what is kept of the wanted sentences, file by file in the order of their names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("*.parquet")):
        try:
            keys = pq.read_table(path, columns=[_KEY], page_checksum_verification=True)[_KEY].to_pylist()
            wanted = np.flatnonzero([key in row_of for key in keys])
            if len(wanted):
                table = pq.read_table(path, page_checksum_verification=True)
                yield np.array([row_of[keys[at]] for at in wanted]), _unpack(table, wanted, encoder_id, dim)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise_resource_fault(error)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("%s is damaged (%s) and is removed; its sentences are read again", path, reason)
            _remove(path)


def _unpack(table: "pa.Table", wanted: Int[np.ndarray, " row"], encoder_id: str, dim: int) -> EncodedTexts:
    """Take rows of a file.

    Raises ``ValueError`` if they are of another encoder, or not finite vectors of its length.
    """
    found = (table.schema.metadata or {}).get(b"encoder_id", b"").decode()
    if found != encoder_id:
        raise ValueError(f"it is of encoder {found!r}, not of {encoder_id!r}")
    flat = table[_VECTOR].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(table.num_rows, dim)[wanted]
    if vectors.dtype != np.float32 or not np.isfinite(vectors).all():
        raise ValueError("its vectors are not finite float32")
    n_tokens, n_tokens_cut = (table[name].to_numpy()[wanted] for name in _COUNTS)
    return EncodedTexts(vectors=vectors, n_tokens=n_tokens, n_tokens_cut=n_tokens_cut)


def _keep(keys: Sequence[bytes], encoded: EncodedTexts, *, folder: Path, encoder_id: str) -> bool:
    """Write a batch to a file of its own, named by the sentences in it; whether that could be done."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(np.ascontiguousarray(encoded.vectors, dtype=np.float32).ravel())
    columns = {
        _KEY: pa.array(keys, pa.binary(32)),
        _VECTOR: pa.FixedSizeListArray.from_arrays(flat, encoded.vectors.shape[1]),
        _COUNTS[0]: pa.array(encoded.n_tokens),
        _COUNTS[1]: pa.array(encoded.n_tokens_cut),
    }
    table = pa.table(columns).replace_schema_metadata({"encoder_id": encoder_id})
    path = folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:32]}.parquet"
    part = temporary_sibling(path)  # even if two runs write the same batch
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, part, use_dictionary=False, write_page_checksum=True)
        part.replace(path)
    except OSError as error:
        log.warning("sentences are not kept: %s cannot be written (%s)", folder, error.strerror or error)
        _remove(part)
        return False
    return True


def _remove(path: Path) -> None:
    """Remove a file of the cache; one that cannot be removed does no harm."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.debug("%s cannot be removed: %s", path, error)
