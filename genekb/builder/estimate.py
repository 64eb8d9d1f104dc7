"""How long an encoder will take for texts, and how large its vectors will be: measured on a sample of the texts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from genekb.encoders import Encoder

SAMPLE: Final = 1024  # texts that a fitted encoder is fitted on
BATCH: Final = 64
ENOUGH_S: Final = 2.0  # of encoding, after which the rate is known well enough


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Cost of encoding on this machine, in one process."""

    n_texts: int  # texts to encode
    seconds: float  # loading, or fitting, and encoding
    n_bytes: int  # stored vectors, before compression


def estimate_encoding(
    load: Callable[[Sequence[str]], Encoder], texts: Sequence[str], *, n_texts: int | None = None, dtype: str
) -> Estimate:
    """Load an encoder and let it encode some of the texts, at most about :data:`ENOUGH_S` seconds.

    ``load``: gives the encoder for a corpus, of which a fitted one needs more time the longer it is. ``texts``:
    distinct texts; those that are measured are of every length. ``n_texts``: how many are to be encoded; all if None.
    ``dtype``: stored type of the vectors. Raises ``NotAvailable`` if the encoder is not on this machine.
    """
    n_all = len(texts) if n_texts is None else n_texts
    by_length = sorted(texts, key=len)
    sample = by_length[:: max(1, len(by_length) // SAMPLE)]
    encoder, load_s = _timed(load, sample)
    if encoder.spec.family.is_fitted and n_texts is None:  # the first time its libraries were loaded as well
        load_s += _timed(load, sample)[1] * n_all / len(sample)
    encoder.encode(sample[:1])  # what the first text alone needs is not part of the rate
    n_batches = -(-len(sample) // BATCH)
    n_done, started = 0, time.perf_counter()
    for number in range(n_batches):
        batch = sample[number::n_batches]
        encoder.encode(batch)
        n_done += len(batch)
        if time.perf_counter() - started > ENOUGH_S:
            break
    encode_s = (time.perf_counter() - started) * n_all / n_done
    n_bytes = n_all * encoder.spec.dim * np.dtype(dtype).itemsize
    return Estimate(n_texts=n_all, seconds=round(load_s + encode_s, 1), n_bytes=n_bytes)


def _timed(load: Callable[[Sequence[str]], Encoder], sample: Sequence[str]) -> tuple[Encoder, float]:
    started = time.perf_counter()
    return load(sample), time.perf_counter() - started
