"""Engines that encode the shards of a store: this process, or actors of Ray, on this machine or a cluster.

Texts of a shard go to an actor of Ray and vectors come back to this process, which alone writes: no shared folder is
needed. An actor that dies is started again by Ray, and its shard is encoded again.
"""

import logging
import math
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

from genekb.core.errors import EncoderFailed, GeneKBError, NotAvailable
from genekb.core.messages import check_choice
from genekb.core.plugins import require
from genekb.core.resources import sigterm_handler_kept
from genekb.encoders import EncodedTexts, Encoder, EncoderSpec, reopen_encoder

_Name = Literal["local", "ray"]
Shard = tuple[int, Sequence[str]]  # number and texts
Encoded = Iterator[tuple[int, EncodedTexts]]  # number of a shard and vectors of its texts
log = logging.getLogger(__name__)
CPUS_PER_WORKER: Final = 4  # beyond that a second actor gains more than another thread
_CONNECT_TIMEOUT_S: Final = 10
_OBJECT_STORE_BYTES: Final = 256 << 20
_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Which engine encodes the texts; ``ValueError`` if a value is out of range, or belongs to the other engine."""

    name: _Name = "local"  # this process alone; or ``ray``, actors of Ray
    workers: int | None = None  # actors of Ray; one for each GPU, or for every ``CPUS_PER_WORKER`` CPUs, if left out
    stall_timeout_s: float = 900.0  # without a finished shard, after which Ray is given up; loading an encoder counts
    ray_address: str | None = None  # Ray cluster; else environment variable ``RAY_ADDRESS``, else this machine alone

    def __post_init__(self) -> None:
        check_choice("engine", self.name, get_args(_Name))
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be >= 1, got {self.workers}")
        if not (self.stall_timeout_s > 0 and math.isfinite(self.stall_timeout_s)):
            raise ValueError(f"stall timeout must be a number of seconds > 0, got {self.stall_timeout_s}")
        if self.name == "local" and (self.workers is not None or self.ray_address is not None):
            raise ValueError("workers and a Ray address belong to the engine ray; the local one has `threads`")

    @property
    def address(self) -> str:
        """Address of the Ray cluster, or ``local``."""
        return self.ray_address or os.environ.get("RAY_ADDRESS") or "local"


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingJob:
    """One encoder's work on the texts of a store."""

    spec: EncoderSpec  # the recipe
    open: Callable[[], Encoder]  # loads the encoder; called when the first text has to be encoded
    # folder of vectors by the same recipe and of the same stored type, from which known texts are reused
    reuse: Path | None = None
    model_folder: Path | None = None  # local folder that the encoder was given as, if it was


class Engine(Protocol):
    """Encodes numbered lists of texts."""

    def encode(self, shards: Iterable[Shard], *, job: EncodingJob, state: Path) -> Encoded:
        """Yield each list's number and vectors, in any order; one encoder gets the whole list.

        ``state``: folder that holds the fitted state of the encoder, if it has one.
        """


class _LocalEngine:
    """Encodes in this process, one list after the other."""

    def encode(self, shards: Iterable[Shard], *, job: EncodingJob, state: Path) -> Encoded:
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
    _require_ray()
    engine = RayEngine(config=config, device=device, threads=threads, trust_remote_code=trust_remote_code)
    with redirect_stdout(sys.stderr):  # Ray prints that a worker died; stdout carries the result of a command
        try:
            yield engine
        finally:
            engine.close()


@contextmanager
def open_ray(config: EngineConfig) -> Iterator[None]:
    """Connect to a Ray cluster, or start one on this machine, while the work lasts.

    Raises ``NotAvailable`` if Ray is not installed, or the cluster cannot be reached.
    """
    _require_ray()
    with redirect_stdout(sys.stderr):
        is_ours = start_ray(config.address)
        try:
            yield
        finally:
            if is_ours:
                import ray

                ray.shutdown()


def _require_ray() -> None:
    """Raise ``NotAvailable`` if Ray is not installed."""
    require("ray", needed_by='engine="ray" needs', instead='use engine="local"')


def start_ray(address: str) -> bool:
    """Connect to Ray at an address, or start one on this machine; gives whether one was started or connected to.

    Raises ``NotAvailable`` if nothing answers at the address.
    """
    _check_address(address)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return False
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == "local":
        settings |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        with sigterm_handler_kept():
            ray.init(address=address, **settings)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _not_there(address) from error
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSize:
    """Actors of a pool, and what each asks Ray for: the threads that it computes with, and GPUs."""

    workers: int
    threads: int
    gpus: int


