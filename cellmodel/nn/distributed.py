"""One model trained by several processes, on this machine or on a Ray cluster, with the result of one process.

Each step's batch is the one that a single process would take; a worker passes its share of the rows through the model,
the outputs of all are put together, and each worker computes the loss of the whole batch: a contrast needs all cells of
it. It goes back from its own rows alone, so the gradient of the loss is the sum over the workers.
"""

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import numpy as np
from jaxtyping import Int

from cellmodel.core.device import Compute
from cellmodel.core.errors import CellModelError, NotAvailable
from genekb.core.resources import leave_interrupts_to_parent, sigterm_handler_kept
from genekb.files.replace import temporary_folder

log = logging.getLogger(__name__)

RESTARTS: Final = 2
LONGEST_WAIT: Final = timedelta(minutes=5)  # of a worker for another
LONGEST_RANGE_S: Final = 600.0  # seconds without any range done, after which the run fails instead of hanging
RANGE_RETRIES: Final = 3  # of a range of cells whose worker was lost
Arrays = Mapping[str, np.ndarray]
Rows = tuple[int, int]  # first and end of a range of cells
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """One of the processes that train a model together, and how many there are."""

    rank: int  # number of this process, from 0
    size: int  # number of processes

    def share(self, rows: Int[np.ndarray, " row"]) -> Int[np.ndarray, " own"]:
        """Rows of a batch that this process takes: as many as the others, or one more; they are consecutive."""
        return np.array_split(rows, self.size)[self.rank]

    def gather(self, outputs: Sequence[np.ndarray]) -> tuple[tuple[np.ndarray, ...], slice]:
        """Put the rows of all processes together, in the order of the batch; also where this process's own are."""
        import torch
        import torch.distributed as dist

        n_own = len(outputs[0])
        n_rows = [torch.empty((), dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(n_rows, torch.tensor(n_own))
        numbers = [int(number) for number in n_rows]
        start = sum(numbers[: self.rank])
        return tuple(_gather(own, numbers) for own in outputs), slice(start, start + n_own)

    def add_up(self, gradient: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Sum of the arrays of all processes."""
        import torch
        import torch.distributed as dist

        flat = torch.from_numpy(np.concatenate([each.ravel() for each in gradient.values()]))
        dist.all_reduce(flat)
        parts = np.split(flat.numpy(), np.cumsum([each.size for each in gradient.values()])[:-1])
        return {name: part.reshape(gradient[name].shape) for name, part in zip(gradient, parts, strict=True)}


def _gather(own: np.ndarray, n_rows: list[int]) -> np.ndarray:
    import torch
    import torch.distributed as dist

    padded = torch.zeros((max(n_rows), *own.shape[1:]), dtype=torch.from_numpy(own[:0]).dtype)  # all send as many
    padded[: len(own)] = torch.from_numpy(own)
    sent = [torch.empty_like(padded) for _ in n_rows]
    dist.all_gather(sent, padded)
    return np.concatenate([part.numpy()[:number] for part, number in zip(sent, n_rows, strict=True)])


Task = Callable[..., Result]  # (arrays, workers=..., **settings), a function of a module; worker 0's result is taken


def run_together(task: Task[Result], *, arrays: Arrays, settings: Mapping[str, Any], compute: Compute) -> Result:
    """Run a task in several processes that can reach one another, and start all of them again if one is lost.

    ``task``: called in each process with the arrays, ``workers`` and the settings. It has to be a function of a module.
    ``arrays``: read-only in the workers: memory-mapped files for ``ddp``, Ray's shared memory for ``ray``.
    ``settings``: plain values. ``compute``: engine and number of workers. Returns what the task gave in the first
    process. Raises ``NotAvailable`` if workers were lost three times in a row, or the Ray cluster has no place for
    them; ``CellModelError``: what the task raises.
    """
    attempt = _on_ray if compute.engine == "ray" else _on_this_machine
    job = _Job(task=task, settings=settings)
    for restart in range(RESTARTS + 1):
        try:
            return attempt(job, arrays, n_workers=compute.n_workers)
        except _WorkerLost as lost:
            log.warning("a training worker was lost (%s), attempt %d of %d", lost, restart + 1, RESTARTS + 1)
    raise NotAvailable(
        f"a training worker was lost {RESTARTS + 1} times, most often for want of memory; use fewer workers or "
        "--engine local"
    )


@contextmanager
def ray_cluster(n_workers: int) -> Iterator[None]:
    """Use the cluster that is connected or that RAY_ADDRESS names, else one of this machine while the work lasts.

    Raises ``NotAvailable`` if it has fewer CPUs than workers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    import ray

    is_ours = not ray.is_initialized()
    if is_ours:
        size = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": n_workers, "include_dashboard": False}
        logging.getLogger("ray").setLevel(logging.ERROR)  # it warns of settings that are its own
        with sigterm_handler_kept():
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **size)
    try:
        n_cpus = int(ray.cluster_resources().get("CPU", 0))
        if n_cpus < n_workers:
            raise NotAvailable(
                f"the Ray cluster has {n_cpus} CPUs, {n_workers} workers need one each; use fewer workers"
            )
        with redirect_stdout(sys.stderr):  # Ray prints that a worker died; stdout carries the result of a command
            yield
    finally:
        if is_ours:
            ray.shutdown()


class _WorkerLost(Exception):
    """A worker's process ended before its work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job(Generic[Result]):
    """What each process has to do."""

    task: Task[Result]
    settings: Mapping[str, Any]

    def run(self, arrays: Arrays, workers: Workers, *, meeting: str) -> Result:
        """Do the task with the others, once all have arrived."""
        import torch.distributed as dist

        dist.init_process_group(
            "gloo", init_method=meeting, rank=workers.rank, world_size=workers.size, timeout=LONGEST_WAIT
        )
        try:
            return self.task(arrays, workers=workers, **self.settings)
        finally:
            dist.destroy_process_group()  # the others see at once that this one is gone


def _raise_worst(errors: list[BaseException], *, lost: type[Exception]) -> None:
    """Raise the error that explains the others: one of ours, else that a process is gone, else the first."""
    for error in errors:
        if isinstance(error, CellModelError):
            raise error
    for error in errors:
        if isinstance(error, lost):
            raise _WorkerLost(type(error).__name__) from error
    for error in errors:
        raise error


def _on_this_machine(job: _Job[Result], arrays: Arrays, *, n_workers: int) -> Result:
    with temporary_folder("cellmodel-train") as folder:
        for key, values in arrays.items():
            np.save(folder / f"{key}.npy", values)
        spawn = get_context("spawn")
        stop, stopped = spawn.Pipe()
        with ProcessPoolExecutor(
            n_workers, mp_context=spawn, initializer=_end_with_parent, initargs=(stopped,)
        ) as pool:
            every = [Workers(rank=rank, size=n_workers) for rank in range(n_workers)]
            futures = [pool.submit(_run_on_files, job, folder, workers=workers) for workers in every]
            try:
                wait(futures)
            except KeyboardInterrupt:
                stop.close()  # else the pool would wait for the end of the training
                raise
        errors = [error for future in futures if (error := future.exception()) is not None]
        _raise_worst(errors, lost=BrokenProcessPool)
        return futures[0].result()


def _run_on_files(job: _Job[Result], folder: Path, *, workers: Workers) -> Result:
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    return job.run(arrays, workers, meeting=f"file://{folder / 'meeting'}")


def _end_with_parent(stopped: connection.Connection) -> None:
    """End this process when the one that started it is gone or says so, even if it waits for another worker."""
    leave_interrupts_to_parent()
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel, stopped])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _RayWorker:
    """A process on a Ray cluster."""

    def meeting(self) -> str:
        """Address at which workers find each other: this machine's, and a port that is free."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def run(self, job: _Job[Result], *values: np.ndarray, names: list[str], workers: Workers, meeting: str) -> Result:
        """Run the job; arrays come one by one, since Ray resolves references among the arguments alone."""
        return job.run(dict(zip(names, values, strict=True)), workers, meeting=meeting)


def _on_ray(job: _Job[Result], arrays: Arrays, *, n_workers: int) -> Result:
    import ray

    with ray_cluster(n_workers):
        values = [ray.put(np.ascontiguousarray(part)) for part in arrays.values()]
        members = [ray.remote(_RayWorker).options(num_cpus=1).remote() for _ in range(n_workers)]
        try:
            shared = {"names": list(arrays), "meeting": _first_meeting(members)}
            runs = [
                member.run.remote(job, *values, workers=Workers(rank=rank, size=n_workers), **shared)
                for rank, member in enumerate(members)
            ]
            first: Result = _first_of_all(runs)
            return first
        finally:
            for member in members:
                ray.kill(member)


def _first_meeting(members: list[Any]) -> str:
    """Ask all members, so that all of them have a place, and take the first one's address."""
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError

    try:
        addresses = ray.get([member.meeting.remote() for member in members], timeout=LONGEST_WAIT.total_seconds())
    except GetTimeoutError as error:
        raise NotAvailable(
            f"the Ray cluster gave {len(members)} workers no place within {LONGEST_WAIT}; are its CPUs in use?"
        ) from error
    except RayActorError as error:
        raise _WorkerLost(type(error).__name__) from error
    return str(addresses[0])


def _first_of_all(runs: list[Any]) -> Any:
    """Wait for all runs, and take the first one's result out of the memory that Ray takes back."""
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    ray.wait(runs, num_returns=len(runs))
    results: list[Any] = []
    errors: list[BaseException] = []
    for run in runs:
        try:
            results.append(ray.get(run))
        except RayTaskError as error:
            errors.append(error.cause or error)
        except RayActorError as error:
            errors.append(error)
    _raise_worst(errors, lost=RayActorError)
    return deepcopy(results[0])


def on_ray(
    task: Callable[[Any, Rows], Result], shared: Any, ranges: Sequence[Rows], *, n_workers: int
) -> Iterator[tuple[Rows, Result]]:
    """Work on ranges of rows in any order, a few at a time; what a lost worker had is done again by another.

    ``task``: a function of a module; called with ``shared`` and a range in some process of the cluster. ``shared``:
    sent once to each machine. Files that it names have to be there under the same path. ``ranges``: (first, end) of
    each. ``n_workers``: ranges that are worked on at once. Raises ``NotAvailable`` if workers are lost again and again,
    or nothing is done for ten minutes; ``CellModelError``: what the task raises.
    """
    import ray

    with ray_cluster(n_workers):
        held, remote = ray.put(shared), ray.remote(task).options(num_cpus=1, max_retries=RANGE_RETRIES)
        waiting = iter(ranges)
        running: dict[Any, Rows] = {}
        while True:
            while len(running) < 2 * n_workers and (rows := next(waiting, None)) is not None:
                running[remote.remote(held, rows)] = rows
            if not running:
                return
            done, _ = ray.wait(list(running), timeout=LONGEST_RANGE_S)
            if not done:
                raise NotAvailable(
                    f"no Ray worker has finished {len(running)} ranges of cells in {LONGEST_RANGE_S:.0f} s; "
                    "look at the cluster with `ray status`, or use --engine local"
                )
            yield running.pop(done[0]), _result_of_range(done[0])


def _result_of_range(reference: Any) -> Any:
    import ray
    from ray.exceptions import RayTaskError, WorkerCrashedError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, CellModelError):
            raise error.cause from error
        raise
    except WorkerCrashedError as error:
        raise NotAvailable(
            f"a Ray worker was lost {RANGE_RETRIES + 1} times, most often for want of memory; use fewer workers"
        ) from error
