"""Ranges of cells worked on by processes of a Ray cluster, each of which reads its cells from the file by itself."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from cellmodel.core.errors import CellModelError, NotAvailable
from cellmodel.nn.distributed import ray_cluster

log = logging.getLogger(__name__)
LONGEST_WAIT: Final = 600.0  # seconds without any range done, after which the run fails instead of hanging
RETRIES: Final = 3  # of a range whose worker was lost
Rows = tuple[int, int]
Result = TypeVar("Result")


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
        held, remote = ray.put(shared), ray.remote(task).options(num_cpus=1, max_retries=RETRIES)
        waiting = iter(ranges)
        running: dict[Any, Rows] = {}
        while True:
            while len(running) < 2 * n_workers and (rows := next(waiting, None)) is not None:
                running[remote.remote(held, rows)] = rows
            if not running:
                return
            done, _ = ray.wait(list(running), timeout=LONGEST_WAIT)
            if not done:
                raise NotAvailable(
                    f"no Ray worker has finished {len(running)} ranges of cells in {LONGEST_WAIT:.0f} s; "
                    "look at the cluster with `ray status`, or use --engine local"
                )
            yield running.pop(done[0]), _result(done[0])


def _result(reference: Any) -> Any:
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
            f"a Ray worker was lost {RETRIES + 1} times, most often for want of memory; use fewer workers"
        ) from error
