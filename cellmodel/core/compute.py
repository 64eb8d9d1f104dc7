"""Threads and devices that a run computes with; blocks of cells in threads give the bits of one thread, sooner."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from cellmodel.core.errors import NotAvailable

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def n_threads() -> int:
    """Count the threads of this run: those that ``threads`` or OMP_NUM_THREADS allows, else a thread a core."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    if allowed.isdecimal() and int(allowed) > 0:
        return int(allowed)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Do work on each item, in threads that NumPy, SciPy and HDF5 let run side by side; results in the items' order.

    Items are taken from their source by the calling thread, and one more of them than threads at a time, which bounds
    memory. An error of the work is raised where its result would have come.
    """
    n_workers = n_threads()
    if n_workers == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(n_workers) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > n_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Take the next item from its source in a thread while the caller works on one."""
    end = object()
    rest = iter(items)
    if n_threads() == 1:
        yield from rest
        return
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, rest, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, rest, end)
            yield item  # type: ignore[misc]  # it is not the end


def find_device(name: str) -> "torch.device":
    """Device by name; ``auto`` is the GPU if there is one; ``NotAvailable`` if it is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NotAvailable(f'device {name!r} is not there ({torch.cuda.device_count()} GPUs found); use device="cpu"')
    return device


def bfloat16_products(device: "torch.device") -> AbstractContextManager[object]:
    """Take matrix products in bfloat16 inside the block on a GPU that has it; nothing changes on a CPU.

    Only a model's forward pass belongs in here: losses are taken in float32.
    """
    import torch

    if device.type != "cuda" or not torch.cuda.is_bf16_supported():
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def device_used(name: str) -> str:
    """Device that a name maps to, for the record of a run; PyTorch is not loaded to say that it is the CPU."""
    return "cpu" if name == "cpu" else str(find_device(name))
