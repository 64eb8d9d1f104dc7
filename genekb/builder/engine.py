"""Engines that encode the shards of a store: this process, or workers of Ray; plan, files and commit are the same."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

from genekb.core.errors import NotAvailable
from genekb.encoders import EncodedTexts, Encoder, EncoderSpec

_Name = Literal["local", "ray"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Which engine encodes the texts.

    Parameters
    ----------
    name
        ``local``, this process alone; or ``ray``, an actor pool of Ray Data.
    workers
        Actors of Ray; one for each GPU, or for every ``CPUS_PER_WORKER`` CPUs, if left out.
    stall_timeout_s
        Seconds without a finished shard after which the Ray engine gives up; loading an encoder counts.
    ray_address
        Ray cluster to connect to; else the environment variable ``RAY_ADDRESS``, else a Ray of this machine alone.

    Raises
    ------
    ValueError
        If a value is out of range, or belongs to the other engine.
    """

    name: _Name = "local"
    workers: int | None = None
    stall_timeout_s: float = 900.0
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(_Name):
            raise ValueError(f"engine must be one of {', '.join(get_args(_Name))}, got {self.name!r}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be >= 1, got {self.workers}")
        if not (self.stall_timeout_s > 0 and math.isfinite(self.stall_timeout_s)):
            raise ValueError(f"stall timeout must be a number of seconds > 0, got {self.stall_timeout_s}")
        if self.name == "local" and (self.workers is not None or self.ray_address is not None):
            raise ValueError("workers and a Ray address belong to the engine ray; the local one has --threads")


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingJob:
    """One encoder's work on the texts of a store."""

    spec: EncoderSpec  # the recipe
    open: Callable[[], Encoder]  # loads the encoder; called when the first text has to be encoded
    # folder of vectors by the same recipe and of the same stored type, from which known texts are reused
    reuse: Path | None = None
    model_folder: Path | None = None  # local folder that the encoder was given as, if it was
    # of a shuffled encoder: the text whose vector a text is given. The vectors are then taken from the folder of the
    # base encoder, where one is being built beside this one
    partner: Callable[[str], str] | None = None


class Engine(Protocol):
    """Encodes numbered lists of texts."""

    def encode(
        self, shards: Iterable[tuple[int, Sequence[str]]], *, job: EncodingJob, state: Path
    ) -> Iterator[tuple[int, EncodedTexts]]:
        """Yield each list's number and vectors, in any order; one encoder gets the whole list.

        ``state``: folder that holds the fitted state of the encoder, if it has one.
        """


class _LocalEngine:
    """Encodes in this process, one list after the other."""

    def encode(
        self, shards: Iterable[tuple[int, Sequence[str]]], *, job: EncodingJob, state: Path
    ) -> Iterator[tuple[int, EncodedTexts]]:
        """Encode as :class:`Engine` says, in the order of the lists."""
        del state
        for number, texts in shards:
            yield number, job.open().encode(texts)


LOCAL: Final = _LocalEngine()


@contextmanager
def open_engine(
    config: EngineConfig, *, device: str = "auto", threads: int | None = None, trust_remote_code: bool = False
) -> Iterator[Engine]:
    """Open an engine and close it at the end; Ray is started, or connected to, when the first text needs it.

    ``device``, ``threads``, ``trust_remote_code``: how workers open encoders. Raises ``NotAvailable`` if Ray is asked
    for and is not installed.
    """
    if config.name == "local":
        yield LOCAL
        return
    if find_spec("ray") is None:
        raise NotAvailable("--engine ray needs Ray; pip install 'genekb-cellmodel[ray]', or use --engine local")
    from genekb.builder.engine_ray import RayEngine

    with RayEngine(config, device=device, threads=threads, trust_remote_code=trust_remote_code) as engine:
        yield engine