def plan_pool(
    node_cpus: Sequence[float], *, n_gpus: int = 0, workers: int | None = None, threads: int | None = None
) -> PoolSize:
    """Size a pool so that all actors fit.

    ``node_cpus``: CPUs of each machine. ``n_gpus``: GPUs in all; where there are any, each actor takes one.
    ``workers``, ``threads``: as the user decided; those that do not fit wait until the cluster grows.
    """
    total = max(1, sum(int(cpus) for cpus in node_cpus))
    if workers is None:
        workers = n_gpus or max(1, sum(int(cpus) // CPUS_PER_WORKER for cpus in node_cpus))
    if threads is None:
        fitting = [n for n in range(1, total + 1) if sum(int(cpus) // n for cpus in node_cpus) >= workers]
        threads = max(fitting, default=1)
    return PoolSize(workers=workers, threads=threads, gpus=min(n_gpus, 1))


@dataclass(kw_only=True, slots=True)
class RayEngine:
    """Actors of Ray, on a cluster or on this machine."""

    config: EngineConfig
    device: str  # device, threads, trust_remote_code: how an actor opens its encoder
    threads: int | None
    trust_remote_code: bool
    has_started: bool = False

    def close(self) -> None:
        """End the Ray that was started, or the connection to it."""
        if self.has_started:
            import ray

            ray.shutdown()

    def encode(self, shards: Iterable[Shard], *, job: EncodingJob, state: Path) -> Encoded:
        """Encode as :class:`genekb.builder.engine.Engine` says, in the order in which actors finish.

        Raises ``NotAvailable`` if the cluster cannot be reached, lacks a GPU, or stalls; ``GeneKBError`` of a worker's
        encoder; ``EncoderFailed`` for any other error of it.
        """
        waiting = iter(shards)
        first = next(waiting, None)
        if first is None:
            return
        size = self._connect()
        known = [first, *islice(waiting, size.workers - 1)]
        files = [path for path in state.iterdir() if path.is_file() and not path.name.startswith("part-")]
        device = "cuda" if size.gpus else "cpu"
        settings = {
            "spec": job.spec,
            "state": {path.name: path.read_bytes() for path in files},  # what the encoder saved beside its vectors
            "threads": size.threads,
            "options": {"device": device, "hint": job.model_folder, "trust_remote_code": self.trust_remote_code},
        }
        yield from self._run_pool(known, waiting, size=size, settings=settings)

    def _connect(self) -> PoolSize:
        if not self.has_started:
            self.has_started = start_ray(self.config.address)
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        n_gpus = int(sum(node.get("GPU", 0) for node in nodes)) if self.device != "cpu" else 0
        if self.device.startswith("cuda") and not n_gpus:
            if self.config.address == "local":
                raise NotAvailable('Ray finds no GPU on this machine; use device="cpu"')
            n_gpus = self.config.workers or 1  # a cluster that grows may have none yet
        size = plan_pool(
            [node.get("CPU", 0) for node in nodes], n_gpus=n_gpus, workers=self.config.workers, threads=self.threads
        )
        log.info(
            "Ray: workers %d, threads of each %d, GPUs of each %d; the cluster has %d CPUs",
            size.workers, size.threads, size.gpus, sum(node.get("CPU", 0) for node in nodes),
        )  # fmt: skip
        return size

    def _run_pool(
        self, known: Sequence[Shard], others: Iterator[Shard], *, size: PoolSize, settings: Mapping[str, Any]
    ) -> Encoded:
        """Give each actor that runs a shard at a time, as many actors as shards are known.

        This thread waits: another would outlive the Ray that it uses. Actors end with their handles; nothing is asked
        of Ray in the end, when it may have been ended before, as by an error of the one who writes.
        """
        import ray

        worker = ray.remote(_Worker).options(
            num_cpus=size.threads, num_gpus=size.gpus, max_restarts=-1, max_task_retries=-1
        )
        held = ray.put(dict(settings))
        starting = {actor.start.remote(): actor for actor in [worker.remote(held) for _ in known]}
        busy: dict[Any, Any] = {}
        shards = chain(known, others)
        shard = next(shards, None)
        try:
            while shard or busy:
                done = wait_for_any(
                    [*busy, *(starting if shard else ())], self.config, n_workers=size.workers,
                    missing="no shard was finished", kept="finished shards",
                )  # fmt: skip
                actor = busy.pop(done, None) or starting.pop(done)
                found = ray.get(done)
                if shard:
                    busy[actor.encode.remote(*shard)] = actor
                    shard = next(shards, None)
                if found:
                    yield found
        except ray.exceptions.RayError as error:
            if isinstance(cause := getattr(error, "cause", None), GeneKBError):
                raise cause from None
            reason = str(error).strip().splitlines()[-1]
            raise EncoderFailed(f"{settings['spec'].name} failed on a Ray worker: {reason}") from error


def wait_for_any(tasks: Sequence[Any], config: EngineConfig, *, n_workers: int, missing: str, kept: str) -> Any:
    """Wait for one of some tasks of Ray; ``NotAvailable`` where none is done within ``stall_timeout_s``.

    ``missing``: what has not been done then; ``kept``: what is there nevertheless.
    """
    import ray

    done, _ = ray.wait(tasks, timeout=config.stall_timeout_s)
    if not done:
        raise NotAvailable(
            f"{missing} for {config.stall_timeout_s:g} s by {n_workers} Ray workers; see `ray status`, raise "
            f'`stall_timeout_s`, or use engine="local": {kept} are kept'
        )
    return done[0]


def _check_address(address: str) -> None:
    """Refuse a HOST:PORT at which nothing listens, for which Ray itself would wait for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise _not_there(address) from error


def _not_there(address: str) -> NotAvailable:
    return NotAvailable(
        f"no Ray that lets this process in at {address!r}; start one with `ray start --head`, set RAY_AUTH_MODE=token "
        "where it asks for a token, or leave the address out to use this machine alone"
    )


class _Worker:
    """One actor: opens the encoder with its first shard, and keeps it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no types

        self._settings = settings
        threads = settings["threads"]
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        threadpool_limits(limits=threads)
        self._encoder: Encoder | None = None

    def start(self) -> None:
        """Return as soon as the actor runs."""

    def encode(self, number: int, texts: Sequence[str]) -> tuple[int, EncodedTexts]:
        """Encode a shard."""
        self._encoder = self._encoder or _open(self._settings)
        return number, self._encoder.encode(texts)


def _open(settings: Mapping[str, Any]) -> Encoder:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in settings["state"].items():
            (Path(folder) / name).write_bytes(content)
        return reopen_encoder(settings["spec"], Path(folder), threads=settings["threads"], **settings["options"])
