"""Who encodes the shards of a store: this process, or workers of Ray. Plan, files and commit are the same for both."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

from genekb.encoders import EncodedTexts, Encoder, EncoderSpec

_Name = Literal["local", "ray"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Who encodes the texts.

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
class Opening:
    """How the encoder of a job is opened, here and elsewhere."""

    spec: EncoderSpec  # the recipe
    load: Callable[[], Encoder]  # gives the encoder in this process
    state: Path  # folder that holds its fitted state, if it has one
    place: Path | None = None  # local folder that it was given as, if it was


class Engine(Protocol):
    """Encodes numbered lists of texts."""

    def encode(
        self, shards: Iterable[tuple[int, Sequence[str]]], *, opening: Opening
    ) -> Iterator[tuple[int, EncodedTexts]]:
        """Give each list's number and vectors, in any order; a list is handed to one encoder, whole."""


class _LocalEngine:
    """Encodes in this process, one list after the other."""

    def encode(
        self, shards: Iterable[tuple[int, Sequence[str]]], *, opening: Opening
    ) -> Iterator[tuple[int, EncodedTexts]]:
        """Encode as :class:`Engine` says, in the order of the lists."""
        for number, texts in shards:
            yield number, opening.load().encode(texts)


LOCAL: Final = _LocalEngine()
