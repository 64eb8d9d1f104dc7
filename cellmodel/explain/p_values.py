"""P values of overlaps of gene sets, and adjusted for many tests."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float, Int

_NO_EFFECT: Final = 0.5  # p value above which there is hardly a test with an effect


def overlap(
    groups: Sequence[Iterable[Hashable]], sets: Sequence[Iterable[Hashable]], *, measured: Sequence[Hashable]
) -> tuple[Int[np.ndarray, "group set"], Float[np.ndarray, "group set"]]:
    r"""Genes that groups and sets share, and hypergeometric p values :cite:`rivals2007enrichment`.

    :math:`P(X \ge x)` with *N* genes measured, *K* of them in the set, *n* in the group and *x* in both: a permutation
    p value in closed form. ``measured``: every gene once; groups and sets hold no other.
    """
    from scipy.stats import hypergeom
    from sklearn.preprocessing import MultiLabelBinarizer

    members = [MultiLabelBinarizer(classes=measured, sparse_output=True).fit_transform(each) for each in (groups, sets)]
    n_group, n_set = (np.asarray(each.sum(axis=1)) for each in members)
    n_shared = (members[0] @ members[1].T).toarray()
    return n_shared, np.clip(hypergeom.sf(n_shared - 1, len(measured), n_set.T, n_group), 0.0, 1.0)


def false_discovery_rate(p_values: np.ndarray) -> np.ndarray:
    """Adjust p values of a family, times the share of its tests that have no effect :cite:`storey2004strong`.

    That share is estimated by the p values above a half, and one more; :func:`adjusted_p` takes it to be 1.
    """
    without_effect = (1 + np.count_nonzero(p_values > _NO_EFFECT)) / ((1 - _NO_EFFECT) * max(p_values.size, 1))
    return adjusted_p(p_values) * min(1.0, without_effect)


def adjusted_p(p_values: np.ndarray) -> np.ndarray:
    """Adjust p values over the whole table :cite:`benjamini1995fdr`."""
    from scipy.stats import false_discovery_control

    return np.reshape(false_discovery_control(p_values, axis=None), p_values.shape)
