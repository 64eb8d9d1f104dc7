"""P values: by permutation, of overlaps of gene sets, and adjusted for many tests."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from genekb.core.progress import progress

TIE: Final = 1e-9  # statistics of order one that are closer are equal: their sums were taken in another order

_NO_EFFECT: Final = 0.5  # p value above which there is hardly a test with an effect


def permutation_p(
    found: Sequence[np.ndarray],
    draw: Callable[[], Sequence[np.ndarray]],
    *,
    n_permutations: int,
    tie: float = TIE,
) -> tuple[np.ndarray, ...]:
    """P values (1 + hits) / (1 + n) :cite:`phipson2010permutation`; a hit is a permutation that reaches what was found.

    ``draw``: the statistics ``found`` after one more permutation; each must broadcast to the one found, as the highest
    of a family does :cite:`westfall1993resampling`.
    """
    if n_permutations < 1:
        raise ValueError(f"n_permutations must be >= 1, got {n_permutations}")
    hits = [np.zeros(statistic.shape, dtype=np.int64) for statistic in found]
    for number in range(n_permutations):
        progress("permutations", number, n_permutations)
        for at, permuted in enumerate(draw()):
            hits[at] += permuted >= found[at] - tie
    return tuple((1 + count) / (1 + n_permutations) for count in hits)


def overlap(
    groups: Sequence[Iterable[Hashable]], sets: Sequence[Iterable[Hashable]], *, measured: Sequence[Hashable]
) -> tuple[Int[np.ndarray, "group set"], Float[np.ndarray, "group set"]]:
    r"""Genes that groups and sets share, and hypergeometric p values :cite:`rivals2007enrichment`.

    :math:`P(X \ge x)` with *N* genes measured, *K* of them in the set, *n* in the group and *x* in both: a permutation
    p value in closed form. ``measured``: every gene once; groups and sets hold no other.
    """
    from sklearn.preprocessing import MultiLabelBinarizer

    members = [MultiLabelBinarizer(classes=measured, sparse_output=True).fit_transform(each) for each in (groups, sets)]
    n_group, n_set = (np.asarray(each.sum(axis=1)) for each in members)
    n_shared = (members[0] @ members[1].T).toarray()
    return n_shared, hypergeometric_tail(n_shared, n_all=len(measured), n_set=n_set.T, n_drawn=n_group)


def hypergeometric_tail(
    n_shared: Int[np.ndarray, "*_"] | int,
    *,
    n_all: int,
    n_set: Int[np.ndarray, "*_"] | int,
    n_drawn: Int[np.ndarray, "*_"] | int,
) -> Float[np.ndarray, "*_"]:
    """Probability that ``n_drawn`` of ``n_all`` genes hold ``n_shared`` or more of ``n_set``; arrays are broadcast.

    ``scipy.stats.hypergeom.sf`` to 1e-9 of itself; importing that takes half a second.
    """
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n_all + 1)))])

    def log_choose(n: Int[np.ndarray, "*_"], k: Int[np.ndarray, "*_"]) -> Float[np.ndarray, "*_"]:
        return np.asarray(log_factorial[n] - log_factorial[k] - log_factorial[n - k])

    shared, marked, drawn = np.broadcast_arrays(*map(np.asarray, (n_shared, n_set, n_drawn)))
    least, most = np.maximum(shared, np.maximum(0, marked + drawn - n_all)), np.minimum(marked, drawn)
    found = np.zeros(shared.shape)
    for step in range(int(np.max(most - least, initial=-1)) + 1):
        k = np.minimum(least + step, most)
        log_p = (
            log_choose(marked, k) + log_choose(n_all - marked, drawn - k) - log_choose(np.full_like(k, n_all), drawn)
        )
        found += np.where(least + step <= most, np.exp(log_p), 0.0)
    return np.clip(found, 0.0, 1.0)


def false_discovery_rate(p_values: np.ndarray) -> np.ndarray:
    """Adjust p values of a family, times the share of its tests that have no effect :cite:`storey2004strong`.

    That share is estimated by the p values above a half, and one more; :func:`adjusted_p` takes it to be 1.
    """
    without_effect = (1 + np.count_nonzero(p_values > _NO_EFFECT)) / ((1 - _NO_EFFECT) * max(p_values.size, 1))
    return adjusted_p(p_values) * min(1.0, without_effect)


def adjusted_p(p_values: np.ndarray, *, axis: int | None = None) -> np.ndarray:
    """Adjust p values along an axis, over the whole table if None :cite:`benjamini1995fdr`.

    ``scipy.stats.false_discovery_control`` to the bit; importing that takes most of a second.
    """
    table = p_values.reshape(1, -1) if axis is None else np.moveaxis(p_values, axis, -1)
    order = np.argsort(table, axis=-1)
    n_tests = table.shape[-1]
    found = np.take_along_axis(table, order, axis=-1) * (n_tests / np.arange(1, n_tests + 1))
    found = np.minimum.accumulate(found[..., ::-1], axis=-1)[..., ::-1]
    adjusted = np.empty_like(found)
    np.put_along_axis(adjusted, order, found, axis=-1)
    adjusted = np.clip(adjusted, 0, 1)
    return adjusted.reshape(p_values.shape) if axis is None else np.moveaxis(adjusted, -1, axis)
