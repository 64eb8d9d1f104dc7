"""Arrays of cells: aliases with their axes (cell, gene, dim, edge, neighbor, cluster), order, blocks in threads."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

Item = TypeVar("Item")
Result = TypeVar("Result")
CellByGene: TypeAlias = sp.csr_matrix  # (cell, gene): counts or expression
CellGraph: TypeAlias = sp.csr_matrix  # (cell, cell): sparse weights, zero diagonal
Embedding: TypeAlias = Float[np.ndarray, "cell dim"]
GeneVectors: TypeAlias = Float[np.ndarray, "gene dim"]
Labels: TypeAlias = Int[np.ndarray, " cell"]  # clusters that we found, 0 .. k-1, never an annotator's


@runtime_checkable
class CellBlocks(Protocol):
    """A matrix of cells by genes of which some cells at a time are in memory."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of genes."""

    def blocks(self) -> Iterator[CellByGene]:
        """Give the cells in their order, some at a time."""


EPSILON = 1e-12
WHOLE_CELLS = 16_384  # cells up to which all are worked on at once
BLOCK_CELLS = 4_096  # cells of more that are worked on at a time: bounds memory


def row_blocks(matrix: CellByGene | CellBlocks) -> Iterator[CellByGene]:
    """Give the cells in their order, some at a time."""
    if isinstance(matrix, CellBlocks):
        yield from matrix.blocks()
    elif matrix.shape[0] <= WHOLE_CELLS:
        yield matrix
    else:
        yield from (matrix[start:end] for start, end in row_ranges(matrix.shape[0]))


def row_ranges(n_cells: int) -> list[tuple[int, int]]:
    """First and end of the ranges of cells that are worked on at a time."""
    step = n_cells if n_cells <= WHOLE_CELLS else BLOCK_CELLS
    return [(start, min(start + step, n_cells)) for start in range(0, n_cells, max(step, 1))]


def unit_rows(embedding: Embedding) -> Embedding:
    """Scale each row to length one; a zero row stays zero."""
    norms = np.linalg.norm(embedding, axis=1, keepdims=True)
    return np.divide(embedding, norms, out=np.zeros_like(embedding), where=norms > EPSILON)


def axis_signs(axes: Float[np.ndarray, "dim component"]) -> Float[np.ndarray, " component"]:
    """Signs that make the largest entry of each column positive."""
    return np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])


def benjamini_hochberg(p_values: Float[np.ndarray, "*family test"]) -> Float[np.ndarray, "*family test"]:
    """Adjust p values along the last axis :cite:`benjamini1995fdr`; importing SciPy's takes half a second."""
    order = np.argsort(p_values, axis=-1)
    n_tests = p_values.shape[-1]
    ranked = np.take_along_axis(p_values, order, axis=-1) * (n_tests / np.arange(1, n_tests + 1))
    adjusted = np.empty_like(ranked)
    np.put_along_axis(adjusted, order, np.minimum.accumulate(ranked[..., ::-1], axis=-1)[..., ::-1], axis=-1)
    return np.clip(adjusted, 0, 1)


def content_order(features: Float[np.ndarray, "cell dim"]) -> Int[np.ndarray, " cell"]:
    """Order of the cells by their features, the first one first; equal cells stay as they stand."""
    leading = np.asarray(features[:, 0])
    order = np.argsort(leading, kind="stable")
    same_as_next = np.diff(leading[order]) == 0
    is_tied = np.append(same_as_next, False) | np.append(False, same_as_next)
    tied = order[is_tied]  # few, so that the other features are looked at for these alone
    order[is_tied] = tied[np.lexsort(features[tied].T[::-1])]
    return order


def group_equal_cells(matrix: CellByGene | CellBlocks, *, at_most: int) -> Labels | None:
    """Give equal cells one number; None, after a look at few of them, where more than ``at_most`` differ."""
    numbers: dict[tuple[bytes, bytes], int] = {}
    groups = []
    for block in row_blocks(matrix):
        rows = block.copy()
        rows.eliminate_zeros()
        rows.sort_indices()
        for start, end in pairwise(rows.indptr):
            content = (rows.indices[start:end].astype(np.int64).tobytes(), rows.data[start:end].tobytes())
            groups.append(numbers.setdefault(content, len(numbers)))
            if len(numbers) > at_most:
                return None
    return np.array(groups, dtype=np.int64)


def n_threads() -> int:
    """Count the threads of this run: those that ``threads`` or OMP_NUM_THREADS allows, else a thread a core."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    if allowed.isdecimal() and int(allowed) > 0:
        return int(allowed)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread() -> Any:
    """Limit BLAS to one thread within a ``with`` block, where the last bits of products depend on their number."""
    return _thread_pools().limit(limits=1, user_api="blas")


def one_openmp_thread() -> Any:
    """Limit scikit-learn to one thread within a ``with`` block of this thread: several order ties differently."""
    return _thread_pools().limit(limits=1, user_api="openmp")


@cache
def _thread_pools() -> Any:
    """Find the thread pools of this process, once: that takes as long as a small k-means."""
    import sklearn.cluster  # noqa: F401 - its pools, and those of SciPy, have to be there
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # ships no types

    return ThreadpoolController()


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
